"""Measurements for the page on scaling: ``python -m companion.scaling_runs simulate`` (or ``measure``).

A simulation is this package's loop on a real scheduler of Dask, with workers whose shards sleep. Sleeping
shards take as long, relative to each other, as the stored jobs of a study took.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

import dask
import distributed
import numpy as np
import pandas as pd
import torch

from sgaplus import hardware, jobs
from sgaplus.studies import running, schema, stored
from sgaplus.studies.execution import cluster
from sgaplus.studies.execution.dispatch import Dispatch
from sgaplus.studies.execution.journal import Journal, Summary, Teller
from sgaplus.studies.execution.shards import Done, Order
from sgaplus.studies.planning import Room

# Workers and mean seconds of a shard.
SIMULATED = ((10, 60), (100, 60), (1000, 60), (1000, 20), (1000, 5), (1000, 1))
_MINUTES = 0.2  # of a simulation, about


def origin() -> dict[str, str]:
    """Where a row comes from."""
    return jobs.provenance(torch.device("cpu")) | {"dask_version": distributed.__version__}


def spread(study: str = "rd", profile: str = "cpu") -> np.ndarray:
    """Seconds of stored jobs, relative to their mean."""
    rows = stored.stored_rows(study, profile)
    seconds = rows[(rows["iteration"] == rows["iterations"]) & (rows["iteration"] > 0)]["seconds"].to_numpy()
    return seconds / seconds.mean()


def _sleep(seconds: float) -> Done:
    begun = time.time()
    time.sleep(seconds)
    return Done(f"{distributed.get_worker().address} {begun} {time.time()}", time.time() - begun)


class _Sleeping(cluster.Cluster):
    """Workers whose shards sleep."""

    def __init__(self, where: str, seconds: Iterator[float]):
        super().__init__(where)
        self.durations, self.intervals, self.last = seconds, [], 0.0  # type: ignore[var-annotated]

    def submit(self, shard, order, hear) -> Future:
        self.last = time.time()
        future = self._client.get_executor(pure=False).submit(_sleep, next(self.durations))
        future.add_done_callback(lambda done: self.intervals.append(done.result().worker.split()))
        return future


@contextlib.contextmanager
def sleepers(workers: int) -> Iterator[str]:
    """A scheduler and so many workers in a thread of this process; its address."""
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    address: list[str] = []

    async def live() -> None:
        async with distributed.Scheduler(
            protocol="tcp", host="127.0.0.1", dashboard=False, port=0
        ) as scheduler:
            address.append(scheduler.address)
            for start in range(0, workers, 50):
                some = range(start, min(workers, start + 50))
                await asyncio.gather(
                    *(
                        distributed.Worker(scheduler.address, nthreads=1, name=n, dashboard=False)
                        for n in some
                    )
                )
            started.set()
            await stop.wait()
            await scheduler.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with contextlib.suppress(Exception):
            loop.run_until_complete(live())

    threading.Thread(target=run, daemon=True).start()
    started.wait()
    yield address[0]
    loop.call_soon_threadsafe(stop.set)


def simulate(workers: int, seconds: float) -> dict[str, object]:
    """Keep workers busy with shards of so many seconds in the mean.

    Returns:
        Beside the arguments: shards; busy, the workers' share of time in which they had a shard, between the
        first moment at which each had one and the last at which there was one to give; shards per second;
        cpu, the seconds of one core that scheduler, workers and asker took for a shard.
    """
    shards = int(workers * max(3, min(60, 60 * _MINUTES / seconds)))
    drawn = np.random.default_rng(0).choice(spread(), shards) * seconds
    settings = {"distributed.worker.memory.terminate": False, "distributed.scheduler.worker-ttl": None}
    order = Order(Path("nowhere"), Path("nowhere"), "0")
    with dask.config.set(cluster._SETTINGS | settings), sleepers(workers) as address:
        engine = _Sleeping(address, iter(drawn))
        cpu, begun = time.process_time(), time.time()
        dispatch = Dispatch(engine, order, Room("cpu"), Teller([], set(), None, None), Journal())
        dispatch.run(() for _ in range(shards))
        cpu, wall = time.process_time() - cpu, time.time() - begun
        spans = pd.DataFrame(engine.intervals, columns=["worker", "start", "end"])
        spans = spans.astype({"start": float, "end": float})
        first, last = spans.groupby("worker")["start"].min().max(), engine.last
        inside = (spans["end"].clip(upper=last) - spans["start"].clip(lower=first)).clip(lower=0).sum()
        engine.close()
    return {
        "workers": workers,
        "seconds": seconds,
        "shards": shards,
        "busy": inside / ((last - first) * workers),
        "shards_per_second": shards / wall,
        "cpu": cpu / shards,
        "load": os.getloadavg()[0],
        **origin(),
    }


def measure(study: Path, root: Path, workers: int | None) -> dict[str, object]:
    """Run a study once, here or on so many processes; wall-clock and processor seconds."""
    found: list[Summary] = []
    with contextlib.ExitStack() as stack:
        engine = None
        if workers:
            address = stack.enter_context(cluster.local(workers, "cpu"))
            engine = stack.enter_context(cluster.connected(address))
        begun = time.time()
        running.run(
            schema.load_study(study), "cpu", device="cpu", root=root, engine=engine, summarise=found.append
        )
    [summary] = found
    return {
        "workers": workers or 0,
        "wall": time.time() - begun,
        "busy": sum(summary.seconds.values()),
        "jobs": summary.stored,
        "idle": summary.idle,
        "load": os.getloadavg()[0],
        **origin(),
    }


def main(what: str, out: str) -> None:
    hardware.keep_freed_memory()
    path = Path(out)
    for workers, seconds in SIMULATED if what == "simulate" else ():
        row = simulate(workers, seconds)
        pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
        print(
            datetime.now(UTC), {name: row[name] for name in ("workers", "seconds", "busy", "cpu")}, flush=True
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
