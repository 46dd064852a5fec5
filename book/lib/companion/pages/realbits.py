"""The page on real bits: how large the files are, against what was estimated."""

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
    """One row per file: estimated and real bytes, excess (bytes), percent (excess of the estimate), allowed
    bytes, slack (allowed minus real)."""
    table = rows[rows["stream"].notna()].drop_duplicates("stream")  # studies share jobs
    if table.empty:
        raise UserError("no row of this study names a file: run a study that keeps them, such as `rd`")
    pixels = 8 * table["real_bytes"] / table["real_bpp"]
    names = ["image", "configuration", "codec", "codec_lmbda", "lmbda", "stream"]
    bytes_of = {"estimated": table["bpp"] * pixels / 8, "real": table["real_bytes"].astype(int)}
    found = table[names].assign(pixels=pixels.round().astype(int), **bytes_of)
    found = found.assign(
        excess=found["real"] - found["estimated"],
        percent=100 * (found["real"] / found["estimated"] - 1),
        allowed=ALLOWED_RATIO * found["estimated"] + ALLOWED_BYTES,
    ).assign(slack=lambda found: found["allowed"] - found["real"])
    rank = palette.in_order(found["configuration"]).index
    order = {"by": ["codec_lmbda", "lmbda", "configuration", "image"], "ignore_index": True}
    return found.sort_values(**order, key=lambda c: c.map(rank) if c.name == "configuration" else c)


def excess_figure(table: pd.DataFrame) -> Figure:
    """Excess of every file of `points` in percent over its size; the allowed one as a line."""
    looks = palette.for_seaborn(table["configuration"])
    del looks["dashes"]
    asked = table["lmbda"] >= ALLOWED_FROM
    parts = {f"λ ≥ {ALLOWED_FROM:g}": table[asked], f"λ < {ALLOWED_FROM:g}": table[~asked]}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        x = part["estimated"] / 1000
        by = {"hue": "configuration", "style": "configuration"}
        sns.scatterplot(part.assign(x=x), x="x", y="percent", **by, **looks, alpha=0.75, ax=axes)
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


def against_base(table: pd.DataFrame) -> pd.DataFrame:
    """Excess of refined files minus that of the base's, on the same image, in bytes."""
    if not {BASE} < set(table["configuration"]):
        return pd.DataFrame(columns=["lmbda", "configuration", "images", "change", "verdict"])
    found = statistics.paired_means(table, "excess", BASE, ["lmbda"], relative=False)
    return pd.concat(palette.parts(found).values(), ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`points` by λ and configuration: files, estimated_bpp, real_bpp and excess (means), percent (of means),
    worst (of one file), slack (the smallest, bytes)."""
    bits = 8 * table[["estimated", "real"]].div(table["pixels"], axis=0).add_suffix("_bpp")
    groups = table.join(bits).groupby(["lmbda", "configuration"], sort=False)
    found = groups[["estimated_bpp", "real_bpp", "excess"]].mean()
    found.insert(0, "files", groups.size())
    percent = 100 * found["excess"] / groups["estimated"].mean()
    found = found.assign(percent=percent, worst=groups["percent"].max(), slack=groups["slack"].min())
    return found.reset_index()


def named(row: pd.Series) -> str:
    return f"{row['image']}, {row['configuration']}, λ = {row['lmbda']:g}"


def example(table: pd.DataFrame) -> pd.Series:
    """The first file of `points` after the base's."""
    return table.sort_values("configuration", key=lambda c: c == BASE, kind="stable").iloc[0]


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """How many files of `points` are too large, at λ from `ALLOWED_FROM` on and below it."""
    asked, lines = table["lmbda"] >= ALLOWED_FROM, []
    for words, part in ((f"λ ≥ {ALLOWED_FROM:g}", table[asked]), ("smaller λ", table[~asked])):
        if len(part):
            worst = part.loc[part["slack"].idxmin()]
            line = {"λ": words, "files": len(part), "over": (part["slack"] < 0).sum()}
            line |= {"under": (part["excess"] < 0).sum(), "worst": named(worst)}
            lines.append(line | {name: worst[name] for name in ("real", "estimated")})
    return pd.DataFrame(lines)
