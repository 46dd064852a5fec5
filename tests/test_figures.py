"""Figures and tables show the numbers they are given: checked on rows made up for the purpose."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from sgaplus import figures, metrics, rounding, tables
from sgaplus.errors import UserError


@pytest.fixture
def trace() -> pd.DataFrame:
    """Two methods on three images; "better" gains 2 % of each image's loss per ten iterations, "worse" 1 %."""
    lines = []
    for method, gain in (("worse", 0.01), ("better", 0.02)):
        for image, loss in (("a", 1.0), ("b", 2.0), ("c", 4.0)):
            for t in (0, 10, 20):
                value = loss * (1 - gain * t / 10)
                lines.append(
                    {"method": method, "image": image, "iteration": t, "loss": value, "bpp": value / 2}
                    | {"psnr": 30 + gain * t, "psnr_8bit": 30 + gain * t, "ms_ssim": 0.9, "seconds": t}
                    | {"method_loss": value + 0.5 if t else np.nan}
                )
    return pd.DataFrame(lines)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_probability_space_draws_the_methods_own_probabilities():
    figure = figures.probability_space([rounding.Linear()], points=5)
    (axes,) = figure.axes
    lines = {line.get_linestyle(): line for line in axes.lines}
    v = np.linspace(-0.5, 1.5, 5)
    assert np.allclose(lines["-"].get_ydata(), np.clip(1 - np.abs(v), 0, 1), atol=1e-4)
    assert np.allclose(lines["--"].get_ydata(), np.clip(1 - np.abs(v - 1), 0, 1), atol=1e-4)


def test_three_classes_reach_beyond_the_neighbours():
    method = rounding.ThreeClass(rounding.Linear(), r=0.9, n=1.0)
    figure = figures.probability_space([method], points=401)
    zero = next(line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    at_one = zero.get_ydata()[np.argmin(np.abs(zero.get_xdata() - 1))]
    assert at_one == pytest.approx(0.1 / 1.2, abs=0.01)


def test_slope_of_linear_is_one_everywhere():
    (axes,) = figures.rounding_slopes([rounding.Linear()], points=99).axes
    assert np.allclose(axes.lines[0].get_ydata(), 1, atol=1e-6)


def test_convergence_shows_differences_from_the_codec(trace):
    panels = figures.convergence(trace).axes
    loss = {line.get_label(): line.get_ydata() for line in panels[0].lines}
    mean = 7 / 3
    assert np.allclose(loss["better"], [0, -0.02 * mean, -0.04 * mean])
    gap = {line.get_label(): line.get_ydata() for line in panels[1].lines}
    assert np.allclose(gap["worse"], 0.5)


def test_gains_are_paired_and_relative(trace):
    table = tables.gains(trace).set_index("method")
    assert table.loc["codec, not refined", "loss"] == pytest.approx(7 / 3)
    assert table.loc["better", "gain"] == pytest.approx(-4)
    assert table.loc["better", "low"] == pytest.approx(table.loc["better", "high"]) == pytest.approx(-4)


def test_the_best_method_is_bold_and_the_codec_has_no_gain(trace):
    html = tables.gains_table(trace).as_raw_html()
    bold = [cell for cell in html.split("<td")[1:] if "bold" in cell]
    assert len(bold) == 1 and f"{7 / 3 * 0.96:.4f}" in bold[0]
    assert "NA" not in html and "nan" not in html


def test_every_image_stands_in_the_table_once_per_method(trace):
    html = tables.images_table(trace).as_raw_html()
    assert html.count("codec, not refined") == 3
    assert html.count(">better<") == html.count(">worse<") == 3


def test_paired_changes_join_on_image_and_iteration(trace):
    changes = metrics.paired_changes(trace, "method", "worse", "better")
    last = changes[changes["iteration"] == 20]["change"]
    assert last.to_numpy() == pytest.approx(100 * (0.96 / 0.98 - 1))
    with pytest.raises(UserError, match="no image was refined with both"):
        metrics.paired_changes(trace, "method", "worse", "missing")
    assert (
        f"{last.iloc[0]:.3f}".lstrip("-")
        in tables.paired_change_table(trace, "method", "worse", "better").as_raw_html()
    )
    (axes,) = figures.paired_change(trace, "method", "worse", "better").axes
    assert axes.lines[-1].get_ydata() is not None and "better" in axes.get_ylabel()


def test_thumbnails_and_crops_show_every_image():
    images = [torch.full((3, 8, 8), value) for value in (0.0, 0.5, 1.0)]
    shown = [axes for axes in figures.thumbnails(images, list("abc"), columns=2).axes if axes.images]
    assert [axes.get_title() for axes in shown] == list("abc")
    figure = figures.crops({"x": images[1], "y": images[2]}, {"x": "0.1 bpp"}, side=4)
    assert [axes.get_title() for axes in figure.axes] == ["x\n0.1 bpp", "y\n"]
    assert figure.axes[0].images[0].get_array().shape == (4, 4, 3)
