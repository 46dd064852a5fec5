"""The ledger's page in words and tables."""

from dataclasses import replace

import pytest

from companion.pages import claims
from companion.verdicts import Claim, Finding, Verdict, not_run
from sgaplus.errors import UserError
from tests.test_tables import cells_of


@pytest.fixture
def claim():
    findings = (
        Finding("for context", 2.0, unit="pp"),
        Finding("a difference", -1.0, -1.5, -0.5, "%", 8, Verdict.HOLDS, 500, "kodak"),
        Finding("another", 1.0, -0.5, 2.5, "%", 8, Verdict.OPEN, 500, "kodak"),
        not_run("a third", "rd", "cpu", 2000),
    )
    return Claim(1, "It is so.", "It must be so.", findings, ("convergence", "ssl-a"), "Is it so?")


def test_a_verdict_is_said_by_read_off_with_symbol_word_and_count(claim):
    assert claims.verdict(claim) == "◔ holds in part at 500 iterations (1 of 2); – not run at 2000 iterations"
    text = claims.describe(claim)
    assert claims.verdict(claim) in text and "It is so." in text and 'href="ssl-a.html"' in text
    partly = replace(claim, findings=(*claim.findings[1:3], not_run("z", "rd", "cpu", 500)))
    assert claims.verdict(partly) == "◔ holds in part at 500 iterations (1 of 2, 1 not run)"


def test_the_ledger_is_a_matrix_of_claims_data_sets_and_read_offs(claim):
    tecnick = (
        Finding("early", 1.0, 0.5, 1.5, "%", 8, Verdict.CONTRADICTED, 100, "tecnick"),
        not_run("late", "tecnick", "paper", 2000, "tecnick"),
    )
    formulas = (Finding("a slope", 1.0, outcome=Verdict.HOLDS),)
    ledger = [claim, replace(claim, number=2, findings=tecnick), replace(claim, number=3, findings=formulas)]
    rows = cells_of(claims.matrix(ledger))
    assert rows[:2] == [
        ["claim", "Kodak", "Tecnick", "from the formulas"],
        ["500", "2000", "500", "2000"],
    ]
    assert [row[1:] for row in rows[2:5]] == [
        ["◔ holds in part (1 of 2)", "– not run", "", "", ""],
        ["", "", "✗ contradicted (0 of 1), after 100", "– not run", ""],
        ["", "", "", "", "✓ holds (1 of 1)"],
    ]
    assert 'href="#claim-3"' in claims.matrix(ledger).as_raw_html()


def test_tables_say_verdicts_by_symbol_and_word(claim):
    page = claims.findings_table(claim).as_raw_html()
    assert "✓ holds" in page and "−1.00 [−1.50, −0.50] %" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "sgaplus study run rd --profile cpu" in page and "percentage points" in page
    assert "It must be so." in page
    # Conditions come before what is context.
    assert page.index("a difference") < page.index("for context")


def test_the_csv_has_every_finding(claim):
    table = claims.frame([claim])
    assert list(table["role"]) == ["context", "✓ holds", "? open", "– not run"]
    assert table["value"].tolist()[:3] == [2, -1, 1] and "--profile cpu" in table["note"].iloc[3]


def test_counts_of_verdicts(claim):
    sure = Claim(2, "x", "y", claim.findings[1:2], ("convergence",))
    text = claims.describe_ledger([claim, sure, sure])
    assert "2 × ✓ holds, 1 × ◔ holds in part" in text and "Of 5 conditions 4 were run, and 3" in text


def test_decisions_on_few_images_are_counted_by_wider_intervals(claim):
    """Of 8 images Student's interval is 1.29 times as wide: one that barely excludes zero no longer does."""
    barely = Finding("c", 1.0, 0.1, 1.9, "%", 8, Verdict.CONTRADICTED)
    skewed = Finding("d", 1.0, 0.5, 9.0, "%", 8, Verdict.HOLDS)
    text = claims.describe_few([replace(claim, findings=(*claim.findings, barely, skewed))])
    assert "2 of the 3 conditions" in text and "89 % with 8" in text
    assert claims.describe_few([replace(claim, findings=())]) == ""


def test_nothing_stored_is_said(tmp_path):
    with pytest.raises(UserError, match="no study has rows of profile cpu"):
        claims.load("cpu", tmp_path)
