"""Robustly overfitting latents for flexible neural image compression (SGA+), reproduced and carried on.

codec = sgaplus.load_codec("mshyper-s", lmbda=0.01)
image = sgaplus.read_image("photo.png")
run = sgaplus.refine(codec, [image], sgaplus.rounding.SSL(a=2.3), iterations=500)
run.rows
data = sgaplus.encode(codec, run.latents[0], image.shape[1:])  # the bytes of a file
sgaplus.decode(data)  # the photograph
"""

import warnings

with warnings.catch_warnings():
    # CompressAI's and torch_geometric's own imports use what torch has deprecated.
    warnings.simplefilter("ignore")
    import compressai as _compressai  # noqa: F401

from . import metrics, rounding, schedules
from .bitstream import decode, encode, info
from .codecs.codec import Codec
from .codecs.weights import load_codec
from .data import datasets
from .data.images import read_image, write_image
from .errors import SystemFault, UserError
from .plans import Plan, plan
from .refinement import Run, refine

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "Plan",
    "Run",
    "SystemFault",
    "UserError",
    "datasets",
    "decode",
    "encode",
    "info",
    "load_codec",
    "metrics",
    "plan",
    "read_image",
    "refine",
    "rounding",
    "schedules",
    "write_image",
]
