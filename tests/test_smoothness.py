"""Upward movement of the true loss and the discretisation gap, against values worked out by hand."""

import pandas as pd
import pytest

from companion.smoothness import smoothness, with_gap
from sgaplus.errors import UserError


def run(losses, every=25, key="k", configuration="ssl", iterations=None):
    """Rows of one run with a true loss every ``every`` iterations."""
    last = every * (len(losses) - 1) if iterations is None else iterations
    return pd.DataFrame(
        {
            "iteration": [every * k for k in range(len(losses))],
            "loss": losses,
            "iterations": last,
            "trace_every": every,
            "key": key,
            "configuration": configuration,
            "image": "a",
            "lmbda": 0.01,
            "codec_lmbda": 0.01,
            "seed": 0,
        }
    )


def test_rises_are_summed_in_percent_of_the_start():
    found = smoothness(run([2.0, 1.5, 1.6, 1.4, 1.5]), 100).iloc[0]
    assert found["upward"] == pytest.approx(100 * 0.2 / 2)
    assert smoothness(run([2.0, 1.5, 1.4]), 50)["upward"].iloc[0] == 0


def test_runs_are_compared_at_the_widest_spacing_and_up_to_one_iteration():
    fine = run([2.0, 1.0, 1.5, 1.4, 1.3], every=25, key="fine")
    coarse = run([2.0, 1.6, 1.7], every=50, key="coarse")
    found = smoothness(pd.concat([fine, coarse]), 100).set_index("key")
    assert set(found["spacing"]) == {50}
    assert found.loc["fine", "upward"] == 0 and found.loc["coarse", "upward"] == pytest.approx(5)
    assert smoothness(coarse, until=50)["upward"].iloc[0] == 0
    # A run that ends before is no curve up to there.
    with pytest.raises(UserError, match="two points"):
        smoothness(fine, until=2000)


def test_gap_is_the_methods_loss_minus_the_true_one():
    rows = with_gap(pd.DataFrame({"loss": [2.0, 1.0], "method_loss": [1.9, 1.1]}))
    assert rows["gap"].tolist() == pytest.approx([-0.1, 0.1])
    assert rows["gap_size"].tolist() == pytest.approx([5, 10])
