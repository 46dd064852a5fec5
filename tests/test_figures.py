"""Figures and tables show the numbers they are given: checked on rows made up for the purpose."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from companion import figures, palette, tables
from sgaplus import rounding
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
    assert np.allclose(np.nan_to_num(lines["-"].get_ydata()), np.clip(1 - np.abs(v), 0, 1), atol=1e-4)
    assert np.allclose(np.nan_to_num(lines["--"].get_ydata()), np.clip(1 - np.abs(v - 1), 0, 1), atol=1e-4)


def test_three_classes_reach_beyond_the_neighbours():
    method = rounding.ThreeClass(rounding.Linear(), r=0.9, n=1.0)
    figure = figures.probability_space([method], points=401)
    zero = next(line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    at_one = zero.get_ydata()[np.argmin(np.abs(zero.get_xdata() - 1))]
    assert at_one == pytest.approx(0.1 / 1.2, abs=0.01)


def test_three_classes_are_drawn_a_second_time_logarithmically():
    linear = rounding.Linear()
    plain, logarithmic = figures.probability_space([linear, rounding.ThreeClass(linear)]).axes
    assert plain.get_yscale() == "linear" and logarithmic.get_yscale() == "log"
    assert len(figures.probability_space([linear]).axes) == 1


def test_a_methods_colour_is_its_own_whatever_the_order():
    methods = [rounding.SSL(2.3), rounding.Atanh()]
    for order in (methods, methods[::-1]):
        for figure in (figures.probability_space(order), figures.rounding_slopes(order)):
            colours = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
            assert all(colours[m.label] == palette.METHODS[m.label][0] for m in methods)


def test_slope_of_linear_is_one_everywhere():
    (axes,) = figures.rounding_slopes([rounding.Linear()], points=99).axes
    assert np.allclose(axes.lines[0].get_ydata(), 1, atol=1e-6)


def test_one_setting_against_another_is_paired_by_image_and_iteration(trace):
    change = 100 * (0.96 / 0.98 - 1)
    html = tables.paired_change_table(trace, "method", "worse", "better").as_raw_html()
    assert f"{change:.3f}".lstrip("-") in html
    (axes,) = figures.paired_change(trace, "method", "worse", "better").axes
    assert axes.lines[-1].get_ydata() == pytest.approx([0, 0])
    assert any(
        line.get_ydata() == pytest.approx([change]) for line in axes.lines if len(line.get_ydata()) == 1
    )
    with pytest.raises(UserError, match="'missing'"):
        tables.paired_change_table(trace, "method", "missing", "better")


def test_pictures_and_their_centres():
    images = [(name, torch.full((3, 8, 8), value)) for name, value in (("a", 0.0), ("b", 0.5), ("c", 1.0))]
    shown = [axes for axes in figures.pictures(images, columns=2).axes if axes.images]
    assert [axes.get_title() for axes in shown] == list("abc")
    assert shown[1].images[0].get_array().shape == (8, 8, 3)
    picture = torch.arange(3 * 6 * 8).reshape(3, 6, 8)
    assert torch.equal(figures.centre(picture, 4), picture[:, 1:5, 2:6])
    assert figures.centre(picture, 100).shape == (3, 6, 8)


# The speed of a step


@pytest.fixture
def speeds() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two machines, the first with two sizes of pictures; each with two pairs, as `speed.load` returns them."""
    rows = pd.DataFrame(
        {
            "file": ["a", "b", "c"],
            "place": ["first", "first", "second"],
            "way": "float32, 1 picture at a time",
            "width": [1000, 2000, 1000],
            "height": 1000,
            "megapixels": [1.0, 2.0, 1.0],
            "reference_seconds": [4.0, 8.0, 0.4],
            "ours_seconds": [2.0, 4.0, 0.1],
            "ceiling_seconds": [1.0, 3.0, 0.2],
            "ratio": [2.0, 2.0, 4.0],
            "ratio_min": [1.5, 1.6, 3.0],
            "ratio_max": [2.5, 2.4, 5.0],
            "ratio_true_loss": [1.25, 1.0, 2.0],
            "share": [0.5, 0.75, 2.0],
            "batch_size": 1,
            "format": "float32",
            "ours_peak_bytes": [2**30, 2**30, None],
            "reference_peak_bytes": [2**31, 2**31, None],
        }
    )
    pairs = pd.concat([rows.assign(ours_seconds=rows["ours_seconds"] * factor) for factor in (0.9, 1.1)])
    return rows, pairs[["file", "reference_seconds", "ours_seconds"]].reset_index(drop=True)


def test_step_times_are_per_megapixel(speeds):
    figure = figures.step_times(*speeds)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]
    plain, ours, bare = ([bar.get_width() for bar in bars] for bars in figure.axes[0].containers)
    assert (plain, ours, bare) == ([4, 4], [2, 2], [1, 1.5])
    points = [line.get_xdata().tolist() for line in figure.axes[0].lines]
    assert sorted(points[1]) == pytest.approx([1.8, 1.8, 2.2, 2.2])
    heights = [[bar.get_center()[1] for bar in bars] for bars in figure.axes[0].containers]
    assert sorted({*figure.axes[0].lines[1].get_ydata()}) == pytest.approx(heights[1])
    assert heights[1] == heights[2], "the convolutions lie over the step"
    assert [text.get_text() for text in figure.axes[1].texts] == ["4.00× [3.00, 5.00]"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [label.split("\n")[0] for label in labels] == ["1000×1000", "2000×1000"]
    assert len(figure.legends[0].get_texts()) == 3


def test_speed_table(speeds):
    html = tables.speed_table(speeds[0]).as_raw_html().replace("&nbsp;", " ")
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)]
    start = cells.index("first")
    line = [
        "2000×1000",
        "1",
        "float32",
        "8,000",
        "4,000",
        "2.00 [1.60, 2.40]",
        "1.00",
        "2.00",
        "75%",
        "2,048",
    ]
    other = [
        "1000×1000",
        "1",
        "float32",
        "400",
        "100",
        "4.00 [3.00, 5.00]",
        "2.00",
        "0.100",
        "200%",
        "–",
        "–",
    ]
    assert cells[start + 12 : start + 22] == line
    assert cells[start + 23 : start + 35] == ["second", *other]
