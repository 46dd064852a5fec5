"""The page on real bits: where the bits of a file beyond the estimate go, and a cross-check by another coder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import constriction
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from great_tables import GT
from matplotlib.figure import Figure

from sgaplus.bitstream import lengths
from sgaplus.codecs.weights import load_codec
from sgaplus.errors import UserError
from sgaplus.studies.stored import results as all_results

from .. import palette
from ..statistics import minus

# A table of scales that costs more, in percent, is worth a look at finer ones.
_TABLE_WORTH = 0.3
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
# Other tables of scales, by the column in `count`: levels, whether the nearest scale is taken.
FINER = {
    "64, nearest": (64, True),
    "128": (128, False),
    "128, nearest": (128, True),
    "256": (256, False),
    "256, nearest": (256, True),
}


def count(
    table: pd.DataFrame, images: Sequence[str] | None = None, results: str | Path | None = None
) -> pd.DataFrame:
    """Where the bits of some files go: decoded, and counted as `bitstream.lengths` says.

    Args:
        table: as `realbits.points` returns it.
        images: of these; all where None.
        results: the folder of results; that of the checkout where None.

    Returns:
        One row per file: lmbda, arm, image, stream; in bits estimated, exact, levels, tables, strings, file and
        the columns of `FINER`; y_share, the share of y in exact; check, bits that constriction's coder wrote for y
        with the exact scales, and expected, what they should be.

    Raises:
        UserError: there is no file of these images, or one does not decode.
    """
    chosen = table if images is None else table[table["image"].isin(images)]
    if chosen.empty:
        raise UserError(f"no file is of {', '.join(images or [])}: name images of the study")
    lines = []
    for (codec, lmbda), group in chosen.groupby(["codec", "codec_lmbda"], sort=False):
        loaded = load_codec(codec, lmbda, device="cpu", dtype="float32")
        for row in group.itertuples():
            data = (Path(results or all_results()) / row.stream).read_bytes()
            symbols = lengths.symbols_of(data, loaded)
            bits = lengths.lengths(data, symbols)
            line = {"lmbda": row.lmbda, "arm": row.arm, "image": row.image, "stream": row.stream}
            line |= {"estimated": 8 * row.estimated, **bits}
            line |= {name: lengths.with_levels(symbols, *how) for name, how in FINER.items()}
            line |= {"y_share": 1 - symbols.z_bits.sum() / bits["exact"], **_checked(symbols)}
            lines.append(line)
    return pd.DataFrame(lines)


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


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """`count` as means by λ and arm: each of `PARTS` in percent of the estimate, and their total."""
    shares = pd.DataFrame(
        {name: table[after] - table[before] for name, (before, after, _) in PARTS.items()}
    ).assign(total=table["file"] - table["estimated"], estimated=table["estimated"])
    means = shares.groupby([table["lmbda"], table["arm"]], sort=False).mean()
    return (100 * means.drop(columns="estimated").div(means["estimated"], axis=0)).reset_index()


def parts_figure(table: pd.DataFrame) -> Figure:
    """`parts` as stacked bars, in percent of the estimate: what adds to the right, what saves to the left.

    Args:
        table: as `parts` returns it.
    """
    labels = [f"λ = {row.lmbda:g}, {row.arm}" for row in table.itertuples()]
    at = np.arange(len(table))
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.32 * len(table)), layout="constrained")
    right, left = np.zeros(len(table)), np.zeros(len(table))
    for position, (name, (_, _, words)) in enumerate(PARTS.items()):
        values = table[name].to_numpy()
        start = np.where(values >= 0, right, left)
        colour = palette.colour(position)
        axes.barh(at, values, 0.7, left=start, color=colour, label=words, edgecolor="white", linewidth=0.5)
        right, left = right + values.clip(min=0), left + values.clip(max=0)
    axes.plot(table["total"], at, "D", color="black", markersize=4, label="all together")
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(at, labels, fontsize="small")
    axes.set_xlabel("bits beyond the estimate (% of it)")
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def parts_table(table: pd.DataFrame) -> GT:
    """`parts` as a table, a group for each λ."""
    shown = table.assign(group=[f"λ = {value:g}" for value in table["lmbda"]]).drop(columns="lmbda")
    return (
        GT(shown, groupname_col="group", rowname_col="arm")
        .tab_spanner("% of the estimated bits", [*PARTS, "total"])
        .cols_label({name: words for name, (_, _, words) in PARTS.items()} | {"total": "all together"})
        .fmt_number([*PARTS, "total"], decimals=2, force_sign=True)
        .tab_options(table_font_size="14px")
    )


def describe_parts(table: pd.DataFrame) -> str:
    """In words, what each part adds, over all files of `count`: a list, the largest first."""
    shares = {
        name: 100 * (table[after] - table[before]).sum() / table["estimated"].sum()
        for name, (before, after, _) in PARTS.items()
    }
    lines = []
    for name, share in sorted(shares.items(), key=lambda item: -abs(item[1])):
        before, after, words = PARTS[name]
        single = table[after] - table[before]
        lines.append(
            f"- {words}: **{share:+z.2f} %** of the estimate; of a file {single.min():+z.0f} to {single.max():+z.0f} bits"
        )
    return minus("\n".join(lines))


def describe_check(table: pd.DataFrame) -> str:
    """In words, whether constriction's coder agrees with the ideal length of y, for the files of `count`."""
    over = table["check"] - table["expected"]
    exact = table["exact"] * table["y_share"]
    relative = 100 * (over / exact).abs().max()
    floor = 100 * (1 - table["expected"].sum() / exact.sum())
    text = (
        f"On the {len(table)} files its coder writes {over.min():+.1f} to {over.max():+.1f} bits against the ideal "
        f"length of y, at most {relative:.2f} % of it."
    )
    if abs(floor) >= 0.005:
        text += (
            f" Its probabilities are at least 2⁻²⁴, so that no symbol costs it more than 24 bits; that makes the ideal "
            f"length {floor:.2f} % shorter than ours, and is part of what it is compared with."
        )
    return minus(text)


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """What tables of scales cost beyond exact scales, in percent of the exact bits: CompressAI's and `FINER`.

    Args:
        table: as `count` returns it.

    Returns:
        One row per λ and arm: lmbda, arm, a column for each table.
    """
    names = {"64 (CompressAI)": "levels", **{name: name for name in FINER}}
    costs = pd.DataFrame({name: table[column] - table["exact"] for name, column in names.items()})
    groups = costs.assign(exact=table["exact"]).groupby([table["lmbda"], table["arm"]], sort=False)
    sums = groups.sum()
    return (100 * sums.drop(columns="exact").div(sums["exact"], axis=0)).reset_index()


def levels_table(table: pd.DataFrame) -> GT:
    """`levels` as a table, a group for each λ."""
    names = [name for name in table if name not in ("lmbda", "arm")]
    shown = table.assign(group=[f"λ = {value:g}" for value in table["lmbda"]]).drop(columns="lmbda")
    return (
        GT(shown, groupname_col="group", rowname_col="arm")
        .tab_spanner("bits beyond those with exact scales (%), by the number of scales", names)
        .fmt_number(names, decimals=2, force_sign=True)
        .tab_source_note(
            "Without \u201cnearest\u201d a scale is replaced by the next larger one, as CompressAI does."
        )
        .tab_options(table_font_size="14px")
    )


def describe_levels(table: pd.DataFrame) -> str:
    """In words, what the 64 scales cost, and what a finer table would save where that is more than 0.3 %.

    Args:
        table: as `levels` returns it.
    """
    cost = table["64 (CompressAI)"]
    named = [f"λ = {row.lmbda:g}, {row.arm}" for row in table.itertuples()]
    text = (
        f"The 64 scales cost {cost.min():+z.2f} % ({named[cost.idxmin()]}) to {cost.max():+z.2f} % "
        f"({named[cost.idxmax()]})."
    )
    dear = table[cost > _TABLE_WORTH]
    if len(dear):
        lines = [
            f"{named[row.Index]}, {saved - row.near:.2f} % with the nearest of 64 and {saved - row.fine:.2f} % with the "
            "nearest of 256"
            for row in dear.rename(columns={"64, nearest": "near", "256, nearest": "fine"}).itertuples()
            for saved in [cost[row.Index]]
        ]
        text += f" Where that is more than {_TABLE_WORTH} %, other tables would save: {'; '.join(lines)}."
    else:
        text += (
            f" That is nowhere more than {_TABLE_WORTH} %, so that a finer table is not worth another format."
        )
    if (cost < 0).any():
        text += (
            " A negative cost is no mistake: the table's scale is never below the codec's, and where latents have heavier "
            "tails than the codec's Gaussian, a wider one suits them better."
        )
    return minus(text)
