"""The race: how much sooner a preset has the loss that the plain loop ends at, by one stopwatch.

On each photograph both run in one process, from reading the latents off the encoder to the true loss after
the last step: `baseline.reference_refine`, which is how public implementations work, and `refinement.refine`
with the preset, whose steps are fewer and cheaper. The plain loop runs once. While it pauses, at `PAUSES`
moments spread evenly over its steps, the preset runs; its time is the mean of these runs. So both meet what
else the machine does.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from .. import hardware, io, plans
from ..codecs.codec import Codec
from ..data.datasets import ImageFile
from ..errors import UserError
from ..hardware import now
from ..jobs import provenance
from ..parsing import whole
from ..refinement import Progress, refine
from .baseline import METHOD, plain_model, reference_refine
from .race_table import COLUMNS, CPU, IDENTITY, MEASURED, read

# Steps of both before the first race, not timed: libraries choose kernels, the system hands out memory.
_WARMUP = 4
# How often the plain loop pauses, at most, for the preset to run.
PAUSES = 5


@dataclass(frozen=True)
class Settings:
    """Who runs how far: a name of `plans.PRESETS` and the plain loop, both with random numbers of one seed.

    Raises:
        UserError: a number of iterations is below 1, or there is no such preset.
    """

    iterations: int = 25
    reference_iterations: int = 500
    preset: str = "fast"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "reference_iterations"):
            object.__setattr__(self, name, whole(getattr(self, name), name, 1))
        if self.preset not in plans.PRESETS:
            raise UserError(f"unknown preset {self.preset!r}: use one of {', '.join(plans.PRESETS)}")


def plan_text(preset: str, iterations: int) -> str:
    """A preset's plan as tables of races hold it."""
    return json.dumps(plans.plan(preset, iterations).as_dict(), sort_keys=True)


def _identity(codec: Codec, image: ImageFile, settings: Settings) -> dict[str, Any]:
    plain = METHOD.spec, settings.reference_iterations
    preset = settings.preset, plan_text(settings.preset, settings.iterations), settings.iterations
    where = codec.format, hardware.describe(codec.device)
    values = codec.name, codec.lmbda, codec.sha256, image.sha256, *plain, *preset, *where, settings.seed
    return dict(zip(IDENTITY, values, strict=True))


def _plain(
    model: MeanScaleHyperprior, x: Tensor, codec: Codec, settings: Settings, progress: Progress
) -> float:
    """The true loss after the last step of the plain loop on one image (3, H, W)."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        image, steps = x[None].to(codec.device), settings.reference_iterations
        _, true = reference_refine(model, image, codec.lmbda, steps, METHOD.a, progress=progress)
        return true[-1]


def _ours(codec: Codec, x: Tensor, settings: Settings) -> tuple[float, float]:
    """True loss before the first and after the last step: the preset on one image (3, H, W)."""
    run = refine(
        codec,
        [x],
        settings.preset,
        iterations=settings.iterations,
        read_offs=[settings.iterations],
        trace_every=settings.iterations,
        seed=settings.seed,
        batch_size=1,
    )
    losses = run.rows.set_index("iteration")["loss"]
    return losses[0], losses[settings.iterations]


def _race(
    plain: MeanScaleHyperprior,
    codec: Codec,
    x: Tensor,
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> dict[str, float]:
    """`MEASURED` of one image (3, H, W), and `CPU`."""
    steps = settings.reference_iterations
    pauses = {max(1, steps * (2 * i + 1) // (2 * PAUSES)) for i in range(PAUSES)}
    taken: list[tuple[float, float]] = []
    losses = torch.nan, torch.nan

    def clocks() -> tuple[float, float]:
        return now(codec.device), time.process_time()

    def since(begun: tuple[float, float]) -> tuple[float, float]:
        wall, cpu = clocks()
        return wall - begun[0], cpu - begun[1]

    def follow(done: int, total: int) -> None:
        nonlocal losses
        if done in pauses:
            paused = clocks()
            losses = _ours(codec, x, settings)
            taken.append(since(paused))
        progress(done, total)

    begun = clocks()
    reference_loss = _plain(plain, x, codec, settings, follow)
    sums = [sum(each) for each in zip(*taken, strict=True)]
    reference = [all_in_all - paused for all_in_all, paused in zip(since(begun), sums, strict=True)]
    wall, cpu = (one / len(taken) for one in sums)
    measured = dict(zip(MEASURED, (losses[0], reference_loss, losses[1], reference[0], wall), strict=True))
    return measured | dict(zip(CPU, (reference[1], cpu), strict=True))


def run(
    path: str | Path,
    codec: Codec,
    images: Sequence[ImageFile],
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Race on each photograph that ``path`` has no line of, and add a line after each.

    Args:
        path: a .csv file; made where it is missing.
        codec: a mean-scale hyperprior; the plain loop runs on its device in float32.
        images: their sides are multiples of 64, since the plain loop does not pad.
        progress: called with (steps done, steps in all), those of the plain loop.

    Returns:
        The lines of these photographs: `IDENTITY`; image, width, height; lmbda; ``base_loss``, the true loss
        of the unrefined latents; ``reference_loss`` and ``loss``, those after the plain loop's and the
        preset's last step; ``reference_seconds`` and ``seconds``, all in all;
        ``reference_cpu_seconds`` and ``cpu_seconds``, those that the processor spent on them; provenance.

    Raises:
        UserError: the codec is another one, a side is no multiple of 64, or the file is no table of races.
    """
    path = Path(path)
    plain = plain_model(codec)
    for image in images:
        height, width = image.size
        if height % 64 or width % 64:
            raise UserError(
                f"the plain loop does not pad: the sides of {image.name} must be multiples of 64, not "
                f"{width}×{height}; a crop will do"
            )
    wanted = [_identity(codec, image, settings) for image in images]
    table = read(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    stored = set(table[IDENTITY].itertuples(index=False, name=None))
    missing = [
        (image, line)
        for image, line in zip(images, wanted, strict=True)
        if tuple(line.values()) not in stored
    ]
    per_race = settings.reference_iterations
    for index, (image, line) in enumerate(missing):

        def follow(done: int, total: int, before: int = index * per_race) -> None:
            progress(before + done, len(missing) * per_race)

        x = image.read()
        if index == 0:
            _race(plain, codec, x, replace(settings, iterations=_WARMUP, reference_iterations=_WARMUP))
        line |= {"image": image.name, "width": x.shape[-1], "height": x.shape[-2], "lmbda": codec.lmbda}
        line |= _race(plain, codec, x, settings, follow)
        added = pd.DataFrame([line | provenance(codec.device) | {"threads": torch.get_num_threads()}])
        table = read(path) if path.exists() else table  # another process may have added its own
        table = pd.concat([table, added], ignore_index=True) if len(table) else added
        io.write(path, table.to_csv(index=False))
    chosen = {tuple(line[name] for name in IDENTITY) for line in wanted}
    own = [key in chosen for key in table[IDENTITY].itertuples(index=False, name=None)]
    return table[own].reset_index(drop=True)
