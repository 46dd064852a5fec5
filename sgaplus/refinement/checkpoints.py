"""Checkpoints of a batch: a refinement that was broken off goes on from the last one, to the same bit.

A checkpoint holds all that the next step depends on: latents, optimiser, random generators, the estimate of
the curvature; and what the refinement returns of the steps before. Its name is a hash of what is computed, so
that one of something else is never taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from .. import io
from ..errors import SystemFault, UserError

# Raise it with the layout of what is saved.
_LAYOUT = 4


class Checkpoints:
    """Checkpoints in a folder.

    Args:
        folder: made with the first one.
        every: seconds between two; a batch that takes less has none.
    """

    def __init__(self, folder: Path, every: float):
        self._folder, self._every = folder, every
        self._paths: set[Path] = set()
        self._last = time.monotonic()

    def of(self, **content: Any) -> Path:
        """The file of a batch, by all that determines it."""
        content |= {"layout": _LAYOUT, "torch": torch.__version__}
        text = json.dumps(content, sort_keys=True, default=str)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pt"
        self._paths.add(path)
        self._last = time.monotonic()
        return path

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= self._every

    def save(self, path: Path, state: dict[str, Any]) -> None:
        """Write a state whole or not at all; a disk that is full costs the checkpoint, not the refinement."""
        content = BytesIO()
        torch.save(state, content)  # in a file it has an exception of its own for a full disk
        with contextlib.suppress(SystemFault, UserError):
            io.write(path, content.getbuffer())
        self._last = time.monotonic()

    def load(self, path: Path) -> dict[str, Any] | None:
        """What was saved, on the CPU; None where nothing was, or it is damaged."""
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
            return None  # it begins anew, and writes another in the place of a damaged one

    def clear(self) -> None:
        """Drop those of the batches that were computed; call it when the results are safe."""
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()
        with contextlib.suppress(OSError):  # others have theirs there, or there was none
            self._folder.rmdir()
