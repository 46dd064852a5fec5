"""A grid of methods and settings: the true loss of every cell, what a wrong setting costs, and who minds it least.

A *setting* is a number in which the arms of a method differ: the highest temperature τ_max, the learning rate.
"""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from great_tables import GT, loc, style
from matplotlib.figure import Figure

from sgaplus import rounding
from sgaplus.errors import UserError

from .. import palette, statistics


def labelled(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Rows of refinements with ``label``, the method in words without its settings; whole grids only.

    Args:
        rows: as `analysis.arms.with_arms` returns them, at one or several iterations.
        setting: a column, such as ``tau_max`` or ``rate``.

    Raises:
        UserError: a cell of the grid has fewer images than another.
    """
    refined = rows[rows["iterations"] > 0]
    names = {text: rounding.parse(json.loads(text)).label for text in refined["method"].unique()}
    table = refined.assign(label=refined["method"].map(names))
    counts = table.groupby(["label", setting])["image_sha256"].nunique()
    cells = pd.MultiIndex.from_product([table["label"].unique(), sorted(table[setting].unique())])
    lacking = counts.reindex(cells, fill_value=0) < table["image_sha256"].nunique()
    if lacking.any():
        label, value = cells[lacking][0]
        raise UserError(f"{label} lacks images at {setting} = {value:g}: run the study to its end")
    return table


def summary(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Every cell of a grid.

    Args:
        rows: `labelled`, at one iteration.

    Returns:
        One row per label and setting, in order: label, ``setting``, images, mean with low and high (true loss);
        seeds, spread (standard deviation over them, NaN for one); best, whether it is the method's lowest mean;
        change with change_low and change_high, paired differences from the method's best in percent of it.
    """
    by = ["label", setting]
    table = statistics.means(rows, "loss", by).merge(statistics.seed_spread(rows, "loss", by), on=by)
    table["best"] = table.groupby("label")["mean"].transform("min") == table["mean"]
    found = []
    for label, group in rows.groupby("label", sort=False):
        best = table.loc[(table["label"] == label) & table["best"], setting].iloc[0]
        costs = statistics.paired_means(group.assign(arm=group[setting]), "loss", best)
        found.append(costs.assign(label=label, **{setting: costs["arm"].astype(float)}))
    costs = pd.concat(found).rename(columns={"mean": "change", "low": "change_low", "high": "change_high"})
    columns = ["change", "change_low", "change_high"]
    table = table.merge(costs[[*by, *columns]], on=by, how="left")
    table.loc[table["best"], columns] = 0.0
    order = {label: position for position, label in enumerate(palette.in_order(table["label"]))}
    rank = table["label"].map(order)
    return table.assign(rank=rank).sort_values(["rank", setting], ignore_index=True).drop(columns="rank")


def heat_maps(table: pd.DataFrame, setting: str, name: str) -> Figure:
    """The true loss of every cell, and below it by how many percent it is above the method's best.

    Args:
        table: as `summary` returns it.
        name: of the setting, for the axis.
    """
    labels = list(dict.fromkeys(table["label"]))
    figure, panels = plt.subplots(
        2, 1, figsize=(7.5, 2.2 + 0.9 * len(labels)), layout="constrained", sharex=True
    )
    titles = {
        "mean": ("True R-D loss, mean over the images", ".4f", "Blues"),
        "change": ("Loss above that of the method's best setting (%)", "+.2f", "Oranges"),
    }
    for axes, (column, (title, form, colours)) in zip(panels, titles.items(), strict=True):
        wide = table.pivot_table(index="label", columns=setting, values=column).loc[labels]
        wide.columns = [f"{value:g}" for value in wide.columns]
        sns.heatmap(wide, ax=axes, annot=True, fmt=form, cmap=colours, linewidths=1, cbar=False)
        axes.set(title=title, xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
    panels[-1].set_xlabel(name)
    return figure


def grid_table(table: pd.DataFrame, setting: str, name: str) -> GT:
    """`summary` as a table, a group for each method; the lowest true loss of all is in bold."""
    shown = pd.DataFrame(
        {
            "label": table["label"],
            "setting": [f"{value:g}" for value in table[setting]],
            "loss": [
                statistics.interval(row.mean, row.low, row.high, 4, sign=False)
                for row in table.itertuples(index=False)
            ],
            "change": [
                "best" if row.best else statistics.interval(row.change, row.change_low, row.change_high)
                for row in table.itertuples(index=False)
            ],
        }
    )
    several = (table["seeds"] > 1).any()
    if several:
        shown["spread"] = table["spread"]
    made = (
        GT(shown, groupname_col="label", rowname_col="setting")
        .tab_stubhead(name)
        .cols_label(loss="true R-D loss [95 %]", change="above the method's best, % [95 %]")
        .cols_align("right", ["loss", "change"])
        .tab_style(style.text(weight="bold"), loc.body("loss", [int(table["mean"].idxmin())]))
        .tab_source_note(
            f"Mean over {int(table['images'].max())} images. Intervals: percentile bootstrap over images; of the "
            "differences on the same image in the last but one column."
            if several
            else f"Mean over {int(table['images'].max())} images. Intervals: percentile bootstrap over images; those "
            "of the last column are of differences on the same image. One seed, so there is no spread over seeds."
        )
        .tab_options(table_font_size="14px")
    )
    if several:
        made = made.cols_label(spread="SD over seeds").fmt_number("spread", n_sigfig=2)
    return made


def ranges(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """How much a method minds its setting: the largest minus the smallest mean true loss over the settings.

    Args:
        rows: `labelled`, at one iteration.

    Returns:
        One row per method, the smallest range first: label, images, best and worst (settings), range with low
        and high, and difference with difference_low and difference_high: its range minus the smallest one.
        Intervals are 95 % percentile bootstrap over images, drawn for all methods and settings together.
    """
    wide = rows.pivot_table(index="image", columns=["label", setting], values="loss")
    means = statistics.resampled_means(wide)
    labels = wide.columns.get_level_values("label")
    spans, lines = {}, []
    for label in labels.unique():
        own = means[:, labels == label]
        values = wide.columns[labels == label].get_level_values(setting)
        spans[label] = own.max(1) - own.min(1)
        ends = {"best": values[own[0].argmin()], "worst": values[own[0].argmax()]}
        lines.append(
            {"label": label, "images": len(wide), **ends, **statistics.with_interval("range", spans[label])}
        )
    table = pd.DataFrame(lines).sort_values("range", ignore_index=True)
    table = table.rename(columns={"range_low": "low", "range_high": "high"})
    least = spans[table["label"].iloc[0]]
    differences = [statistics.with_interval("difference", spans[label] - least) for label in table["label"]]
    return table.join(pd.DataFrame(differences))


def ranges_table(table: pd.DataFrame, name: str) -> GT:
    """`ranges` as a table; the smallest range is in bold."""
    shown = pd.DataFrame(
        {
            "label": table["label"],
            "best": [f"{value:g}" for value in table["best"]],
            "worst": [f"{value:g}" for value in table["worst"]],
            "range": [
                statistics.interval(row.range, row.low, row.high, 4, sign=False) for row in table.itertuples()
            ],
            "difference": ["–"]
            + [
                statistics.interval(row.difference, row.difference_low, row.difference_high, 4)
                for row in table.iloc[1:].itertuples()
            ],
        }
    )
    return (
        GT(shown, rowname_col="label")
        .tab_spanner(name, ["best", "worst"])
        .cols_label(range="range of the true loss [95 %]", difference="minus the smallest range [95 %]")
        .cols_align("right", ["best", "worst", "range", "difference"])
        .tab_style(style.text(weight="bold"), loc.body("range", [0]))
        .tab_source_note(
            "Range: largest minus smallest mean over the images. Intervals: percentile bootstrap over images, the same "
            "for all cells. A range is never negative, so only the interval of a difference is a test."
        )
        .tab_options(table_font_size="14px")
    )


def describe_ranges(table: pd.DataFrame, name: str) -> str:
    """In words, which method minds its setting least, and which of the others mind it more beyond doubt."""
    least, others = table.iloc[0], table.iloc[1:]
    text = (
        f"Least sensitive to {name} is **{least['label']}**: over the grid its mean true loss varies by "
        f"{statistics.interval(least['range'], least['low'], least['high'], 4, sign=False)}, from "
        f"{least['best']:g} (lowest) to {least['worst']:g} (highest)."
    )
    more = others[others["difference_low"] > 0]
    alike = others[others["difference_low"] <= 0]
    if len(more):
        said = ", ".join(
            f"{row.label} by {statistics.interval(row.difference, row.difference_low, row.difference_high, 4)}"
            for row in more.itertuples()
        )
        text += f" The range is larger, by an interval that excludes zero, for {said}."
    if len(alike):
        text += f" Not told apart from it: {', '.join(alike['label'])}."
    return text
