"""A cluster of processes that can be killed: a scheduler and workers, started again as a supervisor would."""

import contextlib
import os
import signal
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests import forked

SETTINGS = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "100",
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Farm:
    """A scheduler and two workers, the second with a nanny.

    Args:
        folder: for what they write; the moods of `tests.moods` are there too.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: dict[str, BaseProcess] = {}
        self.names = ["scheduler", "worker-0", "worker-1"]
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        if name == "scheduler":
            command = ["scheduler", "--host", "127.0.0.1", "--port", self.port]
        else:
            command = ["worker", self.address, "--name", name, "--nthreads", 1, "--preload", "tests.moods"]
            command += ["--local-directory", self.folder]
            command += ["--preload-nanny", forked.IMPORTED] if name == "worker-1" else ["--no-nanny"]
        environment = SETTINGS | {"SGAPLUS_MOODS": str(self.folder)}
        log = self.folder / f"{name}.log"
        self.processes[name] = forked.start("dask", *command, "--no-dashboard", log=log, **environment)

    def supervise(self, *names: str) -> None:
        """Start again what has ended."""
        for name in names or self.names:
            if not self.processes[name].is_alive():
                self.start(name)

    def kill(self, name: str) -> None:
        """kill -9 the scheduler, or the process of a worker that computes but not its nanny."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            worker = self.folder / f"pid-{name}"
            pid = self.processes[name].pid if name == "scheduler" else int(worker.read_text())
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()

    # Moods

    def mood(self, name: str, on: bool = True) -> None:
        path = self.folder / name
        path.touch() if on else path.unlink(missing_ok=True)

    def held(self, count: int = 1, seconds: float = 180) -> dict[str, int]:
        """Wait until workers are held in the middle of a shard; their process ids."""
        until = time.monotonic() + seconds
        while True:
            found = {path.name.removeprefix("held-"): path.read_text() for path in self.folder.glob("held-*")}
            found = {name: int(text) for name, text in found.items() if text}
            if len(found) >= count:
                return found
            assert time.monotonic() < until, "no worker began a shard"
            time.sleep(0.05)

    def release(self) -> None:
        self.mood("hold", False)
        for path in self.folder.glob("held-*"):
            path.unlink()
