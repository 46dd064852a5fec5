"""SSL's a: paired with the reference, with an optimum that is interior or not."""

import pandas as pd
import pytest

from companion.pages import ssl_a
from sgaplus.errors import UserError

from .made_rows import everywhere, rows_of


@pytest.fixture
def slopes() -> pd.DataFrame:
    """Early the largest a is the best, late the one in the middle."""
    return rows_of(
        everywhere("ssl:a=0.5", {0: 1.0, 5: 0.99, 10: 0.88}),
        everywhere("ssl:a=2.3", {0: 1.0, 5: 0.95, 10: 0.80}),
        everywhere("ssl:a=10", {0: 1.0, 5: 0.93, 10: 0.84}),
        everywhere("map", {0: 1.0}),
    )


def test_the_loss_over_a_is_paired_with_the_reference(slopes):
    table = ssl_a.over_a(slopes, 2.3, [5, 10])
    late = table[table["iteration"] == 10]
    assert late["a"].tolist() == [0.5, 2.3, 10]
    for column in ("change", "change_low", "change_high"):
        assert late[column].tolist() == pytest.approx([10, float("nan"), 5], nan_ok=True)
    with pytest.raises(UserError, match=r"no row has a = 3: use one of 0\.5, 2\.3, 10"):
        ssl_a.over_a(slopes, 3, [10])


def test_the_optimum_is_interior_only_where_both_ends_are_worse(slopes, monkeypatch):
    early, late = ssl_a.optima(slopes, [5, 10]).to_dict("records")
    assert (early["best"], late["best"]) == (10, 2.3)
    assert late["interior"] and not early["interior"], "the best a is at an end"
    assert (late["first"], late["last"]) == pytest.approx((10, 5)) and late["good"] == {2.3}
    table = ssl_a.grids.summary(ssl_a._grid(slopes, 10), "a").assign(change_low=[9.0, float("nan"), -1.0])
    monkeypatch.setattr(ssl_a.grids, "summary", lambda *_: table)
    (line,) = ssl_a.optima(slopes, [10]).to_dict("records")
    assert not line["interior"] and line["good"] == {2.3, 10} and line["alike"] == "10"
