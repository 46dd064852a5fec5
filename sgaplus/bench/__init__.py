"""How fast the refinement is: against the plain loop, and against what the device could do."""

from .. import codecs as _codecs  # noqa: F401  (imports CompressAI without its warnings)
