"""The ledger's page in words and tables."""

import pandas as pd
import pytest

from companion import pool
from companion.pages import claims
from companion.verdicts import Claim, Finding, Verdict, not_run
from sgaplus.errors import UserError


@pytest.fixture
def claim():
    findings = (
        Finding("for context", 2.0, unit="pp"),
        Finding("a difference", -1.0, -1.5, -0.5, images=8, outcome=Verdict.HOLDS, iteration=500),
        Finding("another", 1.0, -0.5, 2.5, images=8, outcome=Verdict.OPEN, iteration=500),
        not_run("a third", "rd", "cpu", 2000),
    )
    return Claim(1, "It is so.", "It must be so.", findings, ("convergence", "ssl-a"))


def test_a_verdict_is_said_by_read_off_with_symbol_word_and_count(claim):
    assert claims.verdict(claim) == "◔ holds in part at 500 iterations (1 of 2); – not run at 2000 iterations"
    text = claims.describe(claim)
    assert claims.verdict(claim) in text and "It must be so." in text and 'href="ssl-a.html"' in text


def test_each_read_off_has_a_line_of_the_ledger(claim):
    partly = Claim(
        1, "x", "y", (*claim.findings[1:3], not_run("z", "rd", "cpu", 500), claim.findings[3]), ("ssl-a",)
    )
    assert claims.verdict(partly).startswith("◔ holds in part at 500 iterations (1 of 2, 1 not run); ")
    assert claims.ledger_table([partly]).as_raw_html().count("<br") == 1


def test_tables_say_verdicts_by_symbol_and_word(claim):
    page = claims.ledger_table([claim]).as_raw_html()
    assert (
        "◔ holds in part at 500" in page and "– not run at 2000" in page and 'href="convergence.html"' in page
    )
    page = claims.findings_table(claim).as_raw_html()
    assert "✓ holds" in page and "−1.00 [−1.50, −0.50] %" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "sgaplus study run rd --profile cpu" in page and "percentage points" in page
    # Conditions come before what is context.
    assert page.index("a difference") < page.index("for context")


def test_the_csv_has_every_finding(claim):
    table = claims.frame([claim])
    assert list(table["role"]) == ["context", "✓ holds", "? open", "– not run"]
    assert table["value"].tolist()[:3] == [2, -1, 1] and "--profile cpu" in table["note"].iloc[3]


def test_counts_of_verdicts(claim):
    sure = Claim(2, "x", "y", claim.findings[1:2], ("convergence",))
    text = claims.describe_ledger([claim, sure, sure])
    assert (
        sure.verdict is Verdict.HOLDS
        and "4 verdicts" in text
        and "holds: 2, ◔ holds in part: 1, – not run: 1." in text
        and "1 of 5 conditions were not run" in text
    )


def test_nothing_stored_is_said(tmp_path):
    with pytest.raises(UserError, match="no study has rows of profile cpu"):
        claims.load("cpu", tmp_path)


def test_the_ledger_stands_without_rows_of_a_study():
    empty = pd.DataFrame(columns=pool._COLUMNS)
    ledger = claims.ledger(empty, "cpu")
    assert [claim.verdict for claim in ledger].count(Verdict.NOT_RUN) == 8
    assert claims.ledger_table(ledger).as_raw_html().count("– not run") >= 8
