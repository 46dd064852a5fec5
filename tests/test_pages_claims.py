"""The claims: the ledger's page in words and tables, whose quantities have the same digits on every page."""

from dataclasses import replace

import pandas as pd
import pytest

from companion import pool, provenance, statistics
from companion.pages import claims, grids, ssl_a, three_class
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
    assert rows[:2] == [["claim", "Kodak", "Tecnick", "from the formulas"], ["500", "2000", "500", "2000"]]
    assert [row[1:] for row in rows[2:5]] == [
        ["◔ holds in part (1 of 2)", "– not run", "", "", ""],
        ["", "", "✗ contradicted (0 of 1), after 100", "– not run", ""],
        ["", "", "", "", "✓ holds (1 of 1)"],
    ]
    assert 'href="#claim-3"' in claims.matrix(ledger).as_raw_html()


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


def test_an_image_of_no_data_set_is_refused():
    with pytest.raises(UserError, match="nowhere is of none of"):
        pool.with_scope(pd.DataFrame({"image": ["nowhere"]}))


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def stored():
    return pool.load("cpu")


@pytest.fixture(scope="module")
def findings(stored):
    return {claim.number: claim.findings for claim in claims.ledger(stored, "cpu")}


def interval(line, mean, low="low", high="high"):
    """To more digits than are shown: of a longer and a shorter run a page and a claim may take one each."""
    return pytest.approx((line[mean], line[low], line[high]), rel=1e-6)


@pytest.mark.slow
def test_a_claim_has_the_digits_of_the_page_that_it_links_to(findings):
    """Studies share methods and images, and one goes on to 2000 iterations: no page counts its rows as
    further seeds."""
    rows = three_class.select(provenance.load("rd", "cpu"), pool.LMBDA)
    page = three_class.against_two_classes(rows, [100]).set_index("two").loc["SSL (a = 2.3)"]
    claim = next(f for f in findings[5] if f.what.startswith("true loss, SSL") and f.iteration == 100)
    assert (claim.value, claim.low, claim.high) == interval(page, "change", "change_low", "change_high")

    page = ssl_a.over_a(provenance.load("ssl-a", "cpu"), 2.3, [500]).set_index("a").loc[10.0]
    claim = next(f for f in findings[4] if "a = 10 against" in f.what)
    assert (claim.value, claim.low, claim.high) == interval(page, "change", "change_low", "change_high")

    page = grids.ranges(grids.grid(provenance.load("stability", "cpu"), "tau_max", 500), "tau_max")
    page = 1000 * page.set_index("label").loc["atanh (SGA)", ["range", "range_low", "range_high"]].astype(
        float
    )
    claim = next(f for f in findings[3] if f.what.startswith("range of the mean true loss of atanh"))
    assert (claim.value, claim.low, claim.high) == interval(page, "range", "range_low", "range_high")


# Upward movement of the true loss and the discretisation gap


def run(losses, every, key):
    """Rows of one run with a true loss every ``every`` iterations."""
    common = {"configuration": "ssl", "image": "a", "lmbda": 0.01, "codec_lmbda": 0.01, "seed": 0}
    rows = pd.DataFrame({"iteration": [every * k for k in range(len(losses))], "loss": losses})
    return rows.assign(iterations=rows["iteration"].max(), trace_every=every, key=key, **common)


def test_runs_are_compared_at_the_widest_spacing_and_up_to_one_iteration():
    fine = run([2.0, 1.0, 1.5, 1.4, 1.3], every=25, key="fine")
    coarse = run([2.0, 1.6, 1.7], every=50, key="coarse")
    found = pool.smoothness(pd.concat([fine, coarse]), 100).set_index("key")
    assert set(found["spacing"]) == {50}
    assert found.loc["fine", "upward"] == 0 and found.loc["coarse", "upward"] == pytest.approx(5)
    assert pool.smoothness(coarse, until=50)["upward"].iloc[0] == 0
    # A run that ends before is no curve up to there.
    with pytest.raises(UserError, match="two points"):
        pool.smoothness(fine, until=2000)
