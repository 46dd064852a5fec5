"""The tables of cumulated frequencies by which latents are coded, the same on every machine.

Made in float32, they have last digits that depend on the processor. The Gaussian ones and their 64 scales are
stored (``gaussian.npz``) as CompressAI 1.2.8 makes them on x86. Those of the factorised prior are made in
float64, and rounding to 16 bits then gives the same tables everywhere.
"""

import copy
import functools
from pathlib import Path

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr
from torch import Tensor

from .rans import Tables


@functools.cache
def gaussian() -> tuple[Tensor, Tables]:
    """The 64 scales, float64 (64,), and the table of each: N(0, σ²) * U(−½, ½) around 0 in 16 bits."""
    with np.load(Path(__file__).with_name("gaussian.npz"), allow_pickle=False) as stored:
        scales = torch.from_numpy(stored["scales"]).double()
        rows = np.split(stored["frequencies"].astype(int), np.cumsum(stored["sizes"] - 1)[:-1])
    cdfs = [[0, *np.cumsum(row).tolist()] for row in rows]
    # 2c + 1 symbols around 0, then the escape: the cdf has 2c + 3 entries.
    return scales, Tables(cdfs, [-(len(cdf) - 3) // 2 for cdf in cdfs])


def factorized(bottleneck: EntropyBottleneck | EntropyBottleneckVbr, step: float = 1.0) -> Tables:
    """The table of each channel of a factorised prior, whose latents lie on a grid of this step."""
    bottleneck = copy.deepcopy(bottleneck).cpu().double()
    if isinstance(bottleneck, EntropyBottleneckVbr):
        bottleneck.update_variable(force=True, qs=torch.tensor(step, dtype=torch.float64))
    else:
        bottleneck.update(force=True)
    rows = zip(bottleneck.quantized_cdf.tolist(), bottleneck.cdf_length.tolist(), strict=True)
    return Tables([row[:size] for row, size in rows], bottleneck.offset.tolist())
