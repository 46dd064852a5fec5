"""The recipe for base codecs: rate-distortion training that survives a kill at any point.

Loss: L(λ) = λ·255²·MSE + bpp, with additive uniform noise for the bits and rounded latents for the decoder
(`objective`). The optimiser is SOAP (Vyas et al., arXiv 2409.11321), whose second-order steps are worth
several times Adam's on this problem. The learning rate is warmed up, held, and brought linearly to zero over
the last part, so that a run can be prolonged until its cool-down begins.

Several λ are trained together as one network with gains that fold away afterwards (`gains`); a few further
steps per λ, each from the folded weights, then make a codec of its own of each.

There is no auxiliary loss: the quantiles of the factorised prior do not enter the training loss, and
bisection finds them exactly whenever weights are written.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from .. import hardware
from ..codecs.checkpoints import load_parameters
from ..codecs.codec import Codec
from ..codecs.layers import replace_gdn
from ..errors import SystemFault, UserError
from . import checkpoints
from .crops import generator_for, sample_crops
from .gains import Gains
from .graphs import Graph
from .lineage import UNTRAINED, Lineage
from .objective import centres, losses, plain_codec, rd_point
from .recipes import Recipe
from .soap import SOAP

_MEANS = ("loss", "bpp", "psnr")


def _parameters(model: torch.nn.Module, gains: Gains | None) -> list[Tensor]:
    return [*model.parameters(), *(gains.parameters() if gains else ())]


@dataclass
class Run:
    """A training run: its recipe, its codec, and where it stands.

    Attributes:
        gains: of a family; None for one λ.
        lineage: of the weights that it started from.
        step: optimiser steps done.
        seconds: that they took.
        log: one entry per report and λ: step, seconds, lmbda and the means that `train` reports.
        average: the exponential average of all that is trained, in the order of `parameters`, which is
            evaluated and published. After t steps it is Σₛ dᵗ⁻ˢ wₛ / Σₛ dᵗ⁻ˢ over the weights wₛ after steps
            s = 1 … t, with the decay d: as in Adam (arXiv 1412.6980), the initial weights never count.
    """

    recipe: Recipe
    codec: Codec
    gains: Gains | None
    optimizer: torch.optim.Optimizer
    lineage: Lineage = UNTRAINED
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    average: list[Tensor] = field(default_factory=list)
    _graph: Graph | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.average = [value.detach().clone() for value in self.parameters()]

    def parameters(self) -> list[Tensor]:
        """The parameters of the model, and the gains of a family."""
        return _parameters(self.codec.model, self.gains)

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        device: str = "auto",
        dtype: str = "auto",
        weights: dict[str, Tensor] | None = None,
        lineage: Lineage = UNTRAINED,
    ) -> Run:
        """A new run, from random weights or from ``weights``, a state dict of the same architecture.

        Raises:
            UserError: the weights are of another architecture.
        """
        model = recipe.untrained()
        if weights is not None:
            load_parameters(model, weights)
        replace_gdn(model).train()
        model.entropy_bottleneck.quantiles.requires_grad_(False)
        resolved = hardware.resolve_device(device)
        model.to(resolved, memory_format=torch.channels_last)
        codec = Codec(recipe.name, recipe.lmbda, model, "", hardware.resolve_dtype(dtype, resolved))
        gains = Gains(recipe.family, recipe.lmbda, recipe.N, recipe.M).to(resolved) if recipe.family else None
        trained = [p for p in _parameters(model, gains) if p.requires_grad]
        return cls(recipe, codec, gains, SOAP(trained, recipe.lr), lineage)

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is complete.

        Raises:
            SystemFault: a weight is not finite, or the disk is full; the old checkpoint is kept.
        """
        if not all(value.isfinite().all() for value in self.parameters()):
            raise SystemFault(
                f"weights are no longer finite at step {self.step}: start anew with a lower learning rate"
            )
        checkpoints.write(
            path,
            {
                "recipe": asdict(self.recipe),
                "model": self.codec.model.state_dict(),
                "gains": self.gains.state_dict() if self.gains else {},
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "step": self.step,
                "seconds": self.seconds,
                "log": self.log,
                "lineage": asdict(self.lineage),
            },
        )

    @classmethod
    def resume(cls, path: Path, recipe: Recipe, device: str = "auto", dtype: str = "auto") -> Run:
        """Continue from a checkpoint of the same recipe; only ``steps`` and ``cooldown`` may differ.

        Raises:
            UserError: it may not be read, is no checkpoint or of another recipe, or would cool down anew.
            SystemFault: the disk fails, or too many files are open.
        """
        state, stored = checkpoints.read(path)
        same_schedule = replace(stored, steps=recipe.steps, cooldown=recipe.cooldown)
        if differing := [k for k, v in asdict(same_schedule).items() if asdict(recipe)[k] != v]:
            raise UserError(
                f"{path} was made with other settings ({', '.join(differing)}): use another file or these"
                " settings"
            )
        if stored != recipe and state["step"] > min(
            stored.steps - stored.cooldown, recipe.steps - recipe.cooldown
        ):
            raise UserError(
                f"{path} is at step {state['step']}, its cool-down has begun, the schedule cannot change: go"
                " on with the one that it has, or start a new run from its weights"
            )
        run = cls.start(recipe, device, dtype)
        checkpoints.check_optimiser(path, state, run.optimizer)
        with checkpoints.damage_of(path), torch.no_grad():
            run.lineage = Lineage(**state["lineage"])
            run.codec.model.load_state_dict(state["model"])
            if run.gains:
                run.gains.load_state_dict(state["gains"])
            run.optimizer.load_state_dict(state["optimizer"])
            for mean, value in zip(run.average, state["average"], strict=True):
                mean.copy_(value)
            run.step, run.seconds, run.log = state["step"], state["seconds"], state["log"]
        return run

    def advance(self, photographs: Sequence[Tensor]) -> list[dict[str, float]]:
        """One optimiser step; returns lmbda, loss, bpp and PSNR in dB of each λ that it served.

        The losses of a family's λ are weighted with λ^(-1/2): L(λ) grows about so, and each counts alike.

        Raises:
            SystemFault: the loss or its gradient is not finite; the weights stay those of the step before.
        """
        started = time.perf_counter()
        recipe, device = self.recipe, self.codec.device
        generator = generator_for(recipe.seed, self.step)
        served = recipe.served(generator) if self.gains else [0]
        family = recipe.family if self.gains else (recipe.lmbda,)
        lmbdas = [family[index] for index in served]
        x = sample_crops(photographs, recipe.crop, recipe.batch * len(served), generator)
        given = x, torch.tensor(served, device=device), torch.tensor(lmbdas, device=device)
        if device.type == "cpu":
            self.optimizer.zero_grad(set_to_none=True)
            of_lmbda = self._differentiate(*given, generator)
        else:
            if self._graph is None:
                self._graph = Graph(self._differentiate, given, self.parameters())
            of_lmbda = self._graph(given, generator_for(recipe.seed, self.step, device).initial_seed())
        (group,) = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(group["params"], recipe.clip)
        # One transfer, which waits for a GPU.
        table = torch.cat([of_lmbda, norm.expand(1, len(served))]).tolist()
        if not all(math.isfinite(value) for value in (*table[0], *table[3])):
            raise SystemFault(
                f"the loss or its gradient is not finite at step {self.step}: start anew with a lower"
                " learning rate"
            )
        group["lr"] = recipe.learning_rate(self.step)
        self.optimizer.step()
        self.step += 1
        share = (1 - recipe.average) / (1 - recipe.average**self.step)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters(), share)
        self.seconds += time.perf_counter() - started
        return [
            {"lmbda": lmbda, "loss": loss, "bpp": bpp, "psnr": -10 * math.log10(max(mse, 1e-12))}
            for lmbda, loss, bpp, mse, _ in zip(lmbdas, *table, strict=True)
        ]

    def _differentiate(self, x: Tensor, served: Tensor, lmbdas: Tensor, noise: torch.Generator) -> Tensor:
        """The mean loss, bpp and MSE of each λ, (3, served), and the gradients of what is trained.

        Args:
            x: the crops (B, 3, H, W), those of one λ after those of another.
            served, lmbdas: the numbers of these λ in the family, and their values.
        """
        batch = self.recipe.batch
        of_image, numbers = (values[:, None].expand(-1, batch).flatten() for values in (lmbdas, served))
        found = losses(self.codec, x, of_image, noise, self.recipe.mixed, self.gains, numbers)
        of_lmbda = found.unflatten(1, (len(served), batch)).mean(2)
        weights = (self.recipe.lmbda / lmbdas).sqrt() / len(served)
        (of_lmbda[0] * weights).sum().backward()
        return of_lmbda.detach()

    @torch.no_grad()
    def averaged(self) -> tuple[MeanScaleHyperprior, Gains | None]:
        """Copies of model and gains with the average of all steps; initial weights before the first.

        The quantiles are those that the prior then has.
        """
        model, gains = copy.deepcopy((self.codec.model, self.gains))
        for value, mean in zip(_parameters(model, gains), self.average, strict=True):
            value.copy_(mean)
        model.entropy_bottleneck._update_quantiles()
        return model.requires_grad_(False), gains

    @torch.no_grad()
    def weights(self) -> dict[float, dict[str, Tensor]]:
        """The plain architecture's averaged parameters for each λ."""
        model, gains = self.averaged()
        if gains is None:
            return {self.recipe.lmbda: dict(model.named_parameters())}
        return {lmbda: gains.fold(model, index) for index, lmbda in enumerate(self.recipe.family)}


def train(
    run: Run,
    photographs: Sequence[Tensor],
    checkpoint: Path,
    save_every: int = 500,
    report: Callable[[int, list[dict[str, float]]], Any] = lambda step, rows: None,
    held_out: Sequence[Tensor] = (),
    report_every: int = 100,
    minutes: float | None = None,
) -> Run:
    """Advance ``run`` to its last step, with a checkpoint every ``save_every`` steps and at the end.

    Args:
        photographs: uint8 tensors (3, H, W), each side at least the crop.
        minutes: that all steps of the run take together, instead of a number of steps: in the second half of
            them the learning rate falls to zero. The recipe has no cool-down until it begins.
        report: called every ``report_every`` steps and at the end with the step and, for each λ, the means
            since the last call. With photographs held out, also their mean true loss, bpp and 8-bit PSNR, as
            held_out_loss, held_out_bpp and held_out_psnr: those of the averaged weights after hard rounding.
        held_out: photographs that are evaluated, each in the square of the crop's size in its centre.

    Raises:
        SystemFault: the loss, its gradient or a weight is not finite; the last checkpoint is kept.
    """
    device = run.codec.device
    photographs = [photo.to(device) for photo in photographs]
    centred = centres(held_out, run.recipe.crop)
    recent: list[dict[str, float]] = []
    try:
        # On a GPU the fastest of its convolutions of these shapes, measured once.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            while run.step < run.recipe.steps:
                recent += run.advance(photographs)
                if minutes is not None:
                    _end_after(run, 60 * minutes)
                ended = run.step == run.recipe.steps
                if run.step % report_every == 0 or ended:
                    rows = _means(run, recent, centred)
                    run.log += rows
                    report(run.step, rows)
                    recent = []
                if run.step % save_every == 0 or ended:
                    run.save(checkpoint)
    except SystemFault as fault:
        kept = f"; {checkpoint} is kept as it was" if checkpoint.is_file() else ""
        raise SystemFault(f"{fault}{kept}") from fault
    return run


def _means(
    run: Run, recent: Sequence[dict[str, float]], held_out: Sequence[Tensor]
) -> list[dict[str, float]]:
    """For each λ of the ``recent`` steps their means, and those of held-out images as of `rd_point`."""
    points: dict[float, dict[str, float]] = {}
    found: list[dict[str, float]] = []
    for lmbda, parameters in run.weights().items() if held_out else ():
        point = rd_point(plain_codec(run.recipe, lmbda, parameters, run.codec.device), held_out)
        points[lmbda] = {f"held_out_{key}": point[key] for key in _MEANS}
    for lmbda in sorted({row["lmbda"] for row in recent}):
        rows = [row for row in recent if row["lmbda"] == lmbda]
        means = {key: sum(row[key] for row in rows) / len(rows) for key in _MEANS}
        place = {"step": run.step, "seconds": run.seconds, "lmbda": lmbda}
        found.append(place | means | points.get(lmbda, {}))
    return found


def _end_after(run: Run, seconds: float) -> None:
    """Begin the cool-down once half of the time is over, with as many steps as the rest is likely to hold."""
    recipe = run.recipe
    if recipe.cooldown == 0 and run.step >= recipe.warmup and run.seconds >= seconds / 2:
        left = max(1, round(run.step * (seconds / run.seconds - 1)))
        run.recipe = replace(recipe, steps=run.step + left, cooldown=left)
