"""A grid of methods and one setting (paper, the tables over τ_max and over the learning rate).

A *setting* is a number in which the configurations of a method differ, and its column: ``tau_max``, ``rate``.
"""

from __future__ import annotations

import json

import pandas as pd
from matplotlib.figure import Figure

from sgaplus import rounding
from sgaplus.errors import UserError

from .. import figures, palette, statistics
from . import descent


def labelled(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Rows of refinements with ``label``, the method in words without its settings; whole grids only.

    Args:
        rows: as `configurations.with_arms` returns them, at one or several iterations.

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


def grid(rows: pd.DataFrame, setting: str, iteration: int | None = None) -> pd.DataFrame:
    """The rows of the grid, `labelled`, at one iteration (the last where None).

    Raises:
        UserError: a cell is not complete, or there is no such iteration.
    """
    return descent.at(labelled(rows, setting), iteration, by="label")


def summary(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Every cell of a `grid`.

    Returns:
        One row per label and setting, in order: label, ``setting``, images; loss with loss_low and loss_high;
        seeds, spread (standard deviation over them, NaN for one); best, whether it is the method's lowest
        mean; change with change_low and change_high, paired differences from the method's best in percent of
        it, NaN for the best.
    """
    by = ["label", setting]
    table = statistics.means(rows, "loss", by, "loss").merge(statistics.seed_spread(rows, "loss", by), on=by)
    table["best"] = table.groupby("label")["loss"].transform("min") == table["loss"]
    found = []
    for label, group in rows.groupby("label"):
        best = table.loc[(table["label"] == label) & table["best"], setting].iloc[0]
        costs = statistics.paired_means(group.assign(arm=group[setting]), "loss", best, name="change")
        found.append(costs.rename(columns={"arm": setting}).assign(label=label).astype({setting: float}))
    table = table.merge(pd.concat(found).drop(columns="images"), on=by, how="left")
    order = table["label"].map(palette.in_order(table["label"]).index)
    return table.assign(order=order).sort_values(["order", setting], ignore_index=True).drop(columns="order")


def ranges(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """How sensitive a method is to its setting: the largest minus the smallest mean true loss over the grid.

    Args:
        rows: `grid`.

    Returns:
        One row per method, the smallest range first: label, images, best and worst (settings), range with its
        interval, and difference, its range minus the smallest one, with its interval, NaN for the first. All
        cells share the images of a resample. A range is biased upwards in a resample, so only the difference
        is a test.
    """
    wide = rows.pivot_table(index="image", columns=["label", setting], values="loss")
    means = statistics.resampled_means(wide)
    labels = wide.columns.get_level_values("label")
    spans, lines = {}, []
    for label in labels.unique():
        own, values = means[:, labels == label], wide.columns[labels == label].get_level_values(setting)
        spans[label] = own.max(1) - own.min(1)
        ends = {"best": values[own[0].argmin()], "worst": values[own[0].argmax()]}
        lines.append(
            {"label": label, "images": len(wide), **ends} | statistics.with_interval("range", spans[label])
        )
    table = pd.DataFrame(lines).sort_values("range", ignore_index=True)
    least = spans[table["label"].iloc[0]]
    others = [statistics.with_interval("difference", spans[label] - least) for label in table["label"][1:]]
    return table.join(pd.DataFrame(others, index=table.index[1:]))


def kept(rows: pd.DataFrame) -> list[float]:
    """Those τ_max at which a run is still at its `grid`'s iteration: one temperature throughout."""
    last = rows.groupby("tau_max")["tau"].max()
    return list(last.index[last >= last.index * (1 - 1e-9)])


def heat_maps(table: pd.DataFrame, setting: str, name: str) -> Figure:
    """The true loss of every cell of `summary`, and by how many percent it is above the method's best."""
    parts = {
        "True R-D loss, mean over the images": ("loss", 4, False, "Blues"),
        "Loss above that of the method's best setting (%)": ("change", 2, True, "Oranges"),
    }
    table = table.fillna({"change": 0.0})

    def draw(axes, part) -> None:
        value, digits, sign, cmap = part
        figures.heat_map(axes, table, "label", setting, value, digits, sign, cmap=cmap)

    height = 0.8 + 0.45 * table["label"].nunique()
    return figures.panels(parts, draw, xlabel=name, columns=1, size=(7.5, height))


def curves(rows: pd.DataFrame, setting: str, name: str) -> Figure:
    """True loss against the base's over the iterations, a panel for each setting, a line for each method."""
    table = descent.changes(labelled(rows, setting))
    parts = {f"{name} {value:g}": part for value, part in table.groupby(setting)}
    return figures.panels(
        parts,
        lambda axes, part: figures.lines(axes, part, "iteration", "change", "label"),
        xlabel="iteration",
        ylabel="true R-D loss − base's (%)",
        sharey=True,
    )


def between(rows: pd.DataFrame, setting: str, reference: str) -> pd.DataFrame:
    """The other methods against ``reference``, a label, at the same setting and on the same image, in
    percent.

    Returns:
        One row per method and setting: label, ``setting``, images, change with its interval, verdict.
    """
    table = statistics.paired_means(
        rows.assign(arm=rows["label"]), "loss", reference, by=[setting], name="change"
    )
    return statistics.with_verdicts(table.rename(columns={"arm": "label"}))
