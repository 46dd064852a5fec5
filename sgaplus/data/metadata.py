"""Metadata are not the picture: a photograph is read although they are damaged or too long."""

from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..errors import UserError

T = TypeVar("T")

_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")

_EXIF_ORIENTATION = 0x0112
# Orientations that differ from 1, and how such an image becomes upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """As EXIF or XMP states it; 1 where they state none or are damaged: metadata are not the picture."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (MemoryError, OSError):
        raise
    except Exception:  # Pillow's parsers raise anything on damaged metadata
        return 1


def read_without_long(path: Path, read: Callable[[Path | BytesIO], T], notes: list[str]) -> T:
    """What ``read`` makes of a file; Pillow refuses a PNG with long metadata, which are not the picture."""
    for left_out in ((), _PNG_TEXT):
        notes.clear()
        try:
            return read(_without_chunks(path, left_out) if left_out else path)
        except UserError:
            raise
        except ValueError as error:
            if "text" not in str(error).lower():
                raise
    notes[:] = ["its ICC profile is too long and is ignored"]
    return read(_without_chunks(path, (*_PNG_TEXT, b"iCCP")))


def _without_chunks(path: Path, names: Collection[bytes]) -> BytesIO:
    """A PNG file's content without the chunks of these names."""
    content = path.read_bytes()
    kept, start = [content[:8]], 8
    while start + 8 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4])
        if content[start + 4 : start + 8] not in names:
            kept.append(content[start:end])
        start = end
    return BytesIO(b"".join(kept))
