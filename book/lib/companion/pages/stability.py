"""The page on the highest temperature τ_max: how much each method minds it (paper, table of τ_max; claim 3)."""

from __future__ import annotations

import pandas as pd

from sgaplus import rounding

from . import descent, grids

SETTING, NAME = "tau_max", "τ_max"


def grid(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """The rows of the page: every method at every τ_max, at one iteration (the last where None).

    Raises:
        UserError: a cell is not complete, or there is no such iteration.
    """
    return descent.at(grids.labelled(rows, SETTING), iteration, by="label")


def describe_schedule(rows: pd.DataFrame) -> str:
    """In words, at which τ_max the temperature has left its highest value by the iteration of ``rows``.

    Args:
        rows: `grid`.
    """
    last = rows.groupby(SETTING)["tau"].max()
    kept = last >= last.index * (1 - 1e-9)
    iteration = int(rows["iteration"].iloc[0])
    if not kept.any():
        return f"By iteration {iteration}, where τ = {last.max():.3f}, every run has left its τ_max."
    which = ", ".join(f"{value:g}" for value in last.index[kept])
    left = f" (all others have come to {last[~kept].max():.3f})" if not kept.all() else ""
    return (
        f"At iteration {iteration}, τ is still τ_max in the runs with τ_max = {which}{left}. They have kept one "
        "temperature throughout: what the grid compares there are constant temperatures, not annealing."
    )


def describe_claim(ranges: pd.DataFrame) -> str:
    """In words, whether linear is the least sensitive to τ_max and atanh sensitive, as the paper says.

    Linear counts as the least sensitive where its range is the smallest and every other method's is larger by an
    interval that excludes zero; atanh suffers where its range is the largest and above the smallest in that way.

    Args:
        ranges: as `grids.ranges` returns them.
    """
    linear, atanh = rounding.Linear().label, rounding.Atanh().label
    table = ranges.set_index("label")
    clear = table["difference_low"] > 0
    rank = list(ranges["label"])
    if rank[0] == linear:
        margin = (
            "by intervals that exclude zero" if clear.iloc[1:].all() else "but not clearly so for all others"
        )
        first = f"has the smallest range, {margin}"
    else:
        margin = "by an interval that excludes zero" if clear[linear] else "but the two are not told apart"
        first = f"has a larger range than {rank[0]}, {margin}"
    if rank[-1] == atanh:
        margin = "clearly" if clear[atanh] else "though not clearly"
        second = f"has the largest, {margin} above the smallest"
    else:
        second = f"has not the largest, which is that of {rank[-1]}"
    return f"In these rows {linear} {first}; {atanh} {second}."
