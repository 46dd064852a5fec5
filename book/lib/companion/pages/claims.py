"""The claims ledger: verdicts as a table, and for each claim its criterion, its numbers and where they are
shown."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from great_tables import GT

from sgaplus.errors import UserError

from .. import pool, provenance, reference, tables, verdict_rules
from ..verdicts import Claim, Finding, Verdict, together

# Said by shape and by word, never by colour.
_SHAPES = {
    Verdict.HOLDS: "✓",
    Verdict.PARTLY: "◔",
    Verdict.MIXED: "◐",
    Verdict.CONTRADICTED: "✗",
    Verdict.OPEN: "?",
    Verdict.NOT_RUN: "–",
}


def load(profile: str, results: str | Path | None = None, codec: str | None = None) -> pd.DataFrame:
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


def _count(conditions: Sequence[Finding]) -> str:
    holds, missing = (
        sum(finding.outcome is outcome for finding in conditions)
        for outcome in (Verdict.HOLDS, Verdict.NOT_RUN)
    )
    run = len(conditions) - missing
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


def ledger_table(ledger: Sequence[Claim]) -> GT:
    """One line per claim: what it says, its verdict at each read-off, where it is shown."""
    lines = [
        {"number": str(claim.number), "claim": claim.says, "pages": ", ".join(map(link, claim.pages))}
        | {"verdict": f"**{verdict(claim).replace('; ', '**<br>**')}**"}
        for claim in ledger
    ]
    columns = {"claim": "claim", "verdict": "verdict (conditions)", "pages": "shown in"}
    note = "In parentheses: how many of the conditions that were run hold."
    made = tables.ci_table(
        pd.DataFrame(lines, columns=["number", *columns]), columns, row="number", note=note
    )
    widths = {"claim": "46%", "verdict": "34%", "pages": "16%"}
    return made.fmt_markdown(["verdict", "pages"]).cols_width(widths)


def findings_table(claim: Claim) -> GT:
    """A claim's conditions, then what is context, each with its number and interval."""
    ordered = sorted(claim.findings, key=lambda finding: finding.outcome is None)
    shown = frame([Claim(claim.number, claim.says, claim.criterion, tuple(ordered), claim.pages)])
    shown = shown.assign(
        numbers=[finding.numbers for finding in ordered],
        images=[str(finding.images or "–") for finding in ordered],
    )
    columns = {
        "role": "condition",
        "what": "quantity",
        "numbers": "value [95 % interval]",
        "images": "images",
    }
    columns |= {"note": "note"} if shown["note"].any() else {}
    note = "pp: percentage points." if (shown["unit"] == "pp").any() else ""
    made = tables.ci_table(shown, columns, note=note)
    return made.fmt_markdown([name for name in ("note",) if name in columns])


def describe(claim: Claim) -> str:
    """The claim with criterion, verdict and links, in Markdown."""
    pages = " and ".join(map(link, claim.pages))
    return (
        f"**Claim.** {claim.says}\n\n**Criterion.** {claim.criterion}\n\n**Verdict: {verdict(claim)}**. In"
        f" detail: {pages}."
    )


def describe_ledger(ledger: Sequence[Claim]) -> str:
    """How many verdicts there are of each kind, counted as the table shows them, in one sentence."""
    said = [together(conditions) for claim in ledger for conditions in claim.by_iteration.values()]
    counts = Counter(_said(outcome) for outcome in Verdict for one in said if one is outcome)
    total = [finding for claim in ledger for finding in claim.conditions]
    missing = sum(finding.outcome is Verdict.NOT_RUN for finding in total)
    return (
        f"The {len(ledger)} claims have {len(said)} verdicts, one for each read-off: "
        f"{', '.join(f'{name}: {number}' for name, number in counts.items())}. "
        f"{missing} of {len(total)} conditions were not run."
    )


def describe_rows(
    rows: pd.DataFrame, profile: str, results: str | Path | None = None, codec: str | None = None
) -> str:
    """Which studies the verdicts rest on, how each differs from the paper, and what made the rows."""
    studies = "\n".join(
        f"- {provenance.about(study, profile, results, codec)}" for study in sorted(rows["study"].unique())
    )
    return f"{studies}\n\n{provenance.provenance(rows)}"
