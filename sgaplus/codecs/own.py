"""Checkpoints of one's own: their λ, their identity, and the codecs that they are."""

import functools
import re
from pathlib import Path

from compressai.models import CompressionModel

from .. import io
from ..distortion import LAMBDAS
from ..errors import UserError
from ..hardware import undisturbed
from . import bundled, checkpoints, gains, zoo
from .codec import Codec, freeze
from .effort import Effort, of_model
from .families import vbr

_LAMBDA_IN_NAME = re.compile(r"(?:lambda|lmbda)[_=-]?(\d+(?:\.\d+)?(?:e-?\d+)?)", re.IGNORECASE)


def rates(path: Path) -> tuple[float, ...]:
    """λ of a checkpoint with gains, or of one of variable rate whose card or name does not say at which.

    The second kind has those of CompressAI's zoo. Any other checkpoint has none.
    """
    if network := gains.lmbdas_of(path):
        return network
    told = path.with_suffix(".json").is_file() or _LAMBDA_IN_NAME.search(path.name)
    return () if told or "Gain" not in checkpoints.read(path) else tuple(LAMBDAS["mse"])


def lambda_of(path: Path) -> float:
    """What a card beside a checkpoint or its name says of its λ."""
    card = path.with_suffix(".json")
    if card.is_file():
        return bundled.read_cards(card)[0].lmbda
    found = _LAMBDA_IN_NAME.search(path.name)
    if not found:
        raise UserError(f"{path} does not say which lambda it has: give it (lmbda, or {path.name}=0.01)")
    return float(found[1])


def load(path: Path, lmbda: float) -> Codec:
    """A checkpoint as a codec.

    Raises:
        UserError: it holds no model that can be refined.
    """
    model, *hashes = _read(path, lmbda)
    identity, also = (_at(sha256, lmbda, vbr.is_variable(model)) for sha256 in hashes)
    return Codec(path.stem, lmbda, model, identity, also=(also,))


def about(path: Path, lmbda: float) -> tuple[str, Effort]:
    """`Codec.sha256` and the effort of a checkpoint; one that does not change is read once per process.

    One with gains is read for each λ, since the gains fold into its weights.
    """
    status = path.stat()
    folded = lmbda if gains.lmbdas_of(path) else 0.0
    sha256, variable, effort = _about(path, status.st_size, status.st_mtime_ns, folded)
    return _at(sha256, lmbda, variable), effort


@functools.cache
def _about(path: Path, size: int, modified: int, lmbda: float) -> tuple[str, bool, Effort]:
    model, identity, _ = _read(path, lmbda)
    return identity, vbr.is_variable(model), of_model(model)


def _at(sha256: str, lmbda: float, variable: bool) -> str:
    return gains.at_rate(sha256, lmbda) if variable else sha256


@undisturbed()
def _read(path: Path, lmbda: float) -> tuple[CompressionModel, str, str]:
    """The model in a checkpoint, at ``lmbda`` where it has gains, with its identity and a second one.

    A codec of variable rate has further ones at each λ.
    """
    weights = checkpoints.read(path)
    network = gains.LMBDA in weights
    try:
        weights = gains.at(weights, lmbda)
        model = checkpoints.recognise(weights)
        checkpoints.load_parameters(model, weights)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    file, content = io.sha256_once(path), checkpoints.content_hash(model)
    # A copy of a bundled or downloaded codec's file remains that codec.
    known = zoo.is_file_of_zoo(file) or file in {card.file_sha256 for card in bundled.cards()}
    if network:
        file = gains.at_rate(file, lmbda)
    return (freeze(model), file, content) if known else (freeze(model), content, file)
