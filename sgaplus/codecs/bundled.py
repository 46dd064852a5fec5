"""The codecs that come with this package: networks, each with the weights of one or several λ and a card."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save as serialise
from torch import Tensor

from .. import io
from ..errors import SystemFault, UserError
from ..parsing import six_digits
from . import gains

if TYPE_CHECKING:
    from .codec import Codec


@dataclass(frozen=True)
class Card:
    """What a bundled codec says of itself; a JSON file beside the weights holds those of all their λ.

    Attributes:
        name, lmbda: as `load_codec` takes them.
        lmbdas: the λ of the network that it is part of, rising.
        architecture: CompressAI's name of the model.
        N, M: channels of the transforms and of the latent y.
        sha256: `Codec.sha256`: of the weights' file; of file and λ where the network has several.
        training: data, recipe, hardware, seconds.
        kodak: the unrefined codec's mean point on Kodak: bpp, psnr (dB), loss. Empty at a λ in between.
        path: of the weights.
        file_sha256: theirs.
    """

    name: str
    lmbda: float
    lmbdas: tuple[float, ...]
    architecture: str
    N: int
    M: int
    sha256: str
    training: dict[str, Any]
    kodak: dict[str, float]
    path: Path
    file_sha256: str


@functools.cache
def bundled_folder() -> Path:
    """Where the weights are: inside an installed package, or the checkout's ``data/models``."""
    installed = io.PACKAGE / "_models"
    return installed if installed.is_dir() else io.CHECKOUT / "data" / "models"


def cards(folder: Path | None = None) -> list[Card]:
    """The cards of all bundled codecs, or of all in a folder, by name and λ.

    Raises:
        UserError: a file among them is no card.
    """
    found = [card for path in (folder or bundled_folder()).glob("[!.]*.json") for card in read_cards(path)]
    return sorted(found, key=lambda card: (card.name, card.lmbda))


def read_cards(path: Path) -> list[Card]:
    """The cards in a JSON file, by rising λ. One from before there were networks holds a single λ."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lmbdas, points = content.pop("lmbdas", None), content.pop("kodak")
        if lmbdas is None:
            lmbdas, points = [content.pop("lmbda")], [points]
        file = content.pop("sha256")
        content |= {"lmbdas": tuple(lmbdas), "path": path.with_suffix(".safetensors"), "file_sha256": file}
        return [
            Card(lmbda=lmbda, sha256=_identity(file, lmbda, lmbdas), kodak=point, **content)
            for lmbda, point in zip(lmbdas, points or [{} for _ in lmbdas], strict=True)
        ]
    except OSError as error:
        raise io.unreadable(path, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not the card of a codec ({error}): restore it or rename it") from error


def _identity(file_sha256: str, lmbda: float, lmbdas: Sequence[float]) -> str:
    return file_sha256 if len(lmbdas) == 1 else gains.at_rate(file_sha256, lmbda)


def between(family: Sequence[Card], lmbda: float) -> Card:
    """The card at any λ within those of a family's networks of several λ.

    Of two networks the one that has the nearest trained λ takes it, beyond its own range with its log gains
    extrapolated (`gains.at`).
    """
    several = [card for card in family if len(card.lmbdas) > 1]
    low, high = several[0].lmbda, several[-1].lmbda
    if not low <= lmbda <= high:
        raise UserError(f"{several[0].name} has no lambda {lmbda:g}: choose one from {low:g} to {high:g}")
    return _at([min(several, key=lambda card: abs(math.log(lmbda / card.lmbda)))], lmbda)


def _at(network: Sequence[Card], lmbda: float) -> Card:
    """A network's card at a λ."""
    trained = {six_digits(card.lmbda): card for card in network}
    if found := trained.get(six_digits(lmbda)):
        return found
    card = network[0]
    return replace(card, lmbda=lmbda, sha256=_identity(card.file_sha256, lmbda, card.lmbdas), kodak={})


def stem(name: str, lmbdas: Sequence[float]) -> str:
    """File name of a network's weights and card, without suffix."""
    ends = sorted({f"{lmbda:g}": lmbda for lmbda in (min(lmbdas), max(lmbdas))}.values())
    return f"{name}_lambda{'-'.join(f'{lmbda:g}' for lmbda in ends)}"


def save_network(
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    name: str,
    lmbdas: Sequence[float],
    N: int,
    M: int,
    training: dict[str, Any],
    kodak: Sequence[dict[str, float]] = (),
) -> Path:
    """Write the weights of a mean-scale hyperprior, with gains where it has several λ, and their card.

    Args:
        lmbdas: by rising λ; so are the Kodak points, if there are any.

    Returns:
        The weights' path.
    """
    path = folder / f"{stem(name, lmbdas)}.safetensors"
    io.write(path, serialise(dict(weights)))
    content = {"name": name, "lmbdas": list(lmbdas), "architecture": "mbt2018-mean", "N": N, "M": M}
    content |= {"sha256": io.sha256(path), "training": training, "kodak": list(kodak)}
    io.write(path.with_suffix(".json"), json.dumps(content, indent=2) + "\n")
    return path


def load(card: Card) -> Codec:
    """The codec of a card as it is today.

    Raises:
        UserError: its weights are damaged.
        SystemFault: they are missing.
    """
    from .checkpoints import build, load_parameters, read_safetensors
    from .codec import Codec, freeze

    path = card.path
    card = _at(read_cards(path.with_suffix(".json")), card.lmbda)
    if not path.is_file():
        raise SystemFault(f"{path} is missing: install sgaplus again")
    found = io.sha256(path)
    if found != card.file_sha256:
        what = io.what_it_is(path) or (
            f"damaged (SHA-256 {found}, its card says {card.file_sha256}): restore it or install sgaplus"
            " again"
        )
        raise UserError(f"{path} is {what}")
    if (known := gains.lmbdas_of(path) or card.lmbdas[:1]) != card.lmbdas:
        told, there = (", ".join(f"{lmbda:g}" for lmbda in lmbdas) for lmbdas in (card.lmbdas, known))
        raise UserError(f"{path} holds lambda {there}, and its card says {told}: restore both")
    model = build(card.architecture, card.N, card.M)
    load_parameters(model, gains.at(read_safetensors(path), card.lmbda))
    return Codec(card.name, card.lmbda, freeze(model), card.sha256, card=asdict(card))
