"""Writes down which files of the repository a page's processes read.

Python imports a module of this name whenever it starts. `companion.build` puts this folder on the PYTHONPATH
of a page's kernel, so that the processes that the kernel starts are covered too, and names in SGAPLUS_RECORD
the file to write to and the folders that count, one a line.

An entry is the time of change (ns), the size and the path of what was opened, ended by a zero byte; a folder
whose names were listed ends with a slash. Only what goes through Python's own files is seen: who gives a path
to a library that opens it in C or Rust (Parquet, safetensors) gives it an open file or its content instead.
Nor is a question whether something exists: try to open or to list it.
"""

# ruff: noqa: PTH100, PTH116, PTH120

import contextlib
import os
import sys
from importlib.util import source_from_cache

# Who looks for modules lists folders; a module that is new there changes no page.
_IMPORTERS = ("importlib", "_frozen_importlib", "pkgutil", "pkg_resources")


def _record(log: str, *folders: str) -> None:
    inside = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    known: set[bytes] = set()

    def hook(event: str, arguments: tuple) -> None:
        if event not in ("open", "os.listdir", "os.scandir"):
            return
        # What fails here must not fail the page: a name that is no path fails there by itself.
        with contextlib.suppress(Exception):
            listed = event != "open"
            if isinstance(arguments[0], int) or (not listed and arguments[2] & (os.O_WRONLY | os.O_TRUNC)):
                return
            path = os.path.abspath(os.fsdecode(arguments[0] or "."))
            if not (path + os.sep).startswith(inside):
                return
            if listed and sys._getframe(1).f_globals.get("__name__", "").startswith(_IMPORTERS):
                return
            if path.endswith(".pyc"):
                path = source_from_cache(path)
            try:
                status = os.stat(path)
                changed, size = status.st_mtime_ns, status.st_size
            except OSError:
                changed = size = -1
            entry = os.fsencode(f"{changed} {size} {path}{os.sep * listed}\0")
            if entry not in known:
                known.add(entry)
                os.write(descriptor, entry)

    sys.addaudithook(hook)


if "SGAPLUS_RECORD" in os.environ:
    _record(*os.environ["SGAPLUS_RECORD"].split("\n"))

# The environment's own module of this name, if there is one, still has its turn.
_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _here]
_this = sys.modules.pop("sitecustomize")
try:
    import sitecustomize  # noqa: F401
except ModuleNotFoundError:
    sys.modules["sitecustomize"] = _this
