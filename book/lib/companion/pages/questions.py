"""The first six of the ten questions: what the methods' formulas say."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus import rounding

from .. import closed_forms, figures, palette, pool, tables, verdict_rules
from ..verdicts import Claim
from .claims import verdict


def missing(study: str, profile: str) -> str:
    """What a page says in place of rows that are not stored: the command that computes them."""
    return f"*There are no rows for this yet: `sgaplus study run {study} --profile {profile}` computes them.*"


def judged(claim: Claim) -> str:
    """A claim's verdict with a link to its numbers."""
    number = claim.number
    return f'Verdict on <a href="claims.html#claim-{number}">claim {number}</a>: {verdict(claim)}.'


def methods() -> list[rounding.TwoClass]:
    """The four two-class methods of the paper's figures."""
    return [rounding.parse(spec) for spec in pool.GRID]


def curves(
    table: pd.DataFrame, by: str, x: str, y: str, axis: Mapping[str, Any] = MappingProxyType({}), **how: Any
) -> Figure:
    """A line for each ``by``, in a panel for each ``panel`` where the table has one; ``axis`` is for
    `matplotlib.axes.Axes.set`, ``how`` for `figures.panels`."""
    parts = dict(list(table.groupby("panel", sort=False))) if "panel" in table else {"": table}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        for name, look in palette.looks(part[by]).items():
            line = part[part[by] == name]
            axes.plot(line[x], line[y], **look | {"marker": ""}, linewidth=1.8, label=name)
        axes.set(**axis)
        if axis.get("xscale") == "log":
            figures.plain_numbers(axes.xaxis)

    return figures.panels(parts, draw, size=(4, 3.2), **how)


# Question 1


def shapes() -> pd.DataFrame:
    """Shapes at τ = 1: exponent is k of dp/dv ∝ distanceᵏ at an integer, wrong a mean over v."""
    at = torch.tensor([0.5, 0.01], dtype=torch.float64)
    lines = []
    for method in [*methods(), rounding.SSL(4 / 3)]:
        middle, near = closed_forms.probability_slope(method, at).tolist()
        a, left = closed_forms.closest_a(method)
        exponent, wrong = closed_forms.end_exponent(method), closed_forms.wrong_class(method)
        lines.append((method.label, middle, near, exponent, wrong, a, left))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("shapes")])


# Question 2


def budgets(tau: float) -> pd.DataFrame:
    """Where a method spends the mean derivative of its draws, which is 1 over any unit interval."""
    marks = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    lines = []
    for method in methods():
        at = closed_forms.moments(method, marks, tau)
        value, size = at["value"], np.hypot(at["slope"], at["slope_sd"])
        ratio = np.divide(at["slope"], size, out=np.zeros_like(size), where=size > 0)
        noise = float(closed_forms.moments(method, closed_forms.midpoints(99), tau, 4001)["value_sd"].mean())
        shares = 100 * (value[3] - value[1]), 100 * (value[0] + 1 - value[4])
        lines.append((method.label, *shares, noise, at["value_sd"][0], ratio[2], ratio[0]))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("budgets")])


def moments(tau: float) -> pd.DataFrame:
    """Over v: mean and standard deviation of a draw's derivative (slope), and that of the draw (value)."""
    x = closed_forms.midpoints(99)
    parts = [
        pd.DataFrame({"method": method.label, "v": x.numpy()} | closed_forms.moments(method, x, tau, 4001))
        for method in methods()
    ]
    return pd.concat(parts, ignore_index=True)[["method", "v", "slope", "slope_sd", "value_sd"]]


def gradients(table: pd.DataFrame) -> Figure:
    """`moments`, a panel for each."""
    wide = table.pivot_table(index="v", columns="method", sort=False)
    names = ("mean of ds/dv", "standard deviation of ds/dv", "standard deviation of s")
    parts = dict(zip(names, (wide[name] for name in ("slope", "slope_sd", "value_sd")), strict=True))
    return figures.over_fraction(parts, wide.index, "", 5, (2.8, 2.8))


# Question 3


def thirds() -> pd.DataFrame:
    """Probability of the third integer at the authors' best r and n, with and without stretching."""
    lines = []
    for spec in verdict_rules.THREE.values():
        method = rounding.parse(spec)
        whole = rounding.ThreeClass(method.base, 1.0, method.n)
        masses = (closed_forms.third_mass(kind) for kind in (method, whole))
        lines.append((method.label, 1 / method.r - 1, *masses))
    return pd.DataFrame(lines, columns=["method", *tables.columns_of("third-class")])


def third_class(r: Sequence[float], n: Sequence[float]) -> pd.DataFrame:
    """Linear's third integer over the distance from the nearest one: each r and n at the other's best."""
    best, w = rounding.ThreeClass(), np.linspace(0, 0.3, 301)
    over_r, over_n = f"over r, at n = {best.n:g}", f"over n, at r = {best.r:g}"
    settings = [(over_r, f"r = {value:g}", value, best.n) for value in r]
    settings += [(over_n, f"n = {value:g}", best.r, value) for value in n]
    parts = []
    for panel, setting, stretch, power in settings:
        method = rounding.ThreeClass(rounding.Linear(), stretch, power)
        mass = method.probabilities(torch.from_numpy(w))[:, 0]
        found = {"panel": panel, "setting": setting, "distance": w, "probability": mass}
        parts.append(pd.DataFrame(found))
    return pd.concat(parts, ignore_index=True)


# Question 4


def randomness() -> pd.DataFrame:
    """How far a draw is from the rounded value over τ, mean over the noise and over v (error)."""
    taus, x = np.linspace(0.1, 1, 19), closed_forms.midpoints(49)
    lines = [
        (method.label, tau, float(closed_forms.moments(method, x, tau, 1001)["error"].mean()))
        for method in methods()
        for tau in taus
    ]
    return pd.DataFrame(lines, columns=["method", "tau", "error"])


# Question 6


def slope_of_ssl() -> pd.DataFrame:
    """What SSL's a does to probabilities and gradients, in percent: a, what, percent."""
    lines = {
        "probability of the farther integer": closed_forms.wrong_class,
        "share of v with dp/dv below 0.1": closed_forms.flat_share,
    }
    found = [
        (a, name, 100 * of(rounding.SSL(a))) for name, of in lines.items() for a in np.geomspace(0.3, 10, 41)
    ]
    return pd.DataFrame(found, columns=["a", "what", "percent"])
