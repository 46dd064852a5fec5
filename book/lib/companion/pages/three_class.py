"""The page on three-class rounding against two-class rounding (paper, table of the classes, Figure B.5; claim
5)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from sgaplus import rounding
from sgaplus.errors import UserError
from sgaplus.rounding import SSL, Cosine, Linear, Method, ThreeClass

from .. import palette, statistics
from . import descent

# The functions that have three classes, as panels name them.
_BASES = {Linear: "linear", Cosine: "cosine", SSL: "SSL"}


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
        rows: stored lines, as `configurations.with_arms` returns them; ``lmbda`` of codec and refinement
            alike.

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


def sharpness(rows: pd.DataFrame) -> dict[str, float]:
    """SSL's a that three-class configurations have but for their third class: linear's n, SSL's n·a.

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
    """Three classes against SSL with the next smaller and the next larger a than `sharpness` says.

    Were the third class without effect, a configuration would lie between the two.

    Args:
        rows: `select`.
        slopes: stored lines of SSL over a, of the same codec.
        iteration: of both.

    Returns:
        One row per configuration and neighbour: three, a (`sharpness`), ssl (a of the neighbour), images,
        change with its interval in percent of the neighbour's true loss, and between, whether the
        configuration lies between two. Empty where nothing is stored on both sides.
    """
    ssl = slopes[(slopes["family"] == "ssl") & (slopes["iteration"] == iteration)]
    lines = []
    for arm, a in sharpness(rows).items():
        own = rows[(rows["arm"] == arm) & (rows["iteration"] == iteration)]
        there = ssl[
            ssl["image_sha256"].isin(own["image_sha256"]) & ssl["codec_sha256"].isin(own["codec_sha256"])
        ]
        below, above = there.loc[there["a"] <= a, "a"].max(), there.loc[there["a"] > a, "a"].min()
        found = []
        for neighbour in (below, above):
            both = pd.concat([own, there[there["a"] == neighbour]])
            if both["arm"].nunique() == 2:
                found.append(_changes(both, both["arm"].iloc[-1]).assign(a=a, ssl=neighbour))
        ends = [table["change"].iloc[0] for table in found]
        lines += [table.assign(between=len(ends) == 2 and min(ends) <= 0 <= max(ends)) for table in found]
    columns = ["three", "a", "ssl", "images", "change", "change_low", "change_high", "between"]
    return pd.concat(lines, ignore_index=True)[columns] if lines else pd.DataFrame(columns=columns)


def _changes(rows: pd.DataFrame, reference: str, by: Sequence[str] = ()) -> pd.DataFrame:
    table = statistics.paired_means(rows, "loss", reference, by, name="change")
    return table.rename(columns={"arm": "three"})


def against_two_classes(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """Three classes against two on the same image at the same iteration, in percent of the true loss.

    Args:
        rows: `select`.

    Returns:
        One row per pair and iteration: function, two, three, iteration, images, change with its interval,
        verdict.

    Raises:
        UserError: the rows lack one of the iterations.
    """
    if missing := sorted(set(iterations) - (known := set(rows["iteration"]))):
        raise UserError(
            f"the rows have no iteration {missing[0]}: use some of {', '.join(map(str, sorted(known)))}"
        )
    lines = []
    for two, three in pairs(rows):
        both = rows[rows["arm"].isin([two, three]) & rows["iteration"].isin(list(iterations))]
        function = _BASES[type(_methods(both)[two])]
        lines.append(_changes(both, two, ["iteration"]).assign(two=two, function=function))
    table = pd.concat(lines, ignore_index=True)
    columns = ["function", "two", "three", "iteration", "images", "change", "change_low", "change_high"]
    return statistics.with_verdicts(table[columns])


def panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`descent.changes` of the pairs by their function: three classes and what they are compared with."""
    table, methods, arms = descent.changes(rows), _methods(rows), {}
    for two, three in pairs(rows):
        arms.setdefault(_BASES[type(methods[two])], set()).update((two, three))
    return {name: table[table["arm"].isin(own)] for name, own in arms.items()}
