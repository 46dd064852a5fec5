"""From a study's profile to jobs: their keys, what each costs, and how long they take.

A *task* is a `jobs.Job` with what is needed to run it. Its cost is counted in megapixel-iterations: one
step on 10⁶ pixels. A true loss, in float32 and with all metrics, counts as two steps.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from .. import distortion, hardware, plans
from ..codecs.weights import cards
from ..data import sources
from ..data.datasets import ImageFile, list_images
from ..errors import UserError
from ..jobs import Job, job_of, joined
from ..plans import BASE, Plan
from .schema import Grid, Profile, Study

_STEPS_PER_TRUE_LOSS = 2
# Seconds per megapixel-iteration where nothing is measured yet: of the two families on two cores of a server
# processor of 2023 with bfloat16, and on a large GPU.
_ASSUMED = {"cpu": {"mshyper-s": 0.16, "mshyper": 0.6}, "cuda": {"mshyper-s": 5e-4, "mshyper": 1.3e-3}}
# Pixels of images that are refined together: one photograph of Kodak on a CPU, 24 on a GPU.
_PIXELS_TOGETHER = {"cpu": 768 * 512, "cuda": 24 * 768 * 512}


@dataclass(frozen=True)
class Task:
    """One job of a study.

    Attributes:
        job: its specification; without a hash of weights where the codec is not bundled.
        image: what is refined.
        plan: as an object what the job holds as dictionaries.
        streams: whether the file of its last iteration is kept.
    """

    job: Job
    image: ImageFile
    plan: Plan
    streams: bool = False

    @property
    def label(self) -> str:
        """The plan in words."""
        return self.job.label

    @property
    def bundled(self) -> bool:
        """Whether the codec is bundled, so that the job can run."""
        return bool(self.job.codec_sha256)

    @property
    def megapixels(self) -> float:
        """Of the image."""
        return _megapixels(self.image)

    @property
    def cost(self) -> float:
        """Megapixel-iterations."""
        return self.megapixels * (self.job.iterations + _STEPS_PER_TRUE_LOSS * len(self.job.evaluated))

    @property
    def cell(self) -> tuple[float, float, str, int, int]:
        """What a study compares: λ of codec and refinement, the plan in words, iterations, the seed."""
        return self.job.codec_lmbda, self.job.lmbda, self.label, self.job.iterations, self.job.seed


@functools.cache
def _megapixels(image: ImageFile) -> float:
    height, width = image.size
    return height * width / 1e6


def plan(study: Study, profile: str) -> list[Task]:
    """All tasks of a profile in the order in which they run, each job once.

    Grid by grid; in a grid seed by seed, then λ by λ, then method by method. A job in several grids keeps the
    iterations of all of them, and its file where one of them says so.

    Raises:
        UserError: there is no such profile, or a data set is missing.
    """
    chosen = study.profile(profile)
    tasks: dict[str, Task] = {}
    for grid in chosen.grids:
        for task in _tasks(chosen, grid):
            first = tasks.setdefault(task.job.key, task)
            job = joined(first.job, task.job.read_offs, task.job.trace_every)
            tasks[task.job.key] = replace(first, job=job, streams=first.streams or task.streams)
    return list(tasks.values())


def _tasks(profile: Profile, grid: Grid) -> Iterator[Task]:
    images = _images(grid)
    weights = {card.lmbda: card.sha256 for card in cards() if card.name == profile.codec}
    compared = list(_plans(grid))
    for seed, train in itertools.product(grid.seeds, grid.train_lmbdas):
        for test, metric, (plan, iterations) in itertools.product(
            grid.test_lmbdas or [None], grid.distortions, compared
        ):
            lmbda = distortion.lambda_in(metric, train, "mse") if test is None else test
            for image in images:
                job = job_of(
                    plan,
                    image,
                    codec=profile.codec,
                    codec_lmbda=train,
                    codec_sha256=weights.get(train, ""),
                    lmbda=lmbda,
                    iterations=iterations,
                    read_offs=tuple(sorted(t for t in grid.read_offs if 0 < t < iterations)),
                    trace_every=grid.trace_every if iterations else 1,
                    dtype=profile.dtype,
                    seed=seed if iterations else 0,
                    distortion=metric,
                )
                yield Task(job, image, plan, grid.streams)


def _plans(grid: Grid) -> Iterator[tuple[Plan, int]]:
    """What is compared: plans and their iterations."""
    for spec in grid.methods:
        if spec == BASE:
            # Without iterations any method gives the same.
            yield plans.plan("map"), 0
        else:
            for temperature, lr in itertools.product(grid.temperatures or [None], grid.lrs or [None]):
                yield plans.plan(spec, grid.iterations, temperature=temperature, lr=lr), grid.iterations


def _images(grid: Grid) -> list[ImageFile]:
    name = grid.dataset
    if name in sources.SOURCES and not sources.present(name):
        raise UserError(
            f"the {name} images are not in {sources.folder_of(name)}: run `sgaplus data fetch {name}`, or set"
            f" SGAPLUS_DATA to the folder that holds {name}/; until then the pages show the rows that are"
            " stored"
        )
    return list_images(name, images=grid.images, crop=grid.crop)


def together(tasks: Iterable[Task], device: torch.device) -> Iterator[list[Task]]:
    """Groups of tasks that differ in the image alone and have images of one size, in the tasks' order."""
    pixels = _PIXELS_TOGETHER[device.type]

    def kind(task: Task) -> tuple:
        job = task.job
        return (*task.cell, job.read_offs, job.trace_every, task.streams)

    for _, alike in itertools.groupby(tasks, kind):
        by_size: dict[tuple[int, int], list[Task]] = {}
        for task in alike:
            by_size.setdefault(task.image.size, []).append(task)
        for (height, width), group in by_size.items():
            most = max(1, pixels // (height * width))
            yield from (group[start : start + most] for start in range(0, len(group), most))


def not_bundled(tasks: Iterable[Task]) -> set[tuple[str, float]]:
    """Family and λ of those codecs of the tasks that are not bundled."""
    return {(task.job.codec, task.job.codec_lmbda) for task in tasks if not task.bundled}


def words(codecs: Iterable[tuple[str, float]]) -> str:
    """Codecs by family and λ as words, such as ``mshyper at λ 0.001, 0.01; mshyper-s at λ 0.01``."""
    families = itertools.groupby(sorted(codecs), lambda pair: pair[0])
    return "; ".join(f"{name} at λ {', '.join(f'{l:g}' for _, l in pairs)}" for name, pairs in families)


@dataclass(frozen=True)
class Rate:
    """Seconds per megapixel-iteration, and whether they were measured on this device."""

    seconds: float
    measured: bool


def rate(
    tasks: Sequence[Task], codec: str, dtype: str, kind: str, rows: pd.DataFrame, device: torch.device
) -> Rate:
    """How long a megapixel-iteration takes.

    Args:
        tasks: with the images among them whose sizes are known.
        codec, dtype: of the jobs in question.
        kind: of the device in question, ``cpu`` or ``cuda``.
        rows: stored lines, of any study.
        device: this computer's.

    Returns:
        The median over the stored jobs of this codec and number format on ``device``, if that is of the kind;
        else an assumption.
    """
    assumed = Rate(_ASSUMED[kind].get(codec, max(_ASSUMED[kind].values())), measured=False)
    if rows.empty or device.type != kind:
        return assumed
    megapixels = {task.job.image_sha256: task.megapixels for task in tasks}
    alike = (
        (rows["codec"] == codec) & (rows["dtype"] == dtype) & (rows["device"] == hardware.describe(device))
    )
    last = alike & (rows["iteration"] == rows["iterations"]) & (rows["iteration"] > 0)
    chosen = rows[last & rows["image_sha256"].isin(megapixels.keys())]
    if chosen.empty:
        return assumed
    work = chosen["image_sha256"].map(megapixels) * chosen["iterations"]
    return Rate(float((chosen["seconds"] / work).median()), measured=True)


def cost(tasks: Iterable[Task], stored: Collection[str] = ()) -> float:
    """Megapixel-iterations of the tasks whose keys are not stored."""
    return sum(task.cost for task in tasks if task.job.key not in stored)


def table(
    tasks: Sequence[Task], stored: Collection[str], anywhere: Collection[str], seconds: float
) -> pd.DataFrame:
    """One row per λ, method and kind of image, in the tasks' order.

    Args:
        stored, anywhere: keys of the jobs that this study has stored, and any.
        seconds: per megapixel-iteration.

    Returns:
        ``codec_lmbda``, ``lmbda``, ``method``, ``iterations``, ``pictures`` (a crop's side, or whole),
        ``jobs``, ``stored``, ``missing`` (stored nowhere) and ``minutes`` for these.
    """
    rows = [
        {
            "codec_lmbda": task.job.codec_lmbda,
            "lmbda": task.job.lmbda,
            "method": task.label,
            "iterations": task.job.iterations,
            "pictures": "whole" if task.image.crop is None else f"{task.image.crop}²",
            "jobs": 1,
            "stored": int(task.job.key in stored),
            "missing": int(task.job.key not in anywhere),
            "minutes": cost([task], anywhere) * seconds / 60,
        }
        for task in tasks
    ]
    keys = ["codec_lmbda", "lmbda", "method", "iterations", "pictures"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()
