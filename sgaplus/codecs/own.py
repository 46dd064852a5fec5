"""Checkpoints of one's own: their λ, their identity, and the codecs that they are."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from .. import io
from ..errors import UserError
from . import bundled, checkpoints, zoo
from .codec import Codec, freeze
from .effort import Effort, of_model
from .families import vbr

_LAMBDA_IN_NAME = re.compile(r"(?:lambda|lmbda)[_=-]?(\d+(?:\.\d+)?(?:e-?\d+)?)", re.IGNORECASE)


def is_variable(path: Path, lmbda: float | None) -> bool:
    """Whether a checkpoint is of variable rate, and neither ``lmbda`` nor its card or name says at which."""
    told = lmbda is not None or path.with_suffix(".json").is_file() or _LAMBDA_IN_NAME.search(path.stem)
    return not told and "Gain" in checkpoints.read(path)


def lambda_of(path: Path) -> float:
    """What a card beside a checkpoint or its name says of its λ.

    Raises:
        UserError: nothing.
    """
    card = path.with_suffix(".json")
    if card.is_file():
        return bundled.read_card(card).lmbda
    found = _LAMBDA_IN_NAME.search(path.stem)
    if not found:
        raise UserError(
            f"{path} does not say which lambda it was trained with: give it (lmbda; in a list,"
            f" {path.name}=0.01)"
        )
    return float(found[1])


def load(path: Path, lmbda: float) -> Codec:
    """A checkpoint as a codec.

    Raises:
        UserError: it holds no model that can be refined.
    """
    weights = checkpoints.read(path)
    try:
        model = checkpoints.recognise(weights)
        checkpoints.load_parameters(model, weights)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    file, content = io.sha256_once(path), checkpoints.content_hash(model)
    # A copy of a bundled or downloaded codec's file remains that codec.
    known = zoo.is_file_of_zoo(file) or file in {card.sha256 for card in bundled.cards()}
    identity, also = (file, content) if known else (content, file)
    if vbr.is_variable(model):
        identity, also = checkpoints.at_rate(identity, lmbda), checkpoints.at_rate(also, lmbda)
    return Codec(path.stem, lmbda, freeze(model), identity, also=(also,))


def about(path: Path, lmbda: float) -> tuple[str, Effort]:
    """`Codec.sha256` and the effort of a checkpoint; one that does not change is read once per process."""
    status = path.stat()
    return _about(path, status.st_size, status.st_mtime_ns, lmbda)


@functools.cache
def _about(path: Path, size: int, modified: int, lmbda: float) -> tuple[str, Effort]:
    codec = load(path, lmbda)
    return codec.sha256, of_model(codec.model)
