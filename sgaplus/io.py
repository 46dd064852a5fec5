"""Where the package lies, and files that are written whole or not at all."""

import contextlib
import errno
import functools
import glob
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from .errors import SystemFault, UserError

PACKAGE = Path(__file__).parent
# The repository of an editable install; elsewhere nothing of the kind.
CHECKOUT = PACKAGE.parent

# How pandas reads tables of photographs, which may be called NA; numbers keep every bit.
CSV: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}

_HOUR = 3600
# Bytes of a file's name.
_LONGEST_NAME = 255
_FULL = "the disk is full, free some space and run again"
_OPEN = "too many files are open, close other programs or raise the limit (ulimit -n)"
# What is not the user's fault although it happens on opening a file. No word about the file's content: it may
# be in the best of health.
_FAULTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.ENOMEM: "there is not enough memory, close other programs and run again",
    errno.EIO: "the disk or the connection to it fails (input/output error), run again when it works",
}


def reason(error: OSError) -> str:
    """Why the system did not read or write a file, with the remedy where there is one."""
    return _FAULTS.get(error.errno or 0) or error.strerror or str(error)


def unreadable(path: str | Path, error: OSError) -> UserError | SystemFault:
    """The exception for a file that the system did not let us read, which says nothing of its content."""
    kind = SystemFault if error.errno in _FAULTS else UserError
    return kind(f"{path} cannot be read: {reason(error)}")


def beside(path: Path, ending: str) -> Path:
    """The path with ``ending`` after its name, of which as much is left as makes a name that systems take."""
    name = path.name
    while len(os.fsencode(name + ending)) > _LONGEST_NAME:
        name = name[:-1]
    return path.with_name(name + ending)


def set_aside(path: str | Path, why: str = "damaged") -> Path:
    """Rename a file, so that another can take its place and nothing of it is lost; the new path.

    Args:
        why: the new ending of its name.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    aside = beside(path, f".{why}")
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = beside(path, f".{why}-{count}")
    return path.rename(aside)


def cache_folder() -> Path:
    """The user's cache folder of this package; a temporary one for a user who has no home."""
    try:
        return platformdirs.user_cache_path("sgaplus")
    except RuntimeError:  # neither HOME nor an entry among the system's users
        user = getattr(os, "getuid", lambda: "user")()
        return Path(tempfile.gettempdir()) / f"sgaplus-{user}"


def user_path(path: Any, what: str = "a file") -> Path:
    """A path as a user writes it: ``~`` at its start is a home folder, unless a file is called so.

    Raises:
        UserError: it is no path; ``what`` names it in the message.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{what} is given by its path, not by {type(path).__name__}")
    path = Path(path)
    try:
        return path if os.path.lexists(path) else path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def printable(name: str | Path) -> str:
    """A file's name for tables and messages: bytes that are no UTF-8 are written as ``\\xe9``."""
    encoded = str(name).encode("utf-8", sys.getfilesystemencodeerrors())
    return encoded.decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes ``path``'s place only when the block succeeds.

    Write with Python's own files inside: other libraries have their own exceptions for a full disk.

    Raises:
        UserError: the folder cannot be made or written to, or ``path`` is a folder.
        SystemFault: the disk is full or fails.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    prefix = f".{path.stem[:40]}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What a process that was killed has left; a younger one may be another process's at work.
        for leftover in path.parent.glob(f"{glob.escape(prefix)}{'?' * 8}{glob.escape(path.suffix)}"):
            with contextlib.suppress(FileNotFoundError):  # another process renames it, or removes it too
                if leftover.stat().st_mtime < time.time() - _HOUR:
                    leftover.unlink()
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    except OSError as error:
        kind = SystemFault if error.errno in _FAULTS else UserError
        raise kind(f"cannot write to {path.parent}: {reason(error)}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows syncs only what can be written
            os.fsync(written.fileno())
        # mkstemp makes files for the owner alone; a result is as readable as the umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise SystemFault(f"could not write {path}: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | Path, content: str | bytes | memoryview) -> None:
    """Write a file, text as UTF-8, whole or not at all; errors are those of `atomic`."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def check_folder(folder: str | Path) -> None:
    """Make sure, before any work is done, that results can be written into ``folder``; nothing is created.

    Raises:
        UserError: they cannot.
    """
    nearest = Path(folder).absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:  # a drive may be missing
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError(f"cannot write to {folder}: {nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {folder}: {nearest} is not yours to write to")


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """As `sha256`; a file that does not change is read once per process."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, modified: int) -> str:
    return sha256(path)


def what_it_is(path: str | Path) -> str | None:
    """What lies in place of a file's content, with the remedy; None where it may be what it should be.

    An empty file, a Git LFS pointer or a web page, each of which downloads leave behind.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(512)
    if not head:
        return "an empty file: get it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself: download the file that the page links to"
    return None
