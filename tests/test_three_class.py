"""Two classes or three: pairs of the same function on the same images, and against SSL of the same
sharpness."""

import pandas as pd
import pytest

from companion import configurations
from companion.pages import descent, three_class
from sgaplus.errors import UserError

from .made_rows import everywhere, job, rows_of


@pytest.fixture
def classes() -> pd.DataFrame:
    return rows_of(
        everywhere("linear", {0: 1.0, 25: 1.0, 100: 0.90, 200: 0.80}),
        everywhere("three-class:base=linear", {0: 1.0, 25: 0.99, 100: 0.81, 200: 0.80}),
        everywhere("ssl:a=2.3", {0: 1.0, 25: 0.90, 100: 0.80, 200: 0.70}),
        everywhere("three-class:base=ssl,a=1.4", {0: 1.0, 25: 0.90, 100: 0.88, 200: 0.77}),
        everywhere("map", {0: 1.0}),
        job("a@100", "atanh", {0: 1.0, 200: 0.9}),
        everywhere("linear", {0: 1.0, 200: 0.5}, lmbda=0.02),
    )


LINEAR = ("linear", configurations.label("three-class:base=linear"))
SSL = ("SSL (a = 2.3)", configurations.label("three-class:base=ssl,a=1.4"))


def test_three_classes_are_paired_with_two_of_the_same_function(classes):
    rows = three_class.select(classes, 0.01)
    assert three_class.pairs(rows) == [("linear", *LINEAR), ("SSL", *SSL)]
    assert set(rows["configuration"]) == {*LINEAR, *SSL}
    assert descent.marks(rows) == [25, 100, 200]
    table = three_class.against_two_classes(rows, [25, 100, 200])
    found = table.set_index(["two", "iteration"])["change"]
    assert found["linear", 100] == pytest.approx(-10) and found["linear", 200] == pytest.approx(0)
    assert found["SSL (a = 2.3)", 100] == pytest.approx(10)
    verdicts = table.set_index(["two", "iteration"])["verdict"]
    assert verdicts["linear", 100] == "lower" and verdicts["SSL (a = 2.3)", 100] == "higher"
    assert verdicts["SSL (a = 2.3)", 25] == "not significantly different"


def test_only_images_with_all_configurations_are_compared(classes):
    lacking = classes[~((classes["configuration"] == SSL[1]) & (classes["image"] == "b@100"))]
    rows = three_class.select(lacking, 0.01)
    assert set(rows["image"]) == {"a@100", "c@100"}
    with pytest.raises(UserError, match=r"at lambda 0\.03: use one of 0\.01, 0\.02"):
        three_class.select(classes, 0.03)
    with pytest.raises(UserError, match="no three-class method is stored"):
        three_class.select(classes[~classes["configuration"].isin([LINEAR[1], SSL[1]])], 0.01)


def test_three_classes_are_held_against_ssl_of_the_same_sharpness(classes):
    """`tests.test_rounding` shows that without the third class they are SSL of this sharpness."""
    rows = three_class.select(classes, 0.01)
    assert three_class.sharpness(rows) == pytest.approx({LINEAR[1]: 1.5, SSL[1]: 2.1})
    over_a = rows_of(
        everywhere("ssl:a=1", {0: 1.0, 100: 0.9}),
        everywhere("ssl:a=1.6", {0: 1.0, 100: 0.75}),
        everywhere("ssl:a=3", {0: 1.0, 100: 0.8}),
    )
    table = three_class.against_sharpness(rows, over_a, 100)
    linear = table[table["three"] == LINEAR[1]]
    assert linear["ssl"].tolist() == [1, 1.6] and linear["change"].tolist() == pytest.approx([-10, 8])
    ssl = table[table["three"] == SSL[1]]
    assert ssl["ssl"].tolist() == [1.6, 3] and (ssl["change"] > 0).all()
    assert linear["between"].all() and not ssl["between"].any()
    assert linear["a"].tolist() == [1.5, 1.5]
    other = over_a.assign(codec_sha256="another")
    assert three_class.against_sharpness(rows, other, 100).empty
