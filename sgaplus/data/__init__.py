"""Data sets, how they are fetched and checked; reading and writing images."""

from . import datasets, images

__all__ = ["datasets", "images"]
