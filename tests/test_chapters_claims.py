"""The ledger's page in words and tables."""

import pandas as pd
import pytest

from companion.pages import claims
from companion.verdicts import Claim, Finding, Outcome, Verdict, missing
from sgaplus.errors import UserError


@pytest.fixture
def claim():
    findings = (
        Finding("a told number", 2.0, unit="pp"),
        Finding("a difference", -1.0, -1.5, -0.5, images=8, outcome=Outcome.HOLDS),
        Finding("another", 1.0, -0.5, 2.5, images=8, outcome=Outcome.OPEN),
        missing("a third", "rd", "cpu"),
    )
    return Claim(1, "It is so.", "It must be so.", findings, ("convergence", "ssl-a"))


def test_a_claim_in_words(claim):
    text = claims.describe(claim)
    assert "◐ partly" in text and "It must be so." in text
    assert "1 of 3 conditions hold, 1 undecided, 1 without rows" in text
    assert '<a href="ssl-a.html">SSL’s slope</a>' in text


def test_tables_say_verdicts_by_symbol_and_word(claim):
    page = claims.ledger_table([claim]).as_raw_html()
    assert "◐ partly" in page and 'href="convergence.html"' in page
    page = claims.findings_table(claim).as_raw_html()
    assert "✓ holds" in page and "−1.00 [−1.50, −0.50] %" in page
    assert "sgaplus study run rd --profile cpu" in page and "percentage points" in page
    # Conditions come before what is told beside them.
    assert page.index("a difference") < page.index("a told number")


def test_the_csv_has_every_finding(claim):
    table = claims.frame([claim])
    assert list(table["role"]) == ["told beside it", "✓ holds", "? open", "? open"]
    assert table["value"].tolist()[:3] == [2, -1, 1] and table["note"].iloc[3].startswith("no rows")


def test_counts_of_verdicts(claim):
    sure = Claim(2, "x", "y", claim.findings[1:2], ("convergence",))
    assert sure.verdict is Verdict.REPRODUCED
    assert claims.describe_ledger([claim, sure, sure]) == (
        "Of 3 claims, 2 reproduced and 1 partly reproduced."
    )


def test_nothing_stored_is_said(tmp_path):
    with pytest.raises(UserError, match="no study has rows of profile cpu"):
        claims.load("cpu", tmp_path)


def test_the_ledger_stands_without_rows_of_a_study():
    from companion import pool

    empty = pd.DataFrame(columns=[*pool._COLUMNS, *pool._OF_ARMS])
    page = claims.ledger_table(claims.ledger(empty, "cpu")).as_raw_html()
    assert page.count("? cannot be said from these rows") == 8
