"""Latents to the bytes of a file and back, the same on every machine."""

from .. import codecs as _codecs  # noqa: F401  (imports CompressAI without its warnings)
from .plain import compressai_weights
from .stream import (
    check,
    decode,
    encode,
    find_codec,
    info,
    read_latents,
    reconstruction,
    unpack,
)

__all__ = [
    "check",
    "compressai_weights",
    "decode",
    "encode",
    "find_codec",
    "info",
    "read_latents",
    "reconstruction",
    "unpack",
]
