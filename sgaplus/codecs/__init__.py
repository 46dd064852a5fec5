"""Pretrained codecs: CompressAI's models behind one adapter, and where their weights come from.

`register` adds a class of one's own.
"""

import warnings

with warnings.catch_warnings():
    # CompressAI's and torch_geometric's own imports use what torch has deprecated.
    warnings.simplefilter("ignore")
    import compressai as _compressai  # noqa: F401

from .families import register

__all__ = ["register"]
