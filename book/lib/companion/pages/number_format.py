"""The page on bfloat16: the true loss of the same images, refined in two formats with the same noise."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures, statistics

REFERENCE, CHANGED = "float32", "bfloat16"


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`statistics.paired` of the true loss, bfloat16 against float32: per image and iteration, percent."""
    sides = rows.assign(configuration=rows["dtype"])
    return statistics.paired(sides, "loss", REFERENCE, ["iteration"], exempt=["dtype"])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """By iteration: the mean change, with its interval, the largest, and seconds in both formats."""
    table = changes(rows)
    largest = table["change"].abs().groupby(table["iteration"]).max().rename("largest")
    seconds = rows.pivot_table(index="iteration", columns="dtype", values="seconds")
    more = pd.concat([largest, seconds], axis=1)
    return statistics.means(table, "change", ["iteration"]).join(more, on="iteration")


def figure(rows: pd.DataFrame) -> Figure:
    """`changes` of each image after each number of iterations, with mean and interval."""
    table = changes(rows[rows["iteration"] > 0])
    table = table.assign(after=[f"iteration {t:>4}" for t in table["iteration"]])
    return figures.panels(
        {"": table},
        lambda axes, part: figures.points_with_means(axes, part, "change", "after"),
        xlabel=f"true loss, {CHANGED} against {REFERENCE} (%)",
        size=(7.5, 0.7 + 0.8 * table["after"].nunique()),
    )
