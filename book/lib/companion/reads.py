"""Which files of the repository a page read, and what is in them now."""

import hashlib
import os
import sys
from pathlib import Path

from sgaplus import io

_RECORDER = Path(__file__).parent / "recorder"
_CHANGED = "changed while the page ran"


def recording(log: Path, root: Path) -> dict[str, str]:
    """Environment variables with which Python writes down in ``log`` what it reads in the repository."""
    folders = dict.fromkeys((str(root.absolute()), str(root.resolve())))
    path = [str(_RECORDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"SGAPLUS_RECORD": "\n".join([str(log), *folders]), "PYTHONPATH": os.pathsep.join(path)}


def digest(root: Path, name: str) -> str | None:
    """SHA-256 of a file, or of the names in a folder where ``name`` ends with a slash; None without one."""
    path = root / name
    try:
        if name.endswith("/"):
            names = sorted(entry.name for entry in path.iterdir() if _counts(Path(name, entry.name)))
            return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
        return io.sha256_once(path)
    except OSError:
        return None


def _counts(path: Path) -> bool:
    """Whether a page depends on ``path``, relative to the repository: not on what is hidden or made."""
    made = {"_build", "__pycache__", "site-packages"}
    return not (
        any(part.startswith(".") or part in made for part in path.parts)
        or path.is_relative_to("book/executed")
    )


def files_read(log: Path, root: Path) -> dict[str, str | None]:
    """The files and listed folders in ``log``, relative to the repository, with their digests.

    What has changed since a process opened it has a digest that no file has, so that the page is stale at
    once.
    """
    found: dict[str, str | None] = {}
    for entry in log.read_bytes().split(b"\0")[:-1]:
        changed, size, text = os.fsdecode(entry).split(" ", 2)
        path = Path(text)
        base = root.absolute() if path.is_relative_to(root.absolute()) else root.resolve()
        name = path.relative_to(base)
        installed = Path(sys.prefix).is_relative_to(base) and path.is_relative_to(sys.prefix)
        if installed or not _counts(name):
            continue
        try:
            status = path.stat()
            same = (int(changed), int(size)) == (status.st_mtime_ns, status.st_size)
        except OSError:
            same = int(changed) < 0
        key = name.as_posix() + "/" * text.endswith(os.sep)
        found[key] = digest(root, key) if same and found.get(key) != _CHANGED else _CHANGED
    return found
