"""A cluster of processes that can be killed: a scheduler and workers, started again as a supervisor would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
QUIET = {
    "DASK_LOGGING__DISTRIBUTED": "error",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "100",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Farm:
    """A scheduler and two workers with nannies.

    Args:
        folder: for what they write; the moods of `tests.moods` are there too.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen] = {}
        self.names = ["scheduler", "worker-0", "worker-1"]
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        if name == "scheduler":
            command = ["scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        else:
            command = ["worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard"]
            command += ["--local-directory", str(self.folder), "--preload", "tests.moods"]
        environment = os.environ | QUIET
        environment |= {"OMP_NUM_THREADS": "1", "SGAPLUS_MOODS": str(self.folder)}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "dask", *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def supervise(self) -> None:
        """Start again what has ended."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start(name)

    def kill(self, name: str) -> None:
        """kill -9 the scheduler, or the process of a worker that computes but not its nanny."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.processes[name].pid)
            computing = [p for p in parent.children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
            [parent, *computing][-1].kill()

    def close(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

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
