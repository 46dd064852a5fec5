"""The recipe of a training run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from compressai.models import MeanScaleHyperprior

from ..errors import UserError
from ..parsing import number, six_digits, whole


def middle(family: Sequence[float]) -> float:
    """The λ of a family that is nearest to its geometric mean.

    Raises:
        UserError: a λ is not a finite number greater than 0.
    """
    logs = [math.log(number(lmbda, "lambda")) for lmbda in family]
    return min(family, key=lambda lmbda: abs(math.log(lmbda) - sum(logs) / len(logs)))


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run.

    Attributes:
        name: family name of the result.
        N, M: channels of the transforms and of the latent y.
        lmbda: λ of the loss. In a family it is the λ whose gains start at 1, that of the weights which the
            run starts from; the family need not contain it.
        family: the λ that are trained together; empty for ``lmbda`` alone.
        steps: optimiser steps in all; may be raised on resuming while the cool-down has not begun.
        cooldown: the last steps, over which the learning rate falls linearly to zero.
        warmup: the first steps, over which it rises linearly.
        lr: SOAP's learning rate between the two.
        crop, batch: pixels per side and number of the random crops of one step and λ. At 128 pixels ẑ is
            2 × 2 and the hyperprior never sees a position away from the border, so that the rate of whole
            photographs drifts away from that of the crops.
        clip: largest norm of the gradient.
        per_step: how many λ of a family one step trains, drawn at random.
        seed: of the initial weights, the crops and the noise.
        holdout: number of photographs, the last ones by name, that are evaluated and never trained on.
        mixed: the decoder is trained on rounded latents y, otherwise on latents with noise (`objective`).
        average: decay per step of the average that is evaluated and published, see `run.Run`; with 0 it is
            the last weights.
    """

    name: str = "mshyper-s"
    N: int = 64
    M: int = 192
    lmbda: float = 0.01
    family: tuple[float, ...] = ()
    steps: int = 30_000
    cooldown: int = 9_000
    warmup: int = 200
    lr: float = 1e-3
    crop: int = 256
    batch: int = 2
    clip: float = 1.0
    per_step: int = 2
    seed: int = 0
    holdout: int = 16
    mixed: bool = True
    average: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", tuple(self.family))  # JSON has lists
        if not self.name or Path(self.name).name != self.name:
            raise UserError(f"a family's name becomes a file's: it cannot be {self.name!r}")
        for lmbda in (self.lmbda, *self.family):
            number(lmbda, "lambda")
        for name, what in (("lr", "the learning rate"), ("clip", "the largest norm of the gradient")):
            number(getattr(self, name), what)
        for name in ("N", "M", "batch", "per_step", "steps"):
            whole(getattr(self, name), name, 1)
        for name in ("cooldown", "warmup", "holdout"):
            whole(getattr(self, name), name, 0)
        if not 0 <= self.average < 1:
            raise UserError(f"the decay of the average must be at least 0 and below 1, not {self.average}")
        if len(set(map(six_digits, self.family))) < len(self.family):
            raise UserError("the lambda of a family must differ: give each one once")
        if self.crop < 64 or self.crop % 64:
            raise UserError(f"the crop must be a multiple of 64 pixels, not {self.crop}")
        if self.steps < self.cooldown + self.warmup:
            raise UserError(
                f"{self.steps} steps are fewer than warm-up and cool-down together "
                f"({self.warmup} + {self.cooldown})"
            )

    def untrained(self) -> MeanScaleHyperprior:
        """A model with the random weights of the seed; the global random number generator stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return MeanScaleHyperprior(self.N, self.M)

    def learning_rate(self, step: int) -> float:
        """The learning rate of step ``step`` = 0, 1, …"""
        rise = (step + 1) / max(1, self.warmup)
        fall = (self.steps - step) / max(1, self.cooldown)
        return self.lr * min(1.0, rise, fall)

    def served(self, generator: torch.Generator) -> list[int]:
        """The indices in ``family`` of the λ that one step serves."""
        order = torch.randperm(len(self.family), generator=generator)
        return order[: self.per_step].tolist()
