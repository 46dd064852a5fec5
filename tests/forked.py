"""Processes of their own that start at once: each is forked from one that has imported what takes seconds."""

import multiprocessing
import os
import runpy
import signal
import sys
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = "tests.imported"


def start(module: str, *arguments: object, log: Path, folder: Path = ROOT, **environment: str) -> BaseProcess:
    """``python -m module arguments`` in a session of its own.

    Args:
        log: what it says is added to this file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([IMPORTED])
    vars(sys.modules["__main__"]).setdefault("__spec__", None)  # a shell of IPython in another test takes it
    words = list(map(str, arguments))
    process = context.Process(target=_run, args=(module, words, log, folder, environment))
    process.start()
    return process


def _run(module: str, arguments: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
    import dask

    os.setsid()
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= environment
    dask.config.refresh()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    warnings.simplefilter("ignore")
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
