"""Data sets: what belongs to them, where it is, and how it is fetched and checked; reading and writing
images."""

from . import datasets, images

__all__ = ["datasets", "images"]
