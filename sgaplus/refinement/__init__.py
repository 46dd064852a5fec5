"""Refinement: the latents of given images, optimised with all networks frozen."""

from .run import Progress, Run, refine

__all__ = ["Progress", "Run", "refine"]
