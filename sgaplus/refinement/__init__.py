"""Refinement: the latents of given images, optimised with all networks frozen."""

from .batch import ALGORITHM
from .checkpoints import Checkpoints
from .run import Progress, Run, default_batch_size, lambda_of, refine

__all__ = ["ALGORITHM", "Checkpoints", "Progress", "Run", "default_batch_size", "lambda_of", "refine"]
