"""SSL's lead over atanh at the ablations' λ: as published, with better temperatures, later."""

import itertools
from pathlib import Path

import pandas as pd

from sgaplus.codecs.series import Series

from . import palette, pool, statistics
from .configurations import label

ATANH, SSL = label("atanh"), label("ssl")
# What the comparisons need.
STUDIES = ("rd", "convergence", "clic", "stability", "fast")


def load(profile: str, results: str | None = None, codec: str | Series | None = None) -> pd.DataFrame:
    """`table` of what is stored in a profile of the studies that it needs."""
    return table(pool.load(profile, Path(results) if results else None, STUDIES, codec))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The true loss of SSL against that of atanh on the same image, in percent, at the λ of the ablations.

    The best τ_max of a method is chosen on the same images, under one schedule for all methods. One row per
    comparison that `pool.load` has rows for: the table ``lead``, lmbda and the interval.
    """
    found: list[dict] = []

    def add(settings: str, iteration: int, dataset: str, scope: str, change: pd.Series) -> None:
        data = f"{palette.dataset(dataset)}, {scope}"
        line = {"settings": settings, "iteration": iteration, "data": data, "lmbda": pool.lmbda_of(rows)}
        found.append(line | {"images": len(change)} | statistics.intervals(change.to_frame("change")))

    for dataset, iteration in itertools.product(("kodak", "clic2020", "clic2025"), (500, 2000)):
        for scope, group in pool.scopes(pool.ablations(rows), iteration, dataset):
            change = pool.differences(group, SSL, ATANH)
            if change is not None and len(change) > 1:
                add("published settings", iteration, dataset, scope, change.iloc[:, 0])
    for iteration in (500, 2000):
        grid = pool.temperature_grid(rows, iteration)
        if grid is None:
            continue
        best = {name: grid[name].mean().idxmin() for name in (ATANH, SSL)}
        taus = {"each at its best τ_max": best[SSL]}
        if best[SSL] != max(grid[SSL].columns):
            taus["SSL as published, atanh at its best τ_max"] = max(grid[SSL].columns)
        for settings, tau in taus.items():
            change = 100 * (grid[SSL][tau] / grid[ATANH][best[ATANH]] - 1)
            add(settings, iteration, "kodak", pool.scope_of(grid.index[0]), change)
    columns = ["settings", "iteration", "data", "lmbda", "images", "change", "change_low", "change_high"]
    return statistics.with_verdicts(pd.DataFrame(found, columns=columns))


def early_and_late(found: pd.DataFrame, dataset: str = "kodak") -> pd.DataFrame:
    """The published settings after 500 and after 2000 iterations, by iteration, on those pictures of a data
    set of which most have both; empty where none has."""
    here = found[(found["settings"] == "published settings") & found["iteration"].isin([500, 2000])]
    here = here[here["data"].str.startswith(palette.dataset(dataset))]
    counts = here.pivot_table(index="data", columns="iteration", values="images").dropna().min(axis=1)
    return here[here["data"].isin(counts.nlargest(1).index)].sort_values("iteration")


def short(found: pd.DataFrame, dataset: str = "kodak") -> str:
    """`early_and_late` in a sentence; empty where there is none."""
    lines = early_and_late(found, dataset).to_dict("records")
    parts = [
        f"{statistics.said(line, 'change')} % after {line['iteration']} iterations ({line['images']} images)"
        for line in lines
    ]
    if len(parts) < 2:
        return ""
    return (
        f"At λ = {lines[0]['lmbda']:g} the true loss of {SSL} differs from that of {ATANH} by"
        f" {' and by '.join(parts)}."
    )
