"""SSL's lead over atanh at the ablations' λ: as the paper has it, with better temperatures, and after more
iterations."""

from pathlib import Path

import pandas as pd

from sgaplus.codecs.series import Series

from . import palette, pool, statistics
from .configurations import label
from .tables import Col

ATANH, SSL = label("atanh"), label("ssl")
# What the comparisons need.
STUDIES = ("rd", "convergence", "clic", "stability", "fast")
COLUMNS = {
    "data": "data",
    "settings": "settings",
    "iteration": "iterations",
    "images": "images",
    "change": Col("change of the true loss, %", 2, sign=True),
    "verdict": "verdict",
}


def load(profile: str, results: str | None = None, codec: str | Series | None = None) -> pd.DataFrame:
    """`table` of what is stored in a profile of the studies that it needs."""
    return table(pool.load(profile, Path(results) if results else None, STUDIES, codec))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The true loss of SSL against that of atanh on the same image, in percent, at the λ of the ablations.

    The best τ_max of a method is chosen on the same images, under one schedule for all methods. One row per
    comparison that `pool.load` has rows for: `COLUMNS`, the interval, and all with λ in words (what).
    """
    found, lmbda = [], pool.lmbda_of(rows)

    def add(settings: str, iteration: int, dataset: str, scope: str, change: pd.Series) -> None:
        data = f"{palette.dataset(dataset)}, {scope}"
        what = f"true loss, {SSL} − {ATANH}, {settings}, {iteration} iterations ({data}, λ = {lmbda:g})"
        line = {"settings": settings, "iteration": iteration, "data": data, "images": len(change)}
        line["lmbda"] = lmbda
        found.append(line | statistics.intervals(change.to_frame("change")) | {"what": what})

    for dataset in ("kodak", "clic2020", "clic2025"):
        for iteration in (500, 2000):
            for scope, group in pool.scopes(pool.ablations(rows), iteration, dataset):
                change = pool.differences(group, SSL, ATANH)
                if change is not None and len(change) > 1:
                    add("published settings", iteration, dataset, scope, change.iloc[:, 0])
    grid = pool.temperature_grid(rows, 500)
    if grid is not None:
        best = {name: grid[name].mean().idxmin() for name in (ATANH, SSL)}
        taus = {"each at its best τ_max": best[SSL]}
        taus["SSL as published, atanh at its best τ_max"] = max(grid[SSL].columns)
        for settings, tau in taus.items():
            change = 100 * (grid[SSL][tau] / grid[ATANH][best[ATANH]] - 1)
            add(settings, 500, "kodak", pool.scope_of(grid.index[0]), change)
    columns = ["settings", "iteration", "data", "lmbda", "images"]
    columns += ["change", "change_low", "change_high", "what"]
    return statistics.with_verdicts(pd.DataFrame(found, columns=columns))


_SAID = {
    ("published settings", 500): "after 500 iterations with published settings",
    ("each at its best τ_max", 500): "where each has its best τ<sub>max</sub>",
    ("published settings", 2000): "after 2000 iterations",
}


def short(found: pd.DataFrame) -> str:
    """In a sentence: the lead after 500 and after 2000 iterations on the most images of Kodak that have both;
    empty where none has."""
    here = _both(found[found["data"].str.startswith(palette.dataset("kodak"))])
    here = here[here["images"] == here["images"].max()].set_index("iteration")
    if here.empty:
        return ""
    early, late = (statistics.said(here.loc[t], "change") for t in (500, 2000))
    return f"{SSL} differs from {ATANH} by {early} % at 500 iterations, and by {late} % at 2000."


def _both(found: pd.DataFrame) -> pd.DataFrame:
    """The published settings of those data that were refined for 500 and for 2000 iterations."""
    here = found[(found["settings"] == "published settings") & found["iteration"].isin([500, 2000])]
    return here[here.groupby("data")["iteration"].transform("nunique") == 2]


def describe(found: pd.DataFrame, dataset: str = "kodak") -> str:
    """In one sentence for the images of a data set of which most is known: the lead at 500 iterations, at the
    best temperatures, and at 2000; empty where `table` has nothing beside the published settings at 500.
    """
    own = found[found["data"].str.startswith(palette.dataset(dataset))]
    own = own[own["data"].isin(own["data"].mode()[:1])].set_index(["settings", "iteration"])
    parts = [
        f"{statistics.said(own.loc[key], 'change')} % {words} ({own.loc[key, 'images']} images)"
        for key, words in _SAID.items()
        if key in own.index
    ]
    if len(parts) < 2:
        return ""
    head = "How much of the lead is temperature" if len(parts) > 2 else "What is left of the lead"
    return (
        f"{head}: at λ = {own['lmbda'].iloc[0]:g} the true loss of {SSL} differs from that of {ATANH} by"
        f" {'; by '.join(parts)}."
    )
