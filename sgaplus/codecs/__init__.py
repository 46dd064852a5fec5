"""Pretrained codecs: CompressAI's models behind one adapter, and where their weights come from."""

import warnings

with warnings.catch_warnings():
    # CompressAI's and torch_geometric's own imports use what torch has deprecated.
    warnings.simplefilter("ignore")
    import compressai as _compressai  # noqa: F401
