"""Photographs as tensors, and back.

A codec sees 8-bit sRGB. What a file holds beyond that (an alpha channel, CMYK, the camera's orientation) is
converted with a note, never silently; what cannot be converted without guessing is refused. Pixels are sRGB:
an ICC profile is followed as a viewer follows it.
"""

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from .. import io
from ..errors import ImageNote, UserError
from . import colour

# What Pillow calls its modes, for the notes; "RGB" needs none.
_MODE_NAMES = {
    "1": "black and white",
    "L": "greyscale",
    "P": "a palette",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "CIE Lab",
    "HSV": "HSV",
}
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
# Bytes of one text or profile of a PNG, and of all, beyond which it counts as an attack on the memory.
_LONGEST, _ALL = 2**27, 2**28
# Python's filters of warnings and Pillow's limits are those of all threads.
_ALONE = threading.RLock()
_EXIF_ORIENTATION = 0x0112
# Orientations that differ from 1, and how such an image becomes upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Endings of photographs, whether Pillow reads them here (see `readable_suffixes`) or not.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".heic", ".heif", ".hif", ".jxl"),
    *(".dng", ".arw", ".cr2", ".cr3", ".nef", ".orf", ".raf", ".rw2"),
)


def note(message: str) -> None:
    """Issue an `ImageNote`."""
    warnings.warn(message, ImageNote, stacklevel=3)


def readable_suffixes() -> frozenset[str]:
    """Those of `SUFFIXES` that Pillow reads here, with the plugins that are registered."""
    Image.init()
    return frozenset(SUFFIXES) & {suffix for suffix, name in Image.EXTENSION.items() if name in Image.OPEN}


def read_image(path: str | Path, *, stretch: bool = False) -> Tensor:
    """Read a photograph as float32 (3, H, W) in [0, 1], sRGB.

    Converted with an `ImageNote`: greyscale (repeated in all channels; 16-bit greyscale keeps its
    precision), palettes, transparency (composited on white), 16-bit colour (the upper 8 bits are kept),
    CMYK and other colour spaces, ICC profiles and the gamma of a PNG (see `colour`), EXIF orientation (the
    image is turned upright), several frames (the first is taken).

    Args:
        stretch: take the smallest 2ⁿ − 1 that no sample of a 16-bit greyscale file exceeds for white, as
            for 12 bits in a file of 16. The note names the range in use.

    Raises:
        UserError: there is no such file, it is no image, is damaged or empty, has more pixels than
            Pillow's limit against decompression bombs, or has samples without a known white level.
        SystemFault: the disk fails, or too many files are open.
    """
    path = io.user_path(path, "an image to read")
    notes: list[str] = []
    with _pillow_errors(path):
        pixels = _decoded(path, notes, stretch)
    if notes:
        note(f"{path}: {'; '.join(notes)}")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels from the file's header, before it is turned upright.

    Raises:
        UserError, SystemFault: as `read_image`.
    """
    with _pillow_errors(path), Image.open(path) as image:
        return image.height, image.width


def text_of(path: Path, keyword: str) -> str | None:
    """What a picture says of itself under a keyword (`write_image`); None where it says nothing, or is none.

    Raises:
        UserError, SystemFault: the system does not let us read it.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            return picture.info.get(keyword)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:  # the system's, not Pillow's
            raise io.unreadable(path, error) from error
        return None


def _decoded(path: Path, notes: list[str], stretch: bool) -> np.ndarray:
    with Image.open(path) as image:
        if 0 in image.size:
            raise UserError(f"{path} has no pixels ({image.width}×{image.height}): give another image")
        raw = str([tile[3] for tile in image.tile])
        # A PPM says its largest value there.
        deep_colour = ";16" in raw or any(int(n) > 255 for n in re.findall(r"'RGB', (\d+)", raw))
        # Pillow scales a PGM of any depth to 16 bits, but leaves integers from a TIFF as they are.
        deep_grey = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        if (frames := getattr(image, "n_frames", 1)) > 1:
            notes.append(f"only the first of its {frames} frames is read")
        turned = _orientation(image) in _TURNS
        image.load()
        stated = colour.stated(image)
        turn = _TURNS.get(_orientation(image))  # Pillow has turned a TIFF by now
        upright = image.copy() if turn is None else image.transpose(turn)
    if turned:
        notes.append("it is turned upright as its EXIF orientation says")
    if deep_grey:
        samples = np.asarray(upright, dtype=np.float64)
        grey = _deep_grey(samples, 4095 if "I;12" in raw else 65535, stretch, notes)
        grey = colour.deep_grey_to_srgb(grey, stated, notes)
        if (transparent := samples == upright.info.get("transparency")).any():
            notes.append("transparency is laid on white")
            grey = np.where(transparent, 1.0, grey)
        return np.repeat(grey[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise UserError(f"{path} holds samples without a known white level: save it with 8 or 16 bits")
    if deep_colour:
        notes.append("16-bit colour is read with 8 bits")
    return np.asarray(_to_rgb(upright, stated, notes), dtype=np.float32) / 255


def _orientation(image: Image.Image) -> int:
    """As EXIF or XMP states it; 1 where they state none or are damaged: metadata are not the picture."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (MemoryError, OSError):
        raise
    except Exception:  # Pillow's parsers raise anything on damaged metadata
        return 1


@contextlib.contextmanager
def _long_texts_allowed() -> Iterator[None]:
    """Pillow refuses a PNG with more than a megabyte of text."""
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = _LONGEST, _ALL
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


def _deep_grey(samples: np.ndarray, white: int, stretch: bool, notes: list[str]) -> np.ndarray:
    """Samples of 16-bit greyscale in [0, 1], with the range that they use as a note."""
    low, high = int(samples.min()), int(samples.max())
    bits = max(high.bit_length(), 1)
    text = f"16-bit greyscale is converted to RGB (values {low} to {high}, white is "
    if stretch:
        white = 2**bits - 1
        text += f"{white}, as in {bits} bits)"
    elif 2**bits - 1 < white:
        text += f"{white}: read_image(path, stretch=True) takes {2**bits - 1} for white, as in {bits} bits)"
    else:
        text += f"{white})"
    notes.append(text)
    return samples / white


def _check_file(path: Path) -> None:
    """Tell apart what Pillow would report as one and the same."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: give an image file")
    if not path.exists():
        raise UserError(f"there is no file {path}")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file: give an image file")


@contextlib.contextmanager
def _pillow_errors(path: Path) -> Iterator[None]:
    """Every way in which Pillow can fail on a file, as one sentence; its own warnings stay silent."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(handler)  # without any, Python prints errors that are logged
    try:
        with _ALONE, warnings.catch_warnings(), _long_texts_allowed():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_file(path)
            yield
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        megapixels = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(f"{path} has more than {megapixels:.0f} megapixels: crop it or scale it") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is {_what(path)}") from error
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:  # the system's errors have a number, those of decoders have none
            raise io.unreadable(path, error) from error
        raise UserError(f"{path} is damaged or incomplete: get the file again ({error})") from error
    except Exception as error:  # decoders raise anything on damaged data: SyntaxError, struct.error, …
        raise UserError(f"{path} is damaged or incomplete: get the file again ({error})") from error
    finally:
        log.removeHandler(handler)


def _what(path: Path) -> str:
    """What a file is that Pillow cannot identify, with the remedy."""
    if known := io.what_it_is(path):
        return known
    if path.suffix.lower() in SUFFIXES and path.suffix.lower() not in readable_suffixes():
        return f"of a kind that cannot be read here ({path.suffix}): convert it to PNG or JPEG"
    return "not an image in a format that can be read (PNG, JPEG, TIFF, …)"


def _to_rgb(image: Image.Image, stated: colour.Statements, notes: list[str]) -> Image.Image:
    """An 8-bit image as sRGB on white, mode RGB; ``notes`` get what was converted."""
    mode, alpha = image.mode, None
    if mode in _ALPHA_MODES or image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        image = image.convert("L") if mode in ("L", "LA", "La") else with_alpha.convert("RGB")
        mode = {"LA": "L", "La": "L", "PA": "P", "RGBA": "RGB", "RGBa": "RGB"}.get(mode, mode)
    if mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if mode == "1" else "RGB")
    converted = colour.to_srgb(image, stated, notes)
    if alpha is not None and alpha.getextrema() != (255, 255):
        notes.append("transparency is laid on white")
        converted = Image.composite(converted, Image.new("RGB", converted.size, "white"), alpha)
    if mode != "RGB":
        notes.append(f"{_MODE_NAMES.get(mode, mode)} is converted to RGB")
    return converted


def as_samples(x: Tensor | np.ndarray, what: str = "the image") -> Tensor:
    """``x`` as floating-point samples in which 1 is white, converted by its type and never by its values.

    uint8 counts from 0 to 255 and is divided by 255; floating-point samples stay as they are, those of half
    precision as float32. The white level of any other type is unknown.

    Raises:
        UserError: ``x`` is no tensor and no array, or its samples are of another type.
    """
    if isinstance(x, np.ndarray):
        try:  # of the machine's byte order, and without negative strides
            x = torch.tensor(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")))
        except (TypeError, ValueError):
            raise UserError(f"{what} must hold numbers, not {x.dtype}") from None
    if not isinstance(x, Tensor):
        kind = type(x).__name__
        raise UserError(f"{what} must be a tensor (3, H, W), not {kind}: read files with sgaplus.read_image")
    x = x.to_dense()
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise UserError(
            f"{what} holds {kind}, of which the white level is unknown: "
            "give uint8 (0 to 255) or floating-point samples (0 to 1)"
        )
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def to_uint8(x: Tensor) -> Tensor:
    """``x`` in [0, 1] as uint8 of the same shape: round(255 · clamp(x, 0, 1)); uint8 stays as it is.

    Exact ties, which hardly occur, go to the even neighbour as in `torch.round`. Computed in float32 or
    wider, because bfloat16 cannot count to 255 in steps of a half.

    Raises:
        UserError: as `as_samples`.
    """
    return (as_samples(x).clamp(0, 1) * 255).round().to(torch.uint8)


def write_image(path: str | Path, x: Tensor, texts: Mapping[str, str] | None = None) -> None:
    """Write ``x`` (3, H, W) as an 8-bit PNG, clamped to [0, 1] and rounded; no partial file is ever left.

    Args:
        x: as `as_samples` takes it; a batch of one image will do.
        texts: written into the file's text chunks, by their keywords.

    Raises:
        UserError: the file's name does not end in .png, ``x`` has another shape or is not finite, or the
            folder cannot be written to.
        SystemFault: the disk is full or fails.
    """
    path = io.user_path(path, "an image to write")
    if path.suffix.lower() != ".png":
        raise UserError(f"cannot write {path}: images are written as PNG, so use a name that ends in .png")
    x = as_samples(x)
    if x.dim() == 4 and len(x) == 1:
        x = x[0]
    if x.dim() != 3 or x.shape[0] != 3 or x.numel() == 0:
        raise UserError(f"cannot write {path}: an image is (3, H, W), not {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise UserError(f"cannot write {path}: the image holds values that are not finite")
    pixels = to_uint8(x.detach()).permute(1, 2, 0).contiguous().cpu().numpy()
    chunks = PngImagePlugin.PngInfo()
    for keyword, text in (texts or {}).items():
        chunks.add_text(keyword, text)
    with io.atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=chunks)
