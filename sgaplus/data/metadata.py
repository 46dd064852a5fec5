"""Metadata are not the picture: a photograph is read although they are damaged or long."""

import contextlib
from collections.abc import Iterator

from PIL import Image, PngImagePlugin

# Bytes of one text or profile of a PNG, and of all, beyond which it counts as an attack on the memory.
_LONGEST, _ALL = 2**27, 2**28
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


@contextlib.contextmanager
def long_ones_allowed() -> Iterator[None]:
    """Pillow refuses a PNG with more than a megabyte of text."""
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = _LONGEST, _ALL
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before
