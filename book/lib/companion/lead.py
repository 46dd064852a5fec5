"""SSL's lead over atanh at the ablations' λ: as the paper has it, with better temperatures, and after more iterations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import palette, pool, statistics
from .configurations import label
from .tables import Col

ATANH, SSL = label("atanh"), label("ssl")
# What the comparisons need.
STUDIES = ("rd", "convergence", "clic2025", "stability", "fast")
COLUMNS = {
    "data": "data",
    "settings": "settings",
    "iteration": "iterations",
    "images": "images",
    "mean": Col("change of the true loss, %", 2, sign=True, ends=("low", "high")),
    "verdict": "verdict",
}


def load(profile: str, results: str | None = None) -> pd.DataFrame:
    """`table` of what is stored in a profile of the studies that it needs."""
    return table(pool.load(profile, Path(results) if results else None, STUDIES))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The true loss of SSL against that of atanh on the same image, in percent, at λ = `pool.LMBDA`.

    The best τ_max of a method is chosen on the same images, under one schedule for all methods.

    Args:
        rows: as `pool.load` returns them.

    Returns:
        One row per comparison that has rows: settings, iteration, data, images, mean, low, high, verdict, and all of
        the first three in words (what).
    """
    lines = []
    for dataset in ("kodak", "clic2025"):
        for iteration in (500, 2000):
            for scope, group in pool.scopes(rows[rows["lmbda"] == pool.LMBDA], iteration, dataset):
                change = pool.differences(group, SSL, ATANH)
                if change is not None and len(change) > 1:
                    lines.append(("published settings", iteration, dataset, scope, change.iloc[:, 0]))
    grid = pool.temperature_grid(rows, 500)
    if grid is not None:
        best = {name: grid[name].mean().idxmin() for name in (ATANH, SSL)}
        default = max(grid[SSL].columns)
        atanh = grid[ATANH][best[ATANH]]
        scope = pool.scope_of(grid.index[0])
        for tau, settings in (
            (best[SSL], "each at its best τ_max"),
            (default, "SSL as published, atanh at its best τ_max"),
        ):
            lines.append((settings, 500, "kodak", scope, 100 * (grid[SSL][tau] / atanh - 1)))
    columns = ["settings", "iteration", "data", "images", "mean", "low", "high", "verdict", "what"]
    found = []
    for settings, iteration, dataset, scope, change in lines:
        mean, low, high = statistics.estimate(change)
        data = f"{palette.dataset(dataset)}, {scope}"
        what = f"true loss, {SSL} − {ATANH}, {settings}, {iteration} iterations ({data}, λ = {pool.LMBDA:g})"
        said = statistics.verdict(low, high)
        found.append((settings, iteration, data, len(change), mean, low, high, said, what))
    return pd.DataFrame(found, columns=columns)


def describe(found: pd.DataFrame) -> str:
    """In one sentence for Kodak's crops: the lead at 500 iterations, at the best temperatures, and at 2000.

    Args:
        found: as `table` returns it; an empty string where one of the comparisons has no rows.
    """
    data = found.loc[found["settings"].str.contains("best"), "data"].unique()
    own = found[found["data"].isin(data)].set_index(["settings", "iteration"])
    wanted = [("published settings", 500), ("each at its best τ_max", 500), ("published settings", 2000)]
    if not set(wanted) <= set(own.index):
        return ""
    first, best, late = (f"{statistics.interval(*own.loc[key, ['mean', 'low', 'high']])} %" for key in wanted)
    return (
        f"How much of the lead is temperature: on {own['images'].iloc[0]} crops of Kodak at λ = {pool.LMBDA:g} the loss of "
        f"{SSL} differs from that of {ATANH} by {first} after 500 iterations with published settings, by {best} where "
        f"each has its best τ_max, and by {late} after 2000 iterations."
    )
