"""What a file is to reach, and where to look for it next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..parsing import number

# How near is near enough: relative for rates and sizes, in dB for PSNR.
RATE_TOLERANCE, PSNR_TOLERANCE = 0.01, 0.05
# One step on log λ where there is no bracket yet.
LONGEST_STEP = math.log(4)
# First guesses, which a search replaces by what it finds: by how much log bytes and the PSNR in dB grow with
# log λ for one codec, and by how much refinement raises them above those of the codec's own latents.
_RATE_SLOPE, _PSNR_SLOPE = 0.3, 1.2
_RATE_GAIN, _PSNR_GAIN = 0.08, 0.9


@dataclass(frozen=True)
class Target:
    """What a file is to reach, on the scale of the search: log bytes, or PSNR in dB.

    Attributes:
        text: in words.
        low, aim, high: a file between ``low`` and ``high`` is good; ``aim`` is between them.
        rate: whether it is about bytes; else it is about PSNR.
        limit: whether a file above ``high`` is of no use.
    """

    text: str
    low: float
    aim: float
    high: float
    rate: bool
    limit: bool = False

    def value(self, size: float, psnr: float) -> float:
        """Where a file of ``size`` bytes and this PSNR in dB is on the scale."""
        return math.log(size) if self.rate else psnr

    @property
    def slope(self) -> float:
        """A guess of how the value of one codec's files grows with log λ."""
        return _RATE_SLOPE if self.rate else _PSNR_SLOPE

    @property
    def gain(self) -> float:
        """A guess of how much refinement with the codec's own λ adds to the value."""
        return _RATE_GAIN if self.rate else _PSNR_GAIN


def target(
    pixels: int, *, bpp: float | None = None, psnr: float | None = None, max_bytes: float | None = None
) -> Target:
    """The target of a photograph of so many pixels; exactly one is given.

    Args:
        bpp: real bytes · 8 / pixels, met within 1 %.
        psnr: of the 8-bit picture in dB, met within 0.05 dB.
        max_bytes: never exceeded, and used to at least 99 %.

    Raises:
        UserError: none or several are given, or one is out of range.
    """
    if sum(value is not None for value in (bpp, psnr, max_bytes)) != 1:
        raise UserError("give exactly one target: bits per pixel, PSNR or the most bytes")
    if psnr is not None:
        psnr = number(psnr, "the target PSNR")
        return Target(f"{psnr:g} dB", psnr - PSNR_TOLERANCE, psnr, psnr + PSNR_TOLERANCE, rate=False)
    if bpp is not None:
        bpp = number(bpp, "the target bpp")
        low, aim, high = (
            math.log(bpp * pixels / 8 * (1 + error)) for error in (-RATE_TOLERANCE, 0, RATE_TOLERANCE)
        )
        return Target(f"{bpp:g} bpp", low, aim, high, rate=True)
    max_bytes = number(max_bytes, "the most bytes")
    low, aim, high = (math.log(max_bytes * (1 - part * RATE_TOLERANCE)) for part in (1, 0.5, 0))
    return Target(f"{max_bytes:.0f} bytes", low, aim, high, rate=True, limit=True)


def next_log_lmbda(
    points: Sequence[tuple[float, float]], aim: float, slope: float, bounds: tuple[float, float]
) -> float:
    """Where to look next on log λ: a secant, kept within a bracket (Dekker's method).

    Args:
        points: (log λ, value) of one codec in the order in which they were found, at least one. Values rise
            with λ but for some noise, and drift, since the steps of a refinement add to those before it.
        aim: the value that is looked for.
        slope: a guess of the value's growth with log λ; what is found counts up to four times more or less.
        bounds: of log λ.

    Returns:
        Within the bounds. Where the latest point has one on the other side of ``aim``, and both agree with a
        rising value: between it and the latest such one.
    """
    x, value = points[-1]
    if len(points) > 1 and points[-2][0] != x:
        found = (value - points[-2][1]) / (x - points[-2][0])
        slope = min(max(found, slope / 4), slope * 4)
    step = (aim - value) / slope
    for other_x, other in reversed(points[:-1]):
        if (other < aim) != (value < aim) and (other_x - x) * (other - value) > 0:
            share = step / (other_x - x)
            return x + (share if 0.05 < share < 0.95 else 0.5) * (other_x - x)
    step = min(max(step, -LONGEST_STEP), LONGEST_STEP)
    return min(max(x + step, bounds[0]), bounds[1])
