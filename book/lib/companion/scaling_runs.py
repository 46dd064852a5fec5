"""Measurements for the page on scaling: ``python -m companion.scaling_runs simulate`` (or ``measure``).

A simulation is this package's loop on a real scheduler of Dask, with workers whose shards sleep. Sleeping
shards take as long, relative to each other, as the stored jobs of a study took.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import dask
import distributed
import numpy as np
import pandas as pd
import torch

from sgaplus import jobs
from sgaplus.studies import planning, reproduce, running, schema, stored
from sgaplus.studies.execution import cluster
from sgaplus.studies.execution.dispatch import Dispatch
from sgaplus.studies.execution.journal import Journal, Summary, Teller
from sgaplus.studies.execution.shards import Done, Order
from sgaplus.studies.planning import Room

# Workers and mean seconds of a shard.
SIMULATED = ((1000, 30), (100, 20), (100, 5), (10, 5))
# A study of four shards, of which each takes some seconds on one core.
MEASURED = Path(__file__).with_name("measured.yaml")
_MINUTES = 0.5  # of a simulation, about
# What each worker would do in a process of its own, off the scheduler's computer, is left out.
_ALONE = {
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.tick.interval": "1h",
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "300s",
    "logging.distributed": "error",
}


def origin() -> dict[str, str]:
    """Where a row comes from."""
    return jobs.provenance(torch.device("cpu")) | {"dask_version": distributed.__version__}


def spread() -> np.ndarray:
    """Seconds of stored jobs, relative to their mean, without the longest hundredth: some of these took 28
    times the mean, and every simulation would wait for them."""
    rows = stored.stored_rows("rd", "cpu")
    seconds = rows[(rows["iteration"] == rows["iterations"]) & (rows["iteration"] > 0)]["seconds"].to_numpy()
    seconds = np.sort(seconds)[: int(0.99 * len(seconds))]
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
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future) -> None:
        if not future.cancelled() and not future.exception():
            self.intervals.append(future.result().worker.split())


@contextlib.contextmanager
def sleepers(workers: int) -> Iterator[str]:
    """A scheduler and so many workers in threads of this process; its address."""
    threading.stack_size(2**19)  # of 1,000 threads
    how = {"processes": False, "protocol": "tcp://", "dashboard_address": None, "memory_limit": 0}
    with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, **how) as here:
        # Of 1,000 workers these would take this process longer than their shards.
        for worker in here.workers.values():
            here.loop.add_callback(worker.periodic_callbacks["heartbeat"].stop)
        yield here.scheduler_address


def simulate(workers: int, seconds: float) -> dict[str, object]:
    """Keep workers busy with shards of so many seconds in the mean.

    ``busy`` is their share of time with a shard, between the first moment at which each had one and the last
    at which there was one to give; ``cpu``, seconds of one core that scheduler, workers and asker took for
    one.
    """
    shards = int(workers * max(3, 60 * _MINUTES / seconds))
    drawn = np.random.default_rng(0).choice(spread(), shards) * seconds
    order = Order(Path("nowhere"), Path("nowhere"), "0")
    with dask.config.set(cluster._SETTINGS | _ALONE), sleepers(workers) as address:
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
    found = {"workers": workers, "seconds": seconds, "shards": shards}
    found |= {"busy": inside / ((last - first) * workers), "shards_per_second": shards / wall}
    return found | {"cpu": cpu / shards, "load": os.getloadavg()[0]} | origin()


def measure(root: Path, workers: int | None) -> dict[str, object]:
    """Run `MEASURED` once, here or on so many processes; wall-clock and processor seconds."""
    found: list[Summary] = []
    study = schema.load_study(MEASURED)
    with contextlib.ExitStack() as stack:
        engine = None
        if workers:
            address = stack.enter_context(cluster.local(workers, "cpu"))
            engine = stack.enter_context(cluster.connected(address))
        begun = time.time()
        running.run(study, "cpu", device="cpu", root=root, engine=engine, summarise=found.append)
        wall = time.time() - begun
    [summary], [grid] = found, study.profile("cpu").grids
    shards = len(grid.methods) * len(grid.train_lmbdas)
    row = {"workers": workers or 0, "wall": wall, "busy": sum(summary.seconds.values())}
    row |= {"jobs": summary.stored, "shards": shards, "idle": summary.idle, "load": os.getloadavg()[0]}
    return row | origin()


def protocol() -> pd.DataFrame:
    """The shards of the paper's protocol, each job once, and their count; operations of the synthesis."""
    seen: set[str] = set()
    rows = []
    for study in reproduce.studies_of("paper"):
        tasks = [task for task in planning.plan(study, "paper") if task.job.key not in seen]
        seen |= {task.job.key for task in tasks}
        for group in planning.together(tasks, Room("cuda")):
            cost = planning.cost(group)
            rows.append((study.name, len(group), round(cost, 6), cost * 1e6 * group[0].codec.effort.work))
    names = ["study", "jobs", "megapixel_iterations", "operations"]
    return pd.DataFrame(rows, columns=names).groupby(names, sort=False).size().rename("count").reset_index()


def paces() -> pd.DataFrame:
    """Of stored jobs, by device, codec and number format, seconds per megapixel-iteration and operations per
    second of the synthesis network's forward passes; medians, with quartiles of the former."""
    found = []
    for study in schema.load_studies():
        for profile in study.profiles:
            rows = stored.store_of(study, profile).load()
            if rows.empty:
                continue
            tasks = planning.plan(study, profile)
            size = {task.job.image_sha256: task.megapixels for task in tasks}
            work = {(t.codec.name, t.codec.lmbda): t.codec.effort.work for t in tasks}
            rows = rows[(rows["iteration"] == rows["iterations"]) & (rows["iteration"] > 0)]
            pace = rows["seconds"] / rows["image_sha256"].map(size) / rows["iterations"]
            operations = [work.get(pair) for pair in zip(rows["codec"], rows["codec_lmbda"], strict=True)]
            rate = 1e6 * pd.Series(operations, rows.index, dtype=float) / pace
            found.append(rows[["device", "codec", "dtype", "key"]].assign(pace=pace, rate=rate).dropna())
    table = pd.concat(found).drop_duplicates("key")
    groups = table.groupby(["device", "codec", "dtype"])
    return groups.agg(
        jobs=("pace", "size"),
        seconds=("pace", "median"),
        lower=("pace", lambda values: values.quantile(0.25)),
        upper=("pace", lambda values: values.quantile(0.75)),
        operations_per_second=("rate", "median"),
    ).reset_index()


def main(what: str, out: str, *size: str) -> None:
    """Run what is named and write, or append, its rows."""
    cluster.CONNECTING = cluster.WORKERS = 300.0  # workers of one process take their time
    path = Path(out)
    if what == "simulate" and size:
        _append(path, simulate(*map(int, size)))
        os._exit(0)  # some workers still close
    elif what == "simulate":
        for pair in SIMULATED:
            command = [sys.executable, "-m", "companion.scaling_runs", what, out, *map(str, pair)]
            subprocess.run(command, check=True)
    elif what == "measure":
        for workers in (None, 1, 2):
            with tempfile.TemporaryDirectory() as folder:
                _append(path, measure(Path(folder), workers))
    else:
        {"protocol": protocol, "paces": paces}[what]().to_csv(path, index=False)


def _append(path: Path, row: dict[str, object]) -> None:
    pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
    print(row, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
