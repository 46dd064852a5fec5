"""The paper's nine claims, each judged by a stated criterion from stored rows or from the closed forms.

Here those about methods against each other and against their base; those about the methods' parameters are in
`claims_of_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from sgaplus import metrics

from . import pool, statistics, verdict_rules_of_settings
from .configurations import BASE, label
from .smoothness import smoothness, with_gap
from .verdicts import Claim, Finding, Outcome, missing, of_images

ATANH, SSL, STE, UNIFORM = (label(spec) for spec in ("atanh", "ssl", "ste", "uniform"))
# The iterations at which the paper reads off its results.
READ_OFFS = (500, 2000)
# The published curves of Yang et al. 2020.
_PUBLISHED = ("yang2020-base", "yang2020-sga")


def ledger(rows: pd.DataFrame, profile: str, published: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """All nine claims with their verdicts.

    Args:
        rows: as `pool.load` returns them.
        profile: of the rows; named in the commands that compute what is missing.
        published: by data set (``kodak``, ``tecnick``), with codec, quality_or_lambda, bpp and psnr_db.
    """
    return [
        lowest_loss(rows, profile),
        smooth(rows, profile),
        verdict_rules_of_settings.temperature(rows, profile),
        verdict_rules_of_settings.slope(rows, profile),
        verdict_rules_of_settings.three_class(rows, profile),
        carries_over(rows, profile),
        verdict_rules_of_settings.other_lambda(rows, profile),
        verdict_rules_of_settings.gradient_at_the_ends(),
        sga_gain(rows, profile, published),
    ]


def place(table: pd.DataFrame, dataset: str, scope: str) -> str:
    """Where a difference was measured, in words: data set, scope, λ.

    Args:
        table: as `pool.differences` returns it.
    """
    lmbdas = ", ".join(f"{value:g}" for value in table.columns)
    mean = "mean over " if len(table.columns) > 1 else ""
    return f"{pool.DATASETS[dataset]}, {scope}, {mean}λ = {lmbdas}"


def _profile_with(iteration: int, profile: str) -> str:
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
    relative: bool = True,
    quantity: str = "true loss",
) -> list[Finding]:
    """A condition for each scope in which both arms were run: the arm is below the reference."""
    chosen = pool.at(pool.own(rows[rows["dataset"] == dataset]), iteration)
    what = f"{quantity}, {arm} − {reference}, {iteration} iterations"
    found = []
    for scope, group in chosen.groupby("scope", sort=False):
        table = pool.differences(group, arm, reference, column, relative)
        if table is not None:
            text = f"{what} ({place(table, dataset, scope)})"
            found.append(of_images(text, table.mean(axis=1), unit="%" if relative else "pp"))
    name = pool.DATASETS[dataset]
    return found or [missing(f"{what} ({name})", study, _profile_with(iteration, profile))]


def lowest_loss(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 1: SSL against atanh, STE and uniform noise on Kodak."""
    found = [
        finding
        for iteration in READ_OFFS
        for reference in (ATANH, STE, UNIFORM)
        for finding in _compared(rows, profile, SSL, reference, iteration)
    ]
    return Claim(
        1,
        "SSL reaches a lower true rate-distortion loss than atanh (SGA), the straight-through estimator and "
        "additive uniform noise, after 500 and after 2000 iterations, on Kodak.",
        "At both read-offs and against each of the three: the difference of the true losses on the same image, in "
        "percent and averaged over λ, has a mean over images whose interval is below zero.",
        tuple(found),
        ("convergence", "rate-distortion-kodak"),
    )


def smooth(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 2: upward movement of the true loss, and the discretisation gap."""
    kodak = pool.own(rows[rows["dataset"] == "kodak"])
    found: list[Finding] = []
    for iteration in READ_OFFS:
        found += _upward(kodak, profile, iteration)
        gaps = with_gap(rows)
        found += _compared(
            gaps, profile, SSL, ATANH, iteration, column="gap_size", relative=False, quantity="|gap|"
        )
        found += _gap_against_gain(kodak, profile, iteration)
        for arm in (SSL, ATANH):
            taus = kodak.loc[(kodak["arm"] == arm) & (kodak["iteration"] == iteration), "tau"].unique()
            if len(taus) == 1:
                what = f"temperature of {arm} after {iteration} iterations"
                found.append(Finding(what, float(taus[0]), unit="", form=".2f"))
    return Claim(
        2,
        "SSL converges more smoothly than atanh, and its discretisation gap is small.",
        "At both read-offs: the sum of all rises of the true loss on the way there, in percent of its start, is "
        "smaller for SSL than for atanh; |method's loss − true loss| at the read-off, in percent of the true "
        "loss, is smaller for SSL than for atanh; and it is smaller than what SSL has gained over the base by "
        "then. Each by a paired interval that excludes zero.",
        tuple(found),
        ("convergence",),
    )


def _upward(kodak: pd.DataFrame, profile: str, iteration: int) -> list[Finding]:
    reached = kodak[kodak["iterations"] >= iteration]
    found: list[Finding] = []
    for scope, group in reached.groupby("scope", sort=False):
        if not {SSL, ATANH} <= set(group["arm"]):
            continue
        # Longer runs are looked at less often.
        group = group[group["iterations"] == group["iterations"].min()]
        table = smoothness(group[group["arm"].isin([SSL, ATANH, STE, UNIFORM])], until=iteration)
        for reference in (ATANH, STE, UNIFORM):
            paired = pool.differences(table, SSL, reference, "upward", relative=False)
            if paired is None:
                continue
            spacing = int(table["spacing"].iloc[0])
            text = (
                f"rises of the true loss, SSL − {reference}, {iteration} iterations, looked at every {spacing} "
                f"({place(paired, 'kodak', scope)})"
            )
            below = True if reference == ATANH else None
            found.append(of_images(text, paired.mean(axis=1), below, "pp", "+.3f"))
    what = f"rises of the true loss, SSL − {ATANH}, {iteration} iterations (Kodak)"
    return found or [missing(what, "convergence", _profile_with(iteration, profile))]


def _gap_against_gain(kodak: pd.DataFrame, profile: str, iteration: int) -> list[Finding]:
    found = []
    for scope, group in pool.at(kodak, iteration).groupby("scope", sort=False):
        sized = with_gap(group[group["arm"] == SSL]).dropna(subset=["gap_size"])
        base = group[group["arm"] == BASE].groupby(["image", "lmbda"])["loss"].mean().rename("start")
        both = sized.join(base, on=["image", "lmbda"], how="inner")
        if both.empty:
            continue
        excess = both["gap_size"] - 100 * (both["start"] / both["loss"] - 1)
        wide = both.assign(excess=excess).pivot_table(index="image", columns="lmbda", values="excess")
        counts = wide.count()
        wide = wide.loc[:, counts >= counts.median()].dropna()
        text = f"|gap| − gain over the base, SSL, {iteration} iterations ({place(wide, 'kodak', scope)})"
        found.append(of_images(text, wide.mean(axis=1), unit="pp"))
    what = f"|gap| − gain over the base, SSL, {iteration} iterations (Kodak)"
    return found or [missing(what, "convergence", _profile_with(iteration, profile))]


def carries_over(rows: pd.DataFrame, profile: str) -> Claim:
    """Claim 6: SSL against its base and against atanh, on Tecnick and CLIC."""
    found = [
        finding
        for dataset in ("tecnick", "clic2025")
        for iteration in READ_OFFS
        for reference in (BASE, ATANH)
        for finding in _compared(rows, profile, SSL, reference, iteration, dataset=dataset, study=dataset)
    ]
    return Claim(
        6,
        "The gain carries over from Kodak to Tecnick, and to CLIC.",
        "On both data sets and at both read-offs: the true loss of SSL is below that of the base and below that of "
        "atanh, by intervals over images (paired, in percent, averaged over λ) that exclude zero. One image gives "
        "no interval, so that nothing can be said from it about the data set. CLIC here is CLIC 2025.",
        tuple(found),
        ("rate-distortion-tecnick", "rate-distortion-clic"),
    )


def published_gain(table: pd.DataFrame, lmbdas: slice = slice(None)) -> float:
    """BD-rate in percent of the published SGA against its published base (pchip).

    Args:
        table: as for `ledger`.
        lmbdas: which of the points, ordered by λ.
    """
    curves = [_curve(table, codec).iloc[lmbdas] for codec in _PUBLISHED]
    return statistics.deltas(*((curve["bpp"], curve["psnr_db"]) for curve in curves))[0]


def published_losses(table: pd.DataFrame) -> pd.Series:
    """Change of L(λ) in percent from the published base to the published SGA, by λ, from PSNR and rate."""
    losses = []
    for codec in _PUBLISHED:
        curve = _curve(table, codec)
        losses.append(metrics.rd_loss(curve.index.to_series(), 10 ** (-curve["psnr_db"] / 10), curve["bpp"]))
    return 100 * (losses[1] / losses[0] - 1)


def _curve(table: pd.DataFrame, codec: str) -> pd.DataFrame:
    return table[table["codec"] == codec].set_index("quality_or_lambda").sort_index()


def sga_gain(rows: pd.DataFrame, profile: str, published: Mapping[str, pd.DataFrame]) -> Claim:
    """Claim 9: BD-rate of atanh against its base, and how it changes with the rate."""
    found = []
    for dataset in ("kodak", "tecnick"):
        name, value = pool.DATASETS[dataset], published_gain(published[dataset])
        found.append(Finding(f"published: BD-rate of SGA against its base on {name}, 2000 iterations", value))
        for iteration in READ_OFFS:
            found += _bd_rates(rows, profile, dataset, iteration, value)
    kodak = published["kodak"]
    for part, which in (("lowest", slice(4)), ("highest", slice(-4, None))):
        found.append(Finding(f"published: the same on Kodak, {part} four λ", published_gain(kodak, which)))
    ends = published_losses(kodak).iloc[[0, -1]]
    found.append(
        Finding(
            f"published: change of L on Kodak at λ = {ends.index[1]:g} − that at λ = {ends.index[0]:g}",
            float(ends.iloc[1] - ends.iloc[0]),
            unit="pp",
        )
    )
    found += _with_the_rate(rows, profile)
    return Claim(
        9,
        f"SGA (atanh) saves {-published_gain(kodak):.1f} % of the rate of its base on Kodak and "
        f"{-published_gain(published['tecnick']):.1f} % on Tecnick (BD-rate, Yang et al. 2020), and the gain "
        "shrinks with the rate.",
        "BD-rate of each image (pchip, from four λ on): the mean over images is below zero at 500 iterations; at "
        "2000, the published protocol, the published value is in its interval. And the relative gain in true loss "
        "over the base is smaller at the highest λ than at the lowest, by a paired interval that excludes zero.",
        tuple(found),
        ("rate-distortion-kodak", "rate-distortion-tecnick"),
    )


def _bd_rates(
    rows: pd.DataFrame, profile: str, dataset: str, iteration: int, expected: float
) -> list[Finding]:
    chosen = pool.at(pool.own(rows[rows["dataset"] == dataset]), iteration)
    what = f"BD-rate, {ATANH} against its base, {iteration} iterations"
    found = []
    for scope, group in chosen.groupby("scope", sort=False):
        values = statistics.bd_per_image(group, BASE, ATANH)["bd_rate"].dropna()
        if len(values) == 0:
            continue
        finding = of_images(f"{what} ({pool.DATASETS[dataset]}, {scope})", values)
        if iteration == READ_OFFS[-1] and finding.outcome is not Outcome.OPEN:
            inside = finding.low <= expected <= finding.high
            finding = replace(finding, outcome=Outcome.HOLDS if inside else Outcome.CONTRADICTED)
        found.append(finding)
    study = "rd" if dataset == "kodak" else dataset
    name = pool.DATASETS[dataset]
    return found or [missing(f"{what} ({name})", study, _profile_with(iteration, profile))]


def _with_the_rate(rows: pd.DataFrame, profile: str) -> list[Finding]:
    kodak = pool.own(rows[(rows["dataset"] == "kodak") & rows["arm"].isin([BASE, ATANH])])
    found = []
    for scope, group in kodak.groupby("scope", sort=False):
        tables = {t: pool.differences(pool.at(group, t), ATANH, BASE) for t in READ_OFFS}
        several = {t: table for t, table in tables.items() if table is not None and len(table.columns) > 1}
        if not several:
            continue
        iteration, table = max(several.items())
        low, high = table.columns[0], table.columns[-1]
        text = (
            f"change of the true loss against the base, at λ = {high:g} − at λ = {low:g}, {iteration} "
            f"iterations (Kodak, {scope})"
        )
        found.append(of_images(text, table[high] - table[low], below=False, unit="pp"))
    what = "change of the true loss against the base, highest λ − lowest (Kodak)"
    return found or [missing(what, "rd", profile)]
