"""Where codecs come from: bundled families, CompressAI's zoo, one's own checkpoints."""

from __future__ import annotations

import csv
import functools
import json
import re
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from compressai.models import Cheng2020Anchor, CompressionModel
from compressai.models.utils import remap_old_keys
from compressai.zoo.image import cfgs, model_architectures, model_urls
from compressai.zoo.pretrained import load_pretrained
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from .. import io
from ..errors import SystemFault, UserError
from ..parsing import number, whole
from .codec import Codec, freeze
from .models import FAMILIES

# λ of the zoo's models trained for MSE, by quality (CompressAI's documentation, "Training").
ZOO_LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)


# CompressAI's names of the architectures that can be refined.
REFINABLE = tuple(name for name, cls in model_architectures.items() if cls in FAMILIES)
# Those of them with weights to download.
ZOO = tuple(name for name in REFINABLE if name in model_urls)
# Of a bundled family where none is named: that of the paper's ablations.
DEFAULT_LMBDA = 0.01


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
    """The folder of bundled weights: inside an installed package, or the checkout's ``data/models``."""
    installed = io.PACKAGE / "_models"
    return installed if installed.is_dir() else io.CHECKOUT / "data" / "models"


def zoo_folder() -> Path:
    """Where downloaded zoo weights are kept."""
    return io.cache_folder() / "zoo"


def cards(folder: Path | None = None) -> list[Card]:
    """The cards of all bundled codecs, by family and λ.

    Raises:
        UserError: a file among them is no card.
    """
    found = []
    for path in (folder or bundled_folder()).glob("[!.]*.json"):
        try:
            found.append(Card(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is not the card of a codec ({error}): restore or remove it") from error
    return sorted(found, key=lambda card: (card.name, card.lmbda))


def stem(name: str, lmbda: float) -> str:
    """File name of a codec's weights and card, without suffix."""
    return f"{name}_lambda{lmbda:g}"


def save_codec(weights: dict[str, Tensor], card: Card, folder: Path) -> Path:
    """Write weights and card; the card's ``sha256`` is filled in. Returns the weights' path."""
    path = folder / f"{stem(card.name, card.lmbda)}.safetensors"
    with io.atomic(path) as temporary:
        temporary.write_bytes(serialise(weights))
    content = asdict(card) | {"sha256": io.sha256(path)}
    with io.atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path


def widths(weights: dict[str, Tensor]) -> tuple[int, int]:
    """N and M of a mean-scale hyperprior, from its weights.

    Raises:
        UserError: the weights are those of something else.
    """
    try:
        return weights["g_a.0.weight"].shape[0], weights["g_a.6.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise UserError("the weights are not those of a mean-scale hyperprior of CompressAI") from error


def build(architecture: str, N: int, M: int) -> CompressionModel:
    """An untrained model by CompressAI's name; the models of Cheng et al. 2020 have M = N."""
    cls = model_architectures[architecture]
    return cls(N) if issubclass(cls, Cheng2020Anchor) else cls(N, M)


def recognise(weights: dict[str, Tensor]) -> CompressionModel:
    """An untrained model whose parameters have the names and shapes of ``weights``.

    Raises:
        UserError: no architecture that can be refined has.
    """
    first = next((weights[key] for key in ("g_a.0.weight", "g_a.0.conv1.weight") if key in weights), None)
    last = weights.get("g_a.6.weight", first)
    if first is not None and last is not None and last.ndim == 4:
        shapes = {name: value.shape for name, value in weights.items()}
        for architecture in REFINABLE:
            model = build(architecture, first.shape[0], last.shape[0])
            if all(shapes.get(name) == value.shape for name, value in model.named_parameters()) and (
                shapes.keys() <= model.state_dict().keys()
            ):
                return model
    raise UserError(f"the weights are those of none of CompressAI's models {', '.join(REFINABLE)}")


def load_parameters(model: CompressionModel, weights: dict[str, Tensor]) -> None:
    """Copy the parameters among ``weights`` into ``model`` and recompute its coding tables.

    Raises:
        UserError: a parameter is missing, has another shape or is not finite, or there are further ones.
    """
    wrong = [
        name
        for name, value in model.named_parameters()
        if name not in weights or weights[name].shape != value.shape
    ]
    wrong += sorted(weights.keys() - model.state_dict().keys())
    if wrong:
        raise UserError(
            f"the weights are of another architecture than {type(model).__name__} with these widths "
            f"({len(wrong)} tensors differ, {wrong[0]} among them)"
        )
    broken = [name for name, _ in model.named_parameters() if not weights[name].isfinite().all()]
    if broken:
        raise UserError(f"the weights hold values that are not finite ({broken[0]}): take others")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])
    model.update(force=True)


def _load_bundled(name: str, lmbda: float | None) -> Codec:
    family = {card.lmbda: card for card in cards() if card.name == name}
    choices = ", ".join(f"{value:g}" for value in family)
    if lmbda is None:
        lmbda = next(iter(family)) if len(family) == 1 else DEFAULT_LMBDA
    if lmbda not in family:
        raise UserError(f"{name} is not bundled with lambda {lmbda:g}: choose one of {choices}")
    card = family[lmbda]
    path = bundled_folder() / f"{stem(name, card.lmbda)}.safetensors"
    if not path.is_file():
        raise SystemFault(f"{path} is missing: install sgaplus again")
    found = io.sha256(path)
    if found != card.sha256:
        raise UserError(
            f"{path} is damaged (SHA-256 {found}, its card says {card.sha256}): restore it or install sgaplus again"
        )
    model = build(card.architecture, card.N, card.M)
    load_parameters(model, load_file(path))
    return Codec(name, card.lmbda, freeze(model), card.sha256, card=asdict(card))


def _zoo_file(url: str) -> tuple[Path, str]:
    """Where a zoo codec's weights are kept, and the first digits of their SHA-256, from the file's name."""
    path = zoo_folder() / url.rsplit("/", 1)[1]
    return path, re.findall(r"-([0-9a-f]{8})\.", path.name)[0]


def fetch_zoo(name: str, quality: int, metric: str = "mse") -> Path:
    """Download a zoo codec's weights unless they are cached; the file name's hash is checked either way.

    Raises:
        UserError: the zoo has no such model, or the cache folder cannot be made.
        SystemFault: the download fails or its checksum does not match.
    """
    metrics = model_urls.get(name, {})
    if quality not in metrics.get(metric, {}):
        choices = "; ".join(f"{key} {', '.join(map(str, urls))}" for key, urls in metrics.items())
        raise UserError(
            f"the zoo has no {name} of quality {quality} for {metric}: it has {choices or 'no such model'}"
        )
    url = metrics[metric][quality]
    path, prefix = _zoo_file(url)
    if path.is_file() and io.sha256(path).startswith(prefix):
        return path
    io.check_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the target and moves it there only when the hash is right.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise SystemFault(
            f"could not download {url} ({error}): check the network, or put the file into {path.parent}"
        ) from error
    except OSError as error:
        raise SystemFault(f"could not write {path}: {io.reason(error)}") from error
    except RuntimeError as error:
        raise SystemFault(f"{url} arrived damaged ({error}): try again") from error
    return path


def _unpickle(path: Path) -> dict[str, Tensor]:
    """A state dict from a PyTorch checkpoint: bare, or under ``state_dict`` or ``model``; nothing is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is not a PyTorch checkpoint of plain tensors") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    pairs = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise UserError(f"{path} holds no state dict of a model")
    # The names of two older generations of CompressAI, the zoo's among them.
    return remap_old_keys("entropy_bottleneck", load_pretrained(content))


def _load_zoo(name: str, lmbda: float | None, quality: int | None, metric: str) -> Codec:
    if quality is None and lmbda in ZOO_LAMBDAS:
        quality = ZOO_LAMBDAS.index(lmbda) + 1
    if quality is None:
        raise UserError(f"{name} comes from the zoo in several qualities: give quality=1 … {len(cfgs[name])}")
    path = fetch_zoo(name, quality, metric)
    if lmbda not in (None, ZOO_LAMBDAS[quality - 1]):
        raise UserError(
            f"{name} of quality {quality} was trained with lambda {ZOO_LAMBDAS[quality - 1]:g}, not {lmbda:g}: "
            "give the quality alone, and lmbda to the refinement"
        )
    model = model_architectures[name](*cfgs[name][quality])
    load_parameters(model, _unpickle(path))
    lmbda = ZOO_LAMBDAS[quality - 1]
    return Codec(name, lmbda, freeze(model), io.sha256(path), card={"quality": quality, "metric": metric})


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UserError: there is no such file, or it is not one.
    """
    try:
        return load_file(path)
    except OSError as error:
        raise io.unreadable(path, error) from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error})") from error


def _load_checkpoint(path: Path, lmbda: float | None) -> Codec:
    if lmbda is None:
        raise UserError(f"{path} does not say which lambda it was trained with: give it (lmbda)")
    weights = read_safetensors(path) if path.suffix == ".safetensors" else _unpickle(path)
    try:
        model = recognise(weights)
        load_parameters(model, weights)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    return Codec(path.stem, lmbda, freeze(model), io.sha256(path))


def load_codec(
    name: str | Path,
    lmbda: float | None = None,
    *,
    quality: int | None = None,
    metric: str = "mse",
    device: str = "auto",
    dtype: str = "auto",
) -> Codec:
    """Load a pretrained codec, frozen and ready for refinement.

    Args:
        name: a bundled family (``"mshyper-s"``), a CompressAI zoo name (``"mbt2018-mean"``, downloaded on
            first use), or the path of a checkpoint (.safetensors, .pt, .pth, .pth.tar).
        lmbda: the λ it was trained with; needed for a checkpoint. Of a bundled family with several it is 0.01
            by default. In the zoo it may stand for the quality.
        quality: 1 … 8, of a zoo model (1 … 6 of those of Cheng et al. 2020).
        metric: ``"mse"`` or ``"ms-ssim"``, of a zoo model.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        dtype: of the convolutions while refining: ``"auto"``, ``"float32"`` or ``"bfloat16"``.

    Raises:
        UserError: no such codec, or a file that does not fit.
        SystemFault: a download failed.
    """
    if not isinstance(name, str | Path):
        raise UserError(f"a codec is named by a word or a path, not by {type(name).__name__}")
    if lmbda is not None:
        lmbda = number(lmbda, "lambda")
    if quality is not None:
        quality = whole(quality, "the quality", 1)
    families = sorted({card.name for card in cards()})
    if quality is not None and str(name) not in ZOO:
        raise UserError(
            f"only codecs of the zoo have a quality ({', '.join(ZOO)}): name {name} by its lambda"
        )
    if str(name) in families:
        codec = _load_bundled(str(name), lmbda)
    elif str(name) in ZOO:
        codec = _load_zoo(str(name), lmbda, quality, metric)
    elif Path(name).is_file():
        codec = _load_checkpoint(Path(name), lmbda)
    else:
        raise UserError(
            f"unknown codec '{name}': use {', '.join(families) or 'none'} (bundled), {', '.join(ZOO)} (zoo), "
            "or the path of a checkpoint"
        )
    return codec.to(device, dtype)


def listing() -> list[dict[str, Any]]:
    """One row per codec that `load_codec` knows: where it is, its size in bytes, its λ and Kodak point.

    ``where`` is bundled, cached, downloadable or missing (bundled weights that are gone); ``quality`` is None
    for a bundled codec. The size of what is not here yet is that of its parameters in float32. The Kodak
    points of the zoo are those that CompressAI publishes, with the bytes of a real coder; not all are.
    """
    rows = []
    for card in cards():
        size = _size(bundled_folder() / f"{stem(card.name, card.lmbda)}.safetensors")
        where = "missing" if size is None else "bundled"
        rows.append(
            {"name": card.name, "where": where, "lmbda": card.lmbda, "quality": None, "bytes": size}
            | {f"kodak_{key}": value for key, value in card.kodak.items()}
        )
    with (io.PACKAGE / "codecs" / "zoo.csv").open(newline="") as table:
        published = {(row["name"], int(row["quality"])): row for row in csv.DictReader(table)}
    for name in ZOO:
        for quality, url in model_urls[name]["mse"].items():
            size, known = _size(_zoo_file(url)[0]), published[name, quality]
            where = "downloadable" if size is None else "cached"
            lmbda = ZOO_LAMBDAS[quality - 1]
            size = 4 * int(known["parameters"]) if size is None else size
            rows.append(
                {"name": name, "where": where, "lmbda": lmbda, "quality": quality, "bytes": size}
                | {key: float(known[key]) for key in ("kodak_bpp", "kodak_psnr") if known[key]}
            )
    return rows


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    return path.stat().st_size if path.is_file() else None
