"""Refinement: optimise the latents of given images, every network fixed.

The loss of each image is L(λ) = λ·255²·MSE + bpp on its original pixels, or of another distortion than the
MSE, with the latents relaxed by a rounding method at temperature τ(t). Images of one shape are refined
together. Each image's noise comes from its own generator and the optimiser treats each image by itself, so
that a result is the same in any batch up to rounding, as convolutions of another batch add in another order.

The *true* loss is what hard rounding gives. It is computed only at the iterations asked for, in float32
whatever the number format of the loop.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .. import bitstream, plans
from .. import distortion as distortions
from ..codecs.checkpoints import content_hash
from ..codecs.codec import Codec, codec_of
from ..codecs.models import Latents
from ..errors import UserError
from ..hardware import channels_last, suit_memory, undisturbed
from ..parsing import number, whole
from ..plans import Plan
from ..rounding import Method
from . import ALGORITHM, objective
from .batch import Batch
from .checkpoints import Checkpoints
from .inputs import images_of, names_of, read_offs_of
from .loop import Best, Keeper, refine_batch

Progress = Callable[[int, int], None]
# Pixels of images that are refined together where nothing else is said: of 24 photographs of Kodak on a GPU,
# of one on a CPU. Six crops of 256 × 256 take a quarter less than alone, on a processor with matrix tiles.
_PIXELS_ON_CPU, _PIXELS_ON_GPU = 768 * 512, 24 * 768 * 512


@dataclass(frozen=True, eq=False)
class Run:
    """What a refinement gives.

    Attributes:
        rows: one row per image and read-off iteration: the true loss and its parts; where files were asked
            for, ``real_bytes`` and ``real_bpp``, those of the whole file.
        trace: the same at every traced iteration, the read-offs among them, beside the method's own loss
            (of the step that led there) and its τ.
        best: for each image its row of lowest true loss among all that were computed.
        latents: for each image the hard latents of that row, on the codec's grid, each (C, h, w).
        reconstructions: for each image what the decoder makes of them, (3, H, W), not clamped.
        streams: where files were asked for, the content of each (see `bitstream`) by image and iteration,
            one for each of ``rows``.
        stopped: whether Ctrl-C ended it.
    """

    rows: pd.DataFrame
    trace: pd.DataFrame
    best: pd.DataFrame
    latents: list[Latents]
    reconstructions: list[Tensor]
    streams: dict[tuple[str, int], bytes]
    stopped: bool = False


def image_seed(seed: int, image: Tensor) -> int:
    """The seed of one image's noise: a function of the run's seed and the image's content alone."""
    digest = hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), digest_size=8)
    digest.update(str(seed).encode())
    return int.from_bytes(digest.digest()) >> 1


def batches(sizes: Sequence[tuple[int, int] | None], most: Callable[[int], int]) -> list[list[int]]:
    """Indices of images that are refined together: one height and width, at most ``most(pixels)`` of them.

    Args:
        sizes: of the images; one whose size is None is alone.
    """
    by_size: dict[tuple[int, int] | None, list[int]] = {}
    for index, size in enumerate(sizes):
        by_size.setdefault(size, []).append(index)
    return [
        group[start : start + count]
        for size, group in by_size.items()
        for count in [1 if size is None else most(size[0] * size[1])]
        for start in range(0, len(group), count)
    ]


def lambda_of(codec: Codec, lmbda: float | None, metric: str) -> float:
    """λ of the loss: as given, or the codec's own in the convention of ``metric``, see `distortion`.

    Raises:
        UserError: it is not positive; or none is given, and the distortion is a function of the user's.
    """
    if lmbda is not None:
        return number(lmbda, "lambda")
    if not metric:
        raise UserError("no codec was trained for this distortion: give the λ that weighs it (lmbda)")
    return distortions.lambda_in(metric, codec.lmbda, codec.metric)


def default_batch_size(codec: Codec, pixels: int) -> int:
    """How many images of so many pixels are refined together where nothing else is said."""
    together = _PIXELS_ON_GPU if codec.device.type == "cuda" else _PIXELS_ON_CPU
    return max(1, together // pixels)


@undisturbed()
def refine(
    codec: Codec,
    images: Sequence[Tensor],
    plan: Plan | Method | str = "ssl",
    *,
    lmbda: float | None = None,
    distortion: Any = None,
    iterations: int = 500,
    read_offs: Sequence[int] | None = None,
    trace_every: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    batch_size: int | None = None,
    compiled: bool = False,
    streams: bool = False,
    progress: Progress | None = None,
    stoppable: bool = False,
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Refine the latents of ``images`` under ``codec``.

    Args:
        codec: from `load_codec`; its device and dtype are those of the loop.
        images: tensors or arrays (3, H, W) in [0, 1], of any sizes: one, a batch (B, 3, H, W), or an iterable
            of these. Samples of type uint8 count from 0 to 255.
        plan: as `plans.plan` makes it; of a rounding method or its specification ("ssl:a=2.3") the published
            settings are taken, of the name of a preset ("fast") its plan for so many iterations.
        lmbda: λ of the loss; the codec's own where None. Another value moves along the R-D curve.
        distortion: in the loss: "mse", "ms-ssim", a map of weights of the squared error (H, W), one for each
            image, or a differentiable function of reconstructions and images (B, 3, H, W) that gives (B,),
            see `distortion.each_of`; None is what the codec was trained for. With the other of the two
            metrics, the codec's λ is converted (`distortion.lambda_in`); with a function λ has to be given.
        iterations: the optimiser's steps, or the syntheses of a plan that also steps between them; 0 only
            measures the codec.
        read_offs: iterations with a row in ``rows``; 0 and the last one are always among them, and by
            default 500, as in the paper.
        trace_every: iterations between two true losses in ``trace``; by default 20 over the run.
        seed: of the rounding noise.
        names: the images' names in the tables; by default ``image-0``, …
        batch_size: most images refined together, which changes results only as rounding does; by default as
            many as have the pixels of 24 photographs of Kodak (768 × 512) on a GPU, of one on a CPU. A batch
            that does not fit in a GPU's memory is halved, with a warning.
        compiled: make a program of the steps' loss with `torch.compile`, once for images of a shape, see
            `objective`. Results differ as rounding in other places makes them. Images that are so large that
            they go through the networks in strips are not compiled.
        streams: write the hard latents of every read-off as files, which end with decoding them for a check.
        progress: called with (image steps done, image steps in all).
        stoppable: let Ctrl-C (a KeyboardInterrupt) end the steps, not the call. The last row of each
            image then says how many there were; images that were not begun have the one of iteration 0. A
            second Ctrl-C ends the call.
        checkpoints: where a batch's state is saved from time to time; the same call goes on from there. Clear
            them when the results are safe. None for a function of the user's as the distortion.

    Returns:
        A `Run`. Its latents are the best seen, so that a reconstruction is never worse than the codec's.

    Raises:
        UserError: an argument is out of range or no plan, files are asked for of a codec whose latents cannot
            be written, or PyTorch cannot compile here.
        SystemFault: a loss or gradients are no longer finite; the message names the image.
    """
    codec, images = codec_of(codec), images_of(images)
    names = names_of(names, len(images))
    each = distortions.each_of(distortion, images, codec.metric)
    lmbda = lambda_of(codec, lmbda, each[0].metric)
    iterations, seed = whole(iterations, "iterations", 0, plans.MOST_ITERATIONS), whole(seed, "seed")
    wanted = read_offs_of(read_offs, iterations)
    if progress is not None and not callable(progress):
        raise UserError(f"progress is a function of two numbers, not {progress!r}")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise UserError(f"checkpoints are Checkpoints(folder, seconds), not {checkpoints!r:.80}")
    trace_every = trace_every if trace_every is None else whole(trace_every, "trace_every", 1)
    batch_size = batch_size if batch_size is None else whole(batch_size, "batch_size", 1)
    chosen = plans.plan(plan, iterations)
    if streams:
        bitstream.check(codec, *images)
    marks = {0, iterations, *wanted}
    every = trace_every or max(1, iterations // 20)
    evaluate = marks | set(range(every, iterations + 1, every))

    tables: list[pd.DataFrame] = []
    latents: dict[int, Latents] = {}
    reconstructions: dict[int, Tensor] = {}
    best_rows: list[pd.DataFrame] = []
    written: dict[tuple[str, int], bytes] = {}

    def run(group: list[int]) -> tuple[pd.DataFrame, Best, bool]:
        suit_memory(images[group[0]][0].numel())
        x = channels_last(torch.stack([images[i] for i in group]).to(codec.device))  # as x̂ is
        with torch.no_grad():
            exact = codec.to(codec.device, "float32")
            start = exact.analyse(codec.pad(x))
        generators = [torch.Generator(codec.device).manual_seed(image_seed(seed, images[i])) for i in group]
        joint = distortions.together([each[i] for i in group], codec.device)
        if joint.function is not None:
            with torch.no_grad():
                base = objective.crop(exact.decode(start).x_hat, x.shape[-2:])
            joint.check(base, x)
        batch = Batch(codec, x, [names[i] for i in group], chosen, lmbda, start, generators, compiled, joint)
        before = iterations * len(latents)

        def advance(step: int) -> None:
            if progress:
                progress(before + step * len(group), iterations * len(images))

        at, seen = 0, start
        files: dict[tuple[str, int], bytes] = {}

        def write() -> None:
            for position, i in enumerate(group):
                single = {name: value[position] for name, value in seen.items()}
                files[names[i], at] = bitstream.encode(codec, single, tuple(images[i].shape[1:]))

        def observe(iteration: int, hard: Latents) -> None:
            nonlocal at, seen
            at, seen = iteration, hard
            if streams and at in marks:
                write()

        keeper = None
        known = joint.function in (None, distortions.MS_SSIM.function)
        if checkpoints is not None and known and not stopped:
            path = checkpoints.of(
                algorithm=ALGORITHM,
                codec=codec.sha256 or content_hash(codec.model),
                format=(codec.format, codec.device.type, compiled),
                images=[(names[i], image_seed(seed, images[i])) for i in group],
                plan=chosen.as_dict(),
                loss=(lmbda, [each[i].spec for i in group]),
                iterations=(iterations, sorted(evaluate), streams and sorted(marks)),
            )
            keeper = Keeper(checkpoints, path, files)
        steps = 0 if stopped else iterations
        found = refine_batch(batch, steps, evaluate, advance, observe, stoppable, keeper)
        if streams and at not in marks:  # it was stopped there
            write()
        written.update(files)
        return found

    stopped = False
    waiting = batches(
        [(image.shape[1], image.shape[2]) for image in images],
        lambda pixels: batch_size or default_batch_size(codec, pixels),
    )
    while waiting:
        group = waiting.pop(0)
        try:
            table, best, interrupted = run(group)
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise
            size = (len(group) + 1) // 2
            warnings.warn(
                f"{len(group)} images at once do not fit in the GPU's memory: going on with {size}",
                stacklevel=3,  # whoever called `refine`, not its decorator
            )
            waiting = [g[i : i + size] for g in [group, *waiting] for i in range(0, len(g), size)]
            continue
        tables.append(table)
        stopped |= interrupted
        best_rows.append(best.rows)
        for position, i in enumerate(group):
            latents[i] = {name: value[position].cpu() for name, value in best.latents.items()}
            reconstructions[i] = best.x_hat[position].cpu()

    said = {name: one.spec for name, one in zip(names, each, strict=True)}
    trace = _tidy(pd.concat(tables, ignore_index=True), said, chosen.label, lmbda, seed)
    last = trace["iteration"] == trace.groupby("image")["iteration"].transform("max")
    rows = trace[trace["iteration"].isin(marks) | last].reset_index(drop=True)
    if streams:
        sizes = [len(written[image, t]) for image, t in zip(rows["image"], rows["iteration"], strict=True)]
        pixels = {name: x.shape[1] * x.shape[2] for name, x in zip(names, images, strict=True)}
        rows = rows.assign(real_bytes=sizes)
        rows["real_bpp"] = 8 * rows["real_bytes"] / rows["image"].map(pixels)
    return Run(
        rows=rows,
        trace=trace,
        best=_tidy(pd.concat(best_rows, ignore_index=True), said, chosen.label, lmbda, seed),
        latents=[latents[i] for i in range(len(images))],
        reconstructions=[reconstructions[i] for i in range(len(images))],
        streams=written,
        stopped=stopped,
    )


def _tidy(table: pd.DataFrame, said: dict[str, str], label: str, lmbda: float, seed: int) -> pd.DataFrame:
    """Sort by image and iteration, and say in every row what was run; ``said``: each image's distortion."""
    order = {name: position for position, name in enumerate(said)}
    table = table.sort_values(["image", "iteration"], key=lambda c: c.map(order) if c.name == "image" else c)
    table = table.assign(method=label, lmbda=lmbda, seed=seed, distortion=table["image"].map(said))
    first = ["image", "method", "lmbda", "distortion", "seed", "iteration"]
    return table[first + [c for c in table.columns if c not in first]].reset_index(drop=True)
