"""The page on SSL's a: the true loss over it, early and late, and which other methods it passes (paper, table a)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from great_tables import GT, loc, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy.optimize import minimize_scalar

from sgaplus.errors import UserError
from sgaplus.rounding import SSL, Atanh, Cosine, Linear, Method

from .. import palette, statistics
from . import descent

# In which SSL passes other two-class methods, in the order of their a.
RELATIVES: tuple[Method, ...] = (Atanh(), Linear(), Cosine())

# Of iterations, the late one in SSL's own.
_COLOURS = tuple(map(palette.colour, (5, 0, 7, 6)))


def likeness(methods: Sequence[Method] = RELATIVES, points: int = 999) -> pd.DataFrame:
    """The a with which SSL's probabilities are nearest to those of another two-class method.

    Returns:
        One row per method: label; a, by least squares of p(⌈v⌉) over x = v − ⌊v⌋ in (0, 1); distance, the largest
        difference in probability that remains.
    """
    x = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    lines = []
    for method in methods:
        wanted = method.probabilities(x)[:, 1].numpy()

        def difference(a: float, wanted: np.ndarray = wanted) -> np.ndarray:
            return SSL(a).probabilities(x)[:, 1].numpy() - wanted

        found = minimize_scalar(
            lambda a: float(np.square(difference(a)).sum()), bounds=(0.05, 20), options={"xatol": 1e-6}
        )
        distance = float(np.abs(difference(found.x)).max())
        lines.append({"label": method.label, "a": float(found.x), "distance": distance})
    return pd.DataFrame(lines)


def describe_likeness(table: pd.DataFrame) -> str:
    """In words, where SSL meets the methods of `likeness`."""
    said = [
        f"{row.label} at a = {row.a:.3g} ("
        + ("the same function" if row.distance < 1e-4 else f"p differs by at most {row.distance:.3f}")
        + ")"
        for row in table.itertuples()
    ]
    return f"SSL comes nearest to {', to '.join(said)}; by least squares of the probability."


def over_a(rows: pd.DataFrame, reference: float, iterations: Sequence[int]) -> pd.DataFrame:
    """The true loss of SSL over a, and paired differences from one a.

    Args:
        rows: stored lines, as `analysis.arms.with_arms` returns them.
        reference: the a with which all others are compared, at the same iteration.

    Returns:
        One row per iteration and a: iteration, a, images, mean with low and high (true loss); change with
        change_low and change_high in percent, 0 for the reference; seeds and spread over them (NaN for one).

    Raises:
        UserError: there is no such a or iteration.
    """
    slopes = rows[(rows["family"] == "ssl") & (rows["iterations"] > 0)]
    known = sorted(slopes["a"].unique())
    if reference not in known:
        raise UserError(f"no row has a = {reference:g}: use one of {', '.join(f'{a:g}' for a in known)}")
    found = []
    for iteration in iterations:
        here = descent.at(slopes, iteration)
        table = statistics.means(here, "loss", ["a"]).merge(statistics.seed_spread(here, "loss", ["a"]))
        changes = _against(here, reference).rename(columns={"mean": "change"})
        changes = changes.rename(columns={"low": "change_low", "high": "change_high"}).drop(columns="images")
        table = table.merge(changes, on="a", how="left")
        table.loc[table["a"] == reference, ["change", "change_low", "change_high"]] = 0.0
        found.append(table.assign(iteration=iteration).sort_values("a"))
    return pd.concat(found, ignore_index=True)


def _against(rows: pd.DataFrame, reference: float) -> pd.DataFrame:
    """Paired differences in percent from one a, one row per other a: a, images, mean, low, high."""
    table = statistics.paired_means(rows.assign(arm=rows["a"]), "loss", reference)
    return table.rename(columns={"arm": "a"}).astype({"a": float})


def against_best(rows: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """Paired differences in percent from the a of the lowest mean true loss, at one iteration.

    Args:
        rows: as for `over_a`.
        iteration: the last one where None.

    Returns:
        One row per a in ascending order: a, images, mean, low, high; all zero for the best.

    Raises:
        UserError: there is no such iteration, or SSL was run with fewer than three a.
    """
    here = descent.at(rows[rows["family"] == "ssl"], iteration)
    means = statistics.means(here, "loss", ["a"]).set_index("a")
    if len(means) < 3:
        raise UserError(f"an optimum over a needs at least three of them, not {len(means)}: run the study")
    best = float(means["mean"].idxmin())
    own = {"a": best, "images": means.loc[best, "images"], "mean": 0.0, "low": 0.0, "high": 0.0}
    table = pd.concat([_against(here, best), pd.DataFrame([own])])
    return table.sort_values("a", ignore_index=True)


def is_interior(table: pd.DataFrame) -> bool:
    """Whether the best a is at neither end of the grid, and both ends are worse by intervals that exclude zero.

    Args:
        table: as `against_best` returns it.
    """
    return bool((table["low"].iloc[[0, -1]] > 0).all())


def describe_optimum(table: pd.DataFrame, iteration: int) -> str:
    """In words, where the optimum of `against_best` is, whether it is interior, and which a are not told apart."""
    best = float(table.loc[table["mean"] == 0, "a"].iloc[0])
    ends = [
        f"a = {row.a:.4g} costs {statistics.interval(row.mean, row.low, row.high)} %"
        for row in table.iloc[[0, -1]].itertuples()
        if row.a != best
    ]
    verdict = "an interior one" if is_interior(table) else "not shown to be an interior one"
    alike = table[(table["low"] <= 0) & (table["a"] != best)]["a"]
    text = (
        f"At iteration {iteration} the lowest mean true loss is that of a = {best:.4g}; against it, on the same "
        f"images, {' and '.join(ends)}. By the criterion that the best a is at no end of the grid and both ends are "
        f"worse by intervals that exclude zero, the optimum is {verdict}."
    )
    if len(alike):
        text += f" Not told apart from the best: a = {', '.join(f'{a:.4g}' for a in alike)}."
    return text


def describe_shift(rows: pd.DataFrame, early: int, late: int) -> str:
    """In words, how the best a moves from an early iteration to a late one."""
    best = {}
    for iteration in (early, late):
        table = against_best(rows, iteration)
        best[iteration] = float(table.loc[table["mean"] == 0, "a"].iloc[0])
    first, second = best[early], best[late]
    if first == second:
        moved = "is the same at both"
    else:
        moved = f"moves {'down' if second < first else 'up'} from a = {first:.4g} to a = {second:.4g}"
    return f"From iteration {early} to {late} the best a of the grid {moved}."


def _axis_of_a(axes: Axes, values: Sequence[float], reference: float) -> None:
    """A logarithmic axis with the grid's a, but for those whose labels would overlap that of a smaller one."""
    near = 0.07 * np.log(max(values) / min(values))
    shown: list[float] = []
    for a in sorted(values, key=lambda a: (a != reference, a)):
        if all(abs(np.log(a / other)) > near for other in shown):
            shown.append(a)
    axes.set(xscale="log", xlabel="a (logarithmic)")
    axes.set_xticks(shown, [f"{a:.2g}" for a in shown], fontsize="small")
    axes.xaxis.set_minor_locator(NullLocator())


def slopes(table: pd.DataFrame, reference: float, relatives: pd.DataFrame) -> Figure:
    """The paired change of the true loss against the reference a, over a: a line for each iteration.

    At the left the whole grid, at the right the a from 1 on, on a scale of their own.

    Args:
        table: as `over_a` returns it.
        relatives: as `likeness` returns it; a vertical line each, named at the left.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    for axes, part in zip(panels, (table, table[table["a"] >= 1]), strict=True):
        for position, (iteration, rows) in enumerate(part.groupby("iteration")):
            bars = [rows["change"] - rows["change_low"], rows["change_high"] - rows["change"]]
            form = palette.MARKERS[position % 4] + palette.DASHES[position % 4]
            look = {"color": _COLOURS[position % 4], "capsize": 3, "label": f"iteration {iteration}"}
            axes.errorbar(rows["a"], rows["change"], bars, fmt=form, **look)
        axes.axhline(0, color="0.4", linewidth=0.8)
        for row in relatives[relatives["a"] > 0.99 * part["a"].min()].itertuples():
            axes.axvline(row.a, color="0.5", linewidth=1, linestyle=":")
            if axes is panels[0]:
                text = f"{'=' if row.distance < 1e-4 else '≈'} {row.label}"
                place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
                axes.annotate(text, (row.a, 1), (2, -4), rotation=90, fontsize="small", **place)
        _axis_of_a(axes, part["a"].unique(), reference)
    panels[0].set_ylabel(f"true R-D loss against a = {reference:g} (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def slopes_table(table: pd.DataFrame, reference: float) -> GT:
    """`over_a` as a table: a line for each a, two columns for each iteration; the lowest true losses are in bold."""
    iterations = list(dict.fromkeys(table["iteration"]))
    shown = pd.DataFrame({"a": [f"{a:.4g}" for a in table["a"].drop_duplicates()]})
    made_bold, labels = {}, {}
    for iteration in iterations:
        rows = table[table["iteration"] == iteration].reset_index(drop=True)
        shown[f"loss {iteration}"] = rows["mean"].map("{:.4f}".format)
        shown[f"change {iteration}"] = [
            "–" if row.a == reference else statistics.interval(row.change, row.change_low, row.change_high)
            for row in rows.itertuples()
        ]
        if (rows["seeds"] > 1).any():
            shown[f"spread {iteration}"] = rows["spread"].map("{:.1e}".format)
            labels[f"spread {iteration}"] = "SD over seeds"
        made_bold[f"loss {iteration}"] = int(rows["mean"].idxmin())
        labels |= {f"loss {iteration}": "true R-D loss", f"change {iteration}": "change, % [95 %]"}
    made = GT(shown, rowname_col="a").tab_stubhead("a").cols_label(**labels).cols_align("right")
    for iteration in iterations:
        made = made.tab_spanner(
            f"iteration {iteration}", [c for c in shown if c.endswith(f" {iteration}")], id=f"i{iteration}"
        )
    for column, row in made_bold.items():
        made = made.tab_style(style.text(weight="bold"), loc.body(column, [row]))
    return made.tab_source_note(
        f"Mean over {int(table['images'].max())} images. Change: against a = {reference:g} at the same iteration, on the "
        "same image; interval: percentile bootstrap over images."
    ).tab_options(table_font_size="14px")
