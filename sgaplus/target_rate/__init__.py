"""The dial: a file of a wanted rate, quality or size, by choice of the codec and of λ."""

from .search import Dialled, File, encode_to, family

__all__ = ["Dialled", "File", "encode_to", "family"]
