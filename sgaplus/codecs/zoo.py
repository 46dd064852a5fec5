"""CompressAI's zoo: which codecs it has, where their weights are kept, and how they come there."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .. import io
from ..data.downloads import download
from ..distortion import LAMBDAS
from ..errors import UserError
from .gains import at_rate

if TYPE_CHECKING:
    from .codec import Codec

_ADDRESS = "https://compressai.s3.amazonaws.com/models/v1"


@functools.cache
def published() -> dict[tuple[str, int], dict[str, str]]:
    """What CompressAI publishes of each codec, by name and quality.

    N and M; the file for each metric, empty where there is none; parameters and Kodak points (for MSE), of
    which not all are. It is a table, since CompressAI takes seconds to import.
    """
    with (io.PACKAGE / "codecs" / "zoo.csv").open(newline="", encoding="utf-8") as table:
        return {(row["name"], int(row["quality"])): row for row in csv.DictReader(table)}


# The address of each file by name, metric and quality.
URLS: dict[str, dict[str, dict[int, str]]] = {}
for (_name, _quality), _row in published().items():
    for _metric in filter(_row.get, LAMBDAS):
        URLS.setdefault(_name, {}).setdefault(_metric, {})[_quality] = f"{_ADDRESS}/{_row[_metric]}"
# The names, all of models that can be refined.
ZOO = tuple(URLS)
# Those of variable rate, one file for all λ; qualities are the λ that it was trained for.
VARIABLE = tuple(name for name in ZOO if name.endswith("-vbr"))


def zoo_folder() -> Path:
    """Where downloaded weights are kept."""
    return io.cache_folder() / "zoo"


def qualities(name: str, metric: str) -> list[int]:
    """Those of a zoo codec for a metric."""
    urls = URLS[name]
    if metric not in urls:
        raise UserError(f"the zoo has no {name} for {metric}: it has weights for {' and '.join(urls)}")
    return list(urls[metric])


def check_quality(name: str, quality: int, metric: str) -> None:
    """Refuse what the zoo does not have."""
    known = qualities(name, metric)
    if quality not in known:
        raise UserError(
            f"the zoo has no {name} of quality {quality} for {metric}: it has {known[0]} to {known[-1]}"
        )


def zoo_file(url: str) -> tuple[Path, str]:
    """Where a zoo codec's weights are kept, and the first digits of their SHA-256, from the file's name."""
    path = zoo_folder() / url.rsplit("/", 1)[1]
    return path, re.findall(r"-([0-9a-f]{8})\.", path.name)[0]


def sha256(name: str, quality: int, metric: str) -> str:
    """That of the weights' file; empty where it is not here, or not as it should be."""
    path, prefix = zoo_file(URLS[name][metric][quality])
    found = io.sha256_once(path) if path.is_file() else ""
    return found if found.startswith(prefix) else ""


def fetch(name: str, quality: int, metric: str = "mse", progress: bool = False) -> Path:
    """Download weights unless they are here; the hash in the file's name is checked either way.

    Raises:
        UserError: the zoo has no such model, or the cache folder cannot be written to.
        SystemFault: the download fails or its checksum does not match.
    """
    check_quality(name, quality, metric)
    url = URLS[name][metric][quality]
    path, prefix = zoo_file(url)
    if not sha256(name, quality, metric):
        io.check_folder(path.parent)
        remedy = f"run it again to go on, or put {url} into {path.parent}"
        download(url, path, prefix, remedy, progress)
    return path


def load(name: str, quality: int, metric: str, lmbda: float | None = None) -> Codec:
    """A codec of the zoo, downloaded where it is not here; one of variable rate also at another λ."""
    from compressai.registry import MODELS

    from . import checkpoints
    from .codec import Codec, freeze

    path = fetch(name, quality, metric)
    weights = checkpoints.read(path)
    model = checkpoints.untrained(MODELS[name], weights)
    checkpoints.load_parameters(model, weights)
    card = {"quality": quality, "metric": metric} if lmbda is None else {"metric": metric}
    lmbda = LAMBDAS[metric][quality - 1] if lmbda is None else lmbda
    return Codec(name, lmbda, freeze(model), identity(name, quality, metric, lmbda), card=card)


def identity(name: str, quality: int, metric: str, lmbda: float) -> str:
    """`Codec.sha256` at ``lmbda``; empty as `sha256`."""
    found = sha256(name, quality, metric)
    return at_rate(found, lmbda) if found and name in VARIABLE else found


def widths(name: str, quality: int) -> tuple[int, int]:
    """N and M."""
    row = published()[name, quality]
    return int(row["N"]), int(row["M"])


def size(name: str, quality: int, metric: str) -> int:
    """Bytes of the weights' file; where it is not here, of the parameters in float32."""
    path, _ = zoo_file(URLS[name][metric][quality])
    return path.stat().st_size if path.is_file() else 4 * int(published()[name, quality]["parameters"])


def is_file_of_zoo(sha256: str) -> bool:
    """Whether a file of this SHA-256 is one of the zoo's."""
    urls = (url for name in ZOO for metric in URLS[name].values() for url in metric.values())
    return any(sha256.startswith(zoo_file(url)[1]) for url in urls)
