"""What a gain costs, and the loss over the iterations, on rows made up by hand."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import compute_cost, descent
from sgaplus.errors import UserError

from .made_rows import everywhere, rows_of

# What a gain costs


@pytest.fixture
def traced() -> pd.DataFrame:
    """SSL gains 4 % by 10 steps and 8 % by 40, STE 1 % and 2 %; a step of 10⁴ pixels takes 0.02 s."""
    return rows_of(
        everywhere("ssl", {0: 1.0, 10: 0.96, 40: 0.92}),
        everywhere("ste", {0: 1.0, 10: 0.99, 40: 0.98}),
        everywhere("map", {0: 1.0}),
    )


def test_gains_and_their_shares(traced):
    table, columns = compute_cost.over_iterations(traced, [10, 40])
    assert table["configuration"].tolist() == ["SSL (a = 2.3)", "STE"] and list(columns) == [
        "gain_10",
        "gain_40",
        "share_10",
    ]
    assert table[["gain_10", "gain_40", "share_10", "share_10_low"]].to_numpy().tolist() == [
        pytest.approx([4, 8, 50, 50]),
        pytest.approx([1, 2, 50, 50]),
    ]
    with pytest.raises(UserError, match="not all rows have iteration 20: use some of 10, 40"):
        compute_cost.over_iterations(traced, [20, 40])


def test_levels_are_reached_between_the_traced_iterations(traced):
    table = compute_cost.levels(traced, [2, 6]).set_index(["level", "configuration"])["iterations"]
    assert table[2, "SSL (a = 2.3)"] == pytest.approx(5) and table[6, "SSL (a = 2.3)"] == pytest.approx(25)
    assert table[2, "STE"] == pytest.approx(40) and np.isnan(table[6, "STE"])


def test_seconds_are_per_megapixel_and_step(traced):
    steps = compute_cost.step_seconds(traced)
    # 0.02 s a step for 100 × 100 pixels.
    assert steps["seconds"].tolist() == pytest.approx([2, 2]) and steps["jobs"].tolist() == [3, 3]
    busy = traced.assign(device="a busy one", seconds=3 * traced["seconds"])
    assert compute_cost.step_seconds(pd.concat([busy, traced])).equals(steps)
    assert compute_cost.megapixels("kodim05") == pytest.approx(0.393216)
    with pytest.raises(UserError, match="the size of photo is not known"):
        compute_cost.megapixels("photo")


@pytest.fixture
def measured() -> pd.DataFrame:
    """Two sizes of pictures in bfloat16, one of them compiled too, and one in float32, as `speed.load`
    returns them."""
    return pd.DataFrame(
        {
            "place": "a machine; N = 128, M = 192",
            "N": 128,
            "M": 192,
            "dtype": ["bfloat16", "bfloat16", "float32", "bfloat16"],
            "compiled": [False, False, False, True],
            "per_megapixel": [0.4, 0.6, 9.0, 0.1],
        }
    )


def test_costs_have_a_column_for_each_place(traced, measured):
    quiet = compute_cost.quiet_seconds(measured, "bfloat16")
    assert quiet[["seconds", "least", "most"]].to_numpy().tolist() == [pytest.approx([0.5, 0.4, 0.6])]
    with pytest.raises(UserError, match="no step was measured in float16"):
        compute_cost.quiet_seconds(measured, "float16")
    table, columns = compute_cost.costs(compute_cost.levels(traced, [2, 6, 9]), 2.0, quiet)
    first = table.iloc[0]
    assert first["stored"] == pytest.approx(10) and first["a machine; N = 128, M = 192"] == pytest.approx(2.5)
    assert set(columns) == {"iterations", "stored", "a machine; N = 128, M = 192"}


# What they share


def test_iterations_that_not_all_have_are_left_out():
    rows = rows_of(everywhere("ssl", {0: 1.0, 5: 0.9, 10: 0.8}), everywhere("atanh", {0: 1.0, 10: 0.8}))
    assert descent.iterations_of(rows) == [10] and set(descent.at(rows, None)["iteration"]) == {10}
    with pytest.raises(UserError, match="run the study to its end"):
        descent.iterations_of(rows[rows["iteration"] == 0])
