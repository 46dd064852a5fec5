"""The book's statistics: means over images with intervals, paired differences, Bjøntegaard deltas.

Every interval is a 95 % percentile bootstrap over images (Efron and Tibshirani 1993, chapter 13). All
quantities of one table are resampled together. Images are in the order of their names, and the draws depend
on their number alone: neither the order of rows nor what stands beside a quantity changes a digit, and a
figure's interval is that of the table. Where an image has several seeds, their mean is its value.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import ConstantInputWarning, bootstrap, spearmanr

from sgaplus import metrics
from sgaplus.errors import UserError

# Efron and Tibshirani ask for at least as many for an interval of percentiles.
RESAMPLES = 1_000
# Both sides of a pair agree in these; a column that is compared on purpose is exempt.
SIDES = ("algorithm", "dtype", "codec_sha256")
# Rows that agree in these, up to the budget, are of one run.
_RUN = ("arm", "codec", "codec_lmbda", "lmbda", "image", "seed", "iteration")
_DELTAS = ("bd_rate", "bd_psnr")


# Intervals


def resampled_means(table: pd.DataFrame | pd.Series) -> np.ndarray:
    """Means over images of one or several quantities, each resample with the same images for all of them.

    Args:
        table: indexed by image; an image that stands there several times counts by its mean.

    Returns:
        (1 + resamples, quantities): the means themselves, then those of the resamples; one image has none of
        these.
    """
    values = pd.DataFrame(table).groupby(level=0).mean()
    means = values.mean(skipna=False).to_numpy(dtype=float)[None]
    if len(values) < 2:
        return means
    drawn = values.to_numpy(dtype=float)
    found = bootstrap((drawn,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=len(drawn))
    return np.concatenate([means, found.bootstrap_distribution.T])


def ends(samples: np.ndarray) -> np.ndarray:
    """Both ends, (2, ...), of the interval of a statistic of `resampled_means`, (1 + resamples, ...).

    Infinite values count as larger than all others. NaN where there is no resample, or none with a value.
    """
    drawn = np.asarray(samples, dtype=float)[1:]
    found = np.full((2, *drawn.shape[1:]), np.nan)
    known = ~np.isnan(drawn).all(axis=0)
    if known.any():
        found[:, known] = np.nanquantile(drawn[:, known], (0.025, 0.975), axis=0, method="nearest")
    return found


def with_interval(name: str, samples: np.ndarray) -> dict[str, float]:
    """A statistic (1 + resamples,) as ``name``, its interval as ``<name>_low`` and ``<name>_high``."""
    return {name: float(samples[0])} | dict(zip((f"{name}_low", f"{name}_high"), ends(samples), strict=True))


def estimate(values: pd.Series) -> tuple[float, float, float]:
    """Mean over images of a Series indexed by image, and both ends of its interval (NaN for one image)."""
    samples = resampled_means(values)[:, 0]
    return float(samples[0]), *map(float, ends(samples))


def ends_of(values: pd.Series) -> tuple[float, float]:
    """The interval of a mean as seaborn's ``errorbar`` takes it, of values in the order of their images."""
    _, low, high = estimate(pd.Series(np.asarray(values)))
    return low, high


def interval(
    value: float, low: float, high: float, decimals: int = 2, sign: bool = True, form: str = ""
) -> str:
    """A value with its interval in words, as in ``−7.03 [−7.60, −6.52]``.

    Without an interval (NaN, of one image) it is the value alone, and without a value a dash.

    Args:
        form: a format specification in place of ``decimals`` and ``sign``.
    """
    if np.isnan(value):
        return "–"
    form = form or f"{'+' if sign else ''}.{decimals}f"
    mean, lower, upper = (f"{number:{form}}".replace("-", "−") for number in (value, low, high))
    return mean if np.isnan(low) else f"{mean} [{lower}, {upper}]"


def verdict(low: float, high: float) -> str:
    """What the interval of a change says: ``lower``, ``higher``, or that it contains zero."""
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not significantly different"


def minus(text: str) -> str:
    """The text with the minus sign in place of the hyphen before its numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


# Rows


def at(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """The rows of every configuration at one iteration, in the order of the images, and those of codecs not
    refined.

    A run with a larger budget passes the same iteration: where a seed has several runs, that with the
    smallest budget counts, so that an image's value does not depend on which other studies went further.

    Args:
        rows: as `configurations.with_arms` returns them.
        iteration: read off, or a point of the curve; the last one that was read off where None.

    Raises:
        UserError: nothing was refined, or not as far.
    """
    refined = rows[rows["iterations"] > 0]
    known = sorted(refined.loc[refined["read_off"] & (refined["iteration"] > 0), "iteration"].unique())
    if not known:
        raise UserError("these rows hold no refinement: run the study to its end")
    refined = refined[refined["iteration"] == (known[-1] if iteration is None else iteration)]
    if refined.empty:
        raise UserError(f"no refinement has iteration {iteration}: use one of {', '.join(map(str, known))}")
    run = [name for name in _RUN if name in rows]
    refined = refined.sort_values("iterations", kind="stable").drop_duplicates(run)
    found = pd.concat([rows[rows["iterations"] == 0].drop_duplicates(run), refined])
    return found.sort_values([name for name in ("image", *run) if name in rows], ignore_index=True)


def over_seeds(rows: pd.DataFrame, columns: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Mean over each image's seeds: by group and image, in order, ``by``, image and ``columns``."""
    return rows.groupby([*by, "image"], dropna=False)[list(columns)].mean().reset_index()


def means(rows: pd.DataFrame, column: str, by: Sequence[str] = ("arm",), name: str = "") -> pd.DataFrame:
    """Mean over images of one column: one row per group, in order, with ``by``, images, mean, low, high.

    With a ``name`` the last three are ``<name>``, ``<name>_low`` and ``<name>_high``.
    """
    return _summaries(over_seeds(rows, [column], by), column, by, name)


def seed_spread(rows: pd.DataFrame, column: str, by: Sequence[str] = ("arm",)) -> pd.DataFrame:
    """Standard deviation over seeds of the mean over images: ``by``, seeds, spread (NaN for one seed)."""
    per_seed = rows.groupby([*by, "seed"], dropna=False)[column].mean().reset_index()
    grouped = per_seed.groupby(list(by), dropna=False)[column]
    return pd.DataFrame({"seeds": grouped.size(), "spread": grouped.std(ddof=1)}).reset_index()


def _summaries(table: pd.DataFrame, column: str, by: Sequence[str], name: str = "") -> pd.DataFrame:
    lines, columns = [], (name, f"{name}_low", f"{name}_high") if name else ("mean", "low", "high")
    for names, group in table.groupby(list(by), dropna=False):
        found = dict(zip(columns, estimate(group.set_index("image")[column]), strict=True))
        lines.append(dict(zip(by, names, strict=True)) | {"images": group["image"].nunique()} | found)
    return pd.DataFrame(lines, columns=[*by, "images", *columns])


def rank_correlation(table: pd.DataFrame, x: str, y: str) -> tuple[float, float, float]:
    """Spearman's rank correlation of two columns over images, the table's index, and its interval."""
    columns = [column.to_numpy(dtype=float) for _, column in table.groupby(level=0)[[x, y]].mean().items()]

    def rho(*sides: np.ndarray) -> float:
        return float(spearmanr(*sides).statistic)

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=ConstantInputWarning
        )  # a draw of few images may be one image
        found = bootstrap(
            columns, rho, n_resamples=RESAMPLES, paired=True, vectorized=False, method="percentile", rng=0
        )
    samples = np.concatenate([[rho(*columns)], found.bootstrap_distribution])
    return float(samples[0]), *map(float, ends(samples))


# Pairs


def check_pairs(
    rows: pd.DataFrame, reference: str | float, by: Sequence[str] = (), exempt: Sequence[str] = ()
) -> None:
    """Refuse rows whose sides do not belong together.

    Args:
        rows: with arm, image and ``by``; a row without the number of its algorithm is of algorithm 1.
        reference: the arm that the others are compared with.
        by: further columns in which both sides agree.
        exempt: those of `SIDES` that may differ, since they are what is compared.

    Raises:
        UserError: two rows of one image differ in one of `SIDES`.
    """
    columns = [name for name in SIDES if name in rows and name not in (*exempt, *by)]
    index, about = [*by, "image"], [name for name in ("study", "profile") if name in rows]
    kinds = rows[["arm", *index, *columns, *about]].drop_duplicates()
    if "algorithm" in columns:
        kinds = kinds.assign(algorithm=kinds["algorithm"].fillna(1).astype(int))
    pairs = kinds[kinds["arm"] != reference].merge(
        kinds[kinds["arm"] == reference], on=index, suffixes=("", "_reference")
    )
    for name in columns:
        mixed = pairs[pairs[name] != pairs[f"{name}_reference"]]
        if len(mixed):
            line = mixed.iloc[0]
            study, profile = (line.get(name, name.upper()) for name in ("study", "profile"))
            raise UserError(
                f"{line['arm']} and {reference} on {line['image']} are no pair: their rows differ in {name}"
                f" ({line[name]} and {line[f'{name}_reference']}), as do those of {mixed['image'].nunique()}"
                f" images in all; compute them again with `sgaplus study run {study} --profile {profile}`"
            )


def paired(
    rows: pd.DataFrame,
    column: str,
    reference: str | float,
    by: Sequence[str] = (),
    relative: bool = True,
    exempt: Sequence[str] = (),
) -> pd.DataFrame:
    """Differences of every other arm from a reference arm on the same image.

    Args:
        rows: as `configurations.with_arms` returns them, at one iteration.
        column: what is compared.
        reference, by, exempt: as for `check_pairs`.
        relative: in percent of the reference, else in the column's unit.

    Returns:
        One row per arm, ``by`` and image, in order: arm, ``by``, image, reference, value, change.

    Raises:
        UserError: there is no such arm, it has no image in common with any other, or two rows are no pair.
    """
    if reference not in set(rows["arm"]):
        raise UserError(f"no row is of {reference!r}: use one of {', '.join(map(str, rows['arm'].unique()))}")
    check_pairs(rows, reference, by, exempt)
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
    rows: pd.DataFrame,
    column: str,
    reference: str | float,
    by: Sequence[str] = (),
    relative: bool = True,
    exempt: Sequence[str] = (),
    name: str = "",
) -> pd.DataFrame:
    """`paired`, its mean over images: by arm and ``by``, in order, with columns as `means` has them."""
    return _summaries(paired(rows, column, reference, by, relative, exempt), "change", ["arm", *by], name)


def with_verdicts(table: pd.DataFrame, name: str = "change") -> pd.DataFrame:
    """The table with ``verdict``: what the interval of each row's ``name`` says."""
    ends = table[[f"{name}_low", f"{name}_high"]].to_numpy()
    return table.assign(verdict=[verdict(*pair) for pair in ends])


# Bjøntegaard deltas (VCEG-M33, 2001): pchip over PSNR (rate), or over the logarithm of the rate (PSNR)


_Curve = tuple[np.ndarray, np.ndarray]


def bd_rate(
    anchor: _Curve, test: _Curve, delta: Callable[[_Curve, _Curve], float] = metrics.bd_rate
) -> float:
    """`metrics.bd_rate` (percent) or `bd_psnr` (dB) of ``test``, each (bpp, PSNR); NaN where undefined."""
    with warnings.catch_warnings():
        # Curves at one set of λ overlap largely, not wholly, and published curves reach further than ours.
        warnings.filterwarnings("ignore", message="Insufficient curve overlap")
        try:
            return delta(anchor, test)
        except UserError:
            return float("nan")


def deltas(anchor: _Curve, test: _Curve) -> tuple[float, float]:
    """BD-rate in percent and BD-PSNR in dB of ``test`` against ``anchor``."""
    return bd_rate(anchor, test), bd_rate(anchor, test, metrics.bd_psnr)


def bd_per_image(rows: pd.DataFrame, anchor: str, arm: str, psnr: str = "psnr") -> pd.DataFrame:
    """BD-rate and BD-PSNR of one arm against another on every image that has both curves.

    Args:
        rows: as `configurations.with_arms` returns them, at one iteration; the points of a curve differ in
            lmbda.
        anchor, arm: names of arms.
        psnr: ``psnr`` (floats, the paper's) or ``psnr_8bit``.

    Returns:
        One row per image, in order: image, points (λ in common), bd_rate in percent and bd_psnr in dB; NaN
        where fewer than four λ are common or a curve is not monotone.

    Raises:
        UserError: two rows are no pair (`check_pairs`).
    """
    rows = rows[rows["arm"].isin([anchor, arm])]
    check_pairs(rows, anchor, ["lmbda"])
    lines = []
    for image, group in rows.groupby("image"):
        points = group.pivot_table(index="lmbda", columns="arm", values=["bpp", psnr]).dropna()
        curves = [
            (points["bpp", name].to_numpy(), points[psnr, name].to_numpy())
            for name in (anchor, arm)
            if name in points["bpp"]
        ]
        found = deltas(*curves) if len(curves) == 2 else (float("nan"),) * 2
        lines.append(
            {"image": image, "points": len(points) * (len(curves) == 2)}
            | dict(zip(_DELTAS, found, strict=True))
        )
    return pd.DataFrame(lines, columns=["image", "points", *_DELTAS])


def bd_summary(table: pd.DataFrame) -> dict[str, float]:
    """Of `bd_per_image`: images with a value; mean, low, high, least, most of bd_rate and bd_psnr."""
    whole = table.dropna(subset=["bd_rate"]).set_index("image")
    found: dict[str, float] = {"images": len(whole)}
    for name in _DELTAS:
        values = whole[name].astype(float)
        mean = estimate(values) if len(values) else (float("nan"),) * 3
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), mean, strict=True))
        found |= {f"{name}_least": values.min(), f"{name}_most": values.max()}
    return found


def bd_of_means(rows: pd.DataFrame, anchor: str, arm: str, psnr: str = "psnr") -> dict[str, float]:
    """BD-rate and BD-PSNR between the curves of means over images, which is how papers report them.

    Args:
        rows, anchor, arm, psnr: as for `bd_per_image`; only images with all λ of both arms count.

    Returns:
        images, points, and bd_rate (percent) and bd_psnr (dB), each with ``_low`` and ``_high``.

    Raises:
        UserError: an arm is not there, no image has all λ of both, or two rows are no pair.
    """
    for name in (anchor, arm):
        if name not in set(rows["arm"]):
            raise UserError(f"no row is of {name!r}: use one of {', '.join(rows['arm'].unique())}")
    chosen = rows[rows["arm"].isin([anchor, arm])]
    check_pairs(chosen, anchor, ["lmbda"])
    held = chosen.groupby("lmbda")["arm"].nunique()
    wide = chosen[chosen["lmbda"].isin(held.index[held == 2])].pivot_table(
        index="image", columns=["arm", "lmbda"], values=["bpp", psnr]
    )
    wide = wide.dropna()
    if wide.empty:
        raise UserError(f"no image has all points of both {anchor!r} and {arm!r}: run the study to its end")
    samples = pd.DataFrame(resampled_means(wide), columns=wide.columns)
    curves = [
        list(zip(samples["bpp", name].to_numpy(), samples[psnr, name].to_numpy(), strict=True))
        for name in (anchor, arm)
    ]
    found = np.array([deltas(*pair) for pair in zip(*curves, strict=True)])
    result: dict[str, float] = {"images": len(wide), "points": len(wide["bpp", arm].columns)}
    for position, name in enumerate(_DELTAS):
        result |= with_interval(name, found[:, position])
    return result
