"""What the first six of the ten questions rest on: shapes, draws, classes, temperature, λ, SSL's a."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from great_tables import GT
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from sgaplus import plans, rounding

from .. import cells, closed_forms, pool, verdict_rules_of_settings
from ..configurations import label
from ..verdict_rules import place
from ..verdicts import Claim, Finding
from .claims import verdict
from .question_figures import inner, mean_with_interval, methods

KODAK = "kodak"


def lacking(study: str, profile: str) -> str:
    """What is said in place of a figure or a number without rows."""
    return f"*There are no rows for this yet: `sgaplus study run {study} --profile {profile}` computes them.*"


def show(figure: Figure | None, missing: str, **words: Any) -> None:
    """`cells.show`, or the sentence ``missing`` where there are no rows for the figure."""
    if figure is None:
        display(Markdown(missing))
    else:
        cells.show(figure, **words)


def show_table(make: Callable[[pd.DataFrame], GT], data: pd.DataFrame, missing: str, **words: Any) -> None:
    """`cells.show_table` of ``make(data)``, or the sentence ``missing`` where there are no rows."""
    if data.empty:
        display(Markdown(missing))
    else:
        cells.show_table(make(data), data, **words)


def quoted(claim: Claim, *parts: str) -> str:
    """Findings of a claim with a value whose words contain one of ``parts`` (all where none), as a list."""
    told = [finding for finding in claim.findings if not np.isnan(finding.value)]
    if parts:
        told = [finding for finding in told if any(part in finding.what for part in parts)]
    return "\n".join(f"- {finding.what}: **{finding.numbers}**" for finding in told)


def judged(claim: Claim, missing: str, *parts: str) -> str:
    """A claim's verdict and its numbers in Markdown, or the sentence ``missing`` where it has none."""
    text = quoted(claim, *parts)
    if not text:
        return missing
    link = f'<a href="claims.html">claim {claim.number}</a>'
    return f"{text}\n\nThe verdict on {link} is: {verdict(claim)}."


# Question 1


def shapes() -> pd.DataFrame:
    """Each method's probability in numbers.

    Returns:
        method, middle (dp/dv at ½), exponent (k of dp/dv ∝ distanceᵏ at an integer), near (dp/dv at a distance
        of 0.01), wrong (probability of the farther integer, mean over v, τ = 1), a (of the SSL that comes
        closest) and left (the largest difference of the probabilities from it).
    """
    at = torch.tensor([0.5, 0.01], dtype=torch.float64)
    lines = []
    for method in [*methods(), rounding.SSL(4 / 3)]:
        middle, near = closed_forms.probability_slope(method, at).tolist()
        a, left = closed_forms.closest_a(method)
        lines.append(
            {
                "method": method.label,
                "middle": middle,
                "near": near,
                "exponent": closed_forms.end_exponent(method),
                "wrong": closed_forms.wrong_class(method),
                "a": a,
                "left": left,
            }
        )
    return pd.DataFrame(lines)


def shapes_table(table: pd.DataFrame) -> GT:
    """`shapes` as a table."""
    return (
        GT(table, rowname_col="method")
        .tab_spanner("slope of p(⌈v⌉)", ["middle", "near", "exponent"])
        .tab_spanner("closest SSL", ["a", "left"])
        .cols_label(
            middle="at ½",
            near="at 0.01",
            exponent="power of the distance",
            wrong="p of the farther integer",
            left="largest difference of p",
        )
        .fmt_number(["middle", "a", "exponent"], decimals=2)
        .fmt_number(["near", "wrong", "left"], decimals=3)
        .tab_source_note(
            "τ = 1, closed forms in float64. The power is that of the slope next to an integer: a negative one "
            "grows without bound. The probability of the farther integer is a mean over v."
        )
        .tab_options(table_font_size="14px")
    )


def describe_shapes(table: pd.DataFrame) -> str:
    """What one parameter spans, in words.

    Args:
        table: `shapes`.
    """
    found = table.set_index("method")
    atanh, linear, cosine, _ = (method.label for method in methods())
    return (
        f"SSL contains linear exactly, at a = {found.loc[linear, 'a']:.3g}; it comes within "
        f"{found.loc[cosine, 'left']:.3f} of cosine's probability everywhere at a = {found.loc[cosine, 'a']:.3g}, "
        f"and within {found.loc[atanh, 'left']:.3f} of atanh's at a = {found.loc[atanh, 'a']:.3g}."
    )


def describe_against(rows: pd.DataFrame, iteration: int, profile: str) -> str:
    """SSL's true loss on Kodak against that of the other three, a line for each."""
    lines = [
        f"- against {label(reference)}: {text}"
        for reference in ("atanh", "linear", "cosine")
        if (text := compared(rows, "ssl", reference, iteration))
    ]
    if not lines:
        return lacking("convergence", profile)
    return f"True loss of {label('ssl')} after {iteration} iterations on Kodak:\n\n" + "\n".join(lines)


# Question 2


def budgets(tau: float) -> pd.DataFrame:
    """Where a method spends the mean derivative of its draws, which is 1 over any unit interval.

    Returns:
        method, middle (share within ¼ of the half-integer), ends (share within 0.05 of an integer), noise
        (standard deviation of the draw, mean over v), settled (the same at 0.05 from an integer), at_middle and
        at_end (mean over root mean square of ds/dv at ½ and at 0.05; 0 where there is no derivative).
    """
    marks = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    lines = []
    for method in methods():
        at = closed_forms.moments(method, marks, tau)
        value, size = at["value"], np.hypot(at["slope"], at["slope_sd"])
        ratio = np.divide(at["slope"], size, out=np.zeros_like(size), where=size > 0)
        lines.append(
            {
                "method": method.label,
                "middle": value[3] - value[1],
                "ends": value[0] + 1 - value[4],
                "noise": float(closed_forms.moments(method, inner(), tau, 4001)["value_sd"].mean()),
                "settled": at["value_sd"][0],
                "at_middle": ratio[2],
                "at_end": ratio[0],
            }
        )
    return pd.DataFrame(lines)


def describe_budgets(table: pd.DataFrame, tau: float) -> str:
    """`budgets` in words, a line for each method."""
    lines = [
        f"- {row.method}: {row.middle:.0%} of the mean derivative in the middle half and {row.ends:.1%} within 0.05 of "
        f"the integers; a draw scatters by {row.noise:.3f} on average, and by {row.settled:.3f} where v is 0.05 from an "
        f"integer; mean over root mean square of ds/dv is {row.at_middle:.2f} in the middle and {row.at_end:.2f} there."
        for row in table.itertuples()
    ]
    return f"At τ = {tau:g}:\n\n" + "\n".join(lines)


# Question 3


def describe_third() -> str:
    """How much probability the third integer has at the authors' best r and n, a line for each base."""
    lines = []
    for spec in verdict_rules_of_settings.THREE.values():
        method = rounding.parse(spec)
        whole = rounding.ThreeClass(method.base, 1.0, method.n)
        reach, mass = 1 / method.r - 1, closed_forms.third_mass(method)
        lines.append(
            f"- {method.label}: at an integer each of its two neighbours has probability {mass:.2g}, and the farther "
            f"one keeps some up to a distance of 1/r − 1 = {reach:.3f}; with r = 1 it is {closed_forms.third_mass(whole):.1g}, "
            "what the clip of the arguments leaves."
        )
    return "\n".join(lines)


# Question 4


def describe_temperature(rows: pd.DataFrame, iteration: int, profile: str) -> str:
    """Which end of the range of τ_max costs each method how much, and what the formulas say of these ends."""
    table = verdict_rules_of_settings.temperature_grid(rows, iteration)
    if table is None:
        return lacking("stability", profile)
    taus = sorted(set(table.columns.get_level_values("tau_max")))
    lines = []
    for method in methods():
        own = table[method.label]
        best = own.mean().idxmin()
        costs = [
            f"{mean_with_interval(100 * (own[tau] / own[best] - 1))} at τ_max = {tau:g}"
            for tau in (taus[0], taus[-1])
            if tau != best
        ]
        cold, hot = (closed_forms.moments(method, inner(), tau, 4001) for tau in (taus[0], taus[-1]))
        lines.append(
            f"- {method.label}: lowest at τ_max = {best:g}; against that, {' and '.join(costs)}. By its formula, a "
            f"draw is {hot['error'].mean():.3f} away from the rounded value on average at τ = {taus[-1]:g} and "
            f"{cold['error'].mean():.3f} at τ = {taus[0]:g}, where {100 * np.mean(cold['slope'] < 0.1):.0f} % of all v "
            "have a mean gradient under 0.1."
        )
    return "\n".join(lines)


def describe_temperatures_reached(iteration: int) -> str:
    """What the common schedule has come to by an iteration, and what atanh's published one has."""
    common = plans.plan(rounding.SSL()).temperature(iteration, iteration)
    published = plans.plan(rounding.Atanh()).temperature(iteration, iteration)
    return (
        f"After {iteration} iterations, the schedule of SGA+ has come to τ = {common:.3f}, and the published one of "
        f"atanh to {published:.3f}."
    )


# Question 5


def describe_reach(claim: Claim, profile: str) -> str:
    """What moving to another λ costs against the codec trained for it, from claim 7's findings."""
    findings = [f for f in claim.findings if "against the codec trained for it" in f.what]
    if not findings:
        return lacking("semi-multi-rate", profile)
    worst = max(findings, key=lambda finding: finding.value)
    least = min(findings, key=lambda finding: finding.value)
    return f"The cost runs from {_short(least)} to {_short(worst)}.\n\n{judged(claim, '', 'true loss')}"


def _short(finding: Finding) -> str:
    return f"{finding.numbers} ({finding.what.split(':')[0]})"


# Question 6


def describe_slope(rows: pd.DataFrame, iteration: int, profile: str) -> str:
    """Probability of the farther integer and share of flat v at some a, with the loss there."""
    table = verdict_rules_of_settings.slopes(rows, iteration)
    reference = rounding.SSL().a
    if table is None or reference not in table:
        return lacking("ssl-a", profile)
    lines = []
    for a in (table.columns[0], reference, table.columns[-1]):
        method = rounding.SSL(a)
        loss = ""
        if a != reference:
            change = mean_with_interval(100 * (table[a] / table[reference] - 1))
            loss = f" Its true loss is {change} against that of a = {reference:g}."
        lines.append(
            f"- a = {a:g}: a draw at τ = 1 picks the farther integer with probability "
            f"{closed_forms.wrong_class(method):.3f} on average, and {closed_forms.flat_share(method):.0%} of all v "
            f"have a slope of p below 0.1.{loss}"
        )
    best = float(table.mean().idxmin())
    near = sorted(a for a in table.columns if table[a].mean() / table.mean().min() < 1.002)
    lines.append(
        f"- The lowest mean loss of {len(table.columns)} values of a is that of a = {best:g}; from {near[0]:g} to "
        f"{near[-1]:g} means are found within 0.2 % of it."
    )
    return "\n".join(lines)


def compared(rows: pd.DataFrame, arm: str, reference: str, iteration: int) -> str:
    """Change of the true loss on Kodak between two arms, a phrase for each scope; empty without rows."""
    chosen = pool.at(pool.own(rows[rows["dataset"] == KODAK]), iteration)
    parts = []
    for scope, group in chosen.groupby("scope", sort=False):
        table = pool.differences(group, label(arm), label(reference))
        if table is not None:
            change = mean_with_interval(table.mean(axis=1))
            parts.append(f"{change} ({len(table)} images, {place(table, KODAK, scope)})")
    return "; ".join(parts)
