"""The target of a file, and where to look for it next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from ..parsing import number

# How near is near enough: relative for rates and sizes, in dB for PSNR.
RATE_TOLERANCE, PSNR_TOLERANCE = 0.01, 0.05
# The longest step on log λ.
LONGEST_STEP = math.log(4)
# First guesses, of log bytes and of the PSNR in dB; a search replaces them by what it finds.
_RATE: dict[str, Any] = {"slope": 0.3, "gain": 0.08, "drift": 0.05, "unit": RATE_TOLERANCE}
_PSNR: dict[str, Any] = {"slope": 1.2, "gain": 0.9, "drift": 0.0, "unit": PSNR_TOLERANCE}
# How far the drift may be from its guess, and how much a value varies without a reason, in tolerances.
_DRIFT_SPREAD, _NOISE = 10.0, 1.0


@dataclass(frozen=True)
class Target:
    """The wanted rate, size or quality on the scale of the search: log bytes, or PSNR in dB.

    Attributes:
        text: in words.
        low, aim, high: a file between ``low`` and ``high`` is good; ``aim`` is between them.
        rate: whether it is about bytes; else it is about PSNR.
        slope: a guess of how the value of one codec's files grows with log λ.
        gain: a guess of how much refinement with the codec's own λ adds to the value.
        drift: a guess of how much the value of a first refinement is above that of a very long one.
        unit: the tolerance on the scale of the search.
        limit: whether a file above ``high`` is of no use.
    """

    text: str
    low: float
    aim: float
    high: float
    rate: bool
    slope: float
    gain: float
    drift: float
    unit: float
    limit: bool = False

    def value(self, size: float, psnr: float) -> float:
        """Where a file of ``size`` bytes and this PSNR in dB is on the scale."""
        return math.log(size) if self.rate else psnr


def target(
    pixels: int, *, bpp: float | None = None, psnr: float | None = None, max_bytes: float | None = None
) -> Target:
    """The target of a photograph of so many pixels; exactly one must be given.

    Args:
        bpp: real bytes · 8 / pixels, met within 1 %.
        psnr: of the 8-bit picture in dB, met within 0.05 dB.
        max_bytes: never exceeded, and used to at least 99 %.
    """
    if sum(value is not None for value in (bpp, psnr, max_bytes)) != 1:
        raise UserError("give exactly one target: bits per pixel, PSNR or maximum size in bytes")
    if psnr is not None:
        psnr = number(psnr, "the target PSNR")
        return Target(f"{psnr:g} dB", psnr - PSNR_TOLERANCE, psnr, psnr + PSNR_TOLERANCE, False, **_PSNR)
    if bpp is not None:
        bpp = number(bpp, "the target bpp")
        low, aim, high = (
            math.log(bpp * pixels / 8 * (1 + error)) for error in (-RATE_TOLERANCE, 0, RATE_TOLERANCE)
        )
        return Target(f"{bpp:g} bpp", low, aim, high, True, **_RATE)
    max_bytes = number(max_bytes, "the maximum size")
    low, aim, high = (math.log(max_bytes * (1 - part * RATE_TOLERANCE)) for part in (1, 0.5, 0))
    return Target(f"{max_bytes:.0f} bytes", low, aim, high, True, **_RATE, limit=True)


def next_log_lmbda(
    points: Sequence[tuple[float, float]], wanted: Target, bounds: tuple[float, float]
) -> float:
    """Where to look next on log λ, within ``bounds``.

    Each refinement continues the one before, so that the value at one λ drifts: an early file of a λ is
    larger than a later one, and two files on either side of the target do not bracket it. The model is
    therefore value = a + slope · log λ + drift / n for the n-th refinement, fitted by ridge regression around
    the latest point, with older points counting half as much each.

    Args:
        points: (log λ, value) of one codec in the order in which they were found, at least one.
        bounds: of log λ.
    """
    x, value = points[-1]
    n = len(points)
    guess = np.array([wanted.slope, wanted.drift])
    spread = np.array([wanted.slope, _DRIFT_SPREAD * wanted.unit])
    matrix, vector = np.diag(spread**-2.0), guess / spread**2
    for index, (other_x, other) in enumerate(points[:-1], 1):
        features = np.array([other_x - x, 1 / index - 1 / n])
        weight = 0.5 ** (n - 1 - index) / (_NOISE * wanted.unit) ** 2
        matrix = matrix + weight * np.outer(features, features)
        vector = vector + weight * features * (other - value)
    slope, drift = np.linalg.solve(matrix, vector)
    slope = min(max(slope, wanted.slope / 2), wanted.slope * 4)
    step = (wanted.aim - value + drift * (1 / n - 1 / (n + 1))) / slope
    step = min(max(step, -LONGEST_STEP), LONGEST_STEP)
    return float(min(max(x + step, bounds[0]), bounds[1]))
