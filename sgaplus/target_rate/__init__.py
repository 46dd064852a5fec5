"""A file of a wanted rate, quality or size, by choice of the codec and of λ."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
