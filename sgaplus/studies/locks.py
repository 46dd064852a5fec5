"""Claims of jobs among processes that work on one store: byte locks of one file.

The kernel drops a process's locks when it ends, also when it is killed. Windows has no such locks that can
be shared: there one process at a time works on a store.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .. import io
from ..errors import UserError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"


class Claims:
    """One process's claims: a byte per job, and byte 0 for the store as a whole."""

    def __init__(self, folder: Path):
        self._path = folder / _LOCK
        while True:
            self._file = self._path.open("a+b")
            # Shared while anyone computes; whoever packs needs it alone.
            fcntl.lockf(self._file, fcntl.LOCK_SH, 1, 0)
            # While we waited, the file may have gone with its last user.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    break
            self._file.close()

    def claim(self, key: str) -> bool:
        """Whether no other process has the job of this key; then it is ours until we end or close."""
        return self._try(1 + int(key[:12], 16))

    def alone(self) -> bool:
        """Whether no other process works on the store; then none starts until we end or close."""
        return self._try(0)

    def _try(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):  # which of the two depends on the system
            return False
        return True

    def close(self) -> None:
        """Drop all claims; the last one removes the file."""
        if self.alone():
            self._path.unlink(missing_ok=True)
        self._file.close()


class SoleClaims:
    """The claims of a process that has the store to itself.

    Raises:
        UserError: another process has it.
    """

    def __init__(self, folder: Path):
        self._lock = FileLock(folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process works on {folder}: wait until it has ended") from None

    def claim(self, key: str) -> bool:
        return True

    def alone(self) -> bool:
        return True

    def close(self) -> None:
        self._lock.release()


@contextlib.contextmanager
def claims_on(folder: Path) -> Iterator[Claims | SoleClaims]:
    """Claims on a store while the block runs.

    Raises:
        UserError: the folder cannot be written to, or another process works on it and this system cannot
            share.
    """
    io.check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    claims = SoleClaims(folder) if fcntl is None else Claims(folder)
    try:
        yield claims
    finally:
        claims.close()
