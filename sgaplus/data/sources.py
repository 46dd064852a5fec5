"""The named data sets: where they come from, where they live, and how their files are known.

A data set lives in ``<root>/<name>/``, where the root is the folder that the environment variable
SGAPLUS_DATA names, or else the user's cache folder.

Checksums are of two kinds. Those in ``registry/<name>.sha256`` come with the package. Files without one are
trusted when they are first fetched: their checksums are then written to ``<root>/<name>/SHA256SUMS``, which
guards against later damage but not against a wrong first download.
"""

import importlib.resources
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .. import io
from ..errors import UserError

REGISTRY = io.PACKAGE / "data" / "registry"
LOCK = "SHA256SUMS"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        about: a description in one line.
        images: how many images it has.
        pixels: height and width of most of them.
        home: the page to turn to when fetching fails.
        urls: of single files, with ``{file}`` for the name, if the checksum of each is published; or of a
            zip archive, several for the same one: the first that delivers is taken.
        digests: the archives' checksums as ``algorithm:hex``, or None where none is known.
        inside: the archive's folder that holds the images, or None for any.
    """

    about: str
    images: int
    pixels: tuple[int, int]
    home: str
    urls: tuple[str, ...]
    digests: tuple[str | None, ...] = (None,)
    inside: str | None = None


SOURCES = {
    "kodak": Source(
        about="Kodak Lossless True Color Image Suite, 768×512",
        images=24,
        pixels=(512, 768),
        home="https://r0k.us/graphics/kodak/",
        urls=("https://r0k.us/graphics/kodak/kodak/{file}",),
    ),
    "tecnick": Source(
        about="TESTIMAGES, RGB_OR_1200x1200 (Asuni and Giachetti), CC BY-NC-SA 3.0",
        images=100,
        pixels=(1200, 1200),
        home="https://testimages.org/",
        urls=("https://sourceforge.net/projects/testimages/files/OLD/OLD_SAMPLING/testimages.zip/download",),
        inside="RGB_OR_1200x1200",
    ),
    "clic2020": Source(
        about="CLIC 2020 professional validation, Unsplash licence",
        images=41,
        pixels=(1365, 2048),
        home="https://archive.compression.cc/",
        urls=(
            "https://data.vision.ee.ethz.ch/cvl/clic/professional_valid_2020.zip",
            "https://storage.googleapis.com/clic_datasets/clic2020_professional_valid.zip",
        ),
        digests=("md5:7111ee240435911db04dbc5f40d50272", None),
    ),
    "clic2025": Source(
        about="23 of the 32 photographs of the CLIC 2025 image validation set, Unsplash licence",
        images=23,
        pixels=(1365, 2048),
        home="https://clic2025.compression.cc/tasks",
        urls=("https://d152a8jkvz9wzs.cloudfront.net/data/clic2025_image_validation.zip",),
        digests=("sha256:735f8da90c860e872db6b9dc6fac88d42d0ba021a7a5898b89c062f0634b3149",),
    ),
}

# The colour photographs of everyday scenes among those that scikit-image's wheel contains.
SAMPLE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
NAMES = ("sample", *SOURCES)


def root() -> Path:
    """The folder of the data sets: SGAPLUS_DATA if it is set, else the user's cache folder."""
    given = os.environ.get("SGAPLUS_DATA")
    return io.user_path(given) if given else io.cache_folder()


def folder_of(name: str) -> Path:
    """The folder of a named data set, whether it exists or not."""
    if name == "sample":
        return Path(str(importlib.resources.files("skimage"))) / "data"
    if name not in SOURCES:
        raise UserError(f"there is no data set '{name}': the names are {', '.join(NAMES)}")
    return root() / name


def published(name: str) -> dict[str, str]:
    """SHA-256 by file name as it comes with the package; of some data sets not every file's is known."""
    return read_sums(REGISTRY / f"{name}.sha256")


def registered(name: str) -> dict[str, str]:
    """SHA-256 by file name: the published ones and those recorded at the first fetch."""
    return read_sums(folder_of(name) / LOCK) | published(name)


def present(name: str) -> list[Path]:
    """The data set's files that are here, in natural order; others in its folder do not count."""
    folder, known = folder_of(name), published(name)
    closed = len(known) == SOURCES[name].images
    paths = folder.glob("[!.]*.png") if folder.is_dir() else []
    return sorted((p for p in paths if p.name in known or not closed), key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorting key that puts ``a2`` before ``a10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts)


def read_sums(path: Path) -> dict[str, str]:
    """A file in the format of ``sha256sum``; no file is an empty one."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {file: digest for digest, file in (line.split(maxsplit=1) for line in lines)}
    except OSError as error:
        raise io.unreadable(path, error) from error
    except ValueError:
        raise UserError(f"{path} is no list of checksums: restore it, or rename it and fetch again") from None
