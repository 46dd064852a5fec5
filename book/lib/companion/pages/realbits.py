"""The page on real bits: how large the files are, against what was estimated, where the bits beyond the
estimate go, and a cross-check by another coder.
"""

from collections.abc import Sequence
from pathlib import Path

import constriction
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.codecs.series import Series
from sgaplus.errors import UserError
from sgaplus.studies.stored import results as all_results

from .. import figures, lengths, palette, statistics
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


# constriction's probabilities are multiples of this.
_CONSTRICTION_STEP = 2.0**-24
# Each part of the difference: its two counts in `lengths`, and what it is in words.
PARTS = {
    "arithmetic": ("estimated", "exact", "float64 in place of float32, any probability"),
    "levels": ("exact", "levels", "64 scales"),
    "tables": ("levels", "tables", "16-bit frequencies"),
    "coder": ("tables", "strings", "rANS's states and whole words"),
    "header": ("strings", "file", "header"),
}
NO_SCALES = (
    "This codec has no hyperprior: y has a table for each channel and no scales, so that there is nothing to"
    " show here."
)
# Other tables of scales, by the column in `count`: levels, whether the nearest scale is taken.
FINER = {
    "64, nearest": (64, True),
    "128": (128, False),
    "128, nearest": (128, True),
    "256": (256, False),
    "256, nearest": (256, True),
}


def count(
    table: pd.DataFrame, codecs: Series, images: Sequence[str] | None = None, results=None
) -> pd.DataFrame:
    """Where the bits of the files of `realbits.points` go, of all images or some: decoded, and counted as
    `lengths` says.

    Returns:
        In bits estimated, exact, levels, tables, strings, file. With a hyperprior also the columns of
        `FINER`; y_share, the share of y in exact; check, bits that constriction's coder wrote for y with the
        exact scales, and expected, what they should be.
    """
    chosen = table if images is None else table[table["image"].isin(images)]
    if chosen.empty:
        raise UserError(f"no file is of {', '.join(images or [])}: name images of the study")
    lines = []
    for lmbda, group in chosen.groupby("codec_lmbda", sort=False):
        loaded = codecs.member(lmbda).load("cpu", "float32")
        for row in group.to_dict("records"):
            data = (Path(results or all_results()) / row["stream"]).read_bytes()
            symbols = lengths.symbols_of(data, loaded)
            bits = lengths.lengths(data, symbols)
            line = {name: row[name] for name in ("lmbda", "configuration", "image", "stream")}
            line |= {"estimated": 8 * row["estimated"], **bits}
            if len(symbols.y):
                line |= {name: lengths.with_levels(symbols, *how) for name, how in FINER.items()}
                line |= {"y_share": 1 - symbols.first_bits.sum() / bits["exact"], **_checked(symbols)}
            lines.append(line)
    return pd.DataFrame(lines)


def has_scales(table: pd.DataFrame) -> bool:
    """Whether the codec of `count` has a hyperprior, and so scales of y."""
    return set(FINER) <= set(table)


def parts_of(table: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Those of `PARTS` that the codec of `count` has."""
    return {name: part for name, part in PARTS.items() if name != "levels" or has_scales(table)}


def _checked(symbols: lengths.Symbols) -> dict[str, float]:
    """y coded by constriction under its own Gaussian: bits, and what they should be.

    Its probabilities are 24-bit numbers, none of them 0, so that a symbol costs 24 bits at most.
    """
    low, high = min(int(symbols.y.min()), -1), max(int(symbols.y.max()), 1)
    model = constriction.stream.model.QuantizedGaussian(low, high)
    coder = constriction.stream.stack.AnsCoder()
    means = np.zeros(len(symbols.y))
    coder.encode_reverse(symbols.y.astype(np.int32), model, means, symbols.scales)
    mass = np.exp2(-lengths.gaussian_bits(symbols.y, symbols.scales))
    count = high - low + 1
    expected = -np.log2(mass * (1 - count * _CONSTRICTION_STEP) + _CONSTRICTION_STEP).sum()
    return {"check": float(coder.num_valid_bits()), "expected": float(expected)}


def _added(table: pd.DataFrame) -> pd.DataFrame:
    """Bits that each of `parts_of` adds in each file of `count`."""
    parts = parts_of(table).items()
    return pd.DataFrame({name: table[after] - table[before] for name, (before, after, _) in parts})


def _in_percent(bits: pd.DataFrame, table: pd.DataFrame, of: str) -> pd.DataFrame:
    """Bits of each file of `count`, together by λ and configuration, in percent of another column's."""
    by = [table["lmbda"], table["configuration"]]
    sums = bits.groupby(by, sort=False).sum().div(table[of].groupby(by, sort=False).sum(), axis=0)
    return (100 * sums).reset_index()


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """Each of `parts_of` in `count` by λ and configuration in percent of the estimate, and their total."""
    return _in_percent(_added(table).assign(total=table["file"] - table["estimated"]), table, "estimated")


def parts_figure(table: pd.DataFrame) -> Figure:
    """`parts` as stacked bars, in percent of the estimate: what adds to the right, what saves to the left."""
    wide = table.set_axis([f"λ = {row.lmbda:g}, {row.configuration}" for row in table.itertuples()])
    wide = wide[[name for name in PARTS if name in wide]]
    colours = [palette.colour(position) for position, name in enumerate(PARTS) if name in wide]
    wide.columns = [PARTS[name][2] for name in wide]

    def draw(axes: Axes, wide: pd.DataFrame) -> None:
        wide.plot.barh(stacked=True, ax=axes, width=0.75, color=colours, edgecolor="white", linewidth=0.5)
        axes.plot(wide.sum(axis=1), range(len(wide)), "k|", markersize=12, label="all together")
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.invert_yaxis()
        axes.grid(False, axis="y")

    names = {"xlabel": "% of the estimated bits", "size": (7.5, 0.8 + 0.3 * len(wide)), "legend": 2}
    return figures.panels({"": wide}, draw, **names)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """What each part adds over all files, the largest first, in % of the estimate; least and most bits."""
    added = _added(table)
    share = 100 * added.sum() / table["estimated"].sum()
    found = pd.DataFrame({"share": share, "least": added.min(), "most": added.max()})
    found.insert(0, "part", [words for _, _, words in parts_of(table).values()])
    return found.sort_values("share", key=lambda share: -share.abs(), ignore_index=True)


def check(table: pd.DataFrame) -> dict[str, float]:
    """constriction's coder for the files of `count`: least and most bits beyond what is expected of it, the
    largest in percent of y's bits (relative), and by how many percent its expectation is below the exact
    bits, since no symbol costs it more than 24 (floor)."""
    over, exact = table["check"] - table["expected"], table["exact"] * table["y_share"]
    floor = 100 * (1 - table["expected"].sum() / exact.sum())
    relative = 100 * (over / exact).abs().max()
    return {"least": over.min(), "most": over.max(), "relative": relative, "floor": floor}


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """What CompressAI's 64 scales and `FINER` cost beyond exact scales, in percent of the exact bits."""
    costs = table[["levels", *FINER]].rename(columns={"levels": "64"}).sub(table["exact"], axis=0)
    return _in_percent(costs, table, "exact")
