"""The last four of the ten questions: training against refining, parts of the gain, data sets, bytes and
seconds.

A table without rows is empty, and a figure of it is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import figures, palette, pool, reference, statistics
from ..configurations import BASE, label
from ..smoothness import with_gap
from ..tables import Col
from .families import overview

_SSL = label("ssl")
# A photograph of a telephone, for what a gain means in bytes.
_MEGAPIXELS = 12


# Question 7


TRAINING = {
    "change": Col("change of the true loss, %", 2, sign=True),
    "seconds": Col("seconds per image", 1),
    "hours": Col("hours of training", 2),
    "parameters": Col("parameters of the transforms, million", 2),
}


def _richest(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of that scope which has the most different values of ``what``; scopes are never mixed."""
    counts = rows.groupby("scope")[what].nunique()
    return rows[rows["scope"] == counts.idxmax()] if len(counts) else rows


def training(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What refinement changes at which cost, on Kodak at λ = 0.01, and what another bundled codec does
    instead.

    Returns:
        One row per option: option, images and `TRAINING`; empty without rows. Seconds are medians.
    """
    lines, family = [], ""
    for scope, group in pool.scopes(rows[rows["lmbda"] == pool.LMBDA], iteration):
        change = pool.differences(group, _SSL, BASE)
        if change is not None:
            own = group[group["arm"] == _SSL]
            family = own["codec"].iloc[0]
            mean, low, high = statistics.estimate(change.mean(axis=1))
            lines.append(
                {
                    "option": f"{iteration} iterations of {_SSL}, {scope}",
                    "images": len(change),
                    "change": mean,
                }
                | {"change_low": low, "change_high": high, "seconds": own["seconds"].median()}
            )
    if not lines:
        return pd.DataFrame(columns=["option", *TRAINING])
    codecs = overview()
    codecs = codecs[codecs["lmbda"] == pool.LMBDA].set_index("family")
    own_loss = codecs.loc[family, "loss"]
    for name, line in codecs.iterrows():
        lines.append(
            {"option": f"codec {name}, N = {line['N']:.0f}", "images": line["images"], "hours": line["hours"]}
            | {"change": 100 * (line["loss"] / own_loss - 1), "parameters": line["parameters"] / 1e6}
        )
    return pd.DataFrame(lines)


# Question 8


PARTS = {
    "loss": Col("true loss", 2, sign=True, best="min", under="change, % of the base's loss"),
    "rate": Col("of it rate", 2, sign=True, under="change, % of the base's loss"),
    "distortion": Col("of it distortion", 2, sign=True, under="change, % of the base's loss"),
    "gap": Col("method's loss − true loss, %", 2, sign=True),
}


def parts(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What the gain of each method is made of, on Kodak at λ = 0.01, in percent of the base's loss.

    Returns:
        One row per arm: arm, images and `PARTS`; means over the images that all arms have, with the intervals
        of loss and gap. Empty without rows.
    """
    names = [label(spec) for spec in ("ste", "uniform", *pool.GRID)]
    groups = [
        group
        for _, group in pool.scopes(
            rows[(rows["lmbda"] == pool.LMBDA) & rows["arm"].isin([BASE, *names])], iteration
        )
    ]
    chosen = _richest(with_gap(pd.concat(groups)), "arm") if groups else rows.iloc[:0]
    if BASE not in set(chosen["arm"]) or chosen["arm"].nunique() < 2:
        return pd.DataFrame(columns=["arm", "images", *PARTS])
    statistics.check_pairs(chosen, BASE)
    means = chosen.pivot_table(index="image", columns="arm", values=["loss", "bpp", "gap"], dropna=False)
    means = means[means["loss"].notna().all(axis=1)]
    start = means["loss"][BASE]
    lines = []
    for arm in palette.in_order(set(chosen["arm"]) - {BASE}):
        loss = 100 * (means["loss"][arm] / start - 1)
        rate = 100 * (means["bpp"][arm] - means["bpp"][BASE]) / start
        whole = pd.DataFrame(
            {"loss": loss, "rate": rate, "distortion": loss - rate, "gap": 100 * means["gap"][arm] / start}
        )
        samples = statistics.resampled_means(whole)
        line: dict[str, Any] = {"arm": arm, "images": len(means)}
        for position, name in enumerate(whole):
            line |= statistics.with_interval(name, samples[:, position])
        lines.append(line)
    return pd.DataFrame(lines)


# Question 9


DATA_SETS = {
    "images": "images",
    "bpp": Col("bpp, not refined", 3),
    "psnr": Col("PSNR, not refined, dB", 2),
    "bd_rate": Col("BD-rate of SGA, %", 1, sign=True),
}


def data_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """Rates and PSNR without refinement at λ = 0.01, and the published gains: what, `DATA_SETS`."""
    lines: list[dict[str, Any]] = []
    for dataset in ("kodak", "tecnick"):
        table = reference.published(dataset)
        base = table[(table["codec"] == "yang2020-base") & (table["quality_or_lambda"] == pool.LMBDA)].iloc[0]
        lines.append(
            {"what": f"{palette.dataset(dataset)}, published (base of Yang et al. 2020)", "bpp": base["bpp"]}
            | {"psnr": base["psnr_db"], "bd_rate": reference.sga_gain(table)}
        )
    own = pool.own(rows[(rows["arm"] == BASE) & (rows["lmbda"] == pool.LMBDA)])
    for (dataset, scope), group in own.groupby(["dataset", "scope"]):
        each = group.groupby("image")[["bpp", "psnr"]].mean()
        line = {"what": f"{palette.dataset(dataset)}, {scope}", "images": len(each)}
        samples = statistics.resampled_means(each)
        for position, name in enumerate(each):
            line |= statistics.with_interval(name, samples[:, position])
        lines.append(line)
    return pd.DataFrame(lines)


def by_image(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Gain over the base and rate without refinement of every image at λ = 0.01.

    Returns:
        dataset, scope, image, bpp (of the base), change (of the true loss by SSL, %); of one scope, that with
        the most images. Empty without rows.
    """
    lines = []
    for dataset in pool.DATASETS:
        for scope, group in pool.scopes(rows[rows["lmbda"] == pool.LMBDA], iteration, dataset):
            change = pool.differences(group, _SSL, BASE)
            if change is not None:
                base = group[group["arm"] == BASE].groupby("image")["bpp"].mean()
                lines += [
                    (dataset, scope, image, base[image], float(value))
                    for image, value in change.mean(axis=1).items()
                ]
    return _richest(pd.DataFrame(lines, columns=["dataset", "scope", "image", "bpp", "change"]), "image")


def gain_by_image(table: pd.DataFrame) -> Figure | None:
    """Gain over the base by the image's rate without refinement; ``table``: `by_image`."""
    if table.empty:
        return None

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for position, (name, group) in enumerate(rows.groupby("dataset")):
            look = {"color": palette.colour(position), "marker": palette.MARKERS[position % 4]}
            axes.plot(group["bpp"], group["change"], linestyle="", label=palette.dataset(name), **look)
        axes.axhline(0, color="0.4", linewidth=0.8)

    words = {"xlabel": "bits per pixel without refinement", "ylabel": "change of the true loss (%)"}
    return figures.panels({"": table}, draw, **words)


def describe_by_image(table: pd.DataFrame) -> str:
    """How the gain goes with the rate over images, as a rank correlation, and its mean in each data set."""
    if len(table) < 4:
        return ""
    rho, low, high = statistics.rank_correlation(table.set_index("image"), "bpp", "change")
    said = {
        "higher": "images that need more bits gain less",
        "lower": "images that need more bits gain more",
    }.get(statistics.verdict(low, high), "these images do not show whether the gain depends on the rate")
    means = "; ".join(
        f"{palette.dataset(name)}"
        f" {statistics.interval(*statistics.estimate(group.set_index('image')['change']))} % ({len(group)})"
        for name, group in table.groupby("dataset")
    )
    return (
        f"Over {len(table)} images ({table['scope'].iloc[0]}), the rank correlation of the change with the"
        f" rate is {statistics.interval(rho, low, high)}: {said}. The mean change by data set (images):"
        f" {means}."
    )


# Question 10


PRACTICE = {
    "kilobytes": Col("base", 1, under="kB per megapixel"),
    "refined": Col("refined", 1, under="kB per megapixel"),
    "psnr": Col("PSNR, 8 bit, dB", 2, sign=True, under="change of"),
    "ms_ssim": Col("MS-SSIM", 4, sign=True, under="change of"),
    "loss": Col("loss, %", 2, sign=True, under="change of"),
    "seconds": Col("per image", 1, under="seconds"),
    "per_percent": Col("per percent of loss", 1, under="seconds"),
}


def practice(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What refinement with SSL changes on Kodak, by λ, on the scope with the most λ (whole photographs
    first).

    Returns:
        scope, lmbda, images and `PRACTICE`: means, seconds are medians; empty without rows.
    """
    counts = {
        scope: group.loc[group["arm"] == _SSL, "lmbda"].nunique()
        for scope, group in pool.scopes(rows, iteration)
    }
    columns = ["scope", "lmbda", "images", *PRACTICE]
    if not any(counts.values()):
        return pd.DataFrame(columns=columns)
    scope = max(counts, key=lambda name: (counts[name], name == pool.WHOLE))
    chosen = dict(pool.scopes(rows[rows["arm"].isin([BASE, _SSL])], iteration))[scope]
    statistics.check_pairs(chosen, BASE, ["lmbda"])
    lines = []
    for lmbda, group in chosen.groupby("lmbda"):
        wide = group.pivot_table(
            index="image", columns="arm", values=["loss", "bpp", "psnr_8bit", "ms_ssim", "seconds"]
        )
        if not {BASE, _SSL} <= set(wide["loss"].columns):
            continue
        wide = wide[wide["loss"].notna().all(axis=1)]
        before, after = (wide.xs(name, axis=1, level="arm") for name in (BASE, _SSL))
        loss, seconds = (
            100 * float((after["loss"] / before["loss"] - 1).mean()),
            float(after["seconds"].median()),
        )
        change = (after - before).mean()
        # A bit per pixel is 125 kB per megapixel.
        lines.append(
            {"scope": scope, "lmbda": lmbda, "images": len(wide), "kilobytes": 125 * before["bpp"].mean()}
            | {
                "refined": 125 * after["bpp"].mean(),
                "psnr": change["psnr_8bit"],
                "ms_ssim": change["ms_ssim"],
            }
            | {"loss": loss, "seconds": seconds, "per_percent": -seconds / loss if loss < 0 else np.nan}
        )
    return pd.DataFrame(lines, columns=columns)


def describe_practice(table: pd.DataFrame) -> str:
    """What a change means for one photograph, from `practice`; empty without rows."""
    if table.empty:
        return ""
    row = table.loc[(table["lmbda"] - pool.LMBDA).abs().idxmin()]
    base, refined = (_MEGAPIXELS * row[name] for name in ("kilobytes", "refined"))
    return (
        f"At λ = {row['lmbda']:g} a photograph of {_MEGAPIXELS} megapixels takes {base:.0f} kB on average."
        f" Refined, it takes {abs(base - refined):.0f} kB {'less' if refined < base else 'more'}, and its"
        f" PSNR is {abs(row['psnr']):.2f} dB {'higher' if row['psnr'] > 0 else 'lower'}: at equal λ both"
        " move, and what the gain is worth in bytes alone is the BD-rate. MS-SSIM, which was not optimised,"
        f" {'rises' if row['ms_ssim'] > 0 else 'falls'} by {abs(row['ms_ssim']):.4f}. Each percent of loss"
        f" takes {row['per_percent']:.1f} s per image of Kodak."
    )
