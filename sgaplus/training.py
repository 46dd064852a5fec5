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

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from compressai.models import MeanScaleHyperprior
from pytorch_optimizer import SOAP
from torch import Tensor
from torch.func import functional_call

from . import files, runtime
from .codecs import Codec
from .errors import SystemFault, UserError
from .gains import Gains
from .images import read_image, to_uint8
from .layers import replace_gdn
from .specs import number
from .weights import load_parameters

PHOTOGRAPHS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run.

    Attributes:
        name: family name of the result.
        N, M: channels of the transforms and of the latent y.
        lmbda: λ of the loss; of a family, the one whose gains start at 1: that of the weights it starts from,
            which the family need not contain.
        family: the λ that are trained together; empty for ``lmbda`` alone.
        steps: optimiser steps in all; may be raised on resuming while the cool-down has not begun.
        cooldown: the last steps, over which the learning rate falls linearly to zero.
        warmup: the first steps, over which it rises linearly.
        lr: SOAP's learning rate between the two.
        crop, batch: pixels per side and number of the random crops of one step and λ. At 128 pixels ẑ is
            2 × 2 and the hyperprior never sees a position away from the border, so that the rate of whole
            photographs drifts away from that of the crops.
        clip: largest norm of the gradient.
        per_step: how many λ of a family one step serves, drawn at random.
        seed: of the initial weights, the crops and the noise.
        holdout: the last so many photographs (by name) are never trained on.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", tuple(self.family))  # JSON has lists
        if not self.name or Path(self.name).name != self.name:
            raise UserError(f"a family's name becomes a file's: it cannot be {self.name!r}")
        for lmbda in (self.lmbda, *self.family):
            number(lmbda, "lambda")
        for name, what in (("lr", "the learning rate"), ("clip", "the largest norm of the gradient")):
            number(getattr(self, name), what)
        for name in ("N", "M", "batch", "per_step", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("cooldown", "warmup", "holdout"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if len(set(self.family)) < len(self.family):
            raise UserError("the lambda of a family must differ")
        if self.crop < 64 or self.crop % 64:
            raise UserError(f"the crop must be a multiple of 64 pixels, not {self.crop}")
        if self.steps < self.cooldown + self.warmup:
            raise UserError(
                f"{self.steps} steps are fewer than warm-up and cool-down together "
                f"({self.warmup} + {self.cooldown})"
            )

    def learning_rate(self, step: int) -> float:
        """The learning rate of step ``step`` = 0, 1, …"""
        rise = (step + 1) / max(1, self.warmup)
        fall = (self.steps - step) / max(1, self.cooldown)
        return self.lr * min(1.0, rise, fall)

    def served(self, generator: torch.Generator) -> list[int]:
        """The indices in ``family`` of the λ that one step serves."""
        order = torch.randperm(len(self.family), generator=generator)
        return order[: self.per_step].tolist()


def generator_for(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, a function of (seed, step) alone: resuming changes nothing."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def sample_crops(photographs: Sequence[Tensor], recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random crops (B, 3, crop, crop) in [0, 1], photographs drawn by area, turned and mirrored at random.

    Args:
        photographs: uint8 tensors (3, H, W).
    """
    areas = torch.tensor([photo[0].numel() for photo in photographs], dtype=torch.float64)
    chosen = torch.multinomial(areas, recipe.batch, replacement=True, generator=generator)
    crops = []
    for index in chosen.tolist():
        photo = photographs[index]
        top, left = (
            int(torch.randint(side - recipe.crop + 1, (), generator=generator)) for side in photo.shape[1:]
        )
        crop = photo[:, top : top + recipe.crop, left : left + recipe.crop]
        flip, turn = torch.randint(2, (2,), generator=generator).tolist()
        crop = crop.flip(2) if flip else crop
        crops.append(crop.transpose(1, 2) if turn else crop)
    return torch.stack(crops).float() / 255


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
        bpp = sum(bits.sum() for bits in decoded.bits.values()) / pixels
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
        step: optimiser steps done.
        seconds: that they took.
        log: one entry per 100 steps and λ: step, seconds, lmbda and the means that `train` reports.
    """

    recipe: Recipe
    codec: Codec
    gains: Gains | None
    optimizer: torch.optim.Optimizer
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
    ) -> Run:
        """A new run, from random weights or from ``weights``, a state dict of the same architecture.

        Raises:
            UserError: the weights are of another architecture.
        """
        runtime.keep_freed_memory()
        torch.manual_seed(recipe.seed)
        model = MeanScaleHyperprior(recipe.N, recipe.M)
        if weights is not None:
            load_parameters(model, weights)
        replace_gdn(model).train()
        model.entropy_bottleneck.quantiles.requires_grad_(False)
        resolved = runtime.resolve_device(device)
        model.to(resolved, memory_format=torch.channels_last)
        codec = Codec(recipe.name, recipe.lmbda, model, "", runtime.resolve_dtype(dtype, resolved))
        gains = Gains(recipe.family, recipe.lmbda, recipe.N, recipe.M).to(resolved) if recipe.family else None
        trained = [p for p in _parameters(model, gains) if p.requires_grad]
        return cls(recipe, codec, gains, _optimizer(trained, recipe))

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is complete.

        Raises:
            SystemFault: a weight is not finite, or the disk is full; the old checkpoint is kept.
        """
        if not all(p.isfinite().all() for p in _parameters(self.codec.model, self.gains)):
            raise SystemFault(f"weights are no longer finite at step {self.step}: lower the learning rate")
        state = {
            "recipe": asdict(self.recipe),
            "model": self.codec.model.state_dict(),
            "gains": self.gains.state_dict() if self.gains else {},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
        }
        content = io.BytesIO()
        torch.save(state, content)
        with files.atomic(path) as temporary:
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
            raise UserError(
                f"{path} is not a checkpoint of a training run: remove it to start anew"
            ) from error
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
        run.codec.model.load_state_dict(state["model"])
        if run.gains:
            run.gains.load_state_dict(state["gains"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.step, run.seconds, run.log = state["step"], state["seconds"], state["log"]
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
        served = recipe.served(generator) if self.gains else [None]
        measured = []
        for index in served:
            lmbda = recipe.lmbda if index is None else recipe.family[index]
            weights = {} if index is None else self.gains.fold(self.codec.model, index)
            weights = {f"model.{name}": value for name, value in weights.items()}
            x = sample_crops(photographs, recipe, generator).to(self.codec.device)
            loss, bpp, mse = functional_call(objective, weights, (x, lmbda, generator))
            (loss * math.sqrt(recipe.lmbda / lmbda) / len(served)).backward()
            psnr = -10 * math.log10(max(mse.item(), 1e-12))
            measured.append({"lmbda": lmbda, "loss": loss.item(), "bpp": bpp.item(), "psnr": psnr})
        (group,) = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(group["params"], recipe.clip)
        if not all(math.isfinite(value) for value in (norm.item(), *(row["loss"] for row in measured))):
            raise SystemFault(
                f"the loss or its gradient is not finite at step {self.step}: lower the learning rate"
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


def read_photographs(folder: Path, recipe: Recipe) -> list[Tensor]:
    """The training photographs below ``folder`` as uint8 tensors (3, H, W), without the held-out ones.

    Raises:
        UserError: there is no such folder, a file in it is broken, or nothing is as large as the crop.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: name one with training photographs")
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PHOTOGRAPHS and not path.name.startswith(".")
    ]
    held_out = recipe.holdout if len(paths) > 2 * recipe.holdout else 0
    photographs = [to_uint8(read_image(path)) for path in paths[: len(paths) - held_out]]
    large = [photo for photo in photographs if min(photo.shape[1:]) >= recipe.crop]
    if not large:
        raise UserError(
            f"{folder} holds no photograph of at least {recipe.crop} pixels a side: "
            f"add some ({', '.join(sorted(PHOTOGRAPHS))}) or lower the crop"
        )
    return large


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
    recent: list[dict[str, float]] = []
    while run.step < run.recipe.steps:
        recent += run.advance(usable)
        if run.step % 100 == 0 or run.step == run.recipe.steps:
            for lmbda in sorted({row["lmbda"] for row in recent}):
                rows = [row for row in recent if row["lmbda"] == lmbda]
                means = {key: sum(row[key] for row in rows) / len(rows) for key in ("loss", "bpp", "psnr")}
                run.log.append({"step": run.step, "seconds": run.seconds, "lmbda": lmbda, **means})
            report(run.step, [row for row in run.log if row["step"] == run.step])
            recent = []
        if run.step % save_every == 0 or run.step == run.recipe.steps:
            run.save(checkpoint)
    return run
