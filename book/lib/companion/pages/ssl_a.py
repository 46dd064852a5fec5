"""The page on SSL's a: the true loss over it, early and late, and which other methods it passes."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError
from sgaplus.rounding import Atanh, Cosine, Linear

from .. import closed_forms, figures
from . import descent, grids


def likeness() -> pd.DataFrame:
    """Where SSL comes nearest to other two-class methods, `closed_forms.closest_a`: label, a, distance."""
    found = [(method.label, *closed_forms.closest_a(method)) for method in (Atanh(), Linear(), Cosine())]
    return pd.DataFrame(found, columns=["label", "a", "distance"])


def _grid(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    slopes = rows[(rows["family"] == "ssl") & (rows["iterations"] > 0)]
    return descent.at(slopes, iteration).assign(label="SSL")


def over_a(rows: pd.DataFrame, reference: float, iterations: Sequence[int]) -> pd.DataFrame:
    """`grids.summary` of SSL over a, by iteration, against one a at the same iteration."""
    known = sorted(rows["a"].dropna().unique())
    if reference not in known:
        raise UserError(f"no row has a = {reference:g}: use one of {', '.join(f'{a:g}' for a in known)}")
    tables = [grids.summary(_grid(rows, t), "a", reference).assign(iteration=t) for t in iterations]
    return pd.concat(tables, ignore_index=True)


def optima(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """By iteration the best a, the ends of the grid, whether the optimum is interior (both ends are worse by
    intervals that exclude zero), and good, the a that are not significantly different from the best."""
    lines = []
    for iteration in iterations:
        table = grids.summary(_grid(rows, iteration), "a").set_index("a")
        best, ends = table["best"].idxmax(), {"first": table.index[0], "last": table.index[-1]}
        good = [a for a in table.index if a == best or table.loc[a, "change_low"] <= 0]
        line = {"iteration": iteration, "best": best, "good": set(good)}
        for name, end in ends.items():
            line |= {f"{name}{x}": table.loc[end, f"change{x}"] for x in ("", "_low", "_high")}
        line["interior"] = not set(ends.values()) & set(good)
        lines.append(line | {"alike": ", ".join(f"{a:.4g}" for a in good if a != best) or "–"})
    return pd.DataFrame(lines)


def figure(table: pd.DataFrame, reference: float, relatives: pd.DataFrame) -> Figure:
    """The change in `over_a`: a line for each iteration, the whole grid and that from 1 on; a vertical line,
    named at the left, for each method in `likeness`."""
    table = table.assign(when=[f"after {t} iterations" for t in table["iteration"]])
    table = table.fillna({"change": 0.0, "change_low": 0.0, "change_high": 0.0})

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        figures.lines(axes, part, "a", "change", by="when")
        axes.axhline(0, color="0.4", linewidth=0.8)
        for row in relatives[relatives["a"] > 0.99 * part["a"].min()].itertuples():
            axes.axvline(row.a, color="0.5", linewidth=1, linestyle=":")
            if part is table:
                text = f"{'=' if row.distance < 1e-4 else '≈'} {row.label}"
                place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
                axes.annotate(text, (row.a, 1), (2, -4), rotation=90, fontsize="small", **place)
        axes.set(xscale="log")
        figures.plain_numbers(axes.xaxis)

    parts = {"all a": table, "from a = 1 on": table[table["a"] >= 1]}
    label = f"true R-D loss against a = {reference:g} (%)"
    return figures.panels(parts, draw, xlabel="a (logarithmic)", ylabel=label, size=(4.2, 4))
