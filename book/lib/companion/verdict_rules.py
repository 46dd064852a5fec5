"""The paper's nine claims, each judged by a stated criterion from stored rows or from the closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from sgaplus import rounding

from . import closed_forms, lead, palette, pool, reference, statistics
from .configurations import BASE, label
from .smoothness import smoothness, with_gap
from .verdicts import Claim, Finding, Verdict, not_run, of_images, of_resamples, side

ATANH, SSL, STE, UNIFORM = (label(spec) for spec in ("atanh", "ssl", "ste", "uniform"))
# The iterations at which the paper reads off its results, and an early one: a fifth of the shorter.
READ_OFFS = (500, 2000)
EARLY = 100
# Two classes against three, with the authors' best settings.
THREE = {
    "linear": "three-class:base=linear",
    "cosine": "three-class:base=cosine",
    "ssl": "three-class:base=ssl,a=1.4",
}


def ledger(rows: pd.DataFrame, profile: str, published: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """All nine claims with their verdicts.

    Args:
        rows: as `pool.load` returns them.
        profile: of the rows; named in the commands that compute what is missing.
        published: by data set (``kodak``, ``tecnick``), with codec, quality_or_lambda, bpp and psnr_db.
    """
    findings = [
        lowest_loss(rows, profile),
        smooth(rows, profile),
        temperature(rows, profile),
        slope(rows, profile),
        three_class(rows, profile),
        carries_over(rows, profile),
        other_lambda(rows, profile),
        gradient_at_the_ends(),
        sga_gain(rows, profile, published),
    ]
    numbers = {name: -reference.sga_gain(table) for name, table in published.items()}
    numbers |= {"published": rounding.SSL().a, "early": EARLY}
    words = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))
    parts = ("says", "criterion")
    return [
        Claim(n, *(text[part].format(**numbers) for part in parts), tuple(found), text["pages"])
        for n, (text, found) in enumerate(zip(words, findings, strict=True), 1)
    ]


def place(table: pd.DataFrame, dataset: str, scope: str) -> str:
    """Where a difference was measured, in words: data set, scope, λ, the columns of ``table``."""
    lmbdas = ", ".join(f"{value:g}" for value in table.columns)
    mean = "mean over " if len(table.columns) > 1 else ""
    return f"{palette.dataset(dataset)}, {scope}, {mean}λ = {lmbdas}"


def _reaching(iteration: int, profile: str) -> str:
    """The profile whose studies reach an iteration; 2000 iterations of all methods are in ``paper`` alone."""
    return profile if iteration < READ_OFFS[-1] else "paper"


def _compared(
    rows: pd.DataFrame,
    profile: str,
    arm: str,
    reference: str,
    iteration: int,
    *,
    dataset: str = "kodak",
    study: str = "rd",
    column: str = "loss",
    quantity: str = "true loss",
    relative: bool = True,
    by_lambda: bool = False,
    below: bool | None = True,
) -> list[Finding]:
    """A condition by scope with both arms, and by λ if wanted: the arm is below the reference."""
    what, unit = f"{quantity}, {arm} − {reference}, {iteration} iterations", "%" if relative else "pp"
    found = []
    for scope, group in pool.scopes(rows, iteration, dataset):
        table = pool.differences(group, arm, reference, column, relative)
        if table is None:
            continue
        for part in [table[[lmbda]] for lmbda in table] if by_lambda else [table]:
            text = f"{what} ({place(part, dataset, scope)})"
            found.append(of_images(text, part, below, unit, iteration=iteration))
    name = palette.dataset(dataset)
    return found or [not_run(f"{what} ({name})", study, _reaching(iteration, profile), iteration)]


def lowest_loss(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 1: SSL against atanh, STE and uniform noise on Kodak."""
    found = [
        finding
        for iteration in READ_OFFS
        for reference in (ATANH, STE, UNIFORM)
        for finding in _compared(rows, profile, SSL, reference, iteration)
    ]
    found += [
        Finding(line.what, line.mean, line.low, line.high, images=line.images, iteration=line.iteration)
        for line in lead.table(rows).itertuples()
    ]
    return found


def smooth(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 2: upward movement of the true loss, and the discretisation gap."""
    found: list[Finding] = []
    for iteration in READ_OFFS:
        found += _upward(rows, profile, iteration)
        sized = with_gap(rows)
        found += _compared(
            sized,
            profile,
            SSL,
            ATANH,
            iteration,
            column="gap_size",
            quantity="|gap|",
            relative=False,
            by_lambda=True,
        )
        found += _gap_against_gain(sized, profile, iteration)
        for arm in (SSL, ATANH):
            taus = rows.loc[(rows["arm"] == arm) & (rows["iteration"] == iteration), "tau"].unique()
            what = f"temperature of {arm} after {iteration} iterations"
            found += [Finding(what, float(tau), unit="", form=".2f", iteration=iteration) for tau in taus]
    return found


def _upward(rows: pd.DataFrame, profile: str, iteration: int) -> list[Finding]:
    kodak = pool.own(rows[rows["dataset"] == "kodak"])
    found: list[Finding] = []
    for scope, group in kodak[kodak["iterations"] >= iteration].groupby("scope"):
        if not {SSL, ATANH} <= set(group["arm"]):
            continue
        # Longer runs are looked at less often.
        group = group[group["iterations"] == group["iterations"].min()]
        table = smoothness(group[group["arm"].isin([SSL, ATANH, STE, UNIFORM])], until=iteration)
        for other in (ATANH, STE, UNIFORM):
            paired = pool.differences(table, SSL, other, "upward", relative=False)
            if paired is None:
                continue
            text = (
                f"rises of the true loss, SSL − {other}, {iteration} iterations, looked at every "
                f"{table['spacing'].iloc[0]} ({place(paired, 'kodak', scope)})"
            )
            below = True if other == ATANH else None
            found.append(of_images(text, paired, below, "pp", form="+.3f", iteration=iteration))
    what = f"rises of the true loss, SSL − {ATANH}, {iteration} iterations (Kodak)"
    return found or [not_run(what, "convergence", _reaching(iteration, profile), iteration)]


def _gap_against_gain(sized: pd.DataFrame, profile: str, iteration: int) -> list[Finding]:
    found = []
    what = f"|gap| − gain over the base, SSL, {iteration} iterations"
    for scope, group in pool.scopes(sized, iteration):
        gains = pool.differences(group, SSL, BASE)
        if gains is not None:
            gap = group[group["arm"] == SSL].pivot_table(index="image", columns="lmbda", values="gap_size")
            wide = (gap + gains).reindex(index=gains.index, columns=gains.columns)
            text = f"{what} ({place(wide, 'kodak', scope)})"
            found.append(of_images(text, wide, unit="pp", iteration=iteration))
    return found or [not_run(f"{what} (Kodak)", "convergence", _reaching(iteration, profile), iteration)]


def temperature(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 3: the range of the mean true loss over τ_max."""
    atanh, linear, cosine, ssl = (label(spec) for spec in pool.GRID)
    found: list[Finding] = []
    for iteration in READ_OFFS:
        table = pool.temperature_grid(rows, iteration)
        if table is None:
            what = f"range over τ_max, {iteration} iterations (Kodak)"
            found.append(not_run(what, "stability", _reaching(iteration, profile), iteration))
            continue
        taus = sorted(set(table.columns.get_level_values("tau_max")))
        means = statistics.resampled_means(table)
        names = table.columns.get_level_values("name")
        ranges = {name: 1000 * np.ptp(means[:, names == name], axis=1) for name in names.unique()}
        common = {"unit": "× 10⁻³", "iteration": iteration}
        for name, values in ranges.items():
            over = f"τ_max from {taus[0]:g} to {taus[-1]:g}, {iteration} iterations"
            text = f"range of the mean true loss of {name}, {over}"
            found.append(of_resamples(text, values, len(table), None, form=".2f", **common))
        pairs = [(linear, other) for other in (atanh, cosine, ssl)] + [(cosine, atanh), (ssl, atanh)]
        for first, second in pairs:
            text = f"that range, {first} − {second}, {iteration} iterations"
            found.append(of_resamples(text, ranges[first] - ranges[second], len(table), True, **common))
    return found


def slope(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 4: a = 2.3, which is fixed beforehand, against both ends of the range of a."""
    published = rounding.SSL().a
    found: list[Finding] = []
    for iteration in READ_OFFS:
        table = pool.slopes(rows, iteration)
        if table is None or not table.columns[0] < published < table.columns[-1] or published not in table:
            what = f"true loss over a, {iteration} iterations (Kodak)"
            found.append(not_run(what, "ssl-a", _reaching(iteration, profile), iteration))
            continue
        for end in (table.columns[0], table.columns[-1]):
            change = (100 * (table[end] / table[published] - 1)).rename(pool.LMBDA)
            where = f"{iteration} iterations (Kodak, λ = {pool.LMBDA:g})"
            text = f"true loss at a = {end:g} against a = {published:g}, {where}"
            found.append(of_images(text, change, below=False, iteration=iteration))
        best = table.columns.to_numpy()[statistics.resampled_means(table).argmin(1)]
        text = f"a with the lowest mean true loss among {len(table.columns)}, {iteration} iterations"
        found.append(of_resamples(text, best, len(table), None, "", form=".3g", iteration=iteration))
    return found


def three_class(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 5: three against two classes, early and late."""
    kodak = rows[(rows["dataset"] == "kodak") & (rows["lmbda"] == pool.LMBDA)]
    last = [t for t in READ_OFFS if (kodak["iteration"] == t).any()]
    found: list[Finding] = []
    for two, three in THREE.items():
        for iteration in (EARLY, *last):
            below = True if iteration == EARLY else None
            lines = _compared(kodak, profile, label(three), label(two), iteration, below=below)
            found += [line for line in lines if line.outcome is not Verdict.NOT_RUN or iteration == EARLY]
    more = len(fields(rounding.ThreeClass)) - 1
    found.append(Finding("hyperparameters that the third class adds, r and n", more, unit="", form=".0f"))
    return found


def carries_over(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 6: SSL against its base and against atanh, on Tecnick and CLIC."""
    return [
        finding
        for dataset in ("tecnick", "clic2025")
        for iteration in READ_OFFS
        for reference in (BASE, ATANH)
        for finding in _compared(rows, profile, SSL, reference, iteration, dataset=dataset, study=dataset)
    ]


def other_lambda(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 7: refinement at a λ that the codec was not trained with."""
    chosen = rows[(rows["dataset"] == "kodak") & (rows["arm"] == SSL)]
    away = chosen.loc[chosen["lmbda"] != chosen["codec_lmbda"], "iteration"]
    found: list[Finding] = []
    for iteration in [t for t in READ_OFFS if (away == t).any()][-1:]:
        for scope, group in pool.at(chosen, iteration).groupby("scope"):
            where = f"{iteration} iterations, Kodak, {scope}"
            for trained, own in group.groupby("codec_lmbda"):
                if own["lmbda"].nunique() > 2:
                    found += _along(own, trained, where, iteration)
                    found += _limits(group, trained, where, iteration)
    conditions = [finding.what for finding in found if finding.outcome is not None]
    for what, part in (("rate over the λ of the refinement", "step in rate"), ("the limits", "true loss")):
        if not any(part in text for text in conditions):
            found.append(not_run(f"{what} (Kodak)", "semi-multi-rate", profile))
    return found


def _along(own: pd.DataFrame, trained: float, where: str, iteration: int) -> list[Finding]:
    wide = own.pivot_table(index="image", columns="lmbda", values="bpp").dropna()
    means = statistics.resampled_means(wide)
    steps = np.diff(means, axis=1)
    # The interval of that step which is the smallest in the rows themselves.
    least = int(steps[0].argmin())
    low, high = list(pairwise(wide.columns))[least]
    text = f"codec of λ = {trained:g}: smallest step in rate, from λ = {low:g} to {high:g} ({where})"
    first, last = wide.columns[0], wide.columns[-1]
    span = f"codec of λ = {trained:g}: rate at λ = {last:g} − at λ = {first:g} ({where})"
    rest = {"images": len(wide), "unit": "bpp", "iteration": iteration}
    return [
        of_resamples(text, steps[:, least], below=False, form="+.4f", **rest),
        of_resamples(span, means[:, -1] - means[:, 0], below=None, form="+.3f", **rest),
    ]


def _limits(group: pd.DataFrame, trained: float, where: str, iteration: int) -> list[Finding]:
    own = group[group["codec_lmbda"] == trained]
    there = own[(own["lmbda"] != trained) & own["lmbda"].isin(group["codec_lmbda"])]
    found = []
    for tested in sorted(there["lmbda"].unique(), key=lambda value: abs(np.log(value / trained))):
        at = group[(group["lmbda"] == tested) & group["codec_lmbda"].isin([trained, tested])]
        sides = at.assign(arm=at["codec_lmbda"])
        if sides["arm"].nunique() < 2:
            continue
        # Two codecs are what is compared.
        table = statistics.paired(sides, "loss", tested, exempt=["codec_sha256"])
        text = (
            f"codec of λ = {trained:g} at λ = {tested:g} (ratio"
            f" {max(tested / trained, trained / tested):.3g}): true loss against the codec trained for it"
            f" ({where})"
        )
        change = table.set_index("image")["change"].rename(tested)
        found.append(of_images(text, change, None, iteration=iteration))
    # The farthest is the limit.
    return [
        *found[:-1],
        *(replace(last, outcome=side(last.low, last.high, below=False)) for last in found[-1:]),
    ]


def gradient_at_the_ends() -> list[Finding]:
    """Claim 8: slopes next to an integer, from the closed forms."""
    specs = ("atanh", "linear", "cosine", "ssl:a=1.3333333333333333", "ssl")
    methods = [rounding.parse(spec) for spec in specs]
    found: list[Finding] = []
    near = torch.tensor([methods[0].clip], dtype=torch.float64)
    for method in methods:
        k = closed_forms.end_exponent(method)
        # At k = 0 the slope is constant; the fit has rounding errors.
        holds = k < -0.01 if isinstance(method, rounding.Atanh) else k > -0.01
        outcome = Verdict.HOLDS if holds else Verdict.CONTRADICTED
        text = f"{method.label}: k of dp/dv ∝ distanceᵏ next to an integer"
        found.append(Finding(text, k, unit="", outcome=outcome))
    for method in methods:
        value = float(closed_forms.probability_slope(method, near)[0])
        text = f"{method.label}: dp/dv at a distance of {methods[0].clip:g}, where the loop clips atanh"
        found.append(Finding(text, value, unit="", form=".2g"))
    for method in methods:
        k = closed_forms.end_exponent(method, closed_forms.log_probability_slope)
        found.append(
            Finding(f"{method.label}: the same k of the logarithm of the vanishing probability", k, unit="")
        )
    return found


def sga_gain(rows: pd.DataFrame, profile: str, published: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Claim 9: BD-rate of atanh against its base, and how it changes with the rate."""
    found = []
    for dataset in ("kodak", "tecnick"):
        value = reference.sga_gain(published[dataset])
        text = f"published: BD-rate of SGA against its base on {palette.dataset(dataset)}, 2000 iterations"
        found.append(Finding(text, value, iteration=READ_OFFS[-1]))
        for iteration in READ_OFFS:
            found += _bd_rates(rows, profile, dataset, iteration, value)
    kodak = published["kodak"]
    for part, which in (("lowest", slice(4)), ("highest", slice(-4, None))):
        found.append(
            Finding(f"published: the same on Kodak, {part} four λ", reference.sga_gain(kodak, which))
        )
    ends = reference.sga_losses(kodak).iloc[[0, -1]]
    text = f"published: change of L on Kodak at λ = {ends.index[1]:g} − that at λ = {ends.index[0]:g}"
    found.append(Finding(text, float(ends.iloc[1] - ends.iloc[0]), unit="pp"))
    found += _with_the_rate(rows, profile)
    return found


def _bd_rates(
    rows: pd.DataFrame, profile: str, dataset: str, iteration: int, expected: float
) -> list[Finding]:
    what = f"BD-rate, {ATANH} against its base, {iteration} iterations"
    found = []
    for scope, group in pool.scopes(rows, iteration, dataset):
        values = statistics.bd_per_image(group, BASE, ATANH).set_index("image")["bd_rate"].dropna()
        if len(values):
            text = f"{what} ({palette.dataset(dataset)}, {scope})"
            finding = of_images(text, values, iteration=iteration)
            if iteration == READ_OFFS[-1] and finding.outcome is not Verdict.OPEN:
                inside = finding.low <= expected <= finding.high
                finding = replace(finding, outcome=Verdict.HOLDS if inside else Verdict.CONTRADICTED, note="")
            found.append(finding)
    study = "rd" if dataset == "kodak" else dataset
    text = f"{what} ({palette.dataset(dataset)})"
    return found or [not_run(text, study, _reaching(iteration, profile), iteration)]


def _with_the_rate(rows: pd.DataFrame, profile: str) -> list[Finding]:
    tables: dict[str, tuple[int, pd.DataFrame]] = {}
    for iteration in READ_OFFS:
        for scope, group in pool.scopes(rows[rows["arm"].isin([BASE, ATANH])], iteration):
            table = pool.differences(group, ATANH, BASE)
            if table is not None and len(table.columns) > 1:
                tables[scope] = iteration, table
    found = []
    for scope, (iteration, table) in sorted(tables.items()):
        low, high = table.columns[0], table.columns[-1]
        text = (
            f"change of the true loss against the base, at λ = {high:g} − at λ = {low:g}, {iteration}"
            f" iterations (Kodak, {scope})"
        )
        change = (table[high] - table[low]).rename(high)
        found.append(of_images(text, change, below=False, unit="pp", iteration=iteration))
    what = "change of the true loss against the base, highest λ − lowest (Kodak)"
    return found or [not_run(what, "rd", profile)]
