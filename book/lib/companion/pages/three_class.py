"""The page on three-class rounding against two-class rounding (paper, table of the classes, Figure B.5; claim 5)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from great_tables import GT, loc, style
from matplotlib.figure import Figure

from sgaplus import rounding
from sgaplus.errors import UserError
from sgaplus.rounding import SSL, Cosine, Linear, Method, ThreeClass

from .. import palette, statistics
from . import descent

_BASES = (Linear, Cosine, SSL)


def _methods(rows: pd.DataFrame) -> dict[str, Method]:
    """The rounding methods of refined rows by their arm."""
    texts = rows[rows["iterations"] > 0].drop_duplicates("arm").set_index("arm")["method"]
    return {arm: rounding.parse(json.loads(text)) for arm, text in texts.items()}


def pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Arms to compare: (two-class, three-class) with the same function, up to SSL's a.

    Raises:
        UserError: no three-class arm has a two-class one beside it.
    """
    methods = _methods(rows)
    arms = palette.in_order(methods)
    found = [
        (two, three)
        for base in _BASES
        for three in arms
        if isinstance(methods[three], ThreeClass) and isinstance(methods[three].base, base)
        for two in arms
        if isinstance(methods[two], base)
    ]
    if not found:
        raise UserError("no three-class method is stored beside its two-class one: run the study to its end")
    return found


def select(rows: pd.DataFrame, lmbda: float) -> pd.DataFrame:
    """The two- and three-class rows at one λ, on those images on which all of them were run.

    Args:
        rows: stored lines, as `analysis.arms.with_arms` returns them; ``lmbda`` of codec and refinement alike.

    Raises:
        UserError: there is no such λ, nothing to compare, or no image with all arms.
    """
    here = rows[(rows["lmbda"] == lmbda) & (rows["codec_lmbda"] == lmbda) & (rows["iterations"] > 0)]
    if here.empty:
        known = ", ".join(f"{value:g}" for value in sorted(rows["lmbda"].unique()))
        raise UserError(f"no refinement is stored at lambda {lmbda:g}: use one of {known}")
    arms = {arm for pair in pairs(here) for arm in pair}
    here = here[here["arm"].isin(arms)]
    counts = here.groupby("image_sha256")["arm"].nunique()
    whole = counts.index[counts == len(arms)]
    if whole.empty:
        raise UserError("no image was run with two and with three classes: run the study to its end")
    here = here[here["image_sha256"].isin(whole)]
    return here.sort_values(["image", "iteration"], kind="stable", ignore_index=True)


def describe_selection(rows: pd.DataFrame) -> str:
    """In words, which images and arms the page shows.

    Args:
        rows: `select`.
    """
    names = sorted(rows["image"].unique())
    arms = palette.in_order(rows["arm"])
    return (
        f"Shown are the {len(names)} images on which all of these were run at λ = {rows['lmbda'].iloc[0]:g}: "
        f"{', '.join(arms)}. The images: {', '.join(f'`{name}`' for name in names)}."
    )


def sharpness(rows: pd.DataFrame) -> dict[str, float]:
    """SSL's a that three-class arms have but for their third class: linear's n, SSL's n·a.

    With r = 1 the third class has no mass, and the log-odds n·logit(x) and n·a·logit(x) are those of SSL. The
    cosine is no SSL, and with the authors' n = 2 it is the two-class cosine at r = 1.
    """
    methods = {arm: method for arm, method in _methods(rows).items() if isinstance(method, ThreeClass)}
    return {
        arm: method.n * (method.base.a if isinstance(method.base, SSL) else 1.0)
        for arm, method in methods.items()
        if isinstance(method.base, SSL | Linear)
    }


def against_sharpness(rows: pd.DataFrame, slopes: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Three-class arms against SSL with the next smaller and the next larger a than `sharpness` says.

    Were the third class without effect, the arm would lie between the two.

    Args:
        rows: `select`.
        slopes: stored lines of SSL over a, of the same codec.
        iteration: of both.

    Returns:
        One row per arm and neighbour: three, a (`sharpness`), ssl (a of the neighbour), images, mean, low, high in
        percent of the neighbour's true loss. Empty where nothing is stored on both sides.
    """
    ssl = slopes[(slopes["family"] == "ssl") & (slopes["iteration"] == iteration)]
    lines = []
    for arm, a in sharpness(rows).items():
        own = rows[(rows["arm"] == arm) & (rows["iteration"] == iteration)]
        there = ssl[
            ssl["image_sha256"].isin(own["image_sha256"]) & ssl["codec_sha256"].isin(own["codec_sha256"])
        ]
        below, above = there.loc[there["a"] <= a, "a"].max(), there.loc[there["a"] > a, "a"].min()
        for neighbour in (below, above):
            both = pd.concat([own, there[there["a"] == neighbour]])
            if both["arm"].nunique() < 2:
                continue
            reference = both["arm"].iloc[-1]
            found = statistics.paired_means(both, "loss", reference).rename(columns={"arm": "three"})
            lines.append(found.assign(a=a, ssl=neighbour))
    columns = ["three", "a", "ssl", "images", "mean", "low", "high"]
    return pd.concat(lines, ignore_index=True)[columns] if lines else pd.DataFrame(columns=columns)


def describe_sharpness(table: pd.DataFrame, iteration: int) -> str:
    """In words, whether three-class arms lie where SSL of the same sharpness would: a Markdown list.

    Args:
        table: as `against_sharpness` returns it.
    """
    lines = []
    for three, rows in table.groupby("three", sort=False):
        said = " and ".join(
            f"{statistics.interval(row.mean, row.low, row.high)} % against SSL (a = {row.ssl:.4g})"
            for row in rows.itertuples()
        )
        ends = rows["mean"].tolist()
        between = len(ends) == 2 and min(ends) <= 0 <= max(ends)
        verdict = (
            "it lies between the two, as its sharpness alone would have it"
            if between
            else "it does not lie between two, so its sharpness alone does not explain it"
        )
        lines.append(
            f"- {three} would be SSL with a = {rows['a'].iloc[0]:.4g} at r = 1. After {iteration} iterations its true "
            f"loss is {said}: {verdict}."
        )
    return "\n".join(lines) or "No SSL of a similar a is stored for these images."


def against_two_classes(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """Three classes against two on the same image at the same iteration, in percent of the true loss.

    Args:
        rows: `select`.

    Returns:
        One row per pair and iteration: two, three (arms), iteration, images, mean, low, high.
    """
    lines = []
    for two, three in pairs(rows):
        both = rows[rows["arm"].isin([two, three]) & rows["iteration"].isin(list(iterations))]
        lines.append(statistics.paired_means(both, "loss", two, by=["iteration"]).assign(two=two))
    table = pd.concat(lines, ignore_index=True).rename(columns={"arm": "three"})
    return table[["two", "three", "iteration", "images", "mean", "low", "high"]]


def curves(rows: pd.DataFrame) -> Figure:
    """True loss against the codec's own over the iterations: a panel for each three-class arm (Figure B.5: linear).

    Args:
        rows: `select`.
    """
    table = descent.changes(rows)
    partners: dict[str, list[str]] = {}
    for two, three in pairs(rows):
        partners.setdefault(three, []).append(two)
    looks = palette.of_arms([arm for pair in pairs(rows) for arm in pair])
    size = (1.2 + 2.6 * len(partners), 5)
    figure, panels = plt.subplots(
        1, len(partners), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, (three, twos) in zip(panels[0], partners.items(), strict=True):
        descent.lines(axes, table, "change", {arm: looks[arm] for arm in (*twos, three)})
        axes.set(xlabel="iteration")
        names = [*twos, f"three classes\n{_stretch(rows, three)}"]
        axes.legend(axes.lines, names, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.18))
    panels[0, 0].set_ylabel("true R-D loss − codec's (%)")
    return figure


def _stretch(rows: pd.DataFrame, three: str) -> str:
    """What a legend says of a three-class arm beside its base: a where it has one, r and n."""
    method = _methods(rows[rows["arm"] == three])[three]
    slope = f"a = {method.base.a:.4g}, " if isinstance(method.base, SSL) else ""
    return f"({slope}r = {method.r:.3g}, n = {method.n:.3g})"


def differences(table: pd.DataFrame) -> Figure:
    """`against_two_classes` over the iterations, a line with its 95 % interval for each pair."""
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    groups = table.groupby(["two", "three"], sort=False)
    looks = palette.of_arms([two for (two, _), _ in groups])
    for (two, three), rows in groups:
        name = (
            f"{three.split(',')[0]}: three classes against two"
            if three.startswith(two)
            else (f"{three.split(',')[0]} with three classes against {two}")
        )
        rows = rows.sort_values("iteration")
        style = looks[two] | {"linewidth": 1.8, "markersize": 5, "markevery": 4}
        axes.plot(rows["iteration"], rows["mean"], **style, label=name)
        band = rows["iteration"], rows["low"], rows["high"]
        axes.fill_between(*band, color=looks[two]["color"], alpha=0.12, linewidth=0)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xlabel="iteration", ylabel="true R-D loss, change (%)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def differences_table(table: pd.DataFrame) -> GT:
    """`against_two_classes`: a line for each pair, a column for each iteration; the lowest in a column is in bold."""
    columns = [f"{t}" for t in sorted(table["iteration"].unique())]
    shown = table[["three", "two"]].drop_duplicates(ignore_index=True)
    lowest = {}
    for column in columns:
        rows = shown.merge(table[table["iteration"] == int(column)], on=["three", "two"], how="left")
        shown[column] = [
            # A narrow column breaks between value and interval, not within the interval.
            statistics.interval(row.mean, row.low, row.high).replace(", ", ",\N{NO-BREAK SPACE}")
            for row in rows.itertuples()
        ]
        lowest[column] = int(rows["mean"].idxmin())
    made = (
        GT(shown)
        .tab_spanner("change of the true loss after so many iterations, % [95 %]", columns)
        .cols_label(three="three classes", two="against")
        .cols_align("right", columns)
        .tab_source_note(
            f"Paired over {int(table['images'].max())} images; negative where three classes have the lower true loss. "
            "Interval: percentile bootstrap over images."
        )
        .tab_options(table_font_size="14px")
    )
    for column, row in lowest.items():
        made = made.tab_style(style.text(weight="bold"), loc.body(column, [row]))
    return made


def describe_early(table: pd.DataFrame, early: int) -> str:
    """In words, for each pair, whether three classes are faster early, and what is left of it at the end.

    Three classes count as faster early where after ``early`` iterations their true loss is lower by an interval that
    excludes zero; as slower, where it is higher in that way.

    Args:
        table: as `against_two_classes` returns it.
    """
    lines = []
    for (two, three), rows in table.groupby(["two", "three"], sort=False):
        rows = rows.sort_values("iteration")
        first, last = rows[rows["iteration"] <= early], rows.iloc[-1]
        if early not in set(first["iteration"]):
            known = ", ".join(map(str, rows["iteration"]))
            raise UserError(f"the table has no iteration {early}: use one of {known}")
        if first["high"].iloc[-1] < 0:
            verdict = "**faster early**"
        elif first["low"].iloc[-1] > 0:
            verdict = "**slower early**"
        else:
            verdict = "**no difference shown early**"
        told = ", ".join(
            f"{statistics.interval(row.mean, row.low, row.high)} % after {row.iteration}"
            for row in first.itertuples()
        )
        at_end = statistics.interval(last["mean"], last["low"], last["high"])
        end = statistics.verdict(last["low"], last["high"])
        lines.append(
            f"- {three} against {two}: {verdict} ({told}). After {last['iteration']} iterations {at_end} %: {end}."
        )
    return "\n".join(lines)
