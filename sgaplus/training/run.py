"""The recipe for base codecs: rate-distortion training that survives a kill at any point.

Loss: L(λ) = λ·255²·MSE + bpp with additive uniform noise for quantisation (Ballé et al., arXiv
1802.01436; Minnen et al., arXiv 1809.02736). The optimiser is SOAP (Vyas et al., arXiv 2409.11321), whose
second-order steps are worth several times Adam's on this problem. The learning rate is warmed up, held, and
brought linearly to zero over the last part, so that a run can be prolonged until its cool-down begins.

Several λ are trained together as one network with gains that fold away afterwards (`gains`); a few further
steps per λ, each from the folded weights, then make a codec of its own of each.

There is no auxiliary loss: the quantiles of the factorised prior do not enter the training loss, and
bisection finds them exactly whenever weights are written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from compressai.models import MeanScaleHyperprior
from pytorch_optimizer import SOAP
from torch import Tensor
from torch.func import functional_call

from .. import hardware, io
from ..codecs.codec import Codec
from ..codecs.layers import replace_gdn
from ..codecs.weights import load_parameters
from ..errors import SystemFault, UserError
from .crops import generator_for, sample_crops
from .gains import Gains
from .lineage import UNTRAINED, Lineage
from .recipes import Recipe

_NO_CHECKPOINT = "is not a checkpoint of a training run: remove it to start anew"


class _Objective(torch.nn.Module):
    """The training loss as a module, so that a family's folded weights can take the place of its own."""

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec, self.model = codec, codec.model

    def forward(self, x: Tensor, lmbda: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Training loss, bits per pixel and mean squared error of ``x`` (B, 3, H, W), each a scalar."""

        def noisy(v: Tensor, name: str) -> Tensor:
            return v + (torch.rand(v.shape, generator=generator) - 0.5).to(v.device)

        decoded = self.codec.decode(self.codec.analyse(x), noisy)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = decoded.all_bits.sum() / pixels
        mse = (decoded.x_hat - x).square().mean()
        return lmbda * 255**2 * mse + bpp, bpp, mse


def _parameters(model: torch.nn.Module, gains: Gains | None) -> list[Tensor]:
    return [*model.parameters(), *(gains.parameters() if gains else ())]


def _optimizer(parameters: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    return SOAP(
        parameters,
        lr=recipe.lr,
        betas=(0.95, 0.95),
        weight_decay=0.0,
        precondition_frequency=20,
        max_precondition_dim=256,
    )


@dataclass
class Run:
    """A training run: its recipe, its codec, and where it stands.

    Attributes:
        gains: of a family; None for one λ.
        lineage: of the weights that it started from.
        step: optimiser steps done.
        seconds: that they took.
        log: one entry per 100 steps and λ: step, seconds, lmbda and the means that `train` reports.
    """

    recipe: Recipe
    codec: Codec
    gains: Gains | None
    optimizer: torch.optim.Optimizer
    lineage: Lineage = UNTRAINED
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)

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

        Args:
            lineage: where the weights come from, for the cards of the results.

        Raises:
            UserError: the weights are of another architecture.
        """
        hardware.keep_freed_memory()
        torch.manual_seed(recipe.seed)
        model = MeanScaleHyperprior(recipe.N, recipe.M)
        if weights is not None:
            load_parameters(model, weights)
        replace_gdn(model).train()
        model.entropy_bottleneck.quantiles.requires_grad_(False)
        resolved = hardware.resolve_device(device)
        model.to(resolved, memory_format=torch.channels_last)
        codec = Codec(recipe.name, recipe.lmbda, model, "", hardware.resolve_dtype(dtype, resolved))
        gains = Gains(recipe.family, recipe.lmbda, recipe.N, recipe.M).to(resolved) if recipe.family else None
        trained = [p for p in _parameters(model, gains) if p.requires_grad]
        return cls(recipe, codec, gains, _optimizer(trained, recipe), lineage)

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is complete.

        Raises:
            SystemFault: a weight is not finite, or the disk is full; the old checkpoint is kept.
        """
        if not all(p.isfinite().all() for p in _parameters(self.codec.model, self.gains)):
            raise SystemFault(
                f"weights are no longer finite at step {self.step}: start anew with a lower learning rate"
            )
        state = {
            "recipe": asdict(self.recipe),
            "model": self.codec.model.state_dict(),
            "gains": self.gains.state_dict() if self.gains else {},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "lineage": asdict(self.lineage),
        }
        content = BytesIO()
        torch.save(state, content)
        with io.atomic(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    @classmethod
    def resume(cls, path: Path, recipe: Recipe, device: str = "auto", dtype: str = "auto") -> Run:
        """Continue from a checkpoint of the same recipe; only ``steps`` and ``cooldown`` may differ.

        Raises:
            UserError: it is no checkpoint, or one of another recipe, or its cool-down has begun and would
                change.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            stored = Recipe(**state["recipe"])
        except Exception as error:  # unpickling raises anything on damaged data
            raise UserError(f"{path} {_NO_CHECKPOINT}") from error
        if replace(stored, steps=recipe.steps, cooldown=recipe.cooldown) != recipe:
            differing = [k for k, v in asdict(stored).items() if asdict(recipe)[k] != v]
            raise UserError(
                f"{path} was made with other settings ({', '.join(differing)}): use another file or these settings"
            )
        if stored != recipe and state["step"] > min(
            stored.steps - stored.cooldown, recipe.steps - recipe.cooldown
        ):
            raise UserError(
                f"{path} is at step {state['step']}: its cool-down has begun, the schedule cannot change"
            )
        run = cls.start(recipe, device, dtype)
        try:
            run.lineage = Lineage(**state.get("lineage", {}))
            run.codec.model.load_state_dict(state["model"])
            if run.gains:
                run.gains.load_state_dict(state["gains"])
            run.optimizer.load_state_dict(state["optimizer"])
            run.step, run.seconds, run.log = state["step"], state["seconds"], state["log"]
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} {_NO_CHECKPOINT}") from error
        return run

    def advance(self, photographs: Sequence[Tensor]) -> list[dict[str, float]]:
        """One optimiser step; returns lmbda, loss, bpp and PSNR in dB of each λ that it served.

        The losses of a family's λ are weighted with λ^(-1/2): L(λ) grows about so, and each counts alike.

        Raises:
            SystemFault: the loss or its gradient is not finite. The weights are then still those of the step
                before.
        """
        started = time.perf_counter()
        recipe = self.recipe
        generator = generator_for(recipe.seed, self.step)
        objective = _Objective(self.codec)
        self.optimizer.zero_grad(set_to_none=True)
        served: Sequence[int | None] = recipe.served(generator) if self.gains else [None]
        measured = []
        for index in served:
            if index is None or self.gains is None:
                lmbda, folded = recipe.lmbda, {}
            else:
                lmbda, folded = recipe.family[index], self.gains.fold(self.codec.model, index)
            weights = {f"model.{name}": value for name, value in folded.items()}
            x = sample_crops(photographs, recipe.crop, recipe.batch, generator).to(self.codec.device)
            loss, bpp, mse = functional_call(objective, weights, (x, lmbda, generator))
            (loss * math.sqrt(recipe.lmbda / lmbda) / len(served)).backward()
            psnr = -10 * math.log10(max(mse.item(), 1e-12))
            measured.append({"lmbda": lmbda, "loss": loss.item(), "bpp": bpp.item(), "psnr": psnr})
        (group,) = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(group["params"], recipe.clip)
        if not all(math.isfinite(value) for value in (norm.item(), *(row["loss"] for row in measured))):
            raise SystemFault(
                f"the loss or its gradient is not finite at step {self.step}: start anew with a lower learning rate"
            )
        group["lr"] = recipe.learning_rate(self.step)
        self.optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return measured

    def weights(self) -> dict[float, dict[str, Tensor]]:
        """The plain architecture's parameters for each λ, with the quantiles of the prior found anew."""
        if self.gains is None:
            found = {self.recipe.lmbda: dict(self.codec.model.named_parameters())}
        else:
            found = {
                lmbda: self.gains.fold(self.codec.model, index)
                for index, lmbda in enumerate(self.recipe.family)
            }
        return {lmbda: _with_quantiles(self.recipe, weights) for lmbda, weights in found.items()}


@torch.no_grad()
def _with_quantiles(recipe: Recipe, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    model = MeanScaleHyperprior(recipe.N, recipe.M)
    load_parameters(model, weights)
    model.entropy_bottleneck._update_quantiles()
    return {name: value.detach() for name, value in model.named_parameters()}


def train(
    run: Run,
    photographs: Sequence[Tensor],
    checkpoint: Path,
    save_every: int = 500,
    report: Callable[[int, list[dict[str, float]]], Any] = lambda step, rows: None,
) -> Run:
    """Advance ``run`` to its last step, with a checkpoint every ``save_every`` steps and at the end.

    Args:
        photographs: uint8 tensors (3, H, W), each side at least the crop.
        report: called every 100 steps with the step and, for each λ, the means since the last call.

    Raises:
        UserError: every photograph is smaller than the crop.
        SystemFault: the loss, its gradient or a weight is not finite; the last checkpoint is kept.
    """
    usable = [photo for photo in photographs if min(photo.shape[1:]) >= run.recipe.crop]
    if not usable:
        raise UserError(f"no training photograph is at least {run.recipe.crop} pixels wide and high")
    try:
        _advance_to_the_end(run, usable, checkpoint, save_every, report)
    except SystemFault as fault:
        kept = f"; {checkpoint} is kept as it was" if checkpoint.is_file() else ""
        raise SystemFault(f"{fault}{kept}") from fault
    return run


def _advance_to_the_end(
    run: Run, photographs: Sequence[Tensor], checkpoint: Path, save_every: int, report: Callable
) -> None:
    recent: list[dict[str, float]] = []
    while run.step < run.recipe.steps:
        recent += run.advance(photographs)
        if run.step % 100 == 0 or run.step == run.recipe.steps:
            for lmbda in sorted({row["lmbda"] for row in recent}):
                rows = [row for row in recent if row["lmbda"] == lmbda]
                means = {key: sum(row[key] for row in rows) / len(rows) for key in ("loss", "bpp", "psnr")}
                run.log.append({"step": run.step, "seconds": run.seconds, "lmbda": lmbda, **means})
            report(run.step, [row for row in run.log if row["step"] == run.step])
            recent = []
        if run.step % save_every == 0 or run.step == run.recipe.steps:
            run.save(checkpoint)
