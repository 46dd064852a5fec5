"""The claims ledger: verdicts as a table, and for each claim its criterion and its numbers."""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from great_tables import GT

from sgaplus.codecs.series import Series
from sgaplus.errors import UserError

from .. import cells, palette, pool, provenance, reference, statistics, tables, verdict_rules
from ..tables import Col
from ..verdicts import Claim, Finding, Verdict, together

_FORMULAS = "from the formulas"
# Said by shape and by word, never by colour.
_SHAPES = dict(zip(Verdict, "✓◔◐✗?–", strict=True))


def load(profile: str, results: str | Path | None = None, codec: str | Series | None = None) -> pd.DataFrame:
    """The rows of all studies in a profile, as `pool.load` returns them; refused where nothing is stored."""
    rows = pool.load(profile, Path(results) if results else None, codec=codec)
    if rows.empty:
        raise UserError(
            f"no study has rows of profile {profile}: run `sgaplus study run NAME --profile {profile}`; "
            "`sgaplus study list` names them"
        )
    return rows


def ledger(rows: pd.DataFrame, profile: str) -> list[Claim]:
    """All nine claims, judged from rows and from the published curves in ``data/reference``."""
    published = {name: reference.published(name) for name in ("kodak", "tecnick")}
    return verdict_rules.ledger(rows, profile, published)


# What pages are about, for links to them; the others' names say it.
_ABOUT = {
    "rate-distortion-kodak": "rate and distortion on Kodak",
    "rate-distortion-tecnick": "rate and distortion on Tecnick",
    "rate-distortion-clic": "rate and distortion on CLIC",
    "semi-multi-rate": "one codec at several rates",
    "stability": "the highest temperature",
    "ssl-a": "SSL’s slope",
    "three-class": "two classes or three",
}


def link(page: str, text: str | None = None) -> str:
    """A link to another executed page, as HTML: it serves tables and computed prose alike."""
    return f'<a href="{page}.html">{text or _ABOUT.get(page) or page.replace("-", " ")}</a>'


def verdict(claim: Claim) -> str:
    """A verdict at each read-off by symbol, word and count: ``✓ holds at 500 iterations (9 of 9)``."""
    return "; ".join(
        f"{_said(together(conditions))}{f' at {t} iterations' if t else ''}{_count(conditions)}"
        for t, conditions in claim.by_iteration.items()
    )


def _said(outcome: Verdict) -> str:
    return f"{_SHAPES[outcome]} {outcome}"


def _counts(conditions: Sequence[Finding]) -> tuple[int, int, int]:
    """How many of the conditions hold, were run, and were not."""
    outcomes = [finding.outcome for finding in conditions]
    missing = outcomes.count(Verdict.NOT_RUN)
    return outcomes.count(Verdict.HOLDS), len(outcomes) - missing, missing


def _count(conditions: Sequence[Finding]) -> str:
    holds, run, missing = _counts(conditions)
    return f" ({holds} of {run}{f', {missing} not run' * bool(missing)})" if run else ""


def frame(ledger: Sequence[Claim]) -> pd.DataFrame:
    """All findings: claim, verdict, role, iteration, what, value, low, high, unit, images, note."""
    lines = [
        {"claim": claim.number, "verdict": str(claim.verdict)}
        | {"role": "context" if finding.outcome is None else _said(finding.outcome)}
        | vars(finding)
        for claim in ledger
        for finding in claim.findings
    ]
    names = ["iteration", "what", "value", "low", "high", "unit", "images", "note"]
    return pd.DataFrame(lines)[["claim", "verdict", "role", *names]]


def matrix(ledger: Sequence[Claim]) -> GT:
    """Claim × data set × read-off, each verdict by symbol, word and count."""
    known = {finding.dataset for claim in ledger for finding in claim.conditions}
    columns: dict[str, Col | str] = {"claim": "claim"} | {
        f"{name} {t}": Col(f"{t}", under=palette.dataset(name))
        for name in pool.DATASETS
        if name in known
        for t in verdict_rules.READ_OFFS
    }
    columns |= {_FORMULAS: _FORMULAS} if "" in known else {}
    lines = []
    for claim in ledger:
        cells_of: dict[str, list[Finding]] = {}
        for finding in claim.conditions:
            cells_of.setdefault(_place(finding), []).append(finding)
        line = dict.fromkeys(columns, "")
        line["claim"] = f"[{claim.number}. {claim.title or claim.says}](#claim-{claim.number})"
        for place, part in cells_of.items():
            early = {finding.iteration for finding in part} - {None, *verdict_rules.READ_OFFS}
            said = f"{_said(together(part))}{_count(part)}"
            line[place] = f"{said}, after {max(early)}" if early else said
        lines.append(line)
    return tables.ci_table(pd.DataFrame(lines), columns).fmt_markdown("claim")


def _place(finding: Finding) -> str:
    """The column of `matrix`; what was read off early, or at no iteration, stands with the first read-off."""
    first, last = verdict_rules.READ_OFFS
    iteration = last if (finding.iteration or 0) > first else first
    return f"{finding.dataset} {iteration}" if finding.dataset else _FORMULAS


def strip(ledger: Sequence[Claim]) -> str:
    """HTML of a tile for each claim: its number, what it is about, its verdicts by icon and word."""
    tiles = []
    for claim in ledger:
        text = f"<b>{claim.number} {html.escape(claim.title)}</b>"
        for t, conditions in claim.by_iteration.items():
            outcome, when = together(conditions), f" at {t} iterations" if t else ""
            text += f'<br><span aria-hidden="true">{_SHAPES[outcome]}</span> {outcome}{when}'
        colour = Verdict.HOLDS if claim.verdict is Verdict.PARTLY else claim.verdict
        link_to = f'<a href="claims.html#claim-{claim.number}">{text}</a>'
        tiles.append(f'<li data-verdict="{colour}">{link_to}</li>')
    return f'<ol class="verdicts" role="list">{"".join(tiles)}</ol>'


def show(claim: Claim) -> None:
    """Display folded what decides a claim: its criterion, its conditions, and what is context."""
    ordered = sorted(claim.findings, key=lambda finding: finding.outcome is None)
    shown = frame([replace(claim, findings=tuple(ordered))])
    shown = shown.assign(
        what=[cells.with_subscripts(finding.what).replace("|", "\\|") for finding in ordered],
        numbers=[finding.numbers for finding in ordered],
        images=[str(finding.images or "–") for finding in ordered],
    )
    columns = {"role": "condition", "what": "quantity", "numbers": "value [95 % interval]"}
    columns |= {"images": "images"} | ({"note": "note"} if shown["note"].any() else {})
    points = " pp: percentage points." * bool((shown["unit"] == "pp").any())
    note = f"Criterion: {claim.criterion}{points}".replace("τ_max", palette.TAU_MAX)
    cells.show_table(
        tables.ci_table(shown, columns, note=note).fmt_markdown([*{"note", "what"} & set(columns)]),
        frame([claim]),
        name=f"claim-{claim.number}",
        caption=f"What decides claim {claim.number}, and what is context.",
        folded=f"Criterion and {provenance.count(len(claim.conditions), 'condition')}",
    )


def describe(claim: Claim) -> str:
    """The claim with its verdict and links, in Markdown."""
    pages = " and ".join(map(link, claim.pages))
    return f"**{verdict(claim)}**: {cells.with_subscripts(claim.says)} In detail: {pages}."


def describe_ledger(ledger: Sequence[Claim]) -> str:
    """How many claims have each verdict, over all that was run, in Markdown."""
    counts = Counter(claim.verdict for claim in ledger)
    words = ", ".join(f"{counts[kind]} × {_said(kind)}" for kind in Verdict if counts[kind])
    holds, run, missing = _counts([finding for claim in ledger for finding in claim.conditions])
    return (
        f"**Verdicts on the {len(ledger)} claims: {words}.** Of {run + missing} conditions {run} were"
        f" run, and {holds} of these hold."
    )


def describe_few(ledger: Sequence[Claim]) -> str:
    """How many of the decided conditions intervals for few images (`statistics.few`) would leave decided."""
    decided = [
        (claim.number, finding)
        for claim in ledger
        for finding in claim.conditions
        if finding.outcome in (Verdict.HOLDS, Verdict.CONTRADICTED) and finding.low * finding.high > 0
    ]
    if not decided:
        return ""
    few = {finding.images: statistics.few(finding.images) for _, finding in decided}
    wider = [f.value + few[f.images][1] * ((f.low if f.value > 0 else f.high) - f.value) for _, f in decided]
    fall = [pair for end, pair in zip(wider, decided, strict=True) if end * pair[1].value <= 0]
    named = "; ".join(f"of claim {number}, {finding.what}" for number, finding in fall)
    covered = ", ".join(f"{100 * few[n][0]:.0f} % with {n}" for n in sorted(few))
    return (
        f"A percentile bootstrap over few images is too narrow: of normal differences its 95 %"
        f" interval covers {covered} images. With every interval widened as Student's t does,"
        f" {len(decided) - len(fall)} of the {len(decided)} conditions that an interval decides would stay"
        f" decided{named and f' (not: {named})'}."
    )
