"""A shard, and what a worker does with it.

A shard is some jobs that differ in the image alone, with images of one size: what is refined together. The
worker loads the codec once and keeps it. Where it shares the asker's folder it stores rows and files itself,
so that nothing is lost when the asker ends; elsewhere it returns them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ... import hardware, io
from ...codecs.codec import Codec
from ...data.datasets import ImageFile
from ...errors import SystemFault, UserError
from ...jobs import Job, rows_of_run
from ...refinement import Checkpoints, refine
from ...store import Store
from ..planning import Task
from ..stored import complete, stream_of
from ..verify import find_photograph

# In a store: the file that shows whether it is shared, the folder of what is under way.
MARK, CHECKPOINTS = ".shared-", "checkpoints"
# Codecs that a worker keeps. Shards come λ by λ, so that few are in use at a time.
_CODECS = 4
_kept: dict[tuple, Codec] = {}


class Unfit(UserError):
    """This computer lacks what a shard needs, or has something else in its place."""


@dataclass(frozen=True)
class Shard:
    """Jobs that are refined together.

    Attributes:
        tasks: they differ in the image alone, and their images have one size.
        number: in the order in which shards were made.
    """

    tasks: tuple[Task, ...]
    number: int

    def halves(self, numbers: Sequence[int]) -> list[Shard]:
        """Two shards in place of this one."""
        middle = (len(self.tasks) + 1) // 2
        parts = self.tasks[:middle], self.tasks[middle:]
        return [Shard(part, number) for part, number in zip(parts, numbers, strict=True)]


@dataclass(frozen=True)
class Order:
    """What holds for all shards of a run.

    Attributes:
        root, store: the folders of results and of the rows.
        nonce: what the file `mark` of the latter holds for the asker.
        device, compiled: as `load_codec` and `refinement.refine` take them.
        saving: seconds between two checkpoints of a shard, which shorter ones do without.
    """

    root: Path
    store: Path
    nonce: str
    device: str = "auto"
    compiled: bool = False
    saving: float = 60.0

    @property
    def mark(self) -> Path:
        """The file by which a worker knows the asker's folder."""
        return self.store / f"{MARK}{self.nonce}"

    def shared(self) -> bool:
        """Whether this process can write into the asker's folder."""
        try:
            return self.mark.read_text(encoding="utf-8") == self.nonce and os.access(self.store, os.W_OK)
        except OSError:
            return False


@dataclass(frozen=True)
class Result:
    """What a worker computed of a job; without rows where the worker has stored it."""

    job: Job
    rows: pd.DataFrame | None = None
    stream: str | None = None
    data: bytes = b""


@dataclass(frozen=True)
class Failure:
    """A job that came to nothing, and why."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Done:
    """What became of a shard.

    Attributes:
        worker: that computed it.
        seconds: that it took there.
        bytes_per_pixel: of memory, at most, where that could be measured.
    """

    worker: str
    seconds: float
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    bytes_per_pixel: float = 0.0


Tell = Callable[[float], None]


def compute(shard: Shard, order: Order, tell: Tell, worker: str = "here") -> Done:
    """Refine a shard; ``tell`` is called with the megapixel-iterations that are done.

    Raises:
        Unfit: weights or photographs are missing here, or are others than those that were planned.
        SystemFault: the rows cannot be stored.
        MemoryError: the memory is full.
    """
    started = time.perf_counter()
    shared = order.shared()
    tasks = [*shard.tasks]
    store = Store(order.store)
    stored: set[str] = set()
    if shared:  # by a worker that has outlived whoever asked it
        stored = complete(store.singles(task.job.key for task in tasks), tasks, order.root)
    results = [Result(task.job) for task in tasks if task.job.key in stored]
    tasks = [task for task in tasks if task.job.key not in stored]
    if not tasks:
        return Done(worker, time.perf_counter() - started, results)
    codec = codec_of(tasks[0], order.device)
    tasks = [replace(task, image=_photograph(task)) for task in tasks]
    checkpoints = Checkpoints(order.store / CHECKPOINTS, order.saving) if shared else None
    with hardware.peak_memory(codec.device) as peak:
        found, failures = _refined(codec, tasks, order, tell, checkpoints)
    for result in found:
        if shared:
            keep(store, order.root, result)
            result = Result(result.job)
        results.append(result)
    if checkpoints is not None:
        checkpoints.clear()
    seconds, pixels = time.perf_counter() - started, 1e6 * sum(task.megapixels for task in tasks)
    return Done(worker, seconds, results, failures, peak() / pixels)


def keep(store: Store, root: Path, result: Result) -> None:
    """Store what a job gave, first its file and then the rows that name it."""
    if result.rows is None:
        return
    if result.stream is not None:
        io.write(root / result.stream, result.data)
    store.put(result.job, result.rows)


def _refined(
    codec: Codec, tasks: Sequence[Task], order: Order, tell: Tell, checkpoints: Checkpoints | None
) -> tuple[list[Result], list[Failure]]:
    first = tasks[0]
    try:
        run = refine(
            codec,
            [task.image.read() for task in tasks],
            first.plan,
            lmbda=first.job.lmbda,
            distortion=first.job.distortion,
            iterations=first.job.iterations,
            read_offs=first.job.read_offs,
            trace_every=first.job.trace_every,
            seed=first.job.seed,
            names=[task.job.image for task in tasks],
            batch_size=len(tasks),
            compiled=order.compiled,
            streams=first.streams,
            progress=lambda done, total: tell(done * first.megapixels),
            checkpoints=checkpoints,
        )
    except SystemFault as fault:
        if len(tasks) == 1:
            return [], [Failure(first.job, str(fault))]
        # One image must not take the others with it.
        single = [_refined(codec, [task], order, tell, checkpoints) for task in tasks]
        return [r for results, _ in single for r in results], [f for _, faults in single for f in faults]
    except RuntimeError as error:
        if hardware.memory_is_full(error):
            raise MemoryError(str(error)) from None  # whose traceback would hold on to the memory
        raise
    results = []
    for task in tasks:
        stream = stream_of(task) if task.streams else None
        data = run.streams[task.job.image, task.job.iterations] if stream is not None else b""
        rows = rows_of_run(task.job, run, codec.device, stream, order.compiled)
        results.append(Result(task.job, rows, stream, data))
    return results, []


def codec_of(task: Task, device: str) -> Codec:
    """The task's codec, loaded once.

    Raises:
        Unfit: the weights are not here, or others have taken the place of those that were planned.
    """
    job = task.job
    key = job.codec, job.codec_lmbda, job.codec_sha256, device, job.dtype
    if key not in _kept:
        try:
            if not task.codec.sha256:
                raise UserError(f"the weights are missing: run `sgaplus codecs fetch {job.codec}`")
            codec = task.codec.load(device, job.dtype)
            if codec.sha256 != job.codec_sha256:
                raise UserError("the weights have changed while the study ran: run it again")
        except (UserError, OSError) as error:
            raise Unfit(f"{job.codec} at lambda {job.codec_lmbda:g} cannot be loaded: {error}") from error
        while len(_kept) >= _CODECS:
            del _kept[next(iter(_kept))]
        _kept[key] = codec
    return _kept[key]


def _photograph(task: Task) -> ImageFile:
    """The image, by its path or else, by its content, in the data sets of this computer."""
    wanted = task.job.image_sha256
    if task.image.path.is_file() and task.image.sha256 == wanted:
        return task.image
    found = find_photograph(task.job.image, wanted)
    if found is None:
        raise Unfit(
            f"the image {task.job.image} is neither {task.image.path} nor in a data set there: run `sgaplus"
            " data fetch`, or set SGAPLUS_DATA to the folder that holds it"
        )
    return found
