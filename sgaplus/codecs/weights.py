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
from compressai.zoo.image import cfgs, model_urls
from safetensors.torch import save as serialise
from torch import Tensor

from .. import io
from ..distortion import LAMBDAS
from ..errors import SystemFault, UserError
from ..parsing import number, whole
from . import checkpoints
from .checkpoints import REFINABLE, build, load_parameters, read_safetensors
from .codec import Codec, freeze

# λ of the zoo's models trained for MSE, by quality (CompressAI's documentation, "Training"). Those of the
# models trained for MS-SSIM weigh 1 − MS-SSIM, which refinement does not minimise.
ZOO_LAMBDAS = LAMBDAS["mse"]

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
            found.append(Card(**json.loads(path.read_text(encoding="utf-8"))))
        except OSError as error:
            raise io.unreadable(path, error) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is not the card of a codec ({error}): restore it, or rename it to do without"
            ) from error
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
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


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
        what = io.what_it_is(path) or (
            f"damaged (SHA-256 {found}, its card says {card.sha256}): restore it or install sgaplus again"
        )
        raise UserError(f"{path} is {what}")
    model = build(card.architecture, card.N, card.M)
    load_parameters(model, read_safetensors(path))
    return Codec(name, card.lmbda, freeze(model), card.sha256, card=asdict(card))


def zoo_file(url: str) -> tuple[Path, str]:
    """Where a zoo codec's weights are kept, and the first digits of their SHA-256, from the file's name."""
    path = zoo_folder() / url.rsplit("/", 1)[1]
    return path, re.findall(r"-([0-9a-f]{8})\.", path.name)[0]


def qualities(name: str) -> list[int]:
    """Those of a zoo codec for MSE; none where the zoo has no codec of this name."""
    return list(model_urls[name]["mse"]) if name in ZOO else []


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
    path, prefix = zoo_file(url)
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


def _load_zoo(name: str, lmbda: float | None, quality: int | None, metric: str) -> Codec:
    lambdas = LAMBDAS.get(metric, ())
    if quality is None and lmbda in lambdas:
        quality = lambdas.index(lmbda) + 1
    if quality is None:
        raise UserError(f"{name} comes from the zoo in several qualities: give quality=1 … {len(cfgs[name])}")
    path = fetch_zoo(name, quality, metric)
    trained = lambdas[quality - 1]
    if lmbda not in (None, trained):
        raise UserError(
            f"{name} of quality {quality} was trained with lambda {trained:g}, not {lmbda:g}: "
            "give the quality alone, and lmbda to the refinement"
        )
    widths = cfgs[name][quality]
    model = build(name, widths[0], widths[-1])
    load_parameters(model, checkpoints.read(path))
    return Codec(name, trained, freeze(model), io.sha256(path), card={"quality": quality, "metric": metric})


def _load_checkpoint(path: Path, lmbda: float | None) -> Codec:
    if lmbda is None:
        raise UserError(f"{path} does not say which lambda it was trained with: give it (lmbda)")
    weights = checkpoints.read(path)
    try:
        model = checkpoints.recognise(weights)
        load_parameters(model, weights)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    file, content = io.sha256(path), checkpoints.content_hash(model)
    # A copy of a bundled or downloaded codec's file remains that codec.
    identity, also = (file, content) if _is_known(file) else (content, file)
    return Codec(path.stem, lmbda, freeze(model), identity, also=(also,))


def _is_known(sha256: str) -> bool:
    """Whether a file of this SHA-256 is that of a bundled codec or of one of the zoo."""
    urls = [url for name in ZOO for metric in model_urls[name].values() for url in metric.values()]
    return sha256 in {card.sha256 for card in cards()} or sha256[:8] in {zoo_file(url)[1] for url in urls}


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
        metric: ``"mse"`` or ``"ms-ssim"``, what a zoo model was trained for. λ is that of this metric, and
            refinement minimises the same one unless told otherwise.
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
    with (io.PACKAGE / "codecs" / "zoo.csv").open(newline="", encoding="utf-8") as table:
        published = {(row["name"], int(row["quality"])): row for row in csv.DictReader(table)}
    for name in ZOO:
        for quality, url in model_urls[name]["mse"].items():
            size, known = _size(zoo_file(url)[0]), published[name, quality]
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
