"""Grids of a setting: every cell against its method's best, and ranges on the same images."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import grids
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
