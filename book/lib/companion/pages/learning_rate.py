"""The page on the learning rate: atanh and SSL at three constant rates (paper, table and figure of the rate)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .. import palette, statistics
from . import descent, grids

SETTING, NAME = "rate", "learning rate"


def grid(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """The rows of the page: every method at every rate, at one iteration (the last where None).

    Raises:
        UserError: a cell is not complete, or there is no such iteration.
    """
    return descent.at(grids.labelled(rows, SETTING), iteration, by="label")


def curves(rows: pd.DataFrame) -> Figure:
    """True loss against the codec's own over the iterations, a panel for each rate and a line for each method.

    Args:
        rows: stored lines at all iterations, as `analysis.arms.with_arms` returns them.
    """
    table = descent.changes(grids.labelled(rows, SETTING))
    rates = sorted(table[SETTING].unique())
    looks = palette.of_arms(palette.in_order(table["label"]))
    figure, panels = plt.subplots(
        1, len(rates), figsize=(2.2 + 2.4 * len(rates), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    for axes, rate in zip(panels[0], rates, strict=True):
        descent.lines(axes, table[table[SETTING] == rate], "change", looks, by="label")
        axes.set(title=f"{NAME} {rate:g}", xlabel="iteration")
    panels[0, 0].set_ylabel("true R-D loss − codec's (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks))
    return figure


def between(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The other methods against ``reference`` at the same rate, on the same image, in percent of the true loss.

    Args:
        rows: `grid`.
        reference: a label.

    Returns:
        One row per method and rate: label, rate, images, mean, low, high.
    """
    table = statistics.paired_means(rows.assign(arm=rows["label"]), "loss", reference, by=[SETTING])
    return table.rename(columns={"arm": "label"}).sort_values(["label", SETTING], ignore_index=True)


def describe_between(table: pd.DataFrame, reference: str) -> str:
    """In words, `between`: a Markdown list with a line for each method and rate."""
    lines = []
    for row in table.itertuples():
        verdict = statistics.verdict(row.low, row.high)
        change = statistics.interval(row.mean, row.low, row.high)
        lines.append(f"- {NAME} {row.rate:g}: {row.label} against {reference} {change} %, {verdict}.")
    return "\n".join(lines)


def describe_best(table: pd.DataFrame) -> str:
    """In words, each method's best rate, and whether the other rates are worse by intervals that exclude zero.

    Args:
        table: as `grids.summary` returns it.
    """
    lines = []
    for label, group in table.groupby("label", sort=False):
        best, others = group[group["best"]].iloc[0], group[~group["best"]]
        said = [
            f"{row.rate:g} costs {statistics.interval(row.change, row.change_low, row.change_high)} %"
            + ("" if row.change_low > 0 else " (not told apart)")
            for row in others.itertuples()
        ]
        lines.append(f"- {label}: the lowest true loss is at {best['rate']:g}; {', '.join(said)}.")
    return "\n".join(lines)
