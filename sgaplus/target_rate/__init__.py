"""A file of a wanted rate, quality or size, by choice of the codec and of λ."""

from .search import File, Result, encode_to, series

__all__ = ["File", "Result", "encode_to", "series"]
