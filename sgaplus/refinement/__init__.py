"""Refinement: the latents of given images, optimised with all networks frozen."""

import lazy_loader

# The number of the algorithm that refines: of the loss, the steps, the codecs' networks and likelihoods, the
# true loss. Stored rows name theirs, and only rows of one algorithm are compared. Raise it with every change
# that moves numbers beyond rounding; tests/test_fingerprint.py notices them.
ALGORITHM = 1
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
