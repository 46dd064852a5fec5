"""From a study's profile to jobs: their keys, what each costs, and how long they take.

A *task* is a `jobs.Job` with what is needed to run it. Its cost is counted in megapixel-iterations: one
step on 10⁶ pixels. A true loss, in float32 and with all metrics, counts as two steps.
"""

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch

from .. import distortion, hardware
from ..codecs.series import Member
from ..data import sources
from ..data.datasets import AbsentImage, ImageFile, list_planned
from ..jobs import Job, job_of, joined
from ..plans import Plan
from .schema import Grid, Study

_STEPS_PER_TRUE_LOSS = 2
# Multiplications per second in the synthesis network's forward pass, where nothing is measured yet: while
# refining in bfloat16 on two cores of a server processor of 2023, and on a large GPU.
_ASSUMED = {"cpu": 6e10, "cuda": 2.5e13}
# Kilobytes per pixel and channel while refining in bfloat16, as measured on a CPU: of N = 64, 128 and 192, at
# most.
_KILOBYTES = 0.012
# Pixels of images that are refined together, where memory allows: 24 photographs of Kodak on a GPU, and on a
# CPU 4, where each one's step takes an eighth less than alone (`mshyper-s`, a processor with matrix tiles).
_PIXELS_TOGETHER = {"cpu": 4 * 768 * 512, "cuda": 24 * 768 * 512}
# Of what is free, so much is counted on.
_SHARE_OF_MEMORY = 0.8
# Codec, λ and weights' hash of stored rows, where the weights themselves are not on this computer.
Hashes = Mapping[tuple[str, float], str]


@dataclass(frozen=True)
class Task:
    """One job of a study.

    Attributes:
        job: its specification; without a hash of weights where these are not known yet.
        image: what is refined.
        plan: as an object what the job holds as dictionaries.
        codec: what refines it.
        ready: whether image and weights are on this computer, so that the job can run.
        streams: whether the file of its last iteration is kept.
    """

    job: Job
    image: ImageFile
    plan: Plan
    codec: Member
    ready: bool
    streams: bool = False

    @property
    def megapixels(self) -> float:
        """Of the image."""
        return _megapixels(self.image)

    @property
    def cost(self) -> float:
        """Megapixel-iterations."""
        return self.megapixels * (self.job.iterations + _STEPS_PER_TRUE_LOSS * len(self.job.evaluated))

    @property
    def cell(self) -> tuple[str, float, float, str, int, int]:
        """What a study compares: codec, its λ, that of the refinement, plan in words, iterations, seed."""
        job = self.job
        return job.codec, job.codec_lmbda, job.lmbda, job.label, job.iterations, job.seed


@functools.cache
def _megapixels(image: ImageFile) -> float:
    height, width = image.size
    return height * width / 1e6


def plan(study: Study, profile: str, hashes: Hashes | None = None) -> list[Task]:
    """All tasks of a profile in the order in which they run, each job once.

    Grid by grid; in a grid seed by seed, then λ by λ, then method by method. A job in several grids keeps the
    iterations of all of them, and its file where one of them says so. Jobs whose images or weights are not on
    this computer are planned too.

    Raises:
        UserError: there is no such profile, or its series has no codec of a λ.
    """
    chosen = study.profile(profile)
    tasks: dict[str, Task] = {}
    for grid in chosen.grids:
        for task in _tasks(study, profile, grid, hashes or {}):
            first = tasks.setdefault(task.job.key, task)
            job = joined(first.job, task.job.read_offs, task.job.trace_every)
            tasks[task.job.key] = replace(first, job=job, streams=first.streams or task.streams)
    return list(tasks.values())


def _tasks(study: Study, profile: str, grid: Grid, hashes: Hashes) -> Iterator[Task]:
    images = list_planned(grid.dataset, grid.images, grid.crop)
    series = study.series(profile, grid.codec)
    codecs = [(series.member(lmbda), series.member(lmbda).sha256) for lmbda in grid.train_lmbdas]
    for seed, (codec, sha256) in itertools.product(grid.seeds, codecs):
        for test, metric, (plan, iterations) in itertools.product(
            grid.test_lmbdas or [None], grid.distortions, grid.plans()
        ):
            lmbda = distortion.lambda_in(metric, codec.lmbda, codec.metric) if test is None else test
            for image in images:
                job = job_of(
                    plan,
                    image,
                    codec=codec.name,
                    codec_lmbda=codec.lmbda,
                    codec_sha256=sha256 or hashes.get((codec.name, codec.lmbda), ""),
                    lmbda=lmbda,
                    iterations=iterations,
                    read_offs=tuple(sorted(t for t in grid.read_offs if 0 < t < iterations)),
                    trace_every=grid.trace_every if iterations else 1,
                    dtype=study.profile(profile).dtype,
                    seed=seed if iterations else 0,
                    distortion=metric,
                )
                ready = bool(sha256) and not isinstance(image, AbsentImage)
                yield Task(job, image, plan, codec, ready, grid.streams)


def needs(study: Study, profile: str) -> list[str]:
    """What of a profile is not on this computer, each as a sentence with the command that fetches it."""
    grids = study.profile(profile).grids
    series = [study.series(profile, grid.codec) for grid in grids]
    found = [one.need() for one in series]
    for grid in grids:
        images = list_planned(grid.dataset, grid.images)
        absent = sum(isinstance(image, AbsentImage) for image in images)
        if absent:
            found.append(
                f"{absent} of the {len(images)} {grid.dataset} images are not in"
                f" {sources.folder_of(grid.dataset)}: run `sgaplus data fetch {grid.dataset}`, or set"
                " SGAPLUS_DATA to the folder that holds them"
            )
    return [sentence for sentence in dict.fromkeys(found) if sentence]


@dataclass(eq=False)
class Room:
    """How many pixels are refined together on a kind of device; shards teach it what they take.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        free: bytes of memory; 0 where nothing is known.
        taken: bytes per pixel as measured, by a codec's name and width.
    """

    kind: str
    free: float = 0.0
    taken: dict[tuple[str, int], float] = field(default_factory=dict)

    def learn(self, codec: Member, bytes_per_pixel: float) -> None:
        """So much was taken."""
        key = codec.name, codec.effort.width
        self.taken[key] = max(bytes_per_pixel, self.taken.get(key, 0.0))

    def pixels(self, codec: Member) -> float:
        """That fit, and are worth it."""
        worth = _PIXELS_TOGETHER[self.kind]
        each = self.taken.get((codec.name, codec.effort.width)) or 1e3 * _kilobytes(codec)
        return min(worth, _SHARE_OF_MEMORY * self.free / each) if self.free else worth


def together(tasks: Iterable[Task], room: Room) -> Iterator[list[Task]]:
    """Groups of tasks that differ in the image alone and have images of one size, in the tasks' order.

    Each is made when it is asked for, by what ``room`` knows then.
    """

    def kind(task: Task) -> tuple:
        job = task.job
        return (job.codec_sha256, *task.cell, job.read_offs, job.trace_every, task.streams)

    for _, alike in itertools.groupby(tasks, kind):
        by_size: dict[tuple[int, int], list[Task]] = {}
        for task in alike:
            by_size.setdefault(task.image.size, []).append(task)
        for (height, width), group in by_size.items():
            start = 0
            while start < len(group):
                most = max(1, int(room.pixels(group[0].codec)) // (height * width))
                yield group[start : start + most]
                start += most


def memory(tasks: Iterable[Task], device: torch.device) -> float:
    """Gigabytes that the largest of the groups that run together takes, about."""
    groups = together(tasks, Room(device.type, hardware.free_memory(device) if device.type == "cuda" else 0))
    sizes = (sum(task.megapixels for task in group) * _kilobytes(group[0].codec) for group in groups)
    return max(sizes, default=0.0)


def _kilobytes(codec: Member) -> float:
    """Memory per pixel while refining."""
    return _KILOBYTES * codec.effort.width


@dataclass(frozen=True)
class Rate:
    """Seconds per megapixel-iteration, and whether they were measured on this device."""

    seconds: float
    measured: bool


def rates(tasks: Sequence[Task], kind: str, rows: pd.DataFrame, device: torch.device) -> dict[Member, Rate]:
    """How long a megapixel-iteration takes, by codec.

    Args:
        tasks: the jobs in question, of one number format, among them images whose sizes are known.
        kind: of the device in question, ``cpu`` or ``cuda``.
        rows: stored lines, of any study.
        device: this computer's.

    Returns:
        The median over the stored jobs of a codec of this name and number format on ``device``, if that is of
        the kind, in proportion to the work in the synthesis network; else an assumption.
    """
    members = {task.codec: task.job.dtype for task in tasks}
    rate = {member: Rate(member.effort.work / _ASSUMED[kind] * 1e6, measured=False) for member in members}
    if rows.empty or device.type != kind:
        return rate
    megapixels = {task.job.image_sha256: task.megapixels for task in tasks}
    work = {(member.name, member.lmbda): member.effort.work for member in members}
    last = (rows["iteration"] == rows["iterations"]) & (rows["iteration"] > 0)
    here = rows[last & (rows["device"] == hardware.describe(device)) & rows["image_sha256"].isin(megapixels)]
    done = here["image_sha256"].map(megapixels) * here["iterations"]
    work_of = [work.get(pair) for pair in zip(here["codec"], here["codec_lmbda"], strict=True)]
    here = here.assign(pace=here["seconds"] / done / pd.Series(work_of, here.index, dtype=float))
    paces = here.groupby(["codec", "dtype"])["pace"].median().dropna().to_dict()
    return rate | {
        member: Rate(paces[member.name, dtype] * member.effort.work, measured=True)
        for member, dtype in members.items()
        if (member.name, dtype) in paces
    }


def cost(tasks: Iterable[Task], stored: Collection[str] = ()) -> float:
    """Megapixel-iterations of the tasks whose keys are not stored."""
    return sum(task.cost for task in tasks if task.job.key not in stored)


def table(
    tasks: Sequence[Task], stored: Collection[str], anywhere: Collection[str], minutes: Mapping[str, float]
) -> pd.DataFrame:
    """One row per codec, λ, method and kind of image, in the tasks' order.

    Args:
        stored, anywhere: keys of the jobs that this study has stored, and any.
        minutes: of each job, by its key; the table has those of the missing ones, which are stored nowhere.
    """
    rows = [
        {
            "codec": task.job.codec,
            "codec_lmbda": task.job.codec_lmbda,
            "lmbda": task.job.lmbda,
            "method": task.job.label,
            "iterations": task.job.iterations,
            "pictures": "whole" if task.image.crop is None else f"{task.image.crop}²",
            "jobs": 1,
            "stored": int(task.job.key in stored),
            "missing": int(task.job.key not in anywhere),
            "minutes": minutes[task.job.key] * (task.job.key not in anywhere),
        }
        for task in tasks
    ]
    keys = ["codec", "codec_lmbda", "lmbda", "method", "iterations", "pictures"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()
