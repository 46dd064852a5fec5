"""The page on real bits: how large the files are, against what was estimated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import figures, palette, statistics
from ..configurations import BASE

# What a file may have beyond the estimate, of λ from 0.0025 on: one percent and 40 bytes.
ALLOWED_RATIO, ALLOWED_BYTES, ALLOWED_FROM = 1.010, 40, 0.0025


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per file.

    Args:
        rows: as `provenance.load` returns them, of several studies one after the other.

    Returns:
        image, arm, codec, codec_lmbda, lmbda, stream, pixels, estimated and real (bytes of the file), excess
        (bytes), percent (excess of the estimate), allowed (bytes), slack (allowed minus real).

    Raises:
        UserError: no row has a file.
    """
    table = rows[rows["stream"].notna()].drop_duplicates("stream")  # studies share jobs
    if table.empty:
        raise UserError("no row of this study names a file: run a study that keeps them, such as `rd`")
    pixels = 8 * table["real_bytes"] / table["real_bpp"]
    estimated = table["bpp"] * pixels / 8
    found = table[["image", "arm", "codec", "codec_lmbda", "lmbda", "stream"]].assign(
        pixels=pixels.round().astype(int),
        estimated=estimated,
        real=table["real_bytes"].astype(int),
        excess=table["real_bytes"] - estimated,
        percent=100 * (table["real_bytes"] / estimated - 1),
        allowed=ALLOWED_RATIO * estimated + ALLOWED_BYTES,
    )
    rank = {arm: position for position, arm in enumerate(palette.in_order(found["arm"]))}
    found = found.assign(slack=found["allowed"] - found["real"], rank=found["arm"].map(rank))
    order = ["codec_lmbda", "lmbda", "rank", "image"]
    return found.sort_values(order, ignore_index=True).drop(columns="rank")


def excess_figure(table: pd.DataFrame) -> Figure:
    """Excess of every file of `points` in percent over its size; the allowed one as a line."""
    looks = palette.for_seaborn(table["arm"])
    looks.pop("dashes")
    asked = table["lmbda"] >= ALLOWED_FROM
    parts = {f"λ ≥ {ALLOWED_FROM:g}": table[asked], f"λ < {ALLOWED_FROM:g}": table[~asked]}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        x = part["estimated"] / 1000
        sns.scatterplot(
            part.assign(x=x), x="x", y="percent", hue="arm", style="arm", **looks, alpha=0.75, ax=axes
        )
        if part["lmbda"].min() >= ALLOWED_FROM:
            x = np.geomspace(x.min(), x.max(), 200)
            label = f"allowed: {100 * (ALLOWED_RATIO - 1):.0f} % and {ALLOWED_BYTES} bytes"
            allowed = 100 * (ALLOWED_RATIO - 1) + 0.1 * ALLOWED_BYTES / x
            axes.plot(x, allowed, "-", color="0.35", linewidth=1.4, label=label)
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set(xscale="log")
        figures.plain_numbers(axes.xaxis)

    names = {"xlabel": "estimated size (kilobytes, logarithmic)", "ylabel": "real − estimated (%)"}
    parts = {title: part for title, part in parts.items() if len(part)}
    return figures.panels(parts, draw, **names, size=(4.2, 4), legend=3, sharey=True)


def paired_figure(table: pd.DataFrame) -> Figure:
    """Excess in bytes of the same images under every method, a panel for each λ; means with 95 % intervals.

    Args:
        table: as `points` returns it.

    Raises:
        UserError: no image has a file under several methods.
    """
    parts = {
        f"λ = {lmbda:g}": wide
        for lmbda, group in table.groupby("lmbda")
        if len((wide := paired(group)).T) > 1
    }
    parts = {title: wide for title, wide in parts.items() if len(wide)}
    if not parts:
        raise UserError("no image has files under several methods: run the study to its end")

    def draw(axes: Axes, wide: pd.DataFrame) -> None:
        looks = palette.of_arms(wide.columns)
        long = wide.melt(var_name="arm", value_name="excess", ignore_index=False).reset_index()
        axes.plot(wide.T.to_numpy(), color="0.75", linewidth=0.8, marker=".", markeredgecolor="0.6", zorder=1)
        for position, (arm, look) in enumerate(looks.items()):
            values = long[long["arm"] == arm].set_index("image")["excess"]
            mean, low, high = statistics.estimate(values)
            bar = np.maximum([[mean - low], [high - mean]], 0)
            axes.errorbar(position, mean, bar, color=look["color"], capsize=4, zorder=3)
            axes.plot(
                position, mean, color=look["color"], marker=look["marker"], linestyle="", label=arm, zorder=3
            )
        axes.set(xticks=[], xlim=(-0.5, wide.shape[1] - 0.5))
        axes.grid(False, axis="x")

    return figures.panels(parts, draw, ylabel="real − estimated (bytes)", size=(2.2, 3.0))


def paired(table: pd.DataFrame, column: str = "excess") -> pd.DataFrame:
    """One column of `points` by image and arm, of the images that have all arms that any has."""
    wide = table.pivot_table(index="image", columns="arm", values=column)
    return wide[palette.in_order(table["arm"])].dropna()


def against_base(table: pd.DataFrame) -> pd.DataFrame:
    """Excess of refined files minus that of the base's, on the same image, by λ and arm.

    Returns:
        lmbda, arm, images, change (bytes) with its interval, verdict; empty where no image has both.
    """
    lines = []
    for lmbda, group in table.groupby("lmbda"):
        for arm in palette.in_order(set(group["arm"]) - {BASE}):
            both = paired(group[group["arm"].isin([BASE, arm])])
            if len(both.columns) == 2 and len(both):
                found = statistics.with_interval(
                    "change", statistics.resampled_means(both[arm] - both[BASE])[:, 0]
                )
                lines.append({"lmbda": lmbda, "arm": arm, "images": len(both), **found})
    columns = ["lmbda", "arm", "images", "change", "change_low", "change_high"]
    return statistics.with_verdicts(pd.DataFrame(lines, columns=columns))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`points` by λ and arm: files, estimated_bpp, real_bpp and excess (means), percent (of means), worst (of
    one file), slack (the smallest, bytes)."""
    shares = table.assign(
        estimated_bpp=8 * table["estimated"] / table["pixels"], real_bpp=8 * table["real"] / table["pixels"]
    )
    found = shares.groupby(["lmbda", "arm"], sort=False).agg(
        files=("image", "size"),
        estimated_bpp=("estimated_bpp", "mean"),
        real_bpp=("real_bpp", "mean"),
        excess=("excess", "mean"),
        estimated=("estimated", "mean"),
        worst=("percent", "max"),
        slack=("slack", "min"),
    )
    found.insert(4, "percent", 100 * found["excess"] / found["estimated"])
    return found.drop(columns="estimated").reset_index()


def named(row: pd.Series) -> str:
    return f"{row['image']}, {row['arm']}, λ = {row['lmbda']:g}"


def decode_command(table: pd.DataFrame, results: str | None = None) -> str:
    """The shell command that decodes the first file of `points` after the base's.

    Args:
        results: the folder of results as the page names it; that of the checkout where None.
    """
    refined = table[table["arm"] != BASE]
    row = (table if refined.empty else refined).iloc[0]
    return f"sgaplus decode {results or 'data/results'}/{row['stream']} -o {row['image']}.png"
