"""The page on real bits: how large the files are, against what was estimated."""

from __future__ import annotations

import shlex

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from great_tables import GT
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from sgaplus.errors import UserError

from .. import palette, statistics
from ..configurations import BASE
from ..statistics import interval, minus

# What a file may have beyond the estimate, of λ from 0.0025 on: one percent and 40 bytes.
ALLOWED_RATIO, ALLOWED_BYTES, ALLOWED_FROM = 1.010, 40, 0.0025


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per file.

    Args:
        rows: as `provenance.load` returns them, of several studies one after the other.

    Returns:
        image, arm, codec, codec_lmbda, lmbda, stream, pixels, estimated and real (bytes of the file), excess (bytes),
        percent (excess of the estimate), allowed (bytes), slack (allowed minus real).

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
    """Excess of every file over its estimate in percent, over the size of the file; the allowed one as a line.

    Args:
        table: as `points` returns it.
    """
    looks = palette.of_arms(table["arm"])
    figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for arm, look in looks.items():
        for asked in (True, False):
            group = table[(table["arm"] == arm) & ((table["lmbda"] >= ALLOWED_FROM) == asked)]
            face = look["color"] if asked else "none"
            axes.plot(
                group["estimated"] / 1000,
                group["percent"],
                look["marker"],
                color=look["color"],
                markerfacecolor=face,
                markersize=5,
                alpha=0.75,
                label=arm if asked else None,
            )
    x = np.geomspace(table["estimated"].min(), table["estimated"].max(), 200)
    axes.plot(x / 1000, 100 * (ALLOWED_RATIO - 1 + ALLOWED_BYTES / x), "-", color="0.35", linewidth=1.4)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xscale="log", xlabel="estimated size (kilobytes, logarithmic)", ylabel="real − estimated (%)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.35"))
    labels.append(f"allowed: {100 * (ALLOWED_RATIO - 1):.0f} % and {ALLOWED_BYTES} bytes")
    if (table["lmbda"] < ALLOWED_FROM).any():
        handles.append(Line2D([], [], color="0.35", marker="o", linestyle="", markerfacecolor="none"))
        labels.append(f"hollow: λ < {ALLOWED_FROM:g}")
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def paired_figure(table: pd.DataFrame) -> Figure:
    """Excess in bytes of the same images under every arm, a panel for each λ; means with 95 % intervals.

    Args:
        table: as `points` returns it.

    Raises:
        UserError: no image has a file under several arms.
    """
    groups = [(lmbda, paired(group)) for lmbda, group in table.groupby("lmbda")]
    groups = [(lmbda, wide) for lmbda, wide in groups if wide.shape[1] > 1 and len(wide)]
    if not groups:
        raise UserError("no image has files under several methods: run the study to its end")
    columns = min(len(groups), 4)
    lines = -(-len(groups) // columns)
    size = (max(4.0, 2.4 * columns), 0.8 + 3.1 * lines)
    figure, grid = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.remove()
    for axes, (lmbda, wide) in zip(grid.flat, groups, strict=False):
        looks = palette.of_arms(wide.columns)
        at = np.arange(wide.shape[1])
        axes.plot(at, wide.T.to_numpy(), color="0.75", linewidth=0.8, zorder=1)
        for position, arm in enumerate(wide.columns):
            values = wide[arm]
            axes.plot(np.full(len(values), position), values, ".", color="0.6", zorder=2)
            mean, low, high = statistics.estimate(values)
            bar = [[max(mean - low, 0)], [max(high - mean, 0)]]
            style = {"color": looks[arm]["color"], "fmt": looks[arm]["marker"], "capsize": 4, "zorder": 3}
            axes.errorbar(position, mean, bar, **style, label=arm)
        axes.set_title(f"λ = {lmbda:g}")
        axes.set_xticks([])
        axes.set_xlim(-0.5, wide.shape[1] - 0.5)
        axes.grid(False, axis="x")
    for axes in grid[:, 0]:
        axes.set_ylabel("real − estimated (bytes)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def paired(table: pd.DataFrame, column: str = "excess") -> pd.DataFrame:
    """One column of `points` by image and arm, of the images that have all arms that any has."""
    wide = table.pivot_table(index="image", columns="arm", values=column)
    return wide[palette.in_order(table["arm"])].dropna()


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


def summary_table(table: pd.DataFrame) -> GT:
    """`summary` as a table, a group for each λ."""
    counts = table.groupby("lmbda")["files"]
    differ = (counts.max() > counts.min()).any()
    shown = table.assign(group=[f"λ = {value:g}" for value in table["lmbda"]]).drop(columns="lmbda")
    return (
        GT(shown, groupname_col="group", rowname_col="arm")
        .tab_spanner("bpp", ["estimated_bpp", "real_bpp"])
        .tab_spanner("real − estimated", ["excess", "percent", "worst"])
        .cols_label(
            estimated_bpp="estimated",
            real_bpp="real",
            excess="bytes",
            percent="%",
            worst="largest, %",
            slack="least room, bytes",
        )
        .fmt_number(["estimated_bpp", "real_bpp"], decimals=4)
        .fmt_number(["excess", "slack"], decimals=0)
        .fmt_number(["percent", "worst"], decimals=2)
        .tab_source_note(
            f"Means over the files of a line{'; they are not the same images for all methods' * bool(differ)}. Least "
            f"room: of all its files the smallest distance below {ALLOWED_RATIO:.3f} × estimate + {ALLOWED_BYTES} bytes."
        )
        .tab_options(table_font_size="14px")
    )


def describe_sizes(table: pd.DataFrame) -> str:
    """In words, by how much files are larger than estimated, over all of `points`."""
    mean = 100 * (table["real"].sum() / table["estimated"].sum() - 1)
    low, high = table.loc[table["percent"].idxmin()], table.loc[table["percent"].idxmax()]
    smaller = int((table["excess"] < 0).sum())
    text = (
        f"All {len(table)} files together have {table['real'].sum():,} bytes, {mean:+.2f} % against the estimate of "
        f"{table['estimated'].sum():,.0f}. Of a single file it is {low['percent']:+.2f} % ({_named(low)}) to "
        f"{high['percent']:+.2f} % ({_named(high)}, {high['excess']:.0f} bytes)."
    )
    if smaller:
        text += f" {smaller} of the files {'is' if smaller == 1 else 'are'} smaller than estimated."
    return minus(text)


def describe_allowed(table: pd.DataFrame) -> str:
    """In words, whether all files of `points` are within what is allowed, and which one comes closest to it."""
    asked = table[table["lmbda"] >= ALLOWED_FROM]
    limit = f"{ALLOWED_RATIO:.3f} × estimate + {ALLOWED_BYTES} bytes"
    if asked.empty:
        return f"There is no file of λ ≥ {ALLOWED_FROM:g}."
    worst = asked.loc[asked["slack"].idxmin()]
    beyond = int((asked["slack"] < 0).sum())
    said = (
        f"all {len(asked)} files have at most {limit}"
        if not beyond
        else f"{beyond} of {len(asked)} files {'has' if beyond == 1 else 'have'} more than {limit}"
    )
    side = "below" if worst["slack"] >= 0 else "above"
    text = (
        f"At λ ≥ {ALLOWED_FROM:g}, {said}. The worst is {_named(worst)}: {worst['real']} bytes where "
        f"{worst['estimated']:.0f} were estimated, {abs(worst['slack']):.0f} {side} that limit."
    )
    others = table[table["lmbda"] < ALLOWED_FROM]
    if len(others):
        beyond = int((others["slack"] < 0).sum())
        text += f" Of the {len(others)} files of smaller λ, {beyond or 'none'} {'is' if beyond <= 1 else 'are'} above it."
    return text


def describe_methods(table: pd.DataFrame) -> str:
    """In words, whether refined files have another excess than the codec's own, on the same images: a list."""
    lines = []
    for lmbda, group in table.groupby("lmbda"):
        first, *others = palette.in_order(group["arm"])
        for arm in others:
            both = paired(group[group["arm"].isin([first, arm])])
            change = both[arm] - both[first]
            said = interval(*statistics.estimate(change), decimals=1)
            lines.append(f"- λ = {lmbda:g}, {arm} against {first}: {said} bytes on {len(change)} images")
    return "\n".join(lines) or "No image has files under several methods."


def describe_verified(table: pd.DataFrame) -> str:
    """In words, what was checked of the stored files.

    Args:
        table: as `studies.verify.verify` returns it; all of it verifies.
    """
    decoded = int(table["decoded"].sum())
    differences = table[["psnr_difference", "psnr_8bit_difference"]].abs().max(axis=1)
    compared = int(differences.notna().sum())
    text = (
        f"Before this page was made, the length, checksum, codec and size of all {len(table)} stored files were found "
        f"to be those of their rows, and {decoded} of the files were decoded to the picture."
    )
    if compared:
        text += (
            f" {compared} of these were compared with the photographs: PSNR differs from the rows by "
            f"{differences.max():.1e} dB at most."
        )
    else:
        text += " The photographs were not at hand, so that their PSNR was not computed again."
    return text


def _named(row: pd.Series) -> str:
    return f"{row['image']}, {row['arm']}, λ = {row['lmbda']:g}"


def decode_command(table: pd.DataFrame, results: str | None = None) -> str:
    """The shell command that decodes the first file of `points` after the base's.

    Args:
        results: the folder of results as the page names it; that of the checkout where None.
    """
    refined = table[table["arm"] != BASE]
    row = (table if refined.empty else refined).iloc[0]
    stream = f"{results or 'data/results'}/{row['stream']}"
    return shlex.join(["sgaplus", "decode", stream, "-o", f"{row['image']}.png"])
