"""Convergence over the iterations: curves, gaps, smoothness and speed, on traces worked out by hand."""

import json

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from companion.pages import convergence
from sgaplus.errors import UserError

# Losses over the iterations 0, 10, 20, 30, 40, as a share of the codec's.
SHARES = {"smooth": (1.0, 0.9, 0.8, 0.75, 0.7), "rough": (1.0, 0.95, 0.85, 0.9, 0.8)}
GAPS = {"smooth": 0.1, "rough": -0.3}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def trace() -> pd.DataFrame:
    """Two arms on three images, of losses 1, 2 and 6 without refinement."""
    schedules = {"smooth": {"schedule": "exponential"}, "rough": {"schedule": "constant", "value": 1.0}}
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "image": image,
                "iteration": 10 * k,
                "iterations": 40,
                "seed": 0,
                "lmbda": 0.01,
                "codec_lmbda": 0.01,
                "loss": start * share,
                "bpp": start * share / 2,
                "psnr": 30 + k,
                "method_loss": start * share + GAPS[arm] if k else float("nan"),
                "temperature": json.dumps(schedules[arm]),
                "tau": 0.25,
            }
            for arm, shares in SHARES.items()
            for image, start in (("a", 1.0), ("b", 2.0), ("c", 6.0))
            for k, share in enumerate(shares)
        ]
    )


def test_the_figure_shows_differences_from_the_codec_and_the_gap(trace):
    panels = convergence.figure(trace).axes
    loss, gap, psnr, bpp = (
        {line.get_label(): line.get_ydata() for line in axes.lines} for axes in panels[:4]
    )
    assert loss["smooth"] == pytest.approx([0, -0.3, -0.6, -0.75, -0.9])
    assert gap["rough"] == pytest.approx([-0.3] * 4)
    assert psnr["smooth"] == pytest.approx([0, 1, 2, 3, 4])
    assert bpp["rough"] == pytest.approx([0, -0.075, -0.225, -0.15, -0.3])


def test_the_scale_at_the_right_says_the_mean_itself(trace):
    figure = convergence.figure(trace)
    figure.canvas.draw()
    (scale,) = figure.axes[0].child_axes
    assert [y + 3 for y in figure.axes[0].get_ylim()] == pytest.approx(scale.get_ylim())


def test_the_figure_takes_runs_by_their_method(trace):
    legend = convergence.figure(trace.rename(columns={"arm": "method"}), by="method").legends[0]
    assert sorted(text.get_text() for text in legend.texts) == ["rough", "smooth"]


def test_differences_are_paired_and_in_percent_of_the_reference(trace):
    (axes,) = convergence.differences_figure(trace, "smooth").axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["rough"] == pytest.approx([0, 100 * (95 / 90 - 1), 6.25, 20, 100 * (8 / 7 - 1)])
    with pytest.raises(UserError, match="no row is of 'STE'"):
        convergence.differences_figure(trace, "STE")


def test_what_the_curves_come_to(trace):
    table = convergence.at_end(trace).set_index("arm")
    assert table["images"].tolist() == [3, 3]
    assert table["loss"].to_dict() == pytest.approx({"smooth": 2.1, "rough": 2.4})
    assert table["gain"].to_dict() == pytest.approx({"smooth": -30, "rough": -20})
    assert table["gap"].to_dict() == pytest.approx(GAPS)
    # One step of four rises, by 5 % of the codec's loss.
    assert table["rising"].to_dict() == pytest.approx({"smooth": 0, "rough": 25})
    assert table["climbed"].to_dict() == pytest.approx({"smooth": 0, "rough": 5})
    assert table["gain_low"].to_dict() == pytest.approx({"smooth": -30, "rough": -20})


def test_the_table_marks_the_best_of_each_column(trace):
    html = convergence.at_end_table(convergence.at_end(trace), 40).as_raw_html()
    bold = [cell.split(">")[1].split("<")[0] for cell in html.split("<td")[1:] if "bold" in cell]
    assert bold == [
        "2.1000",
        "−30.00 [−30.00, −30.00]",
        "+0.1000 [+0.1000, +0.1000]",
        "0 [0, 0]",
        "0.00 [0.00, 0.00]",
    ]


def test_iterations_to_the_final_loss_of_another(trace):
    table = convergence.reaching(trace).set_index("arm")
    assert table.loc["smooth", "rough"] == 20 and table.loc["smooth", "smooth"] == 40
    assert pd.isna(table.loc["rough", "smooth"])
    html = convergence.reaching_table(table.reset_index()).as_raw_html()
    assert html.count("–<") == 1 and "20" in html


def test_sentences(trace):
    order = convergence.describe_order(trace)
    assert "At iteration 40 smooth has the lowest mean true loss, 2.1000." in order
    assert "told apart from rough (+14.29 [+14.29, +14.29] %)" in order and "does not exclude" not in order
    speed = convergence.describe_speed(trace, "smooth", "rough")
    assert "from iteration 20 of 40 on" in speed and "3 of 3" in speed
    assert "does not reach" in convergence.describe_speed(trace, "rough", "smooth")
    gaps = convergence.describe_gaps(trace)
    assert "nearest to zero for smooth" in gaps and gaps.endswith("The temperature there is 0.25 for smooth.")
    assert "least often with smooth (0 %)" in convergence.describe_smoothness(trace)


def test_equal_losses_are_not_told_apart(trace):
    noisy = {"a": 0.1, "b": -0.1, "c": 0.1}
    other = trace[trace["arm"] == "smooth"]
    other = other.assign(arm="rough", loss=other["loss"] * (1 + other["image"].map(noisy)))
    order = convergence.describe_order(pd.concat([trace[trace["arm"] == "smooth"], other]))
    assert "does not exclude zero on these 3 images" in order and "told apart" not in order


def test_one_lambda_is_shown(trace):
    both = pd.concat([trace, trace.assign(lmbda=0.02, codec_lmbda=0.02)])
    assert convergence.traces(both, 0.02)["lmbda"].unique() == [0.02]
    assert len(convergence.traces(trace)) == len(trace)
    with pytest.raises(UserError, match=r"use one of 0\.01, 0\.02"):
        convergence.traces(both)
    with pytest.raises(UserError, match="hold no refinement"):
        convergence.traces(trace.assign(iterations=0))
