"""Shards on Dask: a cluster on this computer, or any other that a scheduler's address leads to."""

import contextlib
import functools
import hashlib
import os
import pickle
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, get_worker
from distributed.comm import CommClosedError
from distributed.system import MEMORY_LIMIT

from ... import __version__, hardware, io
from ...errors import SystemFault, UserError, first_line
from .engines import Engine, Refusal, Sign
from .shards import Done, Order, Shard, Unfit, compute

# Seconds: for a scheduler to answer, for its first worker, for a scheduler that was lost to come back, for a
# worker to give a sign, between two signs, between two looks at who is there.
CONNECTING, WORKERS, REVIVING, SILENCE, SIGNS, LOOKS = 10.0, 30.0, 120.0, 600.0, 2.0, 2.0
# A worker keeps freed memory on purpose, so that much of it taken is no reason to pause; and it is the loop
# here that judges which shard kills workers, not the scheduler.
_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 100,
    "distributed.comm.timeouts.connect": f"{CONNECTING}s",
}


@functools.cache
def identity() -> dict[str, str]:
    """What has to be the same on all computers, so that rows are of one algorithm."""
    code = hashlib.sha256()
    for path in sorted(io.PACKAGE.rglob("*.py")):
        code.update(path.relative_to(io.PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return {"sgaplus": __version__, "torch": torch.__version__.split("+")[0], "code": code.hexdigest()[:12]}


def difference(expected: dict[str, str]) -> str:
    """How this computer's packages differ from those of whoever asks; empty where they do not."""
    here = identity()
    found = [
        f"{name} {here[name]} instead of {value}" for name, value in expected.items() if here[name] != value
    ]
    return f"it has {', '.join(found)}: install the same version" if found else ""


@dataclass(frozen=True)
class _Report:
    """What a worker is."""

    problem: str
    shared: bool
    kind: str
    free: float


def _report(order: Order, expected: dict[str, str], dask_worker: Any) -> _Report:
    """Dask passes the worker under this name."""
    problem, device = difference(expected), torch.device("cpu")
    try:
        device = hardware.resolve_device(order.device)
    except UserError as error:
        problem = problem or str(error)
    free = hardware.free_memory(device)
    limit = dask_worker.memory_manager.memory_limit
    if device.type == "cpu" and limit:
        free = min(free, limit) if free else limit
    return _Report(problem, order.shared(), device.type, free)


def refine_shard(payload: bytes, order: Order, expected: dict[str, str], topic: str) -> Done | Refusal:
    """What a worker runs: a pickled shard, refined unless this worker is not fit for it."""
    worker = get_worker()
    if problem := difference(expected):
        return Refusal(worker.address, problem)
    hardware.keep_freed_memory()
    try:
        shard: Shard = pickle.loads(payload)
        say = functools.partial(_say, worker, topic, shard.number)
        say(-1.0)
        time.sleep(0.02)  # so that it is on its way, should memory run out at once
        return compute(shard, order, _seldom(say), worker.address)
    except Unfit as error:
        return Refusal(worker.address, str(error))


def _say(worker: Any, topic: str, shard: int, done: float) -> None:
    limit = worker.memory_manager.memory_limit or MEMORY_LIMIT
    worker.log_event(topic, [shard, worker.address, done, worker.monitor.get_process_memory() / limit])


def _seldom(say: Callable[[float], None]) -> Callable[[float], None]:
    """``say``, after the first step and then from time to time."""
    last = 0.0

    def tell(done: float) -> None:
        nonlocal last
        if not last or time.monotonic() - last > SIGNS:
            last = time.monotonic()
            say(done)

    return tell


class Cluster(Engine):
    """Workers of Dask, one shard at a time each.

    Args:
        where: the scheduler's address, or the file that holds it.

    Raises:
        UserError: no scheduler answers there, or it has no workers.
    """

    losses = KilledWorker, CommClosedError
    patience = SILENCE

    def __init__(self, where: str):
        self._where = where
        self._signs: queue.SimpleQueue[Sign] = queue.SimpleQueue()
        self._refused: dict[str, str] = {}
        self._known: set[str] = set()
        self._asked: set[str] = set()  # to whom shards are restricted
        self._looked, self._topic = 0.0, ""
        self._client = self._connect(WORKERS)
        self.kind, self.free = "cpu", 0.0

    def _connect(self, patience: float) -> Client:
        there = Path(self._where).is_file()
        if self._where.endswith(".json") and not there:  # Dask would wait for it for ever
            raise UserError(f"no scheduler answers at {self._where}: there is no such file")
        where = {"scheduler_file" if there else "address": self._where}
        try:
            client = Client(**where, timeout=CONNECTING, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"no scheduler answers at {self._where} ({first_line(error)}): start one (`dask scheduler`),"
                " or mend the address"
            ) from error
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            client.close()
            raise UserError(
                f"the scheduler at {self._where} has no workers: start some (`dask worker {self._where}"
                " --nthreads 1`)"
            ) from None
        return client

    @property
    def slots(self) -> int:  # type: ignore[override]
        """Two a worker, so that none waits for its next one."""
        return 2 * max(1, self.workers)

    @property
    def workers(self) -> int:  # type: ignore[override]
        return len(self._fit())

    def _fit(self) -> set[str]:
        """The workers that take part."""
        if time.monotonic() - self._looked > LOOKS and self._client.status == "running":
            self._looked = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):
                self._known = set(self._client.nthreads())
        return self._known - self._refused.keys()

    def prepare(self, order: Order) -> Iterator[str]:
        self._topic = f"sgaplus-{order.nonce}"
        self._client.subscribe_topic(self._topic, self._heard)
        versions: Any = self._client.get_versions(packages=["sgaplus", "torch"])
        packages = versions["workers"]
        wanted, reports = identity(), {}
        for worker, found in packages.items():
            if not found or not found["packages"].get("sgaplus"):
                self._refused[worker] = "it has no sgaplus: install the same version as here"
        fit = [worker for worker in packages if worker not in self._refused]
        if fit:
            reports = self._client.run(_report, order, wanted, workers=fit, on_error="return")
        for worker, report in reports.items():
            problem = report.problem if isinstance(report, _Report) else f"it fails ({first_line(report)})"
            if problem:
                self._refused[worker] = problem
        for worker, reason in self._refused.items():
            yield f"worker {worker} takes no part: {reason}"
        good = [report for worker, report in reports.items() if worker not in self._refused]
        if not good:
            raise self._nobody()
        self.kind = "cuda" if all(report.kind == "cuda" for report in good) else "cpu"
        self.free = min(report.free for report in good)
        self._looked = 0.0
        yield f"{len(good)} workers, dashboard at {self._client.dashboard_link}"
        if not all(report.shared for report in good):
            yield (
                f"workers do not see {order.store}: they send their rows back, and a job that is broken off"
                " begins anew"
            )

    def _nobody(self) -> UserError:
        worker, reason = next(iter(self._refused.items()))
        return UserError(f"no worker at {self._where} can take part; the first, {worker}: {reason}")

    def _heard(self, event: tuple[float, Any]) -> None:
        self._signs.put(Sign(*event[1]))

    def signs(self) -> Iterator[Sign]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._signs.get_nowait()

    def submit(self, shard: Shard, order: Order, hear: Callable[[Sign], None]) -> Future:
        self._asked = self._fit() if self._refused else set()
        only = {"workers": sorted(self._asked)} if self._asked else {}
        executor = self._client.get_executor(pure=False, **only)
        return executor.submit(refine_shard, pickle.dumps(shard), order, identity(), self._topic)

    def refuse(self, refusal: Refusal) -> None:
        self._refused[refusal.worker] = refusal.reason
        self._looked = 0.0
        if not self._fit():
            raise self._nobody()

    def moved(self) -> bool:
        return bool(self._refused) and self._asked != self._fit()

    def kick(self, worker: str) -> None:
        with contextlib.suppress(Exception):  # it may have no nanny, or be gone by now
            self._client.restart_workers([worker], timeout=CONNECTING, raise_for_error=False)

    def revive(self) -> None:
        self.close()
        until = time.monotonic() + REVIVING
        while True:
            try:
                self._client = self._connect(max(1.0, until - time.monotonic()))
                break
            except UserError as error:
                if time.monotonic() > until:
                    raise SystemFault(
                        f"the scheduler was lost, and {error}; what was stored is kept, and the same command"
                        " goes on"
                    ) from error
                time.sleep(1)
        self._looked = 0.0
        self._client.subscribe_topic(self._topic, self._heard)

    def close(self) -> None:
        """Let go of the cluster, which stays."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=1)


@contextlib.contextmanager
def local(workers: int, device: str) -> Iterator[str]:
    """The address of a cluster on this computer: a process per worker, with a GPU of its own each."""
    kind = hardware.resolve_device(device).type
    if kind == "cuda" and workers > torch.cuda.device_count():
        raise UserError(
            f"{workers} workers need {workers} GPUs, here are {torch.cuda.device_count()}: use --workers"
            f" {torch.cuda.device_count()}, or --device cpu"
        )
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))

    def worker(number: int) -> dict[str, Any]:
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        if kind == "cuda":
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
        options = {"nthreads": 1, "memory_limit": MEMORY_LIMIT // workers, "silence_logs": 40}
        return {"cls": Nanny, "options": options | {"env": environment}}

    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": here}
    with (
        dask.config.set(_SETTINGS),
        SpecCluster(dict(enumerate(map(worker, range(workers)))), scheduler, silence_logs=50) as cluster,
    ):
        yield cluster.scheduler_address


@contextlib.contextmanager
def connected(where: str) -> Iterator[Cluster]:
    """A cluster's workers while the block runs."""
    with dask.config.set(_SETTINGS), contextlib.closing(Cluster(where)) as engine:
        yield engine
