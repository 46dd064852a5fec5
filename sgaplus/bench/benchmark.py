"""The benchmark: our refinement loop against the plain one, and against the device's bare convolutions.

`baseline.reference_refine`, which is how public implementations work, and `refinement.refine` run in turn in
one process on the same pictures, in pairs, so that what else the machine does meets both. Content and weights
do not change what a step costs; by default the weights are random and nothing is downloaded.

What a better loop could still gain is bounded by a *ceiling*: the time that the convolutions of one of our
steps, forward and backward to their inputs, take on this device by themselves, each one timed alone with the
step's own shapes, number format and memory layout. Their share of our step's time is what is used well.

The two loops share what the process has: its threads, and the allocator's settings
(`hardware.keep_freed_memory`), which speed up the plain loop too. It computes the true loss at every step;
ours at the few that are asked for, so that its time is given apart.
"""

import contextlib
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
import torch.nn.functional as F
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from .. import hardware
from ..codecs.codec import Codec, freeze
from ..codecs.weights import load_codec
from ..hardware import now
from ..jobs import provenance
from ..refinement import Progress, refine
from . import instructions
from .baseline import METHOD, plain_model, reference_refine
from .ceiling import Convolution, Recorder, ceiling, profiler_of, shares
from .measurement import Measurement, Settings


def convolutions(codec: Codec, images: list[Tensor]) -> Counter[Convolution]:
    """The convolutions of one step of `refinement.refine` on ``images``, and how often each occurs.

    Args:
        images: of one shape, (3, H, W) each, refined together.
    """
    recorder = Recorder()

    def follow(done: int, total: int) -> None:
        recorder.active = done == len(images)  # from the end of the first step to that of the second

    with recorder:
        _refine(codec, images, 3, follow)
    return recorder.calls


def parts(codec: Codec, images: list[Tensor], settings: Settings) -> dict[str, float]:
    """The shares of `ceiling.PARTS` in the steps of `refinement.refine` on ``images`` that are timed."""
    profiler, last = profiler_of(codec.device), settings.warmup + settings.steps
    marks = {len(images) * settings.warmup: profiler.start, len(images) * last: profiler.stop}

    def follow(done: int, total: int) -> None:
        if done in marks:
            marks[done]()

    _refine(codec, images, last + 1, follow, settings.compiled)
    return shares(profiler, codec.device)


def time_to_compile(codec: Codec, images: list[Tensor]) -> float:
    """Seconds by which a first refinement of ``images``, compiled, is longer than a second one.

    PyTorch's cache on disk is an empty one; what this process has compiled before it would still find.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
        for _ in range(2):
            begun = now(codec.device)
            _refine(codec, images, 2, lambda done, total: None, compiled=True)
            seconds.append(now(codec.device) - begun)
    return seconds[0] - seconds[1]


def _clock(device: torch.device, *marks: int) -> tuple[Progress, list[float]]:
    """A `Progress` that reads the clock after certain steps, and what it reads."""
    times: list[float] = []
    return lambda done, total: times.extend([now(device)] if done in marks else []), times


def _refine(
    codec: Codec, images: list[Tensor], iterations: int, progress: Progress, compiled: bool = False
) -> None:
    """Our loop; true losses before the first and after the last step alone."""
    refine(
        codec,
        images,
        METHOD,
        iterations=iterations,
        read_offs=[],
        trace_every=iterations,
        batch_size=len(images),
        compiled=compiled,
        progress=progress,
    )


def _time_ours(codec: Codec, images: list[Tensor], settings: Settings) -> tuple[float, float]:
    """Seconds of one step on one image, and of one true loss: by how much the step that has it is longer."""
    last = settings.warmup + settings.steps
    clock, times = _clock(codec.device, *(len(images) * t for t in (settings.warmup, last, last + 1)))
    _refine(codec, images, last + 1, clock, settings.compiled)
    begun, ended, evaluated = times
    step = (ended - begun) / settings.steps
    return step / len(images), (evaluated - ended - step) / len(images)


def _time_reference(model: MeanScaleHyperprior, image: Tensor, lmbda: float, settings: Settings) -> float:
    """Seconds of one step of the plain loop."""
    device = next(model.parameters()).device
    last = settings.warmup + settings.steps
    clock, times = _clock(device, settings.warmup, last)
    reference_refine(model, image[None].to(device), lmbda, last, METHOD.a, progress=clock)
    begun, ended = times
    return (ended - begun) / settings.steps


def peak(device: torch.device, function: Callable[..., Any], *arguments: Any) -> tuple[Any, int | None]:
    """The function's result, and the most bytes in use so far.

    On CUDA in PyTorch's allocator, by the call alone; else in the process, since it began, and None where the
    system does not say.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return function(*arguments), torch.cuda.max_memory_allocated(device)
    result = function(*arguments)
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        unit = 1 if platform.system() == "Darwin" else 1024
        return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return result, None


def _codec(settings: Settings) -> Codec:
    if settings.codec is not None:
        return load_codec(
            settings.codec,
            settings.lmbda,
            quality=settings.quality,
            device=settings.device,
            dtype=settings.dtype,
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(settings.seed)
        model = MeanScaleHyperprior(settings.N, settings.M)
        model.g_a[-1].weight *= 40  # latents a few units wide, as a trained codec's are
    return Codec("random weights", 0.01, freeze(model), sha256="").to(settings.device, settings.dtype)


def pictures(settings: Settings, count: int, pair: int = 0) -> list[Tensor]:
    """Smooth random pictures (3, H, W) in [0, 1], other ones for every pair."""
    generator = torch.Generator().manual_seed(settings.seed + pair)
    coarse = torch.rand(count, 3, settings.height // 32, settings.width // 32, generator=generator)
    return list(F.interpolate(coarse, (settings.height, settings.width), mode="bicubic").clamp(0, 1))


def run(settings: Settings, progress: Progress | None = None) -> Measurement:
    """Measure both loops and the ceiling.

    Args:
        progress: called with (runs done, runs in all): one to see what our loop does, three in each pair.

    Raises:
        UserError: the device, the number format or the codec is not available, or the codec is no mean-scale
            hyperprior.
    """
    codec = _codec(settings)
    plain = plain_model(codec)
    device = codec.device
    size = settings.batch_size or (24 if device.type == "cuda" else 1)
    total = 1 + 3 * settings.pairs
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    # First, so that on a CPU the peak is ours.
    images, compile_seconds = pictures(settings, size), None
    if settings.compiled:
        compile_seconds, ours_peak = peak(device, time_to_compile, codec, images)
        calls = convolutions(codec, images)  # the program calls the same ones, but does not say so
    else:
        calls, ours_peak = peak(device, convolutions, codec, images)
    advance()
    flops = sum(convolution.flops * count for convolution, count in calls.items()) / size
    lines, reference_peaks = [], []
    for pair in range(settings.pairs):
        images = pictures(settings, size, pair)
        line: dict[str, float] = {"pair": pair}
        # Every other pair the other way round, so that a drift of the machine's speed favours neither.
        for loop in ("reference", "ours")[:: -1 if pair % 2 else 1]:
            if loop == "ours":
                line["ours_seconds"], line["true_loss_seconds"] = _time_ours(codec, images, settings)
            else:
                line["reference_seconds"], most = peak(
                    device, _time_reference, plain, images[0], codec.lmbda, settings
                )
                reference_peaks.append(most)
            advance()
        line["ceiling_seconds"] = ceiling(calls, device, settings.steps) / size
        lines.append(line)
        advance()
    table = pd.DataFrame(lines)
    table["ratio"] = table["reference_seconds"] / table["ours_seconds"]
    table["share"] = table["ceiling_seconds"] / table["ours_seconds"]
    summary = {
        **_statistics(table, flops, settings.width * settings.height),
        "parts": parts(codec, pictures(settings, size), settings),
        "ours_peak_bytes": ours_peak,
        "compile_seconds": compile_seconds,
        "reference_peak_bytes": max((p for p in reference_peaks if p is not None), default=None),
        **asdict(settings),
        "codec": codec.name,
        "lmbda": codec.lmbda,
        "N": codec.model.N,
        "M": codec.model.M,
        "batch_size": size,
        "method": METHOD.spec,
        "dtype": codec.format,
        "device_type": device.type,
        "bfloat16_hardware": hardware.has_bfloat16(device),
        "threads": torch.get_num_threads(),
        "instructions": os.environ.get(instructions.LIMIT, ""),
        "auto": str(hardware.resolve_dtype("auto", device)).removeprefix("torch."),
        **provenance(device),
    }
    return Measurement(table, summary)


def _statistics(table: pd.DataFrame, flops: float, pixels: int) -> dict[str, float]:
    """Medians over the pairs and what follows from them, plain floats."""
    middle = {name: float(value) for name, value in table.drop(columns="pair").median().items()}
    spread = {"min": 0.0, "lower_quartile": 0.25, "upper_quartile": 0.75, "max": 1.0}
    return {
        **middle,
        **{f"ratio_{name}": float(table["ratio"].quantile(q)) for name, q in spread.items()},
        "seconds_per_megapixel_iteration": middle["ours_seconds"] / (pixels / 1e6),
        "flops": flops,
        "flops_per_second": flops / middle["ours_seconds"],
        "ceiling_flops_per_second": flops / middle["ceiling_seconds"],
    }
