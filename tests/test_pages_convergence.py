"""Convergence over the iterations: curves, gaps, smoothness and speed, on traces worked out by hand."""

import json

import pandas as pd
import pytest

from companion import statistics
from companion.pages import convergence
from sgaplus.errors import UserError

# Losses over the iterations 0, 10, 20, 30, 40, as a share of the codec's.
SHARES = {"smooth": (1.0, 0.9, 0.8, 0.75, 0.7), "rough": (1.0, 0.95, 0.85, 0.9, 0.8)}
GAPS = {"smooth": 0.1, "rough": -0.3}


@pytest.fixture
def trace() -> pd.DataFrame:
    """Two configurations on three images, of losses 1, 2 and 6 without refinement."""
    schedules = {"smooth": {"schedule": "exponential"}, "rough": {"schedule": "constant", "value": 1.0}}
    common = {"iterations": 40, "seed": 0, "lmbda": 0.01, "codec_lmbda": 0.01, "tau": 0.25}
    return pd.DataFrame(
        [
            common
            | {"configuration": name, "image": image, "iteration": 10 * k, "psnr": 30 + k}
            | {"loss": start * share, "bpp": start * share / 2, "temperature": json.dumps(schedules[name])}
            | {"method_loss": start * share + GAPS[name] if k else float("nan")}
            for name, shares in SHARES.items()
            for image, start in (("a", 1.0), ("b", 2.0), ("c", 6.0))
            for k, share in enumerate(shares)
        ]
    )


def test_what_is_read_off(trace):
    means = convergence.lines(trace)
    means = means[means["image"].isna()].groupby(["part", "configuration"], sort=False)["value"].agg(list)
    loss, gap, psnr, bpp = means.index.unique("part")
    assert means[loss, "smooth"] == pytest.approx([0, -0.3, -0.6, -0.75, -0.9])
    assert means[gap, "rough"] == pytest.approx([-0.3] * 4)
    assert means[psnr, "smooth"] == pytest.approx([0, 1, 2, 3, 4])
    assert means[bpp, "rough"] == pytest.approx([0, -0.075, -0.225, -0.15, -0.3])
    lines = convergence.differences_lines(statistics.paired(trace, "loss", "smooth", ["iteration"]), "smooth")
    own = lines[lines["image"].isna()].groupby("configuration")["value"].agg(list)
    assert own["rough"] == pytest.approx([0, 100 * (95 / 90 - 1), 6.25, 20, 100 * (8 / 7 - 1)])
    assert own["smooth"] == [0] * 5
    with pytest.raises(UserError, match="no row is of 'STE'"):
        statistics.paired(trace, "loss", "STE", ["iteration"])


def test_what_the_curves_come_to(trace):
    table = convergence.at_end(trace).set_index("configuration")
    assert table["images"].tolist() == [3, 3]
    assert table["loss"].to_dict() == pytest.approx({"smooth": 2.1, "rough": 2.4})
    assert table["gain"].to_dict() == pytest.approx({"smooth": -30, "rough": -20})
    assert table["gap"].to_dict() == pytest.approx(GAPS)
    # One step of four rises, by 5 % of the codec's loss.
    assert table["rising"].to_dict() == pytest.approx({"smooth": 0, "rough": 25})
    assert table["climbed"].to_dict() == pytest.approx({"smooth": 0, "rough": 5})
    assert table["gain_low"].to_dict() == pytest.approx({"smooth": -30, "rough": -20})


def test_iterations_to_the_final_loss_of_another(trace):
    table = convergence.reaching(trace).set_index("configuration")
    assert table.loc["smooth", "rough"] == "20 (3 of 3)" and table.loc["smooth", "smooth"] == "40 (3 of 3)"
    assert table.loc["rough", "smooth"] == "– (0 of 3)"


def test_the_others_are_judged_against_the_lowest(trace):
    table = convergence.at_end(trace).set_index("configuration")
    assert table.loc["smooth", "verdict"] == "lowest" and table.loc["rough", "verdict"] == "higher"
    assert table.loc["rough", "against"] == pytest.approx(100 * (8 / 7 - 1))
    assert table.loc["smooth", "tau"] == 0.25 and pd.isna(table.loc["rough", "tau"])  # a constant schedule
    noisy = {"a": 0.1, "b": -0.1, "c": 0.1}
    own = trace[trace["configuration"] == "smooth"]
    other = own.assign(configuration="rough", loss=own["loss"] * (1 + own["image"].map(noisy)))
    table = convergence.at_end(pd.concat([own, other])).set_index("configuration")
    assert table.loc["rough", "verdict"] == "not significantly different"


def test_one_lambda_is_shown(trace):
    both = pd.concat([trace, trace.assign(lmbda=0.02, codec_lmbda=0.02)])
    assert convergence.traces(both, 0.02)["lmbda"].unique() == [0.02]
    assert len(convergence.traces(trace)) == len(trace)
    with pytest.raises(UserError, match=r"use one of 0\.01, 0\.02"):
        convergence.traces(both)
    with pytest.raises(UserError, match="hold no refinement"):
        convergence.traces(trace.assign(iterations=0))
