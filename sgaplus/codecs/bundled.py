"""The codecs that come with this package: weights and a card each."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialise
from torch import Tensor

from .. import io
from ..errors import SystemFault, UserError
from .checkpoints import build, load_parameters, read_safetensors
from .codec import Codec, freeze


@dataclass(frozen=True)
class Card:
    """What a bundled codec says of itself; stored as JSON beside its weights.

    Attributes:
        name, lmbda: as `load_codec` takes them.
        architecture: CompressAI's name of the model.
        N, M: channels of the transforms and of the latent y.
        sha256: of the weights' file.
        training: data, recipe, hardware, seconds.
        kodak: the unrefined codec's mean point on Kodak: bpp, psnr (dB), loss.
    """

    name: str
    lmbda: float
    architecture: str
    N: int
    M: int
    sha256: str
    training: dict[str, Any]
    kodak: dict[str, float]


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
    found = [read_card(path) for path in (folder or bundled_folder()).glob("[!.]*.json")]
    return sorted(found, key=lambda card: (card.name, card.lmbda))


def read_card(path: Path) -> Card:
    """The card in a JSON file.

    Raises:
        UserError: it is none.
    """
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise io.unreadable(path, error) from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not the card of a codec ({error}): restore it, or rename it to do without"
        ) from error


def stem(name: str, lmbda: float) -> str:
    """File name of a codec's weights and card, without suffix."""
    return f"{name}_lambda{lmbda:g}"


def weights_of(card: Card) -> Path:
    """Where the weights of a bundled codec are."""
    return bundled_folder() / f"{stem(card.name, card.lmbda)}.safetensors"


def save_codec(weights: Mapping[str, Tensor], card: Card, folder: Path) -> Path:
    """Write weights and card; the card's ``sha256`` is filled in. Returns the weights' path."""
    path = folder / f"{stem(card.name, card.lmbda)}.safetensors"
    with io.atomic(path) as temporary:
        temporary.write_bytes(serialise(dict(weights)))
    content = asdict(card) | {"sha256": io.sha256(path)}
    with io.atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def load(card: Card) -> Codec:
    """The codec of a card.

    Raises:
        UserError: its weights are damaged.
        SystemFault: they are missing.
    """
    path = weights_of(card)
    if not path.is_file():
        raise SystemFault(f"{path} is missing: install sgaplus again")
    found = io.sha256(path)
    if found != card.sha256:
        what = io.what_it_is(path) or (
            f"damaged (SHA-256 {found}, its card says {card.sha256}): restore it or install sgaplus again"
        )
        raise UserError(f"{path} is {what}")
    model = build(card.architecture, card.N, card.M)
    load_parameters(model, read_safetensors(path))
    return Codec(card.name, card.lmbda, freeze(model), card.sha256, card=asdict(card))
