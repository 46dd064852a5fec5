"""The pool of rows: whichever page shows a quantity, it has the same digits."""

import pandas as pd
import pytest

from companion import pool, provenance
from companion.pages import (
    claims,
    grids,
    ssl_a,
    three_class,
)
from sgaplus.errors import UserError


def test_an_image_of_no_data_set_is_refused():
    with pytest.raises(UserError, match="nowhere is of none of"):
        pool.with_scope(pd.DataFrame({"image": ["nowhere"]}))


def test_crops_and_whole_photographs_are_scopes_of_their_own():
    rows = pool.with_scope(pd.DataFrame({"image": ["kodim01", "kodim01@256", "RGB_OR_1200x1200_007@512"]}))
    assert rows["dataset"].tolist() == ["kodak", "kodak", "tecnick"]
    assert len(set(rows["scope"])) == 3 and rows["scope"].iloc[0] == pool.WHOLE


def test_claims_are_about_codecs_at_their_own_lambda():
    rows = pd.DataFrame({"lmbda": [0.01, 0.01], "codec_lmbda": [0.01, 0.02]})
    assert len(pool.own(rows)) == 1


@pytest.fixture(scope="module")
def stored():
    return pool.load("cpu")


@pytest.fixture(scope="module")
def findings(stored):
    return {claim.number: claim.findings for claim in claims.ledger(stored, "cpu")}


def interval(line, mean, low="low", high="high"):
    return pytest.approx((line[mean], line[low], line[high]), rel=1e-9)


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
