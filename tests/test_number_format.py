"""The page on bfloat16: pairs of the same image in both formats."""

import pandas as pd
import pytest

from companion.pages import number_format
from sgaplus.errors import UserError


@pytest.fixture
def rows() -> pd.DataFrame:
    """bfloat16 is 1 % worse on one image and 2 % better on the other, and takes half the seconds."""
    lines = []
    for dtype, seconds in (("float32", 10), ("bfloat16", 5)):
        for image, loss, change in (("a", 1.0, 0.01), ("b", 4.0, -0.02)):
            for t in (0, 100, 1000):
                value = loss * (1 + change * (t > 0) * (dtype == "bfloat16"))
                lines.append(
                    {"dtype": dtype, "image": image, "iteration": t, "loss": value, "seconds": seconds}
                )
    return pd.DataFrame(lines)


def test_a_line_for_each_iteration_pairs_the_images(rows):
    table = number_format.summary(rows)
    assert table["iteration"].tolist() == [0, 100, 1000] and set(table["images"]) == {2}
    assert table["change"].tolist() == pytest.approx([0, -0.5, -0.5])
    assert table["largest"].tolist() == pytest.approx([0, 2, 2])
    assert set(table["float32"]) == {10} and set(table["bfloat16"]) == {5}
    with pytest.raises(UserError, match="float32"):
        number_format.summary(rows[rows["dtype"] == "bfloat16"])
