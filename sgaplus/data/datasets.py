"""The photographs of the studies: named data sets, folders and files, each identified by its SHA-256.

Reading never touches the network; `fetch` does, and only when it is called.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from .. import io
from ..errors import UserError
from ..parsing import whole
from .downloads import fetch
from .images import SUFFIXES, note, read_image, readable_suffixes, stored_size
from .sources import NAMES, SAMPLE, SOURCES, folder_of, natural_key, present, registered, root

__all__ = ["NAMES", "ImageFile", "fetch", "folder_of", "list_images", "root", "status"]


@dataclass(frozen=True)
class ImageFile:
    """A photograph on disk, or the square in its centre.

    Attributes:
        name: the file's name without its suffix, such as ``kodim01``; a square is called ``kodim01@256``.
        path: where it is.
        expected: the file's registered SHA-256; None if none is known.
        crop: side of the square in pixels; None for the whole photograph.
    """

    name: str
    path: Path
    expected: str | None = None
    crop: int | None = None

    def centre(self, side: int) -> ImageFile:
        """The square of ``side`` × ``side`` pixels in the photograph's centre, under a name of its own.

        Raises:
            UserError: the side is not positive, or this is such a square already.
        """
        side = whole(side, "the side of a crop in pixels", 1)
        if self.crop is not None:
            raise UserError(f"{self.name} is a crop already: crop the photograph itself")
        return replace(self, name=f"{self.name}@{side}", crop=side)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file; for a square, that of the file's hash and the side together.

        The file is read once per process while it does not change.

        Raises:
            UserError: the file cannot be read or is not the registered one.
        """
        try:
            found = io.sha256_once(self.path)
        except OSError as error:
            raise io.unreadable(self.path, error) from error
        if self.expected not in (None, found):
            folder = self.path.parent
            raise UserError(
                f"{self.path} is not the registered image (expected SHA-256 {self.expected}, found {found}):"
                f" fetch the data set again (`sgaplus data fetch {folder.name}`, which keeps this file under"
                " another name), or name the folder itself to use your own files as they are"
                f" ({folder.absolute()})"
            )
        return _of_square(found, self.crop)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels; for a whole photograph as the file's header states them.

        Raises:
            UserError: the file is no image.
        """
        return stored_size(self.path) if self.crop is None else (self.crop, self.crop)

    def read(self) -> Tensor:
        """The photograph as float32 (3, H, W) in [0, 1], its checksum verified where one is known.

        Raises:
            UserError: as `sha256` and `images.read_image`, or the photograph is smaller than the square.
        """
        if self.expected:
            _ = self.sha256
        image = read_image(self.path)
        if self.crop is None:
            return image
        height, width = image.shape[-2:]
        if self.crop > min(height, width):
            raise UserError(
                f"{self.path} has {width}×{height} pixels, too few for a crop of {self.crop}×{self.crop}: "
                "choose a smaller crop or leave the image out"
            )
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return image[:, top : top + self.crop, left : left + self.crop].contiguous()


@dataclass(frozen=True)
class AbsentImage(ImageFile):
    """An image of a named data set that is not on this computer, as far as a plan needs it.

    Attributes:
        pixels: height and width, as most images of the data set have them.
    """

    pixels: tuple[int, int] = (0, 0)

    @property
    def sha256(self) -> str:
        """That of the image where it is known; else one that no image has."""
        return _of_square(self.expected or f"{self.path} is not here", self.crop)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        return self.pixels if self.crop is None else (self.crop, self.crop)


def _of_square(sha256: str, side: int | None) -> str:
    """What identifies the square in the centre of the image of this SHA-256; of all of it where None."""
    if side is None:
        return sha256
    return hashlib.sha256(f"{sha256} centre {side}x{side}".encode()).hexdigest()


def list_planned(name: str, images: Sequence[str] | None = None, crop: int | None = None) -> list[ImageFile]:
    """As `list_images` of a named data set, those that are not on this computer as `AbsentImage`."""
    if name == "sample":
        return list_images(name, images=images, crop=crop)
    source, folder, expected = SOURCES[name], folder_of(name), registered(name)
    here = {path.name for path in present(name)}
    known = sorted({*here, *expected}, key=natural_key)
    unknown = [f"{name}-{number}.png" for number in range(len(known) + 1, source.images + 1)]
    names = [f"{Path(image).stem}.png" for image in images] if images else [*known, *unknown]
    strange = set(names) - set(known)
    if images and strange and not unknown:
        raise UserError(
            f"there is no image '{Path(min(strange)).stem}' in {name}: the names are {Path(known[0]).stem} to"
            f" {Path(known[-1]).stem}"
        )
    found: list[ImageFile] = []
    for file in names:
        image = Path(file).stem, folder / file, expected.get(file)
        found.append(ImageFile(*image) if file in here else AbsentImage(*image, pixels=source.pixels))
    return [image if crop is None else image.centre(crop) for image in found]


def absent(name: str) -> int:
    """How many images of a named data set are not on this computer."""
    folder_of(name)
    return 0 if name == "sample" else SOURCES[name].images - len(present(name))


def megabytes(name: str) -> float:
    """About how many are to be downloaded of a data set, where PNG has some 1.5 bytes per pixel."""
    height, width = (0, 0) if name == "sample" else SOURCES[name].pixels
    return 1.5 * absent(name) * height * width / 1e6


def list_images(
    source: str | Path | Sequence[str | Path],
    images: Sequence[str] | None = None,
    limit: int | None = None,
    crop: int | None = None,
) -> list[ImageFile]:
    """The photographs of a data set, a folder, a file, or a list of any of these.

    Those of one name or folder come in natural order (``kodim2`` before ``kodim10``), those of a list in the
    list's order. A named data set that is incomplete on this computer is listed with an `ImageNote`.

    Args:
        source: a name in `NAMES` (a folder of the same name is written ``./kodak``) or a path.
        images: only these, by name or file name, in this order.
        limit: at most this many images, the first ones.
        crop: take only the square in each image's centre, this many pixels a side (`ImageFile.centre`).

    Raises:
        UserError: there is no such data set, folder, file or image, two images have the same name, or the
            side of the crop is not positive.
    """
    limit = limit if limit is None else whole(limit, "the limit of images", 1)
    crop = crop if crop is None else whole(crop, "the side of a crop in pixels", 1)
    found = _found(source, complain=images is None)
    by_name: dict[str, ImageFile] = {}
    for image in found:
        twin = by_name.setdefault(image.name, image)
        if twin is not image:
            raise UserError(f"two images are called '{image.name}' ({twin.path}, {image.path}): rename one")
    if images is not None:
        images = [images] if isinstance(images, str) else list(dict.fromkeys(images))
        if not images:
            raise UserError("no image is chosen: name at least one, or leave the choice out")
        by_name |= {image.path.name: image for image in found}
        missing = [name for name in images if name not in by_name]
        if missing:
            hint = f": the names are {found[0].name} to {found[-1].name}" if found else ""
            raise UserError(f"there is no image '{missing[0]}' in {source}{hint}")
        found = [by_name[name] for name in images]
    return [image if crop is None else image.centre(crop) for image in found[:limit]]


def photographs_in(paths: Iterable[Path], folder: Path, complain: bool = True) -> list[Path]:
    """Those among the ``paths`` in a ``folder`` that are photographs by their endings, in their order.

    Hidden files and folders do not count. Photographs of a kind that cannot be read here are left out, with
    an `ImageNote` where ``complain``.

    Raises:
        UserError: there is none, or the folder cannot be read.
    """
    try:
        found = [
            path
            for path in paths
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in SUFFIXES and not path.is_dir()
        ]
    except OSError as error:
        raise io.unreadable(folder, error) from error
    kinds = readable_suffixes()
    strange = sorted(p.name for p in found if p.suffix.lower() not in kinds)
    left_out = (
        f"{len(strange)} of {len(found)} photographs in {folder} are of kinds that cannot be read here "
        f"({', '.join(strange[:3])}{', …' * (len(strange) > 3)}): convert them to PNG or JPEG"
    )
    if len(strange) == len(found):
        reason = left_out if strange else f"files with these endings count: {' '.join(sorted(kinds))}"
        raise UserError(f"there is no image in {folder}: {reason}")
    if strange and complain:
        note(left_out)
    return [p for p in found if p.suffix.lower() in kinds]


def status() -> pd.DataFrame:
    """How much of each named data set is on this computer; no image is read.

    Returns:
        name, ``have`` of ``of`` images in folder, about (a description in one line).
    """
    rows = [("sample", len(_sample()), len(SAMPLE), folder_of("sample"), "photographs of scikit-image")]
    for name, source in SOURCES.items():
        rows.append((name, len(present(name)), source.images, folder_of(name), source.about))
    return pd.DataFrame(rows, columns=["name", "have", "of", "folder", "about"])


def _found(source: str | Path | Sequence[str | Path], complain: bool) -> list[ImageFile]:
    if not isinstance(source, str | Path):
        if not isinstance(source, Iterable):
            raise UserError(f"images are named by data sets, folders and files, not {type(source).__name__}")
        source = list(source)
        if not source:
            raise UserError("the list of images is empty: name a data set, a folder or files")
        return [image for item in source for image in _found(item, complain)]
    if isinstance(source, str) and source in NAMES:
        return _sample() if source == "sample" else _named(source, complain)
    path = io.user_path(source)
    if path.is_dir():
        paths = photographs_in(path.iterdir(), path, complain)
        return [ImageFile(p.stem, p) for p in sorted(paths, key=lambda p: natural_key(p.name))]
    if not path.exists():
        close = difflib.get_close_matches(str(source), NAMES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"data sets are {', '.join(NAMES)}"
        raise UserError(f"'{source}' is neither a data set nor an existing file or folder: {hint}")
    return [ImageFile(path.stem, path)]


def _named(name: str, complain: bool) -> list[ImageFile]:
    folder, paths, of = folder_of(name), present(name), SOURCES[name].images
    if not paths:
        raise UserError(
            f"the {name} images are not in {folder}: run `sgaplus data fetch {name}`, or set SGAPLUS_DATA to "
            f"the folder that holds {name}/"
        )
    if len(paths) < of and complain:
        note(f"{name} is incomplete: {len(paths)} of its {of} images are in {folder}")
    expected = registered(name)
    return [ImageFile(path.stem, path, expected.get(path.name)) for path in paths]


def _sample() -> list[ImageFile]:
    folder = folder_of("sample")
    return [ImageFile(Path(file).stem, folder / file) for file in SAMPLE if (folder / file).is_file()]
