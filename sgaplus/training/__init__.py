"""Base codecs: the recipe, its runs, and from a run to a published codec."""

from .. import codecs as _codecs  # noqa: F401  (imports CompressAI without its warnings)
