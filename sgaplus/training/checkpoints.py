"""Checkpoints of training runs. They took hours: none is removed, or called damaged without a proof."""

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from .. import hardware, io
from ..errors import UserError, first_line
from .recipes import Recipe

_KEEP = "restore it from a copy, or rename it to start anew"
_ELSEWHERE = "go on with that version, or rename it to start anew"


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the old one stays until the new one is complete. Errors are of `io.write`."""
    content = BytesIO()
    torch.save(state, content)
    io.write(path, content.getbuffer())


def read(path: Path) -> tuple[dict[str, Any], Recipe]:
    """The state in a checkpoint and its recipe.

    Raises:
        UserError: there is no such file, it may not be read, is no checkpoint, or one of another version.
        SystemFault: the disk fails, or too many files are open.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise io.unreadable(path, error) from error
    with damage_of(path):
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        recipe = dict(state["recipe"])
        if recipe.keys() == {field.name for field in fields(Recipe)}:
            return state, Recipe(**recipe)
    differing = ", ".join(sorted(recipe.keys() ^ {field.name for field in fields(Recipe)}))
    raise UserError(
        f"{path} was made by another version of sgaplus (its recipe differs in {differing}): {_ELSEWHERE}"
    )


def check_optimiser(path: Path, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Look whether the state's optimiser is of this version.

    Raises:
        UserError: it has other settings.
    """
    with damage_of(path):
        groups = [set(group) for group in state["optimizer"]["param_groups"]]
    if groups != [set(group) for group in optimizer.param_groups]:
        raise UserError(
            f"{path} was made by another version of sgaplus (with another optimiser): {_ELSEWHERE}"
        )


@contextlib.contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """Call the checkpoint damaged where reading its content fails, and for nothing but its content."""
    try:
        yield
    except Exception as error:  # unpickling raises anything on damaged data
        if isinstance(error, OSError) or hardware.memory_is_full(error) or "CUDA" in str(error):
            raise
        what = f"{path} is damaged or no checkpoint of a training run ({type(error).__name__}"
        raise UserError(f"{what}: {first_line(error)}): {_KEEP}") from error
