"""A grid of methods and one setting (paper, the tables over τ_max and over the learning rate).

A *setting* is a number in which the configurations of a method differ, and its column: ``tau_max``, ``rate``.
"""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sgaplus import rounding
from sgaplus.errors import UserError

from .. import figures, palette, statistics
from . import descent


def labelled(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Rows of refinements with ``label``, the method in words without its settings; whole grids only."""
    refined = rows[rows["iterations"] > 0]
    names = {text: rounding.parse(json.loads(text)).label for text in refined["method"].unique()}
    table = refined.assign(label=refined["method"].map(names))
    counts = pd.crosstab(table["label"], table[setting], table["image_sha256"], aggfunc="nunique").fillna(0)
    lacking = counts < table["image_sha256"].nunique()
    if lacking.any(axis=None):
        label = lacking.index[lacking.any(axis=1)][0]
        value = lacking.columns[lacking.loc[label]][0]
        raise UserError(f"{label} lacks images at {setting} = {value:g}: run the study to its end")
    return table


def grid(rows: pd.DataFrame, setting: str, iteration: int | None = None) -> pd.DataFrame:
    """The rows of the grid, `labelled`, at one iteration (the last where None)."""
    return descent.at(labelled(rows, setting), iteration, by="label")


def summary(rows: pd.DataFrame, setting: str, reference: float | None = None) -> pd.DataFrame:
    """Every cell of a `grid`, by label and setting, in order.

    Returns:
        images; loss with its interval; seeds, spread (standard deviation over them, NaN for one); best,
        whether it is the method's lowest mean; change with its interval, the paired difference from the
        setting ``reference`` (the method's best where None) in percent, NaN for itself.
    """
    by, found = ["label", setting], []
    table = statistics.means(rows, "loss", by).merge(statistics.seed_spread(rows, "loss", by), on=by)
    table["best"] = table.groupby("label")["loss"].transform("min") == table["loss"]
    for label, best in table[table["best"]].set_index("label")[setting].items():
        group = rows[rows["label"] == label]
        against = best if reference is None else reference
        costs = statistics.paired_means(group.assign(configuration=group[setting]), "loss", against)
        found.append(costs.rename(columns={"configuration": setting}).assign(label=label))
    changes = pd.concat(found).drop(columns=["images", "verdict"]).astype({setting: float})
    order = palette.in_order(table["label"]).index
    table = table.merge(changes, on=by, how="left").sort_values(setting, kind="stable")
    return table.sort_values("label", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def ranges(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """How sensitive a method is to its setting: the largest minus the smallest mean true loss over the
    `grid`.

    The smallest range comes first; difference is from it, NaN for itself. A range is biased upwards in a
    resample, so only the difference is a test.
    """
    wide = rows.pivot_table(index="image", columns=["label", setting], values="loss")
    means = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    spans = {name: np.ptp(means[name].to_numpy(), axis=1) for name in means.columns.unique("label")}
    least, *others = sorted(spans, key=lambda name: spans[name][0])
    return pd.DataFrame(
        [
            {"label": name, "images": len(wide)}
            | {"best": means[name].iloc[0].idxmin(), "worst": means[name].iloc[0].idxmax()}
            | statistics.with_interval("range", spans[name])
            | (statistics.with_interval("difference", spans[name] - spans[least]) if name != least else {})
            for name in (least, *others)
        ]
    )


def kept(rows: pd.DataFrame) -> list[float]:
    """Those τ_max at which a run is still at its `grid`'s iteration: one temperature throughout."""
    last = rows.groupby("tau_max")["tau"].max()
    return list(last.index[last >= last.index * (1 - 1e-9)])


def heat_map(tables: Mapping[str, pd.DataFrame], setting: str, name: str) -> Figure:
    """By how many percent the true loss of every cell of `summary` is above the method's best: a panel for
    each table under its title, all in the same colours."""
    tables = {title: table.fillna({"change": 0.0}) for title, table in tables.items()}
    style = {"cmap": "Oranges", "vmin": 0, "vmax": max(table["change"].max() for table in tables.values())}
    height = 0.8 + 0.45 * max(table["label"].nunique() for table in tables.values())
    return figures.panels(
        tables,
        lambda axes, part: figures.heat_map(axes, part, "label", setting, "change", "+.2f", **style),
        xlabel=name,
        size=(7.5, height),
        columns=1,
    )


def curves(rows: pd.DataFrame, setting: str, name: str) -> Figure:
    """True loss against the base's over the iterations, a panel for each setting, a line for each method."""
    table = descent.changes(labelled(rows, setting))
    return figures.panels(
        {f"{name} {value:g}": part for value, part in table.groupby(setting)},
        lambda axes, part: figures.lines(axes, part, "iteration", "change", "label"),
        xlabel="iteration",
        ylabel="true R-D loss − base's (%)",
        sharey=True,
    )


def at_best(rows: pd.DataFrame, setting: str, reference: str) -> pd.DataFrame:
    """`between` with every method at that setting of a `grid` at which its own mean true loss is lowest."""
    best = rows.groupby(["label", setting])["loss"].mean().groupby("label").idxmin()
    own = rows[[pair in set(best) for pair in zip(rows["label"], rows[setting], strict=True)]]
    table = statistics.paired_means(own.assign(configuration=own["label"]), "loss", reference)
    return table.rename(columns={"configuration": "label"})


def between(rows: pd.DataFrame, setting: str, reference: str) -> pd.DataFrame:
    """`statistics.paired_means` of the other methods' labels from one of them at the same setting."""
    table = statistics.paired_means(rows.assign(configuration=rows["label"]), "loss", reference, [setting])
    return table.rename(columns={"configuration": "label"})
