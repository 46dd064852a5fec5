"""Execution of studies: computing what is missing.

A job that another study has stored is copied, not computed again. Several processes may run one profile at
the same time: each claims the jobs that it computes, and a claim ends with its process, however that ends.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import bitstream, hardware
from ..errors import SystemFault, UserError
from ..store import Store, extended
from . import planning
from .execution import shards
from .execution.dispatch import Dispatch
from .execution.engines import Engine
from .execution.journal import Event, Journal, Summary, Teller
from .execution.shards import Order
from .locks import Claims, SoleClaims, claims_on
from .planning import Room, Task
from .schema import Study
from .stored import complete, results, rows_of, store_of, tables

# A packed store is one file of this name.
_PACKED = "rows"


def run(
    study: Study,
    profile: str,
    *,
    device: str = "auto",
    compiled: bool = False,
    root: Path | None = None,
    engine: Engine | None = None,
    log: Path | None = None,
    saving: float = 60.0,
    progress: Callable[[float, float], None] | None = None,
    report: Callable[[Event], None] | None = None,
    summarise: Callable[[Summary], None] | None = None,
) -> int:
    """Compute what is missing of a profile, in its order, and pack what is stored into one file.

    Stopped at any moment, the same call goes on; what is lost is what the images in flight (of one size,
    under one method) have done since their last checkpoint.

    Args:
        device: as `load_codec` takes it.
        compiled: as `refinement.refine` takes it; no part of what a job is, as little as the device.
        root: the folder of results, as of `stored.results`.
        engine: what computes; this process where None.
        log: a file that gets a line of JSON for each job.
        saving: seconds between two checkpoints of the images in flight.
        progress: called with megapixel-iterations done and in all.
        report: called with what happened, from time to time.
        summarise: called at the end.

    Returns:
        How many jobs are missing although they could run: another process computes them.

    Raises:
        UserError: there is no such profile, no job can run with what is on this computer, lines of
            outdated weights are stored, files are to be kept of a codec whose latents cannot be written, or
            no worker can take part.
        SystemFault: some refinements came to nothing; all others are stored. Or the disk is full.
    """
    resolved = hardware.resolve_device(device if engine is None else "cpu")
    tasks = planning.plan(study, profile)
    ready = [task for task in tasks if task.ready]
    if not ready:
        raise UserError(f"study {study.name}, profile {profile}: {'; '.join(planning.needs(study, profile))}")
    root = results(study, root).absolute()
    store = store_of(study, profile, root)
    engine = engine or Engine(resolved.type, hardware.free_memory(resolved))
    journal = Journal(log, study=study.name, profile=profile)
    with claims_on(store.root) as claims:
        held = rows_of(store)
        stored = complete(held, ready, root)
        # A job that lacks something runs again and keeps what it had.
        ready = [
            task if task.job.key in stored else replace(task, job=extended(task.job, held)) for task in ready
        ]
        copied = _copy(store, [task for task in ready if task.job.key not in stored], root)
        stored |= copied
        teller = Teller(ready, stored, progress, report)
        if copied:
            teller.tell(f"{len(copied)} jobs copied from other studies")
        missing = [task for task in ready if task.job.key not in stored]
        first = next((task for task in missing if task.streams), None)
        if first is not None:
            bitstream.check(shards.codec_of(first, str(resolved)))
        if missing:
            order = Order(root, store.root, secrets.token_hex(8), device, compiled, saving)
            _compute(missing, engine, order, claims, teller, journal)
        if claims.alone():
            _tidy(store)
    found = journal.summary()
    if summarise:
        summarise(found)
    if found.failures:
        failure = found.failures[0]
        raise SystemFault(
            f"{len(found.failures)} jobs of study {study.name}, profile {profile}, have no result, all others"
            f" are stored; the first: {failure.reason}"
        )
    return len({task.job.key for task in ready} - complete(rows_of(store), ready, root))


def _compute(
    missing: Sequence[Task],
    engine: Engine,
    order: Order,
    claims: Claims | SoleClaims,
    teller: Teller,
    journal: Journal,
) -> None:
    """Compute tasks that no other process has claimed or, meanwhile, stored."""
    store = Store(order.store)

    def groups(room: Room) -> Iterator[list[Task]]:
        for group in planning.together(missing, room):
            # Another process may have stored a job since, and then be gone with its claim.
            free = [task for task in group if claims.claim(task.job.key)]
            done = complete(store.singles(task.job.key for task in free), free, order.root)
            mine = [task for task in free if task.job.key not in done]
            ours = {task.job.key for task in mine}
            teller.finish([task for task in group if task.job.key not in ours], ours=False)
            if mine:
                yield mine

    order.mark.write_text(order.nonce, encoding="utf-8")
    try:
        for note in engine.prepare(order):
            teller.tell(note)
        room = Room(engine.kind, engine.free)
        Dispatch(engine, order, room, teller, journal).run(groups(room))
    finally:
        order.mark.unlink(missing_ok=True)


def _tidy(store: Store) -> None:
    """Pack what is stored, and drop what processes that were killed have left."""
    store.pack(_PACKED)
    for leftover in [*store.root.glob("jobs/.*.parquet"), *store.root.glob(f"{shards.MARK}*")]:
        leftover.unlink(missing_ok=True)
    # A worker that has outlived whoever asked it may still write there.
    shutil.rmtree(store.root / shards.CHECKPOINTS, ignore_errors=True)


def _copy(store: Store, tasks: Sequence[Task], root: Path) -> set[str]:
    """Copy jobs that are stored elsewhere, or here with fewer iterations marked as results; their keys."""
    copied: set[str] = set()
    for table in tables(root).values():
        found = complete(table, tasks, root, marked=False) - copied
        copied |= store.take(table, [task.job for task in tasks if task.job.key in found])
    return copied
