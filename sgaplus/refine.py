"""The refinement loop: optimise the latents of given images, every network fixed.

The loss of each image is L(λ) = λ·255²·MSE + bpp on its original pixels, with the latents relaxed by a
rounding method at temperature τ(t). Images of one shape are refined together; as each image's noise comes
from its own generator and Adam works element by element, the batch does not change an image's result.

The *true* loss is what hard rounding gives. It is computed only at the iterations asked for, in float32
whatever the number format of the loop.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from . import metrics
from .codecs.codec import Codec
from .codecs.models import Latents, hard
from .errors import SystemFault, UserError
from .rounding import Method, parse
from .schedules import Schedule, Settings, defaults_for

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Run:
    """What a refinement gives.

    Attributes:
        rows: one row per image and read-off iteration: the true loss and its parts.
        trace: the same at every traced iteration, the read-offs among them, beside the method's own loss
            (of the step that led there) and its τ.
        best: for each image its row of lowest true loss among all that were computed.
        latents: for each image the hard latents of that row, on the codec's grid, each (C, h, w).
        reconstructions: for each image what the decoder makes of them, (3, H, W), not clamped.
    """

    rows: pd.DataFrame
    trace: pd.DataFrame
    best: pd.DataFrame
    latents: list[Latents]
    reconstructions: list[Tensor]


def image_seed(seed: int, image: Tensor) -> int:
    """The seed of one image's noise: a function of the run's seed and the image's content alone."""
    digest = hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), digest_size=8)
    digest.update(str(seed).encode())
    return int.from_bytes(digest.digest()) >> 1


@dataclass(eq=False)
class _Batch:
    """Images of one shape while they are refined."""

    codec: Codec
    x: Tensor
    names: list[str]
    method: Method
    lmbda: float
    latents: Latents
    generators: list[torch.Generator]

    @property
    def pixels(self) -> int:
        return self.x.shape[-2] * self.x.shape[-1]

    def crop(self, x_hat: Tensor) -> Tensor:
        return x_hat[..., : self.x.shape[-2], : self.x.shape[-1]]

    def noise(self, v: Tensor) -> Tensor | None:
        """The random numbers of one step for ``v``, each image's from its own generator."""
        drawn = [self.method.draw(v.shape[1:], generator=g, device=v.device) for g in self.generators]
        return None if drawn[0] is None else torch.stack(drawn)

    def relaxed_loss(self, tau: float) -> Tensor:
        """The method's loss of each image, (B,)."""

        def relax(v: Tensor, name: str) -> Tensor:
            return self.method.relax(v, tau, self.noise(v))

        decoded = self.codec.decode(self.latents, relax)
        mse = (self.crop(decoded.x_hat) - self.x).square().flatten(1).mean(1)
        bits = sum(decoded.bits.values())
        return metrics.rd_loss(self.lmbda, mse, bits / self.pixels)

    @torch.no_grad()
    def true(self) -> tuple[pd.DataFrame, Latents, Tensor]:
        """One row per image after hard rounding, the hard latents, the reconstruction."""
        decoded = self.codec.to(self.codec.device, "float32").decode(self.latents, hard)
        x_hat = self.crop(decoded.x_hat)
        bpp = {name: bits.double() / self.pixels for name, bits in decoded.bits.items()}
        mse = metrics.mse(self.x, x_hat)
        total = sum(bpp.values())
        columns = {
            "loss": metrics.rd_loss(self.lmbda, mse, total),
            "bpp": total,
            **{f"bpp_{name}": value for name, value in bpp.items()},
            "mse": mse,
            "psnr": metrics.psnr(self.x, x_hat),
            "psnr_8bit": metrics.psnr_8bit(self.x, x_hat),
            "ms_ssim": metrics.ms_ssim(self.x, x_hat),
        }
        rows = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
        rows.insert(0, "image", self.names)
        broken = rows.loc[~rows["loss"].abs().lt(float("inf")), "image"]
        if len(broken):
            raise SystemFault(
                f"the loss of {broken.iloc[0]} is no longer finite: lower the learning rate or use float32"
            )
        return rows, decoded.latents, x_hat


@dataclass(eq=False)
class _Best:
    """The best hard latents seen so far, image by image."""

    rows: pd.DataFrame
    latents: Latents
    x_hat: Tensor

    def update(self, rows: pd.DataFrame, latents: Latents, x_hat: Tensor) -> None:
        better = (rows["loss"] < self.rows["loss"]).to_numpy()
        self.rows.loc[better, rows.columns] = rows[better]
        chosen = torch.tensor(better, device=x_hat.device).reshape(-1, 1, 1, 1)
        self.latents = {k: torch.where(chosen, latents[k], v) for k, v in self.latents.items()}
        self.x_hat = torch.where(chosen, x_hat, self.x_hat)


def _optimise(
    batch: _Batch, iterations: int, settings: Settings
) -> Iterator[tuple[int, float, Tensor, float]]:
    """Adam on the batch's latents; yields (steps done, seconds, method's loss, τ) after every step."""
    variables = [latent.requires_grad_() for latent in batch.latents.values()]
    optimizer = torch.optim.Adam(variables, lr=1.0, fused=True)
    seconds = 0.0
    for t in range(iterations):
        started = time.perf_counter()
        tau = settings.temperature(t, iterations)
        optimizer.param_groups[0]["lr"] = settings.lr(t, iterations)
        optimizer.zero_grad(set_to_none=True)
        loss = batch.relaxed_loss(tau)
        loss.sum().backward()
        optimizer.step()
        seconds += time.perf_counter() - started
        yield t + 1, seconds, loss.detach(), tau


def _refine_batch(
    batch: _Batch,
    iterations: int,
    evaluate: set[int],
    settings: Settings,
    advance: Callable[[], None],
) -> tuple[pd.DataFrame, _Best]:
    rows, latents, x_hat = batch.true()
    size = len(batch.names)
    table = [rows.assign(iteration=0, seconds=0.0, tau=float("nan"), method_loss=float("nan"))]
    best = _Best(table[0].copy(), latents, x_hat)
    for t, seconds, loss, tau in _optimise(batch, iterations, settings):
        if t in evaluate:
            rows, latents, x_hat = batch.true()
            rows = rows.assign(
                iteration=t, seconds=seconds / size, tau=tau, method_loss=loss.double().cpu().numpy()
            )
            table.append(rows)
            best.update(rows, latents, x_hat)
        advance()
    return pd.concat(table, ignore_index=True), best


def _check(
    images: Sequence[Tensor],
    names: Sequence[str],
    lmbda: float,
    iterations: int,
    read_offs: Sequence[int],
    trace_every: int | None,
    batch_size: int | None,
) -> None:
    """Refuse what cannot be refined, before anything is computed."""
    if not images:
        raise UserError("there is no image to refine")
    for index, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
            shape = tuple(getattr(image, "shape", ())) or type(image).__name__
            raise UserError(f"image {index} must be a tensor (3, H, W), not {shape}")
        if not image.isfinite().all() or image.min() < 0 or image.max() > 1:
            raise UserError(f"image {index} must have values in [0, 1]")
    if iterations < 0:
        raise UserError(f"iterations must not be negative, not {iterations}")
    if not 0 < lmbda < math.inf:
        raise UserError(f"lambda must be positive, not {lmbda}")
    beyond = [t for t in read_offs if not 0 <= t <= iterations]
    if beyond:
        raise UserError(f"read-off {beyond[0]} is not between 0 and the {iterations} iterations")
    for what, value in (("trace_every", trace_every), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{what} must be at least 1, not {value}")
    if len(names) != len(images):
        raise UserError(f"{len(names)} names were given for {len(images)} images")
    if len(set(names)) < len(names):
        raise UserError("the images' names must differ")


def batches(images: Sequence[Tensor], size: int) -> list[list[int]]:
    """Indices of images that are refined together: one shape, at most ``size`` of them."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_shape.setdefault(tuple(image.shape), []).append(index)
    return [
        group[start : start + size] for group in by_shape.values() for start in range(0, len(group), size)
    ]


def refine(
    codec: Codec,
    images: Sequence[Tensor],
    method: Method | str,
    *,
    lmbda: float | None = None,
    iterations: int = 500,
    read_offs: Sequence[int] | None = None,
    trace_every: int | None = None,
    temperature: Schedule | None = None,
    lr: Schedule | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Refine the latents of ``images`` under ``codec``.

    Args:
        codec: from `load_codec`; its device and dtype are those of the loop.
        images: tensors (3, H, W) in [0, 1], of any sizes.
        method: a rounding method, or its specification as `rounding.parse` takes it.
        lmbda: λ of the loss; the codec's own where None. Another value moves along the R-D curve.
        iterations: Adam steps; 0 only measures the codec.
        read_offs: iterations with a row in ``rows``; 0 and the last one are always among them, and by
            default 500, as in the paper.
        trace_every: iterations between two true losses in ``trace``; by default 20 over the run.
        temperature, lr: schedules; by default the method's own (`schedules.defaults_for`).
        seed: of the rounding noise.
        names: the images' names in the tables; by default ``image-0``, …
        batch_size: most images refined together; by default 1 on a CPU, 24 on CUDA.
        progress: called with (image steps done, image steps in all).

    Returns:
        A `Run`. Its latents are the best seen, so that a reconstruction is never worse than the codec's.

    Raises:
        UserError: an argument is out of range.
        SystemFault: a loss is no longer finite; the message names the image.
    """
    method = parse(method) if isinstance(method, str) else method
    lmbda = codec.lmbda if lmbda is None else lmbda
    names = [f"image-{i}" for i in range(len(images))] if names is None else list(names)
    wanted = [500] if read_offs is None and iterations >= 500 else list(read_offs or [])
    _check(images, names, lmbda, iterations, wanted, trace_every, batch_size)
    settings = defaults_for(method)
    settings = Settings(temperature or settings.temperature, lr or settings.lr)
    marks = {0, iterations, *wanted}
    every = trace_every or max(1, iterations // 20)
    evaluate = marks | set(range(every, iterations + 1, every))
    size = batch_size or (24 if codec.device.type == "cuda" else 1)

    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, iterations * len(images))

    tables: list[pd.DataFrame] = []
    latents: dict[int, Latents] = {}
    reconstructions: dict[int, Tensor] = {}
    best_rows: list[pd.DataFrame] = []
    for group in batches(images, size):
        x = torch.stack([images[i] for i in group]).to(codec.device)
        with torch.no_grad():
            start = codec.to(codec.device, "float32").analyse(codec.pad(x))
        generators = [torch.Generator(codec.device).manual_seed(image_seed(seed, images[i])) for i in group]
        batch = _Batch(codec, x, [names[i] for i in group], method, lmbda, start, generators)
        table, best = _refine_batch(
            batch,
            iterations,
            evaluate,
            settings,
            functools.partial(advance, len(group)),
        )
        tables.append(table)
        best_rows.append(best.rows)
        for position, i in enumerate(group):
            latents[i] = {name: value[position].cpu() for name, value in best.latents.items()}
            reconstructions[i] = best.x_hat[position].cpu()

    order = {name: position for position, name in enumerate(names)}
    trace = _tidy(pd.concat(tables, ignore_index=True), order, method, lmbda, seed)
    rows = trace[trace["iteration"].isin(marks)].reset_index(drop=True)
    return Run(
        rows=rows,
        trace=trace,
        best=_tidy(pd.concat(best_rows, ignore_index=True), order, method, lmbda, seed),
        latents=[latents[i] for i in range(len(images))],
        reconstructions=[reconstructions[i] for i in range(len(images))],
    )


def _tidy(
    table: pd.DataFrame, order: dict[str, int], method: Method, lmbda: float, seed: int
) -> pd.DataFrame:
    """Sort by image and iteration, and say in every row what was run."""
    table = table.sort_values(["image", "iteration"], key=lambda c: c.map(order) if c.name == "image" else c)
    table = table.assign(method=method.label, lmbda=lmbda, seed=seed)
    first = ["image", "method", "lmbda", "seed", "iteration"]
    return table[first + [c for c in table.columns if c not in first]].reset_index(drop=True)
