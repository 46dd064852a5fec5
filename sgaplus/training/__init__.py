"""Base codecs: the recipe, its runs, and from a run to a published codec."""
