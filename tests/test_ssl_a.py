"""SSL's a: paired with the reference, with an optimum that is interior or not."""

import pandas as pd
import pytest

from companion.pages import ssl_a
from sgaplus.errors import UserError

from .made_rows import everywhere, rows_of


def test_ssl_meets_other_methods_where_the_formulas_say():
    table = ssl_a.likeness().set_index("label")
    assert table.loc["linear", "a"] == pytest.approx(1, abs=1e-4) and table.loc["linear", "distance"] < 1e-4
    assert table.loc["cosine", "a"] == pytest.approx(1.6, abs=0.03)
    assert table.loc["atanh (SGA)", "a"] == pytest.approx(0.63, abs=0.01)


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


def test_the_figure_has_a_line_for_each_iteration_and_names_other_methods(slopes):
    whole, part = ssl_a.figure(ssl_a.over_a(slopes, 2.3, [5, 10]), 2.3, ssl_a.likeness()).axes
    drawn = [list(line.get_ydata()) for line in whole.lines if len(line.get_xdata()) == 3]
    assert pytest.approx([10, 0, 5]) in drawn and len(drawn) == 2 and whole.get_xscale() == "log"
    assert len({line.get_color() for line in whole.lines if len(line.get_xdata()) == 3}) == 2
    assert [text.get_text() for text in whole.texts] == ["≈ atanh (SGA)", "= linear", "≈ cosine"]
    assert not part.texts and all(min(line.get_xdata()) != 0.5 for line in part.lines)


def test_the_optimum_is_interior_only_where_both_ends_are_worse(slopes):
    late, early = ssl_a.against_best(slopes, 10), ssl_a.against_best(slopes, 5)
    assert late["change"].tolist() == pytest.approx([10, 0, 5])
    assert ssl_a.best_a(late) == 2.3 and ssl_a.best_a(early) == 10
    assert ssl_a.is_interior(late) and not ssl_a.is_interior(early), "the best a is at an end"
    unclear = late.assign(change_low=[9.0, 0.0, -1.0])
    assert not ssl_a.is_interior(unclear)
    with pytest.raises(UserError, match="at least three"):
        ssl_a.against_best(slopes[slopes["a"] < 10], 10)


def test_the_sentence_on_the_optimum_follows_the_table(slopes):
    late = ssl_a.against_best(slopes, 10)
    text = ssl_a.describe_optimum(late, 10)
    assert "2.3" in text and "not" not in text and text.count("[") == 2
    unclear = ssl_a.describe_optimum(late.assign(change_low=[9.0, 0.0, -1.0]), 10)
    assert "not shown to be an interior one" in unclear and unclear.endswith("a = 10.")
