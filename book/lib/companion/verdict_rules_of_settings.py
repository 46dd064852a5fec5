"""Claims about the parameters of methods: temperature, SSL's slope, the third class, another λ, the ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from sgaplus import plans, rounding, schedules

from . import closed_forms, pool, statistics
from .configurations import label
from .verdicts import Claim, Finding, check, missing, of_images, of_resamples

# Read off early: a fifth of the shorter protocol.
EARLY = 100
# The λ of the paper's ablations.
_LMBDA = 0.01
_GRID = ("atanh", "linear", "cosine", "ssl")
# Two classes against three, with the authors' best settings.
THREE = {
    "linear": "three-class:base=linear",
    "cosine": "three-class:base=cosine",
    "ssl": "three-class:base=ssl,a=1.4",
}
_READ_OFFS = (500, 2000)
_PUBLISHED = plans.plan(rounding.SSL())


def _ablation(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows on Kodak at the ablations' λ."""
    return pool.own(rows[(rows["dataset"] == "kodak") & (rows["lmbda"] == _LMBDA)])


def _widest(tables: Iterable[pd.DataFrame], columns: int) -> pd.DataFrame | None:
    """The table of the most columns among scopes, which are never mixed; None where none has enough."""
    whole = [table for table in tables if len(table.columns) >= columns and len(table)]
    return max(whole, key=lambda table: len(table.columns), default=None)


def temperature_grid(rows: pd.DataFrame, iteration: int) -> pd.DataFrame | None:
    """True losses of atanh, linear, cosine and SSL(2.3) under τ(t) = min(τ_max, exp(−0.001 t)).

    Published settings are no part of the grid where their schedule is another, as atanh's is.

    Returns:
        (images, (method, τ_max)): the τ_max that all four have, the images that have all of them; None where
        there are not two such τ_max.
    """
    names = {json.dumps(rounding.parse(spec).as_dict()): label(spec) for spec in _GRID}
    chosen = pool.at(_ablation(rows), iteration)
    chosen = chosen[chosen["method"].isin(names) & (chosen["rate"] == _PUBLISHED.lr.value)]
    schedule = chosen["temperature"].map(lambda text: schedules.parse(json.loads(text)))
    of_grid = [
        found == replace(_PUBLISHED.temperature, tau_max=tau)
        for found, tau in zip(schedule, chosen["tau_max"], strict=True)
    ]
    chosen = chosen[np.array(of_grid, dtype=bool)]
    tables = []
    for _, group in chosen.assign(name=chosen["method"].map(names)).groupby("scope", sort=False):
        table = group.pivot_table(index="image", columns=["tau_max", "name"], values="loss")
        shared = [tau for tau, own in table.T.groupby("tau_max") if len(own) == len(names)]
        tables.append(table.loc[:, shared].dropna().swaplevel(axis=1))
    return _widest(tables, 2 * len(names))


def temperature(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 3: the range of the mean true loss over τ_max."""
    atanh, linear, cosine, ssl = (label(spec) for spec in _GRID)
    found: list[Finding] = []
    for iteration in _READ_OFFS:
        at = f"{iteration} iterations"
        table = temperature_grid(rows, iteration)
        if table is None:
            found.append(
                missing(
                    f"range over τ_max, {at} (Kodak)",
                    "stability",
                    profile if iteration < _READ_OFFS[-1] else "paper",
                )
            )
            continue
        taus = sorted(set(table.columns.get_level_values("tau_max")))
        means = statistics.resampled_means(table)
        names = table.columns.get_level_values("name")
        ranges = {name: np.ptp(means[:, names == name], axis=1) for name in (atanh, linear, cosine, ssl)}
        over = f"τ_max from {taus[0]:g} to {taus[-1]:g}, {at}"
        for name, values in ranges.items():
            text = f"range of the mean true loss of {name} over {over}"
            found.append(of_resamples(text, 1000 * values, len(table), None, "× 10⁻³", ".2f"))
        pairs = [(linear, other) for other in (atanh, cosine, ssl)] + [(cosine, atanh), (ssl, atanh)]
        for first, second in pairs:
            difference = 1000 * (ranges[first] - ranges[second])
            text = f"that range, {first} − {second}, {at}"
            found.append(of_resamples(text, difference, len(table), True, "× 10⁻³"))
    return Claim(
        3,
        "The linear method is the least sensitive to the highest temperature τ_max; atanh suffers from it.",
        "The range of a method is the largest minus the smallest mean true loss over τ_max, under one schedule for "
        "all methods. At both read-offs, linear's range is smaller than that of each other method, and atanh's "
        "is larger than that of each other method, by intervals of the difference that exclude zero (images "
        "drawn for all methods and temperatures together).",
        tuple(found),
        ("stability",),
    )


def slopes(rows: pd.DataFrame, iteration: int) -> pd.DataFrame | None:
    """True losses of SSL over a with otherwise published settings: (images, a); None where there are not three."""
    chosen = pool.at(_ablation(rows), iteration)
    chosen = chosen[chosen["family"] == "ssl"]
    plain = chosen["arm"] == chosen["a"].map(lambda a: label(f"ssl:a={a}"))
    tables = []
    for _, group in chosen[plain].groupby("scope", sort=False):
        table = group.pivot_table(index="image", columns="a", values="loss")
        counts = table.count()
        tables.append(table.loc[:, counts >= counts.median()].dropna())
    return _widest(tables, 3)


def slope(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 4: a = 2.3, which is fixed beforehand, against both ends of the range of a."""
    published = rounding.SSL().a
    found: list[Finding] = []
    for iteration in _READ_OFFS:
        at = f"{iteration} iterations"
        table = slopes(rows, iteration)
        if table is None or not table.columns[0] < published < table.columns[-1] or published not in table:
            using = profile if iteration < _READ_OFFS[-1] else "paper"
            found.append(missing(f"true loss over a, {at} (Kodak)", "ssl-a", using))
            continue
        for end in (table.columns[0], table.columns[-1]):
            change = 100 * (table[end] / table[published] - 1)
            text = f"true loss at a = {end:g} against a = {published:g}, {at} (Kodak, λ = {_LMBDA:g})"
            found.append(of_images(text, change, below=False))
        means = statistics.resampled_means(table)
        best = table.columns.to_numpy()[means.argmin(1)]
        text = f"a with the lowest mean true loss among {len(table.columns)}, {at}"
        found.append(of_resamples(text, best, len(table), None, "", ".3g"))
    return Claim(
        4,
        "SSL's slope a has an interior optimum: a small a, which rounds too much at random, and a large a, whose "
        "gradients vanish, are both worse.",
        f"At both read-offs, the smallest and the largest a that were run both have a higher true loss than a = "
        f"{published:g}, the paper's, which is fixed beforehand and not chosen from these rows: paired, in percent, "
        "by intervals above zero. A lower point between two higher ends is an interior optimum.",
        tuple(found),
        ("ssl-a",),
    )


def three_class(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 5: three against two classes, early and late."""
    kodak = _ablation(rows)
    last = [t for t in _READ_OFFS if (kodak["iteration"] == t).any()]
    found: list[Finding] = []
    for two, three in THREE.items():
        names = (label(three), label(two))
        for iteration in (EARLY, *last):
            what = f"true loss, {names[0]} − {names[1]}, {iteration} iterations"
            before = len(found)
            for scope, group in pool.at(kodak, iteration).groupby("scope", sort=False):
                table = pool.differences(group, *names)
                if table is not None:
                    text = f"{what} (Kodak, {scope}, λ = {_LMBDA:g})"
                    below = True if iteration == EARLY else None
                    found.append(of_images(text, table.mean(axis=1), below))
            if len(found) == before and iteration == EARLY:
                found.append(missing(f"{what} (Kodak)", "rd", profile))
    more = len(fields(rounding.ThreeClass)) - 1
    found.append(Finding("hyperparameters that the third class adds, r and n", more, unit="", form=".0f"))
    return Claim(
        5,
        "Three-class rounding converges faster early on, at the price of more hyperparameters.",
        f"For linear, cosine and SSL, each with the authors' best three-class settings: the true loss after {EARLY} "
        "iterations is below that of the two-class method on the same image, in percent, by an interval below "
        "zero. What is left of it at the end is told beside it.",
        tuple(found),
        ("three-class",),
    )


def _reach(group: pd.DataFrame, arm: str, trained: float, tested: float) -> pd.Series | None:
    """Change in percent of the loss at λ ``tested`` from the codec of that λ to that of λ ``trained``, by image."""
    at = group[(group["lmbda"] == tested) & (group["arm"] == arm)]
    wide = at.pivot_table(index="image", columns="codec_lmbda", values="loss")
    if not {trained, tested} <= set(wide.columns):
        return None
    pair = wide[[trained, tested]].dropna()
    return 100 * (pair[trained] / pair[tested] - 1) if len(pair) else None


def other_lambda(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 7: refinement at a λ that the codec was not trained with."""
    ssl = label("ssl")
    chosen = rows[(rows["dataset"] == "kodak") & (rows["arm"] == ssl)]
    away = chosen.loc[chosen["lmbda"] != chosen["codec_lmbda"], "iteration"]
    reached = [t for t in _READ_OFFS if (away == t).any()]
    found: list[Finding] = []
    if reached:
        iteration = reached[-1]
        for scope, group in pool.at(chosen, iteration).groupby("scope", sort=False):
            found += _along(group, f"{iteration} iterations, Kodak, {scope}")
            found += _limits(group, ssl, f"{iteration} iterations, Kodak, {scope}")
    conditions = [finding.what for finding in found if finding.outcome is not None]
    for what, part in (("rate over the λ of the refinement", "step in rate"), ("the limits", "true loss")):
        if not any(part in text for text in conditions):
            found.append(missing(f"{what} (Kodak)", "semi-multi-rate", profile))
    return Claim(
        7,
        "Refining at another λ than the codec's own moves along the rate-distortion curve, within limits.",
        "For each codec that is refined with SSL at several λ: the smallest step in mean rate between neighbouring λ "
        "is above zero, by an interval that excludes zero, so that the rate rises with λ. And at the λ farthest "
        "from its own, its true loss is above that of the codec trained for that λ and refined likewise, by a "
        "paired interval above zero: the limit. The claim names no number of iterations.",
        tuple(found),
        ("semi-multi-rate",),
    )


def _along(group: pd.DataFrame, where: str) -> list[Finding]:
    found = []
    for trained, own in group.groupby("codec_lmbda"):
        wide = own.pivot_table(index="image", columns="lmbda", values="bpp").dropna()
        if len(wide.columns) < 3 or wide.empty:
            continue
        means = statistics.resampled_means(wide)
        steps = np.diff(means, axis=1)
        # The interval of that step which is the smallest in the rows themselves.
        least = int(steps[0].argmin())
        low, high = list(pairwise(wide.columns))[least]
        text = f"codec of λ = {trained:g}: smallest step in rate, from λ = {low:g} to {high:g} ({where})"
        found.append(of_resamples(text, steps[:, least], len(wide), False, "bpp", "+.4f"))
        span = f"codec of λ = {trained:g}: rate at λ = {wide.columns[-1]:g} − at λ = {wide.columns[0]:g}"
        found.append(of_resamples(span, means[:, -1] - means[:, 0], len(wide), None, "bpp", "+.3f"))
    return found


def _limits(group: pd.DataFrame, arm: str, where: str) -> list[Finding]:
    found = []
    for trained, own in group.groupby("codec_lmbda"):
        changes = {
            tested: _reach(group, arm, trained, tested)
            for tested in sorted(own["lmbda"].unique(), key=lambda value: abs(np.log(value / trained)))
            if tested != trained
        }
        changes = {tested: change for tested, change in changes.items() if change is not None}
        if not changes or own["lmbda"].nunique() < 3:
            continue
        farthest = list(changes)[-1]
        for tested, change in changes.items():
            ratio = max(tested / trained, trained / tested)
            text = (
                f"codec of λ = {trained:g} at λ = {tested:g} (ratio {ratio:.3g}): true loss against the codec "
                f"trained for it ({where})"
            )
            found.append(of_images(text, change, False if tested == farthest else None))
    return found


def gradient_at_the_ends() -> Claim:
    """Claim 8: slopes next to an integer, from the closed forms."""
    methods = [
        rounding.parse(spec) for spec in ("atanh", "linear", "cosine", "ssl:a=1.3333333333333333", "ssl")
    ]
    found: list[Finding] = []
    for method in methods:
        k = closed_forms.end_exponent(method)
        text = f"{method.label}: k of dp/dv ∝ distanceᵏ next to an integer"
        # At k = 0 the slope is constant; the fit has rounding errors.
        holds = k < -0.01 if isinstance(method, rounding.Atanh) else k > -0.01
        found.append(check(text, k, holds))
    near = torch.tensor([methods[0].clip], dtype=torch.float64)
    for method in methods:
        value = float(closed_forms.probability_slope(method, near)[0])
        text = f"{method.label}: dp/dv at a distance of {methods[0].clip:g}, where the loop clips atanh"
        found.append(Finding(text, value, unit="", form=".2g"))
    for method in methods:
        k = closed_forms.end_exponent(method, closed_forms.log_probability_slope)
        text = f"{method.label}: the same k of the logarithm of the vanishing probability"
        found.append(Finding(text, k, unit=""))
    return Claim(
        8,
        "atanh's gradient grows without bound near the ends of the interval, unlike those of the other methods.",
        "From the formulas in float64, not from rows: the slope of the (normalised) class probability by v is a power "
        "of the distance from the integer. Its exponent is negative for atanh, so that the slope has no bound, and "
        "not negative for linear, cosine and SSL. Logarithms of vanishing probabilities are steep for every "
        "method, which is told beside it and decides nothing.",
        tuple(found),
        ("probability-space",),
    )
