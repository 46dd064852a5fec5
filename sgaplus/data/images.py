"""Photographs as tensors, and back.

A codec sees 8-bit sRGB. What a file holds beyond that (an alpha channel, CMYK, the camera's orientation) is
converted with a note, never silently; what cannot be converted without guessing is refused.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .. import io
from ..errors import UserError

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
_EXIF_ORIENTATION = 0x0112


class ImageNote(UserWarning):
    """Something harmless that a user should know about an image: a conversion, an incomplete data set."""


def note(message: str) -> None:
    """Issue an `ImageNote`."""
    warnings.warn(message, ImageNote, stacklevel=3)


def read_image(path: str | Path) -> Tensor:
    """Read a photograph as float32 (3, H, W) in [0, 1].

    Converted with an `ImageNote`: greyscale (repeated in all channels; 16-bit greyscale keeps its
    precision), palettes, transparency (composited on white), 16-bit colour (the upper 8 bits are kept),
    CMYK and other colour spaces (without their ICC profile), EXIF orientation (the image is turned
    upright), several frames (the first is taken).

    Raises:
        UserError: there is no such file, it is no image, is damaged or empty, has more pixels than
            Pillow's limit against decompression bombs, or has samples without a known white level.
    """
    path = Path(path)
    _check_file(path)
    with _pillow_errors(path), Image.open(path) as image:
        if 0 in image.size:
            raise UserError(f"{path} has no pixels ({image.width}×{image.height}): give another image")
        sixteen_bit = ";16" in str([tile[3] for tile in image.tile])
        # Pillow scales a PGM of any depth to 16 bits, but leaves integers from a TIFF as they are.
        deep_grey = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        frames = getattr(image, "n_frames", 1)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        image.load()
        upright = ImageOps.exif_transpose(image)
    notes = []
    if frames > 1:
        notes.append(f"only the first of its {frames} frames is read")
    if orientation not in (0, 1):
        notes.append("it is turned upright as its EXIF orientation says")
    if deep_grey:
        notes.append("16-bit greyscale is converted to RGB")
        pixels = np.repeat(np.asarray(upright, dtype=np.float32)[..., None] / 65535, 3, axis=2)
    elif upright.mode in ("I", "F"):
        raise UserError(f"{path} holds samples without a known white level: save it with 8 or 16 bits")
    else:
        pixels = _to_rgb(upright, sixteen_bit, notes)
    if notes:
        note(f"{path}: {'; '.join(notes)}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _check_file(path: Path) -> None:
    """Tell apart what Pillow would report as one and the same."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give an image file")
        if not path.exists():
            raise UserError(f"there is no file {path}")
        if not path.is_file():
            raise UserError(f"{path} is not a regular file: give an image file")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): give another image")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _pillow_errors(path: Path) -> Iterator[None]:
    """Every way in which Pillow can fail on a file, as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        megapixels = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(
            f"{path} has more than {megapixels:.0f} megapixels: crop it or scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not an image in a format that can be read (PNG, JPEG, TIFF, …)"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged data: SyntaxError, struct.error, …
        raise UserError(f"{path} is damaged or incomplete: get the file again ({error})") from error


def _to_rgb(image: Image.Image, sixteen_bit: bool, notes: list[str]) -> np.ndarray:
    """Float32 (H, W, 3) in [0, 1] of an 8-bit image; what was converted is appended to ``notes``."""
    mode = image.mode
    if sixteen_bit:
        notes.append("16-bit colour is read with 8 bits")
    if mode in _ALPHA_MODES or image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("transparency is laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        mode = {"LA": "L", "La": "L", "PA": "P"}.get(mode, mode)
    if mode not in ("RGB", "RGBA", "RGBa"):
        notes.append(f"{_MODE_NAMES.get(mode, mode)} is converted to RGB")
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def to_uint8(x: Tensor) -> Tensor:
    """``x`` in [0, 1] as uint8 of the same shape: round(255 · clamp(x, 0, 1)).

    Exact ties, which hardly occur, go to the even neighbour as in `torch.round`. Computed in float32 or
    wider, because bfloat16 cannot count to 255 in steps of a half.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return (wide.clamp(0, 1) * 255).round().to(torch.uint8)


def write_image(path: str | Path, x: Tensor) -> None:
    """Write ``x`` (3, H, W) as an 8-bit PNG, clamped to [0, 1] and rounded; whole or not at all.

    Raises:
        UserError: the file's name does not end in .png, ``x`` has another shape or is not finite, or the
            folder cannot be written to.
        SystemFault: the disk is full or fails.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"cannot write {path}: images are written as PNG, so use a name that ends in .png")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if x.dim() != 3 or x.shape[0] != 3 or x.numel() == 0:
        raise UserError(f"cannot write {path}: an image is (3, H, W), not {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise UserError(f"cannot write {path}: the image holds values that are not finite")
    pixels = to_uint8(x.detach()).permute(1, 2, 0).contiguous().cpu().numpy()
    with io.atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
