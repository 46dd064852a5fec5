"""Bjøntegaard deltas (VCEG-M33, 2001) between arms: image by image, and of the mean curves.

The interpolation is pchip over PSNR (rate) or over the logarithm of the rate (PSNR), as in `metrics`.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from sgaplus import metrics
from sgaplus.errors import UserError

_NAN = (float("nan"), float("nan"))


def per_image(rows: pd.DataFrame, anchor: str, arm: str, psnr: str = "psnr") -> pd.DataFrame:
    """BD-rate and BD-PSNR of one arm against another on every image that has both curves.

    Args:
        rows: as `configurations.with_arms` returns them, at one iteration; the points of a curve differ in lmbda.
        anchor, arm: names of arms.
        psnr: ``psnr`` (floats, the paper's) or ``psnr_8bit``.

    Returns:
        One row per image: image, points (λ in common), bd_rate in percent and bd_psnr in dB; NaN where fewer
        than four λ are common or a curve is not monotone.
    """
    lines = []
    for image, group in rows[rows["arm"].isin([anchor, arm])].groupby("image", sort=True):
        curves = [_points(group[group["arm"] == name], psnr) for name in (anchor, arm)]
        common = curves[0].index.intersection(curves[1].index)
        first, second = (curve.loc[common].to_numpy().T for curve in curves)
        rate, decibel = deltas(first, second)
        lines.append({"image": image, "points": len(common), "bd_rate": rate, "bd_psnr": decibel})
    return pd.DataFrame(lines, columns=["image", "points", "bd_rate", "bd_psnr"])


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Of `per_image`: images with a value, and for bd_rate and bd_psnr mean, median, low, high, least, most."""
    whole = table.dropna(subset=["bd_rate"])
    found: dict[str, float] = {"images": len(whole)}
    for name in ("bd_rate", "bd_psnr"):
        values = whole[name].to_numpy(dtype=float)
        if not len(values):
            found |= {
                f"{name}{end}": float("nan") for end in ("", "_median", "_low", "_high", "_least", "_most")
            }
            continue
        low, high = metrics.bootstrap_interval(values)
        found |= {name: float(values.mean()), f"{name}_median": float(np.median(values))}
        found |= {f"{name}_low": low, f"{name}_high": high}
        found |= {f"{name}_least": float(values.min()), f"{name}_most": float(values.max())}
    return found


def of_means(
    rows: pd.DataFrame, anchor: str, arm: str, psnr: str = "psnr", resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """BD-rate and BD-PSNR between the curves of means over images, which is how papers report them.

    Args:
        rows, anchor, arm, psnr: as for `per_image`; only images with all λ of both arms count.
        resamples: of the images, both arms' together, for the intervals.

    Returns:
        images, points, and bd_rate (percent) and bd_psnr (dB), each with ``_low`` and ``_high``.

    Raises:
        UserError: an arm is not there, or no image has all λ of both.
    """
    wide = {}
    for name in (anchor, arm):
        chosen = rows[rows["arm"] == name]
        if chosen.empty:
            raise UserError(f"no row is of {name!r}: use one of {', '.join(rows['arm'].unique())}")
        wide[name] = chosen.pivot_table(index="lmbda", columns="image", values=["bpp", psnr])
    lmbdas = wide[anchor].index.intersection(wide[arm].index)
    held = [
        set(table.loc[lmbdas, "bpp"].dropna(axis=1).columns)
        & set(table.loc[lmbdas, psnr].dropna(axis=1).columns)
        for table in wide.values()
    ]
    images = sorted(held[0] & held[1])
    if not images:
        raise UserError(f"no image has all points of both {anchor!r} and {arm!r}: run the study to its end")
    resamples = resamples if len(images) > 1 else 0
    drawn = np.random.default_rng(seed).integers(0, len(images), (resamples, len(images)))
    drawn = np.vstack([np.arange(len(images)), drawn])
    means = {
        name: [table.loc[lmbdas, column][images].to_numpy()[:, drawn].mean(2) for column in ("bpp", psnr)]
        for name, table in wide.items()
    }
    found = np.array(
        [
            deltas(*((bpp[:, i], decibel[:, i]) for bpp, decibel in (means[anchor], means[arm])))
            for i in range(len(drawn))
        ]
    )
    result: dict[str, float] = {"images": len(images), "points": len(lmbdas)}
    for position, name in enumerate(("bd_rate", "bd_psnr")):
        known = np.isfinite(found[1:, position]).any()
        low, high = np.nanpercentile(found[1:, position], (2.5, 97.5)) if known else _NAN
        result |= {name: float(found[0, position]), f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def deltas(anchor: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """BD-rate in percent and BD-PSNR in dB of ``test`` against ``anchor``, each (bpp, PSNR); NaN where none."""
    with warnings.catch_warnings():
        # Curves of one codec at one set of λ overlap largely, not wholly.
        warnings.filterwarnings("ignore", message="Insufficient curve overlap")
        try:
            return metrics.bd_rate(anchor, test), metrics.bd_psnr(anchor, test)
        except UserError:
            return _NAN


def _points(rows: pd.DataFrame, psnr: str) -> pd.DataFrame:
    return rows.groupby("lmbda")[["bpp", psnr]].mean().sort_index()
