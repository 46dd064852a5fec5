"""Execution of studies: computing what is missing.

A job that another study has stored is copied, not computed again. Several processes may run one profile at
the same time: each claims the jobs that it computes, and a claim ends with its process, however that ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import bitstream, hardware, io
from ..codecs.codec import Codec
from ..errors import SystemFault, UserError
from ..jobs import rows_of_run
from ..refinement import refine
from ..store import Store, extended
from . import planning
from .locks import claims_on
from .planning import Task
from .schema import Study
from .stored import complete, results, rows_of, store_of, stream_of, tables

# A packed store is one file of this name.
_PACKED = "rows"


@dataclass(frozen=True)
class Event:
    """What a run has to say after a (λ, method, seed), or after copying.

    Attributes:
        done, of: jobs that are stored now, jobs of the profile whose codec and image are on this computer.
        what: what was done, in words.
        seconds_left: for what is missing, at the pace of this run; None before there is one.
    """

    done: int
    of: int
    what: str
    seconds_left: float | None


def run(
    study: Study,
    profile: str,
    *,
    device: str = "auto",
    compiled: bool = False,
    root: Path | None = None,
    progress: Callable[[float, float], None] | None = None,
    report: Callable[[Event], None] | None = None,
) -> int:
    """Compute what is missing of a profile, in its order, and pack what is stored into one file.

    Stopped at any moment, the same call goes on; what is lost is the group of images in flight (of one size,
    under one method).

    Args:
        device: as `load_codec` takes it.
        compiled: as `refinement.refine` takes it; no part of what a job is, as little as the device.
        root: the folder of results, as of `stored.results`.
        progress: called with megapixel-iterations done and in all.
        report: called with what happened, from time to time.

    Returns:
        How many jobs are missing although they could run: another process computes them.

    Raises:
        UserError: there is no such profile, no job can run with what is on this computer, lines of
            outdated weights are stored, or files are to be kept of a codec whose latents cannot be written.
        SystemFault: some refinements came to nothing; all others are stored. Or the disk is full.
    """
    resolved = hardware.resolve_device(device)
    tasks = planning.plan(study, profile)
    ready = [task for task in tasks if task.ready]
    if not ready:
        raise UserError(f"study {study.name}, profile {profile}: {'; '.join(planning.needs(study, profile))}")
    root = results(study, root)
    store = store_of(study, profile, root)
    with claims_on(store.root) as claims:
        held = rows_of(store)
        stored = complete(held, ready, root)
        # A job that lacks something runs again and keeps what it had.
        ready = [
            task if task.job.key in stored else replace(task, job=extended(task.job, held)) for task in ready
        ]
        copied = _copy(store, [task for task in ready if task.job.key not in stored], root)
        stored |= copied
        teller = _Teller(ready, stored, progress, report)
        if copied:
            teller.tell(f"{len(copied)} jobs copied from other studies")
        missing = [task for task in ready if task.job.key not in stored]
        codec, failures = None, []
        jobs = store.root / "jobs"
        first = next((task for task in missing if task.streams), None)
        if first is not None:
            codec = _codec_for(first, codec, str(resolved))
            bitstream.check(codec)
        for group in planning.together(missing, resolved):
            # Another process may have stored a job since, and then be gone with its claim.
            free = [task for task in group if claims.claim(task.job.key)]
            done = complete(store.singles(task.job.key for task in free), free, root)
            mine = [task for task in free if task.job.key not in done]
            if mine:
                codec = _codec_for(mine[0], codec, str(resolved))
                failures += _compute(store, root, codec, mine, compiled, teller.step)
            teller.finish(group, mine)
        if claims.alone() and any(jobs.glob("[!.]*.parquet")):
            store.pack(_PACKED)
            for leftover in jobs.glob(".*.parquet"):  # of processes that were killed while they wrote
                leftover.unlink()
    if failures:
        raise SystemFault(
            f"{len(failures)} jobs of study {study.name}, profile {profile}, have no result, all others are"
            f" stored; the first: {failures[0]}"
        )
    return len({task.job.key for task in ready} - complete(rows_of(store), ready, root))


def _copy(store: Store, tasks: Sequence[Task], root: Path) -> set[str]:
    """Copy jobs that are stored elsewhere, or here with fewer iterations marked as results; their keys."""
    copied: set[str] = set()
    for table in tables(root).values():
        found = complete(table, tasks, root, marked=False) - copied
        copied |= store.take(table, [task.job for task in tasks if task.job.key in found])
    return copied


def _codec_for(task: Task, codec: Codec | None, device: str) -> Codec:
    """``codec`` if it is the task's, else that.

    Raises:
        UserError: other weights have taken the place of those for which the task was planned.
    """
    if codec is None or codec.sha256 != task.job.codec_sha256:
        codec = task.codec.load(device, task.job.dtype)
    if codec.sha256 != task.job.codec_sha256:
        raise UserError(
            f"the weights of {codec.name} at lambda {codec.lmbda:g} have changed while the study ran: run it"
            " again"
        )
    return codec


def _compute(
    store: Store,
    root: Path,
    codec: Codec,
    group: Sequence[Task],
    compiled: bool,
    step: Callable[[float], None],
) -> list[SystemFault]:
    """Refine images of one size under one method, store each with its file; why some came to nothing."""
    first = group[0]
    try:
        run = refine(
            codec,
            [task.image.read() for task in group],
            first.plan,
            lmbda=first.job.lmbda,
            distortion=first.job.distortion,
            iterations=first.job.iterations,
            read_offs=first.job.read_offs,
            trace_every=first.job.trace_every,
            seed=first.job.seed,
            names=[task.job.image for task in group],
            batch_size=len(group),
            compiled=compiled,
            streams=first.streams,
            progress=lambda done, total: step(done * first.megapixels),
        )
    except SystemFault as fault:
        if len(group) == 1:
            return [fault]
        # One image must not take the others with it.
        return [fault for task in group for fault in _compute(store, root, codec, [task], compiled, step)]
    for task in group:
        job, stream = task.job, stream_of(task) if task.streams else None
        if stream is not None:
            with io.atomic(root / stream) as temporary:
                temporary.write_bytes(run.streams[job.image, job.iterations])
        store.put(job, rows_of_run(job, run, codec.device, stream, compiled))
    return []


class _Teller:
    """Keeps account of what is done and says so."""

    def __init__(
        self,
        tasks: Sequence[Task],
        stored: set[str],
        progress: Callable[[float, float], None] | None,
        report: Callable[[Event], None] | None,
    ):
        self._jobs, self._done = len(tasks), sum(task.job.key in stored for task in tasks)
        self._total, self._cost = planning.cost(tasks, stored), 0.0
        self._started = time.monotonic()
        self._progress, self._report = progress or (lambda done, total: None), report or (lambda event: None)
        self._open: dict[tuple, int] = {}
        for task in tasks:
            if task.job.key not in stored:
                self._open[task.cell] = self._open.get(task.cell, 0) + 1

    def step(self, cost: float) -> None:
        """So much of the group in flight is done."""
        self._progress(self._cost + cost, self._total)

    def finish(self, group: Sequence[Task], mine: Sequence[Task]) -> None:
        """A group is done, of which other processes do what is not ``mine``."""
        self._cost += planning.cost(mine)
        self._total -= planning.cost(group) - planning.cost(mine)
        self._done += len(group)
        self._progress(self._cost, self._total)
        cell = group[0].cell
        self._open[cell] -= len(group)
        if not self._open[cell]:
            codec, train, test, label, iterations, seed = cell
            lmbda = f"λ {train:g}" if train == test else f"λ {train:g} refined at {test:g}"
            steps = f", {iterations} iterations" if iterations else ""
            self.tell(f"{codec}, {lmbda}, {label}{steps}, seed {seed}")

    def tell(self, what: str) -> None:
        elapsed = time.monotonic() - self._started
        left = elapsed / self._cost * (self._total - self._cost) if self._cost else None
        self._report(Event(self._done, self._jobs, what, left))
