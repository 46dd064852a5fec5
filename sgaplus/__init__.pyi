from . import distortion, hardware, metrics, rounding, schedules
from .bitstream import decode, encode, info
from .codecs.codec import Codec
from .codecs.weights import load_codec
from .data import datasets
from .data.images import read_image, write_image
from .errors import SystemFault, UserError
from .plans import Plan, plan
from .refinement import Run, refine

__version__: str
__all__ = [
    "Codec",
    "Plan",
    "Run",
    "SystemFault",
    "UserError",
    "datasets",
    "decode",
    "distortion",
    "encode",
    "hardware",
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
