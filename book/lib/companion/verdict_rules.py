"""The paper's nine claims, each judged by a stated criterion from stored rows or from the closed forms."""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from sgaplus import rounding
from sgaplus.codecs.bundled import cards
from sgaplus.studies.schema import load_study

from . import closed_forms, palette, pool, reference, statistics
from .configurations import BASE, label
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
    """All nine claims, judged from `pool.load` of a profile and from `reference.published` by data set."""
    traces, rows = rows, rows[rows["iteration"].isin([0, EARLY, *READ_OFFS])]
    findings = [
        lowest_loss(rows, profile),
        smooth(traces, profile),
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
        Claim(
            n, *(text[part].format(**numbers) for part in parts), tuple(found), text["pages"], text["title"]
        )
        for n, (text, found) in enumerate(zip(words, findings, strict=True), 1)
    ]


def place(table: pd.DataFrame, dataset: str, scope: str) -> str:
    """Where a difference was measured, in words: data set, scope, λ, the columns of ``table``."""
    lmbdas = ", ".join(f"{value:g}" for value in table.columns)
    mean = "mean over " if len(table.columns) > 1 else ""
    return f"{palette.dataset(dataset)}, {scope}, {mean}λ = {lmbdas}"


def _study(dataset: str) -> str:
    """That has the curves on a data set."""
    return "rd" if dataset == "kodak" else dataset.rstrip("0123456789")


def _missing(what: str, study: str, iteration: int, profile: str, dataset: str = "kodak") -> Finding:
    """`not_run`, with the profile in which the study reaches the iteration; ``paper`` reaches all."""
    found = load_study(study).profiles.get(profile)
    reaches = found and max(grid.iterations for grid in found.grids) >= iteration
    return not_run(what, study, profile if reaches else "paper", iteration, dataset)


def _conditions(
    rows: pd.DataFrame,
    profile: str,
    what: str,
    iteration: int,
    difference: Callable[[pd.DataFrame], pd.DataFrame | None],
    study: str = "rd",
    dataset: str = "kodak",
    by_lambda: bool = False,
    **finding: Any,
) -> list[Finding]:
    """A condition for each scope in which there is a difference, (images, λ), and for each λ if wanted."""
    found, how = [], {"iteration": iteration, "dataset": dataset} | finding
    for scope, group in pool.scopes(rows, iteration, dataset):
        table = difference(group)
        if table is not None:
            parts = [table[[lmbda]] for lmbda in table] if by_lambda else [table]
            found += [of_images(f"{what} ({place(part, dataset, scope)})", part, **how) for part in parts]
    return found or [_missing(f"{what} ({palette.dataset(dataset)})", study, iteration, profile, dataset)]


def _compared(
    rows: pd.DataFrame, profile: str, name: str, reference: str, iteration: int, dataset="kodak", **how: Any
) -> list[Finding]:
    """Conditions on the true loss: that of one configuration is below the reference's."""
    what = f"true loss, {name} − {reference}, {iteration} iterations"
    difference = functools.partial(pool.differences, name=name, reference=reference)
    return _conditions(rows, profile, what, iteration, difference, _study(dataset), dataset, **how)


def lowest_loss(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 1: SSL against atanh, STE and uniform noise on Kodak."""
    pairs = itertools.product(READ_OFFS, (ATANH, STE, UNIFORM))
    return [finding for t, other in pairs for finding in _compared(rows, profile, SSL, other, t)]


def smooth(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 2: upward movement of the true loss, and the discretisation gap."""
    found, sized = [], pool.with_gap(rows)
    size = functools.partial(pool.differences, name=SSL, reference=ATANH, column="gap_size", relative=False)
    for t in READ_OFFS:
        found += _upward(rows, profile, t)
        what = f"|gap|, {SSL} − {ATANH}, {t} iterations"
        found += _conditions(sized, profile, what, t, size, by_lambda=True, unit="pp")
        what = f"|gap| − gain over the base, SSL, {t} iterations"
        found += _conditions(sized, profile, what, t, _gap_and_gain, "convergence", unit="pp")
        for name in (SSL, ATANH):
            taus = rows.loc[(rows["configuration"] == name) & (rows["iteration"] == t), "tau"].unique()
            what = f"temperature of {name} after {t} iterations"
            found += [Finding(what, float(tau), unit="", form=".2f", iteration=t) for tau in taus]
    return found


def _gap_and_gain(group: pd.DataFrame) -> pd.DataFrame | None:
    gains = pool.differences(group, SSL, BASE)
    if gains is None:
        return None
    gap = group[group["configuration"] == SSL].pivot_table(index="image", columns="lmbda", values="gap_size")
    return (gap + gains).reindex_like(gains)


def _upward(rows: pd.DataFrame, profile: str, iteration: int) -> list[Finding]:
    names = [SSL, ATANH, STE, UNIFORM]
    kodak = pool.own(rows[(rows["dataset"] == "kodak") & (rows["iterations"] >= iteration)])
    found: list[Finding] = []
    for scope, group in kodak[kodak["configuration"].isin(names)].groupby("scope"):
        if not {SSL, ATANH} <= set(group["configuration"]):
            continue
        # Of several runs of a seed one counts, the shortest.
        least = group.groupby(["configuration", "lmbda", "image", "seed"])["iterations"].transform("min")
        table = pool.smoothness(group[group["iterations"] == least], until=iteration)
        for other in names[1:]:
            paired = pool.differences(table, SSL, other, "upward", relative=False)
            if paired is not None:
                text = (
                    f"rises of the true loss, SSL − {other}, {iteration} iterations, looked at every "
                    f"{table['spacing'].iloc[0]} ({place(paired, 'kodak', scope)})"
                )
                below = True if other == ATANH else None
                found.append(of_images(text, paired, below, "pp", form="+.3f", iteration=iteration))
    what = f"rises of the true loss, SSL − {ATANH}, {iteration} iterations (Kodak)"
    return found or [_missing(what, "convergence", iteration, profile)]


def temperature(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 3: the range of the mean true loss over τ_max."""
    atanh, linear, cosine, ssl = (label(spec) for spec in pool.GRID)
    found: list[Finding] = []
    for iteration in READ_OFFS:
        table = pool.temperature_grid(rows, iteration)
        if table is None:
            what = f"range over τ_max, {iteration} iterations (Kodak)"
            found.append(_missing(what, "stability", iteration, profile))
            continue
        names, taus = (table.columns.get_level_values(level) for level in ("name", "tau_max"))
        over = f"τ_max from {taus.min():g} to {taus.max():g}, {iteration} iterations"
        means = statistics.resampled_means(table)
        ranges = {name: 1000 * np.ptp(means[:, names == name], axis=1) for name in names.unique()}
        common = {"unit": "× 10⁻³", "iteration": iteration}
        for name, values in ranges.items():
            text = f"range of the mean true loss of {name}, {over}"
            found.append(of_resamples(text, values, len(table), None, form=".2f", **common))
        for first, *others in ((linear, atanh, cosine, ssl), (cosine, atanh), (ssl, atanh)):
            for other in others:
                text = f"that range, {first} − {other}, {iteration} iterations"
                found.append(of_resamples(text, ranges[first] - ranges[other], len(table), **common))
    return found


def slope(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 4: a = 2.3, which is fixed beforehand, against both ends of the range of a."""
    published = rounding.SSL().a
    found: list[Finding] = []
    for iteration in READ_OFFS:
        table = pool.slopes(rows, iteration)
        if table is None or not table.columns[0] < published < table.columns[-1] or published not in table:
            what = f"true loss over a, {iteration} iterations (Kodak)"
            found.append(_missing(what, "ssl-a", iteration, profile))
            continue
        for end in (table.columns[0], table.columns[-1]):
            change = (100 * (table[end] / table[published] - 1)).rename(pool.lmbda_of(rows))
            where = f"{iteration} iterations (Kodak, λ = {pool.lmbda_of(rows):g})"
            text = f"true loss at a = {end:g} against a = {published:g}, {where}"
            found.append(of_images(text, change, below=False, iteration=iteration))
        best = table.columns.to_numpy()[statistics.resampled_means(table).argmin(1)]
        text = f"a with the lowest mean true loss among {len(table.columns)}, {iteration} iterations"
        found.append(of_resamples(text, best, len(table), None, "", form=".3g", iteration=iteration))
    return found


def three_class(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 5: three against two classes, early and late."""
    kodak = pool.ablations(rows[rows["dataset"] == "kodak"])
    found: list[Finding] = []
    for two, three in THREE.items():
        for iteration in (EARLY, *(t for t in READ_OFFS if (kodak["iteration"] == t).any())):
            below = True if iteration == EARLY else None
            lines = _compared(kodak, profile, label(three), label(two), iteration, below=below)
            found += [line for line in lines if line.outcome is not Verdict.NOT_RUN or iteration == EARLY]
    more = len(fields(rounding.ThreeClass)) - 1
    return [*found, Finding("hyperparameters that the third class adds, r and n", more, unit="", form=".0f")]


def carries_over(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 6: SSL against its base and against atanh, on Tecnick and CLIC."""
    clic = "clic2020" if (rows["dataset"] == "clic2020").any() else "clic2025"
    places = itertools.product(("tecnick", clic), READ_OFFS, (BASE, ATANH))
    return [line for name, t, other in places for line in _compared(rows, profile, SSL, other, t, name)]


def other_lambda(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """Claim 7: refinement at a λ that the codec was not trained with."""
    chosen = rows[(rows["dataset"] == "kodak") & (rows["configuration"] == SSL)]
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
    (low, high), (first, *_, last) = list(itertools.pairwise(wide))[least], wide
    codec, rest = f"codec of λ = {trained:g}", {"images": len(wide), "unit": "bpp"}
    rest |= {"iteration": iteration}
    text = f"{codec}: smallest step in rate, from λ = {low:g} to {high:g} ({where})"
    span = f"{codec}: rate at λ = {last:g} − at λ = {first:g} ({where})"
    return [
        of_resamples(text, steps[:, least], below=False, form="+.4f", **rest),
        of_resamples(span, means[:, -1] - means[:, 0], below=None, form="+.3f", **rest),
    ]


def _limits(group: pd.DataFrame, trained: float, where: str, iteration: int) -> list[Finding]:
    tested = set(group.loc[group["codec_lmbda"] == trained, "lmbda"]) & set(group["codec_lmbda"]) - {trained}
    found: list[Finding] = []
    for lmbda in sorted(sorted(tested), key=lambda value: abs(np.log(value / trained))):
        at = group[(group["lmbda"] == lmbda) & group["codec_lmbda"].isin([trained, lmbda])]
        if at["codec_lmbda"].nunique() == 2:
            # Two codecs are what is compared.
            sides = at.assign(configuration=at["codec_lmbda"])
            table = statistics.paired(sides, "loss", lmbda, exempt=["codec_sha256"])
            text = (
                f"codec of λ = {trained:g} at λ = {lmbda:g} (ratio"
                f" {max(lmbda / trained, trained / lmbda):.3g}): true loss against the codec trained for it"
                f" ({where})"
            )
            change = table.set_index("image")["change"].rename(lmbda)
            found.append(of_images(text, change, None, iteration=iteration))
    # The farthest is the limit.
    last = [replace(line, outcome=side(line.low, line.high, below=False)) for line in found[-1:]]
    return found[:-1] + last


def gradient_at_the_ends() -> list[Finding]:
    """Claim 8: slopes next to an integer, from the closed forms."""
    specs = ("atanh", "linear", "cosine", "ssl:a=1.3333333333333333", "ssl")
    methods = [rounding.parse(spec) for spec in specs]
    near, lines = torch.tensor([methods[0].clip], dtype=torch.float64), []
    for method in methods:
        name, k = method.label, closed_forms.end_exponent(method)
        # At k = 0 the slope is constant; the fit has rounding errors.
        holds = k < -0.01 if isinstance(method, rounding.Atanh) else k > -0.01
        outcome = Verdict.HOLDS if holds else Verdict.CONTRADICTED
        numbers = {
            f"{name}: dp/dv at a distance of {methods[0].clip:g}, where the loop clips atanh": (
                closed_forms.probability_slope(method, near)
            ),
            f"{name}: mean derivative of a draw there, the gradient that a latent receives": (
                closed_forms.draw_slope(method, near)
            ),
        }
        found = [Finding(f"{name}: k of dp/dv ∝ distanceᵏ next to an integer", k, unit="", outcome=outcome)]
        found += [Finding(text, float(value), unit="", form=".2g") for text, value in numbers.items()]
        k = closed_forms.end_exponent(method, closed_forms.log_probability_slope)
        text = f"{name}: the same k of the logarithm of the vanishing probability"
        lines.append([*found, Finding(text, k, unit="")])
    return [finding for kind in zip(*lines, strict=True) for finding in kind]


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
    for part, four in (("lowest", slice(4)), ("highest", slice(-4, None))):
        found.append(Finding(f"published: the same on Kodak, {part} four λ", reference.sga_gain(kodak, four)))
    ends = reference.sga_losses(kodak).iloc[[0, -1]]
    text = f"published: change of L on Kodak at λ = {ends.index[1]:g} − that at λ = {ends.index[0]:g}"
    found.append(Finding(text, float(ends.iloc[1] - ends.iloc[0]), unit="pp"))
    found += _with_the_rate(rows, profile)
    return found


def _bd_rates(
    rows: pd.DataFrame, profile: str, dataset: str, iteration: int, expected: float
) -> list[Finding]:
    what, name = f"BD-rate, {ATANH} against its base, {iteration} iterations", palette.dataset(dataset)
    found = []
    for scope, group in pool.scopes(rows, iteration, dataset):
        if {BASE, ATANH} <= set(group["configuration"]):
            table = statistics.bd_per_image(group, BASE, ATANH).set_index("image")["bd_rate"].dropna()
            if len(table):
                words = f"{what} ({name}, {scope})"
                finding = of_images(words, table, iteration=iteration, dataset=dataset)
                if iteration == READ_OFFS[-1] and finding.outcome is not Verdict.OPEN:
                    inside = finding.low <= expected <= finding.high
                    outcome = Verdict.HOLDS if inside else Verdict.CONTRADICTED
                    finding = replace(finding, outcome=outcome, note="")
                found.append(finding)
    return found or [_missing(f"{what} ({name})", _study(dataset), iteration, profile, dataset)]


def _with_the_rate(rows: pd.DataFrame, profile: str) -> list[Finding]:
    """The ends of each network: between two networks a difference is one of training and width too."""
    networks = {(card.name, card.lmbda): str(card.lmbdas) for card in cards()}
    tables: dict[tuple[str, float], tuple[int, pd.DataFrame]] = {}
    for iteration in READ_OFFS:
        for scope, group in pool.scopes(rows[rows["configuration"].isin([BASE, ATANH])], iteration):
            table = pool.differences(group, ATANH, BASE)
            if table is None:
                continue
            of = [networks.get((group["codec"].iloc[0], lmbda), "") for lmbda in table]
            for _, part in table.T.groupby(of):
                if len(part) > 1:
                    tables[scope, part.index[0]] = iteration, part.T
    found = []
    for (scope, low), (iteration, table) in sorted(tables.items()):
        high = table.columns[-1]
        text = (
            f"change of the true loss against the base, at λ = {high:g} − at λ = {low:g}, {iteration}"
            f" iterations (Kodak, {scope})"
        )
        change = (table[high] - table[low]).rename(high)
        found.append(of_images(text, change, False, "pp", iteration=iteration))
    what = "change of the true loss against the base, highest λ − lowest (Kodak)"
    return found or [not_run(what, "rd", profile)]
