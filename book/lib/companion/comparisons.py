"""Means over images with intervals, paired differences between arms, and the spread over seeds.

Every interval is a 95 % percentile bootstrap over images (`metrics.bootstrap_interval`); where there are
several seeds, an image's value is the mean over them first, so that the interval is one over images alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sgaplus.errors import UserError
from sgaplus.metrics import bootstrap_interval


def over_seeds(rows: pd.DataFrame, columns: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Mean over the seeds of each image: one row per image and group, with ``by``, image and ``columns``."""
    return rows.groupby([*by, "image"], sort=False, dropna=False)[list(columns)].mean().reset_index()


def means(rows: pd.DataFrame, column: str, by: Sequence[str] = ("arm",)) -> pd.DataFrame:
    """Mean over images of one column.

    Returns:
        One row per group in the order of the rows: ``by``, images, mean, low, high.
    """
    table = over_seeds(rows, [column], by)
    return _summaries(table, column, by)


def paired(
    rows: pd.DataFrame, column: str, reference: str, by: Sequence[str] = (), relative: bool = True
) -> pd.DataFrame:
    """Differences of every other arm from a reference arm on the same image.

    Args:
        rows: as `configurations.with_arms` returns them, at one iteration.
        column: what is compared.
        reference: the arm that the others are compared with.
        by: further columns in which both sides agree, such as lmbda.
        relative: in percent of the reference, else in the column's unit.

    Returns:
        One row per arm, ``by`` and image: arm, ``by``, image, reference, value, change.

    Raises:
        UserError: there is no such arm, or it has no image in common with any other.
    """
    if reference not in set(rows["arm"]):
        raise UserError(f"no row is of {reference!r}: use one of {', '.join(rows['arm'].unique())}")
    table = over_seeds(rows, [column], ["arm", *by])
    index = [*by, "image"]
    anchor = table[table["arm"] == reference].set_index(index)[column].rename("reference")
    others = table[table["arm"] != reference].rename(columns={column: "value"})
    joined = others.join(anchor, on=index, how="inner")
    if joined.empty:
        raise UserError(f"no image was run both with {reference} and with another arm")
    change = joined["value"] - joined["reference"]
    joined["change"] = 100 * change / joined["reference"] if relative else change
    return joined[["arm", *index, "reference", "value", "change"]].reset_index(drop=True)


def paired_means(
    rows: pd.DataFrame, column: str, reference: str, by: Sequence[str] = (), relative: bool = True
) -> pd.DataFrame:
    """`paired`, its mean over images: one row per arm and ``by``: arm, ``by``, images, mean, low, high."""
    return _summaries(paired(rows, column, reference, by, relative), "change", ["arm", *by])


def resampled_means(table: np.ndarray, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Means over images of several quantities, each resample with the same images for all of them.

    Args:
        table: (images, ...).

    Returns:
        (1 + resamples, ...): the means themselves, then those of bootstrap resamples of the images, for
        intervals of what is no mean, such as a difference of ranges.
    """
    images = len(table)
    drawn = np.random.default_rng(seed).integers(0, images, (resamples, images))
    return np.concatenate([table.mean(0)[None], table[drawn].mean(1)])


def seed_spread(rows: pd.DataFrame, column: str, by: Sequence[str] = ("arm",)) -> pd.DataFrame:
    """Standard deviation over seeds of the mean over images: ``by``, seeds, spread (NaN for one seed)."""
    per_seed = rows.groupby([*by, "seed"], sort=False, dropna=False)[column].mean().reset_index()
    grouped = per_seed.groupby(list(by), sort=False, dropna=False)[column]
    return pd.DataFrame({"seeds": grouped.size(), "spread": grouped.std(ddof=1)}).reset_index()


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A statistic of the lines of `resampled_means` under ``name``, its 95 % interval under ``_low`` and ``_high``.

    Args:
        values: (1 + resamples,), that of all images first; infinite ones count as larger than all others.
    """
    low, high = np.quantile(values[1:], (0.025, 0.975), method="nearest")
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def _summaries(table: pd.DataFrame, column: str, by: Sequence[str]) -> pd.DataFrame:
    lines = []
    for names, group in table.groupby(list(by), sort=False, dropna=False):
        values = group[column].to_numpy(dtype=float)
        low, high = bootstrap_interval(values)
        line = dict(zip(by, names, strict=True))
        lines.append(
            {**line, "images": len(values), "mean": float(np.mean(values)), "low": low, "high": high}
        )
    return pd.DataFrame(lines, columns=[*by, "images", "mean", "low", "high"])


def interval(mean: float, low: float, high: float, decimals: int = 2, sign: bool = True) -> str:
    """A value with its interval in words, as in ``−7.03 [−7.60, −6.52]``.

    Without an interval (NaN, of one image) it is the value alone, and without a value a dash.
    """
    if np.isnan(mean):
        return "–"
    form = f"{'+' if sign else ''}.{decimals}f"
    value, lower, upper = (f"{number:{form}}".replace("-", "−") for number in (mean, low, high))
    return value if np.isnan(low) else f"{value} [{lower}, {upper}]"


def verdict(low: float, high: float) -> str:
    """What the interval of a change says: ``lower``, ``higher``, or ``not told apart`` where it contains zero."""
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not told apart"


def minus(text: str) -> str:
    """The text with the minus sign in place of the hyphen before its numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)
