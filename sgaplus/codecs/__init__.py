"""Pretrained codecs: CompressAI's models behind one adapter, and where their weights come from.

`register` adds a class of one's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
