from .plain import compressai_weights
from .stream import check, decode, encode, find_codec, info, read_latents, reconstruction, unpack

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
