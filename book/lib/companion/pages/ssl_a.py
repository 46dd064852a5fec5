"""The page on SSL's a: the true loss over it, early and late, and which other methods it passes (paper, table
a)."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError
from sgaplus.rounding import Atanh, Cosine, Linear

from .. import closed_forms, figures, statistics
from ..tables import Col
from . import descent


def likeness() -> pd.DataFrame:
    """Where SSL comes nearest to other two-class methods, `closed_forms.closest_a`: label, a, distance."""
    found = [(method.label, *closed_forms.closest_a(method)) for method in (Atanh(), Linear(), Cosine())]
    return pd.DataFrame(found, columns=["label", "a", "distance"])


def over_a(rows: pd.DataFrame, reference: float, iterations: Sequence[int]) -> pd.DataFrame:
    """The true loss of SSL over a, and paired differences from one a at the same iteration.

    Returns:
        By iteration and a: iteration, a, images; loss with its interval; change with its interval in percent,
        NaN for the reference; seeds and spread over them (NaN for one).
    """
    slopes = rows[(rows["family"] == "ssl") & (rows["iterations"] > 0)]
    if reference not in (known := sorted(slopes["a"].unique())):
        raise UserError(f"no row has a = {reference:g}: use one of {', '.join(f'{a:g}' for a in known)}")
    found = []
    for iteration in iterations:
        here = descent.at(slopes, iteration)
        table = statistics.means(here, "loss", ["a"]).merge(statistics.seed_spread(here, "loss", ["a"]))
        changes = _against(here, reference).drop(columns="images")
        found.append(table.merge(changes, on="a", how="left").assign(iteration=iteration))
    return pd.concat(found, ignore_index=True)


def _against(rows: pd.DataFrame, reference: float) -> pd.DataFrame:
    """`statistics.paired_means` from one a, by other a."""
    table = statistics.paired_means(rows.assign(configuration=rows["a"]), "loss", reference)
    return table.rename(columns={"configuration": "a"}).drop(columns="verdict").astype({"a": float})


def against_best(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """Paired differences in percent from the a of the lowest mean true loss, at one iteration (the last where
    None): a in ascending order, images, change with its interval; all zero for the best."""
    here = descent.at(rows[rows["family"] == "ssl"], iteration)
    means = statistics.means(here, "loss", ["a"]).set_index("a")
    if len(means) < 3:
        raise UserError(f"an optimum over a needs at least three of them, not {len(means)}: run the study")
    best = float(means["loss"].idxmin())
    own = {
        "a": best,
        "images": means.loc[best, "images"],
        "change": 0.0,
        "change_low": 0.0,
        "change_high": 0.0,
    }
    return pd.concat([_against(here, best), pd.DataFrame([own])]).sort_values("a", ignore_index=True)


OPTIMA = {
    "best": Col("best a"),
    "first": Col("at the smallest a", 2, sign=True, under="true loss above that of the best, %"),
    "last": Col("at the largest a", 2, sign=True, under="true loss above that of the best, %"),
    "interior": "interior?",
    "alike": "not significantly different from the best",
}


def optima(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """By iteration `OPTIMA` of `against_best`, where the optimum is interior if both ends are worse by
    intervals that exclude zero; and good, the set of the best a and of those not significantly different."""
    lines = []
    for iteration in iterations:
        table = against_best(rows, iteration).set_index("a")
        best, good = table["change"].idxmin(), table.index[table["change_low"] <= 0]
        line = {"iteration": iteration, "best": best, "good": set(good)}
        for name, end in (("first", table.index[0]), ("last", table.index[-1])):
            line |= {f"{name}{x}": table.loc[end, f"change{x}"] for x in ("", "_low", "_high")}
        line["interior"] = not {table.index[0], table.index[-1]} & set(good)
        lines.append(line | {"alike": ", ".join(f"{a:.4g}" for a in good if a != best) or "–"})
    return pd.DataFrame(lines)


def figure(table: pd.DataFrame, reference: float, relatives: pd.DataFrame) -> Figure:
    """The paired change against the reference a, over a: a line for each iteration, the whole grid and that
    from 1 on.

    Args:
        table: `over_a`.
        relatives: `likeness`; a vertical line each, named at the left.
    """
    table = table.assign(when=[f"after {t} iterations" for t in table["iteration"]])
    table = table.fillna({"change": 0.0, "change_low": 0.0, "change_high": 0.0})

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        figures.bands(axes, part, "a", "change", by="when")
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
