"""The page on three-class rounding against two-class rounding (paper, Figure B.5; claim 5)."""

import itertools
import json
from collections.abc import Sequence

import pandas as pd

from sgaplus import rounding
from sgaplus.errors import UserError
from sgaplus.rounding import SSL, Cosine, Linear, Method, ThreeClass

from .. import palette, pool, statistics
from . import descent

# The functions that have three classes, as panels name them.
_BASES = {Linear: "linear", Cosine: "cosine", SSL: "SSL"}


def _methods(rows: pd.DataFrame) -> dict[str, Method]:
    """The rounding methods of refined rows by their configuration."""
    refined = rows[rows["iterations"] > 0].drop_duplicates("configuration").set_index("configuration")
    return {name: rounding.parse(json.loads(text)) for name, text in refined["method"].items()}


def pairs(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """What to compare: (function, two-class, three-class), both with the same function, up to SSL's a."""
    methods = _methods(rows)
    names = palette.in_order(methods)
    found = [
        (function, two, three)
        for base, function in _BASES.items()
        for three, two in itertools.product(names, names)
        if isinstance(methods[three], ThreeClass) and isinstance(methods[three].base, base)
        if isinstance(methods[two], base)
    ]
    if not found:
        raise UserError("no three-class method is stored beside its two-class one: run the study to its end")
    return found


def select(rows: pd.DataFrame, lmbda: float) -> pd.DataFrame:
    """The two- and three-class rows at one λ of codec and refinement, on the images on which all were run; of
    several runs the longest, so that a curve is one run."""
    here = pool.own(rows[(rows["lmbda"] == lmbda) & (rows["iterations"] > 0)])
    if here.empty:
        known = ", ".join(f"{value:g}" for value in sorted(rows["lmbda"].unique()))
        raise UserError(f"no refinement is stored at lambda {lmbda:g}: use one of {known}")
    names = {name for _, *pair in pairs(here) for name in pair}
    here = here[here["configuration"].isin(names)]
    counts = here.groupby("image_sha256")["configuration"].transform("nunique")
    here = here[counts == len(names)]
    if here.empty:
        raise UserError("no image was run with two and with three classes: run the study to its end")
    runs = here.groupby(["configuration", "image_sha256", "seed"])["iterations"]
    here = here[here["iterations"] == runs.transform("max")]
    return here.sort_values(["image", "iteration"], kind="stable", ignore_index=True)


def sharpness(rows: pd.DataFrame) -> dict[str, float]:
    """SSL's a that three-class configurations have but for their third class: linear's n, SSL's n·a.

    With r = 1 the third class has no mass, and the log-odds n·logit(x) and n·a·logit(x) are those of SSL. The
    cosine is no SSL, and with the authors' n = 2 it is the two-class cosine at r = 1.
    """
    return {
        name: method.n * getattr(method.base, "a", 1.0)
        for name, method in _methods(rows).items()
        if isinstance(method, ThreeClass) and isinstance(method.base, SSL | Linear)
    }


def against_sharpness(rows: pd.DataFrame, slopes: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Three classes against SSL with the next smaller and the next larger a than `sharpness` says: were the
    third class without effect, a configuration would lie between the two.

    Args:
        slopes: stored lines of SSL over a, of the same codec.

    Returns:
        By configuration (``three``) and neighbour (``ssl``, its a): change in percent of the neighbour's true
        loss, and whether the configuration lies between two by their intervals.
    """
    ssl = slopes[(slopes["family"] == "ssl") & (slopes["iteration"] == iteration)]
    found = []
    for name, a in sharpness(rows).items():
        own = rows[(rows["configuration"] == name) & (rows["iteration"] == iteration)]
        there = ssl[
            ssl["image_sha256"].isin(own["image_sha256"]) & ssl["codec_sha256"].isin(own["codec_sha256"])
        ]
        neighbours = there.loc[there["a"] <= a, "a"].max(), there.loc[there["a"] > a, "a"].min()
        lines = [
            _changes(pd.concat([own, side]), side["configuration"].iloc[0]).assign(a=a, ssl=neighbour)
            for neighbour in neighbours
            if len(side := there[there["a"] == neighbour])
        ]
        sides = {line["verdict"].iloc[0] for line in lines}
        found += [line.assign(between=sides == {"lower", "higher"}) for line in lines]
    columns = ["three", "a", "ssl", "images", "change", "change_low", "change_high", "between"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def named(which: pd.Series) -> str:
    """How many of a series are true, and their names."""
    return f"{which.sum()} ({'; '.join(which.index[which])})" if which.any() else "none"


def _changes(rows: pd.DataFrame, reference: str, by: Sequence[str] = ()) -> pd.DataFrame:
    table = statistics.paired_means(rows, "loss", reference, by)
    return table.rename(columns={"configuration": "three"})


def against_two_classes(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """Three classes against two by pair and iteration, on the same image, in percent of the true loss."""
    here = rows[rows["iteration"].isin(list(iterations))]
    found = [
        _changes(here[here["configuration"].isin([two, three])], two, ["iteration"]).assign(
            two=two, function=function
        )
        for function, two, three in pairs(rows)
    ]
    return pd.concat(found, ignore_index=True)


def panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`descent.changes` of the pairs by their function: three classes and what they are compared with."""
    table, names = descent.changes(rows), {}
    for function, *pair in pairs(rows):
        names.setdefault(function, set()).update(pair)
    return {function: table[table["configuration"].isin(own)] for function, own in names.items()}
