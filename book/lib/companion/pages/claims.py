"""The claims ledger: verdicts as a table, and for each claim its criterion, its numbers and where they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from great_tables import GT, loc, style

from sgaplus.errors import UserError

from .. import pool, provenance, reference, verdict_rules
from ..verdicts import Claim, Outcome, Verdict

# Said by shape and by word, never by colour.
_VERDICTS = {Verdict.REPRODUCED: "✓", Verdict.PARTLY: "◐", Verdict.NOT: "✗", Verdict.UNKNOWN: "?"}
_OUTCOMES = {Outcome.HOLDS: "✓ holds", Outcome.CONTRADICTED: "✗ contradicted", Outcome.OPEN: "? open"}
_TOLD = "told beside it"


def load(profile: str, results: str | Path | None = None) -> pd.DataFrame:
    """The rows of all studies in a profile, as `analysis.pool.load` returns them.

    Args:
        results: the folder of results; that of the checkout where None.

    Raises:
        UserError: nothing at all is stored.
    """
    rows = pool.load(profile, Path(results) if results else None)
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
    """The verdict by symbol and word."""
    return f"{_VERDICTS[claim.verdict]} {claim.verdict}"


def count(claim: Claim) -> str:
    """How many conditions came out how, in words."""
    outcomes = [finding.outcome for finding in claim.conditions]
    holds, against = outcomes.count(Outcome.HOLDS), outcomes.count(Outcome.CONTRADICTED)
    lacking = sum(bool(finding.note) and pd.isna(finding.value) for finding in claim.conditions)
    parts = [f"{holds} of {len(outcomes)} conditions hold"]
    if against:
        parts.append(f"{against} contradicted")
    if undecided := len(outcomes) - holds - against - lacking:
        parts.append(f"{undecided} undecided")
    if lacking:
        parts.append(f"{lacking} without rows")
    return ", ".join(parts)


def frame(ledger: Sequence[Claim]) -> pd.DataFrame:
    """All findings of all claims: claim, verdict, role, what, value, low, high, unit, images, note."""
    return pd.DataFrame(
        [
            {
                "claim": claim.number,
                "verdict": str(claim.verdict),
                "role": _OUTCOMES.get(finding.outcome, _TOLD),
                **{name: getattr(finding, name) for name in ("what", "value", "low", "high", "unit")},
                "images": finding.images,
                "note": finding.note,
            }
            for claim in ledger
            for finding in claim.findings
        ]
    )


def ledger_table(ledger: Sequence[Claim]) -> GT:
    """One line per claim: what it says, the verdict, how its conditions came out, where it is shown."""
    table = pd.DataFrame(
        [
            {
                "number": claim.number,
                "claim": claim.says,
                "verdict": verdict(claim),
                "conditions": count(claim),
                "pages": ", ".join(link(page) for page in claim.pages),
            }
            for claim in ledger
        ]
    )
    return (
        GT(table)
        .cols_label(number="", pages="shown in")
        .fmt_markdown("pages")
        .cols_width({"number": "4%", "claim": "42%", "verdict": "16%", "conditions": "20%", "pages": "18%"})
        .tab_style(style.text(weight="bold"), loc.body("verdict"))
        .tab_style(style.css("vertical-align: top"), loc.body())
        .tab_options(table_font_size="14px", table_width="100%")
    )


def findings_table(claim: Claim) -> GT:
    """A claim's conditions, then what is told beside them, each with its number and interval."""
    ordered = sorted(claim.findings, key=lambda finding: finding.outcome is None)
    table = pd.DataFrame(
        [
            {
                "outcome": _OUTCOMES.get(finding.outcome, _TOLD),
                "what": finding.what,
                "numbers": finding.numbers,
                "images": str(finding.images or "–"),
                "note": finding.note,
            }
            for finding in ordered
        ]
    )
    if not table["note"].any():
        table = table.drop(columns="note")
    labels = {"outcome": "condition", "what": "quantity", "numbers": "value [95 % interval]"}
    shown = (
        GT(table)
        .cols_label(**labels, **({"note": ""} if "note" in table else {}))
        .cols_align("left", ["outcome", "what"])
        .cols_align("right", ["numbers", "images"])
        .fmt_markdown([name for name in ("note",) if name in table])
        .tab_style(style.css("white-space: nowrap"), loc.body(["outcome", "numbers"]))
        .tab_options(table_font_size="14px")
    )
    in_points = any(finding.unit == "pp" for finding in claim.findings)
    return shown.tab_source_note("pp: percentage points.") if in_points else shown


def describe(claim: Claim) -> str:
    """The claim with criterion, verdict and links, in Markdown."""
    pages = " and ".join(link(page) for page in claim.pages)
    return (
        f"**Claim.** {claim.says}\n\n**Criterion.** {claim.criterion}\n\n"
        f"**Verdict: {verdict(claim)}** ({count(claim)}). At length: {pages}."
    )


def describe_ledger(ledger: Sequence[Claim]) -> str:
    """How many claims have which verdict, in one sentence."""
    counts = {name: sum(claim.verdict is name for claim in ledger) for name in Verdict}
    words = {
        Verdict.REPRODUCED: "reproduced",
        Verdict.PARTLY: "partly reproduced",
        Verdict.NOT: "not reproduced",
        Verdict.UNKNOWN: "open for want of rows or of images",
    }
    parts = [f"{number} {words[name]}" for name, number in counts.items() if number]
    return f"Of {len(ledger)} claims, {', '.join(parts[:-1])}{' and ' if len(parts) > 1 else ''}{parts[-1]}."


def describe_rows(rows: pd.DataFrame, profile: str) -> str:
    """Which studies the verdicts rest on, how each differs from the paper's protocol, and where the rows are from.

    Args:
        rows: as `load` returns them.
    """
    studies = "\n".join(f"- {provenance.about(study, profile)}" for study in sorted(rows["study"].unique()))
    return f"{studies}\n\n{provenance.provenance(rows)}"
