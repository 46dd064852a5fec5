"""What one rate-distortion curve gains over another at the same rate, along the whole range that both cover.

Curves are of means over images; pchip interpolates PSNR over the logarithm of the rate, as for a
Bjøntegaard delta (`statistics.deltas`). A curve needs two points.
"""

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from sgaplus.errors import UserError

from . import statistics

# What tells the points of a curve apart: the codec, or the λ of the refinement.
POINT = ["codec_lmbda", "lmbda"]


def whole_images(*curves: pd.DataFrame) -> list[str]:
    """Names of the images that have all points of each curve, sorted."""
    wide = [rows.pivot_table(index="image", columns=POINT, values="bpp").dropna().index for rows in curves]
    return sorted(set.intersection(*map(set, wide)))


def gains(anchor: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """PSNR of one curve minus that of another at the same rate.

    Returns:
        The rates in bpp (60,), at equal distances on a logarithmic scale, and the gain in dB (60, 1 +
        resamples). A resample of costlier images has higher rates: its gains are those at the same places
        within the range that its own two curves share, NaN where there is none.
    """
    images = whole_images(anchor, test)
    if not images:
        raise UserError("no image has all points of both curves: run the study to its end")
    wide = [
        rows.pivot_table(index="image", columns=POINT, values=[name]).loc[images]
        for rows in (anchor, test)
        for name in ("bpp", "psnr")
    ]
    means = statistics.resampled_means(pd.concat(wide, axis=1))
    cuts = np.cumsum([block.shape[1] for block in wide])[:-1]
    rate, decibel, test_rate, test_decibel = np.split(means, cuts, axis=1)
    low = np.maximum(rate.min(1), test_rate.min(1))
    high = np.minimum(rate.max(1), test_rate.max(1))
    if low[0] >= high[0]:
        return np.empty(0), np.empty((0, len(means)))
    grids = np.geomspace(low, np.maximum(low, high), 60, axis=1)
    ours, theirs = (
        np.array([_at(*curve) for curve in zip(grids, *pair, strict=True)])
        for pair in ((test_rate, test_decibel), (rate, decibel))
    )
    ours[low >= high] = np.nan
    return grids[0], (ours - theirs).T


def _at(rates: np.ndarray, bpp: np.ndarray, decibel: np.ndarray) -> np.ndarray:
    """PSNR at other rates, all within the curve; NaN where two rates of the curve are equal."""
    order = np.argsort(bpp)
    bpp, decibel = bpp[order], decibel[order]
    if len(bpp) < 2 or (np.diff(bpp) <= 0).any():
        return np.full(len(rates), np.nan)
    return PchipInterpolator(np.log(bpp), decibel)(np.log(rates))


def band(anchor: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """`gains` as a table: bpp, gain with its interval (NaN of one image)."""
    rates, samples = gains(anchor, test)
    low, high = statistics.ends(samples.T)
    return pd.DataFrame({"bpp": rates, "gain": samples[:, 0], "gain_low": low, "gain_high": high})
