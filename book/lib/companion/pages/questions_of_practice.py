"""What the last four of the ten questions rest on: training against refining, gaps, data sets, bytes and seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from great_tables import GT

from .. import palette, pool, reference, statistics, verdict_rules
from ..configurations import BASE, label
from ..smoothness import with_gap
from .families import overview
from .question_figures import mean_with_interval
from .questions import compared, lacking

# The λ of the paper's ablations.
_LMBDA = 0.01
_SSL = label("ssl")
# A photograph of a telephone, for what a gain means in bytes.
_MEGAPIXELS = 12


def _at(rows: pd.DataFrame, iteration: int, dataset: str = "kodak") -> pd.DataFrame:
    return pool.at(pool.own(rows[rows["dataset"] == dataset]), iteration)


def _richest(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of that scope which has the most different values of ``what``; scopes are never mixed."""
    counts = rows.groupby("scope", sort=False)[what].nunique()
    return rows[rows["scope"] == counts.idxmax()] if len(counts) else rows


# Question 7


def describe_training(rows: pd.DataFrame, iteration: int, profile: str) -> str:
    """Hours of training beside seconds of refinement, and a wider codec beside a refined one."""
    gain = compared(rows, "ssl", BASE, iteration)
    refined = _at(rows, iteration)
    refined = refined[(refined["arm"] == _SSL) & (refined["iterations"] == iteration)]
    if not gain or refined.empty:
        return lacking("rd", profile)
    codecs = overview().set_index(["family", "lmbda"])
    family = refined["codec"].iloc[0]
    hours = float(codecs.loc[(family, _LMBDA), "hours"])
    lines = [
        f"- {iteration} iterations with {_SSL} change the true loss by {gain}, and the decoder not at all."
    ]
    for scope, group in refined.groupby("scope", sort=False):
        seconds = float(group["seconds"].median())
        lines.append(
            f"- They take {seconds:.1f} s for each of the {scope} (median; {', '.join(group['device'].unique())}), for "
            f"every image anew. Training `{family}` for λ = {_LMBDA:g} took {hours:.2f} h once, which is the time of "
            f"refining {3600 * hours / seconds:,.0f} such images."
        )
    others = [name for name, lmbda in codecs.index if lmbda == _LMBDA and name != family]
    for name in others:
        own, other = codecs.loc[(family, _LMBDA)], codecs.loc[(name, _LMBDA)]
        change = 100 * (other["loss"] / own["loss"] - 1)
        lines.append(
            f"- Another codec instead: `{name}` (N = {other['N']:.0f}; {other['hours']:.2f} h of training) against "
            f"`{family}` (N = {own['N']:.0f}; {hours:.2f} h) changes the loss on Kodak, not refined, by {change:+.2f} %, and "
            f"its transforms hold {other['parameters'] / own['parameters']:.1f} times the parameters, in the decoder too."
        )
    return "\n".join(lines).replace("by -", "by −")


# Question 8


def parts(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What the gain of each method is made of, on Kodak at λ = 0.01, in percent of the base's loss.

    Returns:
        One row per arm: arm, images, loss (its change, the sum of the next two), rate, distortion, gap (the
        method's loss − the true loss); means over the images that all arms have. Empty without rows.
    """
    names = [label(spec) for spec in ("ste", "uniform", "atanh", "linear", "cosine", "ssl")]
    chosen = _at(rows[rows["lmbda"] == _LMBDA], iteration)
    chosen = _richest(with_gap(chosen[chosen["arm"].isin([BASE, *names])]), "arm")
    if BASE not in set(chosen["arm"]) or chosen["arm"].nunique() < 2:
        return pd.DataFrame(columns=["arm", "images", "loss", "rate", "distortion", "gap"])
    columns = ["loss", "bpp", "gap"]
    means = statistics.over_seeds(chosen, columns, ["arm"]).pivot_table(
        index="image", columns="arm", values=columns, dropna=False
    )
    arms = [name for name in palette.in_order(names) if name in set(chosen["arm"])]
    means = means[means["loss"].notna().all(axis=1)]
    start = means["loss"][BASE]
    lines = []
    for arm in arms:
        loss = 100 * (means["loss"][arm] / start - 1)
        rate = 100 * (means["bpp"][arm] - means["bpp"][BASE]) / start
        gap = 100 * means["gap"][arm] / start
        whole = {"loss": loss, "rate": rate, "distortion": loss - rate, "gap": gap}
        lines.append({"arm": arm, "images": len(means)} | {k: float(v.mean()) for k, v in whole.items()})
    return pd.DataFrame(lines)


def describe_parts(table: pd.DataFrame, iteration: int, profile: str) -> str:
    """`parts` in words: the largest gain, its two sides, and how far the methods' own losses are off."""
    if table.empty:
        return lacking("convergence", profile)
    best = table.loc[table["loss"].idxmin()]
    widest = table.loc[table["gap"].abs().idxmax()]
    narrowest = table.loc[table["gap"].abs().idxmin()]
    sides = {"rate": best["rate"], "distortion": best["distortion"]}
    lead = min(sides, key=sides.get)
    other = "distortion" if lead == "rate" else "rate"
    text = (
        f"After {iteration} iterations {best['arm']} has the largest gain, {best['loss']:+.2f} % of the base's loss "
        f"(mean over {best['images']} images): {sides[lead]:+.2f} points of it in {lead} and {sides[other]:+.2f} in "
        f"{other}. The method's own loss is nearest to the true one for {narrowest['arm']} ({narrowest['gap']:+.2f} %) "
        f"and farthest for {widest['arm']} ({widest['gap']:+.2f} %)."
    )
    return text.replace("-", "−").replace("Gumbel−", "Gumbel-")


# Question 9


def by_image(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Gain over the base and rate without refinement of every image at λ = 0.01.

    Returns:
        dataset, scope, image, bpp (of the base), change (of the true loss by SSL, %); of one scope, that with
        the most images. Empty without rows.
    """
    lines = []
    for dataset in pool.DATASETS:
        chosen = _at(rows[rows["lmbda"] == _LMBDA], iteration, dataset)
        for scope, group in chosen.groupby("scope", sort=False):
            table = pool.differences(group, _SSL, BASE)
            if table is None:
                continue
            base = group[group["arm"] == BASE].groupby("image")["bpp"].mean()
            for image, change in table.mean(axis=1).items():
                lines.append(
                    {"dataset": dataset, "scope": scope, "image": image, "bpp": base[image], "change": change}
                )
    table = pd.DataFrame(lines, columns=["dataset", "scope", "image", "bpp", "change"])
    return _richest(table, "image")


def describe_by_image(table: pd.DataFrame, profile: str) -> str:
    """How the gain goes with the rate over images, as a rank correlation, and its mean in each data set."""
    if len(table) < 4:
        return lacking("rd", profile)
    rho, low, high = statistics.rank_correlation(table.set_index("image"), "bpp", "change")
    if low > 0:
        said = "images that need more bits gain less"
    elif high < 0:
        said = "images that need more bits gain more"
    else:
        said = "these images do not tell whether the gain goes with the rate"
    means = "; ".join(
        f"{pool.DATASETS[name]} {mean_with_interval(group.set_index('image')['change'])} ({len(group)})"
        for name, group in table.groupby("dataset", sort=False)
    )
    return (
        f"Over {len(table)} images ({table['scope'].iloc[0]}), the rank correlation of the change with the rate is "
        f"{statistics.interval(rho, low, high)}: {said}. The mean change by data set (images): {means}."
    )


def describe_data_sets(rows: pd.DataFrame) -> str:
    """Rates without refinement at λ = 0.01, published and ours, and the published gains."""
    lines = []
    gains = {}
    for dataset in ("kodak", "tecnick"):
        table = reference.published(dataset)
        gains[dataset] = verdict_rules.published_gain(table)
        base = table[(table["codec"] == "yang2020-base") & (table["quality_or_lambda"] == _LMBDA)].iloc[0]
        lines.append(
            f"- Published, {pool.DATASETS[dataset]}: the base of Yang et al. spends {base['bpp']:.3f} bpp at λ = {_LMBDA:g} "
            f"for {base['psnr_db']:.2f} dB; SGA's BD-rate against it is {gains[dataset]:.1f} %.".replace(
                " -", " −"
            )
        )
    own = pool.own(rows[(rows["arm"] == BASE) & (rows["lmbda"] == _LMBDA)])
    for (dataset, scope), group in own.groupby(["dataset", "scope"], sort=False):
        each = group.groupby("image")[["bpp", "psnr"]].mean()
        number = "one image, no interval" if len(each) == 1 else f"{len(each)} images"
        lines.append(
            f"- Here, {pool.DATASETS[dataset]}, {scope} ({number}): {mean_with_interval(each['bpp'], '.3f', 'bpp')} for "
            f"{mean_with_interval(each['psnr'], '.2f', 'dB')}, not refined."
        )
    return "\n".join(lines)


# Question 10


def practice(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """What refinement with SSL changes on Kodak, by λ, on the scope with the most λ (whole photographs first).

    Returns:
        scope, lmbda, images, kilobytes and refined (per megapixel), psnr (8 bit, dB) and ms_ssim (their changes),
        loss (change, %), seconds (median per image), per_percent (seconds per percent of loss). Empty without rows.
    """
    chosen = _at(rows[rows["arm"].isin([BASE, _SSL])], iteration)
    refined = chosen[chosen["arm"] == _SSL]
    columns = "scope lmbda images kilobytes refined psnr ms_ssim loss seconds per_percent"
    if refined.empty:
        return pd.DataFrame(columns=columns.split())
    counts = refined.groupby("scope")["lmbda"].nunique()
    scope = max(counts.index, key=lambda name: (counts[name], name == pool.WHOLE))
    lines = []
    for lmbda, group in chosen[chosen["scope"] == scope].groupby("lmbda"):
        measures = ["loss", "bpp", "psnr_8bit", "ms_ssim", "seconds"]
        wide = group.pivot_table(index="image", columns="arm", values=measures)
        if not {BASE, _SSL} <= set(wide["loss"].columns):
            continue
        wide = wide[wide["loss"].notna().all(axis=1)]
        loss = 100 * float((wide["loss"][_SSL] / wide["loss"][BASE] - 1).mean())
        seconds = float(wide["seconds"][_SSL].median())
        lines.append(
            {
                "scope": scope,
                "lmbda": lmbda,
                "images": len(wide),
                "kilobytes": 125 * wide["bpp"][BASE].mean(),
                "refined": 125 * wide["bpp"][_SSL].mean(),
                "psnr": (wide["psnr_8bit"][_SSL] - wide["psnr_8bit"][BASE]).mean(),
                "ms_ssim": (wide["ms_ssim"][_SSL] - wide["ms_ssim"][BASE]).mean(),
                "loss": loss,
                "seconds": seconds,
                "per_percent": -seconds / loss if loss < 0 else float("nan"),
            }
        )
    return pd.DataFrame(lines, columns=columns.split())


def practice_table(table: pd.DataFrame) -> GT:
    """`practice` as a table."""
    return (
        GT(table.drop(columns="scope"), rowname_col="lmbda")
        .tab_stubhead("λ")
        .tab_spanner("kB per megapixel", ["kilobytes", "refined"])
        .tab_spanner("change of", ["psnr", "ms_ssim", "loss"])
        .tab_spanner("seconds", ["seconds", "per_percent"])
        .cols_label(
            kilobytes="base",
            psnr="PSNR, 8 bit (dB)",
            ms_ssim="MS-SSIM",
            loss="loss (%)",
            seconds="per image",
            per_percent="per percent of loss",
        )
        .fmt_number(["kilobytes", "refined"], decimals=1)
        .fmt_number(["psnr", "loss"], decimals=2, force_sign=True)
        .fmt_number("ms_ssim", decimals=4, force_sign=True)
        .fmt_number(["seconds", "per_percent"], decimals=1)
        .sub_missing(missing_text="–")
        .tab_source_note(
            f"Kodak, {table['scope'].iloc[0]}; means over images, seconds are medians on the machine that computed the "
            "rows, which did other work beside."
        )
        .tab_options(table_font_size="14px")
    )


def describe_practice(table: pd.DataFrame, profile: str) -> str:
    """What a change means for one photograph and for many of them, from `practice`."""
    if table.empty:
        return lacking("rd", profile)
    row = table.loc[(table["lmbda"] - _LMBDA).abs().idxmin()]
    base, refined = (_MEGAPIXELS * row[name] for name in ("kilobytes", "refined"))
    smaller = "smaller" if refined < base else "larger"
    better = "higher" if row["psnr"] > 0 else "lower"
    agrees = (
        ""
        if np.isnan(row["ms_ssim"])
        else (
            f"MS-SSIM, which was not optimised, {'rises' if row['ms_ssim'] > 0 else 'falls'} by {abs(row['ms_ssim']):.4f}."
        )
    )
    return (
        f"At λ = {row['lmbda']:g} a file of the base takes {row['kilobytes']:.0f} kB per megapixel on average, so that a "
        f"photograph of {_MEGAPIXELS} megapixels would be one of {base:.0f} kB. Refined, it would be {abs(base - refined):.0f} "
        f"kB {smaller}, at a PSNR that is {abs(row['psnr']):.2f} dB {better}: at equal λ both move, and what the gain is worth "
        f"in bytes alone is the BD-rate. {agrees} Each percent of loss takes {row['per_percent']:.1f} s per image here."
    )
