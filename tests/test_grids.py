"""Grids of a setting, what a gain costs and the loss over the iterations, on rows made up by hand."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import compute_cost, descent, grids
from sgaplus.errors import UserError

from .made_rows import everywhere, rows_of

# A grid of τ_max: atanh loses 10 % at 1, linear 1 % at 0.2; the mean cost of an image is 7/3.
FACTORS = {("atanh", 0.2): 0.90, ("atanh", 1.0): 0.99, ("linear", 0.2): 0.909, ("linear", 1.0): 0.90}
MEAN = 7 / 3


@pytest.fixture
def rows() -> pd.DataFrame:
    return rows_of(
        *(everywhere(m, {0: 1.0, 10: factor}, tau_max=tau) for (m, tau), factor in FACTORS.items()),
        everywhere("map", {0: 1.0}),
    )


@pytest.fixture
def grid(rows) -> pd.DataFrame:
    return grids.grid(rows, "tau_max")


def test_every_cell_of_a_grid_is_compared_with_its_methods_best(grid):
    table = grids.summary(grid, "tau_max")
    assert list(zip(table["label"], table["tau_max"], strict=True)) == [
        ("atanh (SGA)", 0.2),
        ("atanh (SGA)", 1.0),
        ("linear", 0.2),
        ("linear", 1.0),
    ]
    assert table["loss"].tolist() == pytest.approx([MEAN * factor for factor in FACTORS.values()])
    # Every image changes by the same factor: the paired intervals are points.
    for column in ("change", "change_low", "change_high"):
        assert table[column].tolist() == pytest.approx([np.nan, 10, 1, np.nan], nan_ok=True)
    assert table["best"].tolist() == [True, False, False, True]
    assert table["spread"].isna().all() and (table["images"] == 3).all()


def test_the_spread_over_seeds_is_known_where_there_are_several():
    rows = rows_of(
        *(
            everywhere(method, {0: 1.0, 10: factor + 0.03 * seed}, seed=seed, tau_max=tau)
            for (method, tau), factor in FACTORS.items()
            for seed in (0, 1)
        )
    )
    table = grids.summary(grids.grid(rows, "tau_max"), "tau_max")
    assert table["spread"].tolist() == pytest.approx([MEAN * 0.03 / np.sqrt(2)] * 4)


def test_an_incomplete_grid_is_refused(grid):
    part = grid[~((grid["label"] == "linear") & (grid["tau_max"] == 1) & (grid["image"] == "b@100"))]
    with pytest.raises(UserError, match="linear lacks images at tau_max = 1: run the study"):
        grids.grid(part, "tau_max")
    with pytest.raises(UserError, match="not all rows have iteration 7: use one of 10"):
        grids.grid(grid, "tau_max", 7)


def test_ranges_are_compared_on_the_same_images(grid):
    table = grids.ranges(grid, "tau_max")
    assert table["label"].tolist() == ["linear", "atanh (SGA)"]
    assert table["range"].tolist() == pytest.approx([0.009 * MEAN, 0.09 * MEAN])
    assert table[["best", "worst"]].to_numpy().tolist() == [[1, 0.2], [0.2, 1]]
    # A sample of images changes both ranges by the same factor, from 1 (image a alone) to 4 (image c alone).
    least, most = table.iloc[0], table.iloc[1]
    assert most["difference"] == pytest.approx(0.081 * MEAN) and np.isnan(least["difference"])
    assert most["difference_low"] == pytest.approx(0.081 * 1, rel=0.01)
    assert most["difference_high"] == pytest.approx(0.081 * 4, rel=0.01)


def test_temperatures_that_never_fell_are_named(grid):
    """Rows made up have min(τ_max, 0.6) at iteration 10."""
    assert grids.kept(grid) == [0.2]
    assert grids.kept(grid.assign(tau=0.1)) == []


@pytest.fixture
def rates() -> pd.DataFrame:
    return rows_of(
        everywhere("atanh", {0: 1.0, 5: 0.95, 10: 0.90}, rate=0.005),
        everywhere("atanh", {0: 1.0, 5: 0.91, 10: 0.99}, rate=0.02),
        everywhere("ssl", {0: 1.0, 5: 0.80, 10: 0.81}, rate=0.005),
        everywhere("ssl", {0: 1.0, 5: 0.91, 10: 0.81}, rate=0.02),
    )


def test_methods_are_compared_at_the_same_setting(rates):
    table = grids.between(grids.grid(rates, "rate"), "rate", "atanh (SGA)")
    assert table["change"].tolist() == pytest.approx([100 * (0.81 / 0.9 - 1), 100 * (0.81 / 0.99 - 1)])
    assert table["verdict"].tolist() == ["lower", "lower"]
    early = grids.between(grids.grid(rates, "rate", 5), "rate", "atanh (SGA)")
    assert early["verdict"].tolist() == ["lower", "not significantly different"]
    best = grids.at_best(grids.grid(rates, "rate", 5), "rate", "atanh (SGA)")
    assert best["change"].tolist() == pytest.approx([100 * (0.80 / 0.91 - 1)]), "each at its own best rate"


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
