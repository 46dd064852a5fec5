from .checkpoints import Checkpoints
from .run import Progress, Run, batches, default_batch_size, lambda_of, refine

ALGORITHM: int
__all__ = [
    "ALGORITHM",
    "Checkpoints",
    "Progress",
    "Run",
    "batches",
    "default_batch_size",
    "lambda_of",
    "refine",
]
