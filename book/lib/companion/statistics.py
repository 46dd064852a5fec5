"""The book's statistics: means over images with intervals, paired differences, Bjøntegaard deltas.

Every interval is a 95 % percentile bootstrap over images (Efron and Tibshirani 1993, chapter 13). All
quantities of one table are resampled together. Images are in the order of their names, and the draws depend
on their number alone: neither the order of rows nor what stands beside a quantity changes a digit, and a
figure's interval is that of the table. Where an image has several seeds, their mean is its value.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, norm, spearmanr, t

from sgaplus import metrics
from sgaplus.errors import UserError

# Efron and Tibshirani ask for at least as many for an interval of percentiles.
RESAMPLES = 1_000
# Both sides of a pair agree in these; a column that is compared on purpose is exempt.
SIDES = ("algorithm", "dtype", "codec_sha256")
# Rows that agree in these, up to the budget, are of one run.
_RUN = ("configuration", "codec", "codec_lmbda", "lmbda", "image", "seed", "iteration")
_DELTAS = ("bd_rate", "bd_psnr")
_EXTREMES = {"least": "min", "most": "max"}


def resampled_means(table: pd.DataFrame | pd.Series) -> np.ndarray:
    """Means over images of one or several quantities, each resample with the same images for all of them:
    (1 + resamples, quantities), first the means themselves; one image has no resamples.

    Args:
        table: indexed by image; an image that stands there several times counts by its mean.
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


def with_interval(name: str, samples: np.ndarray) -> dict[str, Any]:
    """A statistic (1 + resamples, ...) as ``name``, its interval as ``<name>_low`` and ``<name>_high``."""
    names = (name, f"{name}_low", f"{name}_high")
    return dict(zip(names, (samples[0], *ends(samples)), strict=True))


def intervals(values: pd.DataFrame) -> dict[str, float]:
    """`with_interval` of the mean over images of each column of a frame that is indexed by image."""
    samples = resampled_means(values)
    return {k: v for n, name in enumerate(values) for k, v in with_interval(name, samples[:, n]).items()}


def estimate(values: pd.Series) -> tuple[float, float, float]:
    """Mean over images of a Series indexed by image, and both ends of its interval (NaN for one image)."""
    samples = resampled_means(values)[:, 0]
    return float(samples[0]), *map(float, ends(samples))


def ends_of(values: pd.Series) -> tuple[float, float]:
    """The interval of a mean as seaborn's ``errorbar`` takes it, of values in the order of their images."""
    return estimate(pd.Series(np.asarray(values)))[1:]


def few(images: int) -> tuple[float, float]:
    """What the interval of a mean over so many images covers of 95 %, were its values normal, and how many
    times as wide Student's is: a bootstrap's variance is (n − 1)/n of the estimate, and knows no t."""
    half = float(norm.ppf(0.975)) * np.sqrt((images - 1) / images)
    return float(2 * t.cdf(half, images - 1) - 1), float(t.ppf(0.975, images - 1) / half)


def interval(
    value: float, low: float, high: float, decimals: int = 2, sign: bool = True, form: str = ""
) -> str:
    """A value with its interval, ``−7.03 [−7.60, −6.52]``, which does not break across lines; alone for one
    image, a dash for NaN. ``form`` takes the place of ``decimals`` and ``sign``."""
    if np.isnan(value):
        return "–"
    form = form or f"{'+' if sign else ''}.{decimals}f"
    mean, lower, upper = (f"{number:{form}}".replace("-", "−") for number in (value, low, high))
    return mean if np.isnan(low) else f"{mean} [{lower}, {upper}]".replace(" ", "\N{NO-BREAK SPACE}")


def said(row: Any, name: str, **form: Any) -> str:
    """`interval` of a column of a table's row."""
    return interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high")), **form)


def verdict(low: float, high: float) -> str:
    """What the interval of a change says: ``lower``, ``higher``, or that it contains zero."""
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not significantly different"


def minus(text: str) -> str:
    """The text with the minus sign in place of the hyphen before its numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def at(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """The rows of every configuration at one iteration (the last that was read off where None), and those of
    codecs not refined, by image.

    Where a seed has several runs that pass the iteration, the one with the smallest budget counts, so that
    an image's value does not depend on which other studies went further.
    """
    refined = rows[rows["iterations"] > 0]
    known = sorted(refined.loc[refined["read_off"] & (refined["iteration"] > 0), "iteration"].unique())
    if not known:
        raise UserError("these rows hold no refinement: run the study to its end")
    refined = refined[refined["iteration"] == (known[-1] if iteration is None else iteration)]
    if refined.empty:
        raise UserError(f"no refinement has iteration {iteration}: use one of {', '.join(map(str, known))}")
    found = once(pd.concat([rows[rows["iterations"] == 0], refined]))
    return found.sort_values([name for name in ("image", *_RUN) if name in rows], ignore_index=True)


def once(rows: pd.DataFrame) -> pd.DataFrame:
    """Every seed once at each iteration: of several runs that pass it the one with the smallest budget."""
    run = [name for name in _RUN if name in rows]
    return rows.sort_values("iterations", kind="stable").drop_duplicates(run)


def over_seeds(rows: pd.DataFrame, columns: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Mean over each image's seeds: by group and image, in order, ``by``, image and ``columns``."""
    return rows.groupby([*by, "image"], dropna=False)[list(columns)].mean().reset_index()


def means(rows: pd.DataFrame, column: str, by: Sequence[str] = ("configuration",)) -> pd.DataFrame:
    """Mean over images of one column, by group, in order: ``by``, images, the column with its interval."""
    table = over_seeds(rows, [column], by)
    table["group"] = table.groupby(list(by), dropna=False).ngroup()
    values = {group: part.set_index("image")[column] for group, part in table.groupby("group")}
    found = table.drop_duplicates("group").set_index("group")[list(by)]
    found["images"] = [len(values[group]) for group in found.index]
    names = [column, f"{column}_low", f"{column}_high"]
    found[names] = np.nan
    # Groups of the same images are resampled together, at once.
    images = pd.Series({group: "\n".join(one.index) for group, one in values.items()}, dtype=str)
    for groups in images.groupby(images).groups.values():
        samples = resampled_means(pd.DataFrame({group: values[group] for group in groups}))
        found.loc[groups, names] = np.stack([samples[0], *ends(samples)], axis=1)
    return found.sort_index().reset_index(drop=True)


def seed_spread(rows: pd.DataFrame, column: str, by: Sequence[str]) -> pd.DataFrame:
    """Standard deviation over seeds of the mean over images: ``by``, seeds, spread (NaN for one seed)."""
    per_seed = rows.groupby([*by, "seed"], dropna=False)[column].mean()
    return per_seed.groupby(list(by), dropna=False).agg(seeds="size", spread="std").reset_index()


def rank_correlation(x: pd.Series, y: pd.Series) -> tuple[float, float, float]:
    """Spearman's rank correlation of two quantities over images, and its interval."""
    how = {"n_resamples": RESAMPLES, "paired": True, "vectorized": False, "method": "percentile", "rng": 0}
    found = bootstrap((x, y), lambda *sides: spearmanr(*sides).statistic, **how)
    return spearmanr(x, y).statistic, *found.confidence_interval


def check_pairs(
    rows: pd.DataFrame, reference: str | float, by: Sequence[str] = (), exempt: Sequence[str] = ()
) -> None:
    """Refuse rows whose sides do not belong together: two of one image that differ in one of `SIDES`.

    Args:
        rows: one without the number of its algorithm is of algorithm 1.
        reference: the configuration that the others are compared with.
        by: further columns in which both sides agree.
        exempt: those of `SIDES` that may differ, since they are what is compared.
    """
    columns = [name for name in SIDES if name in rows and name not in (*exempt, *by)]
    index, about = [*by, "image"], [name for name in ("study", "profile") if name in rows]
    kinds = rows[["configuration", *index, *columns, *about]].drop_duplicates()
    if "algorithm" in columns:
        kinds = kinds.assign(algorithm=kinds["algorithm"].fillna(1).astype(int))
    own = kinds["configuration"] == reference
    pairs = kinds[~own].merge(kinds[own], on=index, suffixes=("", "_reference"))
    for name in columns:
        mixed = pairs[pairs[name] != pairs[f"{name}_reference"]]
        if len(mixed):
            line = mixed.iloc[0]
            study, profile = (line.get(name, name.upper()) for name in ("study", "profile"))
            raise UserError(
                f"{line['configuration']} and {reference} on {line['image']} are no pair: their rows differ"
                f" in {name} ({line[name]} and {line[f'{name}_reference']}), as do those of"
                f" {mixed['image'].nunique()} images in all; compute them again with"
                f" `sgaplus study run {study} --profile {profile}`"
            )


def paired(
    rows: pd.DataFrame, column: str, reference: str | float, by: Sequence[str] = (), relative=True, exempt=()
) -> pd.DataFrame:
    """Differences of every other configuration from a reference on the same image, in percent of it or in the
    column's unit: by configuration, ``by`` and image, in order, these, reference, value, change.

    Rows are at one iteration, or ``by`` has the iteration; other arguments are those of `check_pairs`.
    """
    known = rows["configuration"].unique()
    if reference not in known:
        raise UserError(f"no row is of {reference!r}: use one of {', '.join(map(str, known))}")
    check_pairs(rows, reference, by, exempt)
    table = over_seeds(rows, [column], ["configuration", *by]).rename(columns={column: "value"})
    index, own = [*by, "image"], table["configuration"] == reference
    joined = table[~own].join(table[own].set_index(index)["value"].rename("reference"), on=index, how="inner")
    if joined.empty:
        raise UserError(f"no image was run both with {reference} and with another configuration")
    change = joined["value"] - joined["reference"]
    joined["change"] = 100 * change / joined["reference"] if relative else change
    return joined[["configuration", *index, "reference", "value", "change"]].reset_index(drop=True)


def paired_means(rows: pd.DataFrame, column: str, reference: str | float, by=(), **how: Any) -> pd.DataFrame:
    """`paired` as means over images: configuration, ``by``, images, change with its interval, verdict."""
    return with_verdicts(means(paired(rows, column, reference, by, **how), "change", ["configuration", *by]))


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ``verdict``: what the interval of each row's change says."""
    return table.assign(verdict=[*map(verdict, table["change_low"], table["change_high"])])


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


def _both(rows: pd.DataFrame, anchor: str, name: str, psnr: str) -> pd.DataFrame:
    """bpp and PSNR of two configurations, by image, configuration and λ, of the λ that both have."""
    for side in (anchor, name):
        if side not in (known := rows["configuration"].unique()):
            raise UserError(f"no row is of {side!r}: use one of {', '.join(known)}")
    rows = rows[rows["configuration"].isin([anchor, name])]
    check_pairs(rows, anchor, ["lmbda"])
    wide = rows.pivot_table(index="image", columns=["configuration", "lmbda"], values=["bpp", psnr])
    shared = wide["bpp", anchor].columns.intersection(wide["bpp", name].columns)
    return wide.loc[:, wide.columns.get_level_values("lmbda").isin(shared)]


def bd_per_image(rows: pd.DataFrame, anchor: str, name: str, psnr: str = "psnr") -> pd.DataFrame:
    """BD-rate (percent) and BD-PSNR (dB) of one configuration against another at one iteration, image by
    image; NaN where fewer than four λ (points) are common or a curve is not monotone.

    Args:
        psnr: ``psnr`` (floats, the paper's) or ``psnr_8bit``.
    """
    lines = []
    for image, values in _both(rows, anchor, name, psnr).iterrows():
        sides = [values[x, side] for side in (anchor, name) for x in ("bpp", psnr)]
        points = pd.concat(sides, axis=1).dropna().to_numpy().T
        lines.append((image, points.shape[1], *deltas(points[:2], points[2:])))
    return pd.DataFrame(lines, columns=["image", "points", *_DELTAS])


def bd_summary(table: pd.DataFrame) -> dict[str, float]:
    """Of `bd_per_image`: images with a value; means with intervals, least and most of bd_rate and bd_psnr."""
    whole = table.dropna(subset=["bd_rate"]).set_index("image")[list(_DELTAS)].astype(float)
    extremes = {f"{name}_{end}": whole[name].agg(how) for name in whole for end, how in _EXTREMES.items()}
    return {"images": len(whole)} | intervals(whole) | extremes


def bd_of_means(rows: pd.DataFrame, anchor: str, name: str) -> dict[str, float]:
    """BD-rate (percent) and BD-PSNR (dB) between the curves of means over the images with all λ of both,
    which is how papers report them, with intervals."""
    wide = _both(rows, anchor, name, "psnr").dropna()
    if wide.empty:
        raise UserError(f"no image has all points of both {anchor!r} and {name!r}: run the study to its end")
    samples = pd.DataFrame(resampled_means(wide), columns=wide.columns)
    curves = [[*zip(samples["bpp", x].to_numpy(), samples["psnr", x].to_numpy())] for x in (anchor, name)]  # noqa: B905
    found = np.array([deltas(*pair) for pair in zip(*curves, strict=True)]).T
    ends = with_interval("bd_rate", found[0]) | with_interval("bd_psnr", found[1])
    return {"images": len(wide), "points": len(wide["bpp", name].columns)} | ends
