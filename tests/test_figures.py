"""Figures and tables show the numbers they are given: checked on rows made up for the purpose."""

import re
from itertools import pairwise

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


# The base codecs


@pytest.fixture
def log() -> pd.DataFrame:
    """Two λ of one family: the first has two stages of four entries, the second joins in the second stage."""
    entries = [(1, 0.01, t) for t in (1, 2, 3, 4)] + [(2, x, t) for x in (0.01, 0.02) for t in (5, 6, 7, 8)]
    return pd.DataFrame(
        [
            {"family": "f", "lmbda": x, "stage": stage, "step": 100 * t, "loss": 100 * x + t / 10}
            for stage, x, t in entries
        ]
    )


def test_training_curves_are_smoothed_within_their_stage(log):
    (axes,) = figures.training_curves(log, window=3).axes
    first, second, other = (line for line in axes.lines if len(line.get_xdata()) == 4)
    assert first.get_xdata() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert first.get_ydata() == pytest.approx([1.15, 1.2, 1.3, 1.35])
    assert second.get_ydata() == pytest.approx([1.55, 1.6, 1.7, 1.75])
    assert first.get_color() == second.get_color() != other.get_color()
    assert {text.get_text() for text in axes.texts} == {"1", "2", "0.01", "0.02"}


def test_labels_at_the_end_of_lines_do_not_overlap(log):
    near = pd.concat([log.assign(lmbda=0.01 * k, loss=log["loss"] * (1 + k / 1000)) for k in range(1, 8)])
    figure = figures.training_curves(near)
    figure.canvas.draw()
    (axes,) = figure.axes
    labels = [text for text in axes.texts if text.get_text().startswith("0.")]
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.y0)
    assert len(boxes) == 7
    assert all(low.y1 < high.y0 + 1 for low, high in pairwise(boxes))


def test_every_family_has_a_panel_of_training_curves(log):
    both = pd.concat([log, log.assign(family="g")])
    assert [axes.get_title().split(",")[0] for axes in figures.training_curves(both).axes] == ["f", "g"]
    with pytest.raises(UserError, match="no training curve lies beside the weights"):
        figures.training_curves(log.iloc[:0])


@pytest.fixture
def points() -> pd.DataFrame:
    psnr = np.array([28.0, 31.0])
    table = {"family": "f", "lmbda": [0.01, 0.02], "bpp": [0.2, 0.4], "psnr": psnr}
    return pd.DataFrame(table | {"psnr_low": psnr - 1, "psnr_high": psnr + 2})


@pytest.fixture
def published() -> pd.DataFrame:
    lines = [("vtm", "VTM", 0.1, 29.0), ("vtm", "VTM", 0.3, 33.0), ("jpeg", "JPEG", 0.3, 26.0)]
    return pd.DataFrame(lines, columns=["codec", "name", "bpp", "psnr_db"])


def test_rd_curves_show_our_points_and_the_published_ones(points, published):
    figure = figures.rd_curves(points, published, ["vtm", "jpeg"])
    (axes,) = figure.axes
    drawn = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in axes.lines}
    assert drawn[(0.2, 0.4)] == (28.0, 31.0)
    assert drawn[(0.1, 0.3)] == (29.0, 33.0)
    (bars,) = axes.collections
    assert [tuple(segment[:, 1]) for segment in bars.get_segments()] == [(27, 30), (30, 33)]
    assert [text.get_text() for text in figure.legends[0].texts] == ["f", "VTM", "JPEG"]
    assert axes.get_xlim()[0] < 0.2 < 0.4 < axes.get_xlim()[1]


def test_rd_gaps_have_a_line_for_each_family_and_reference(points):
    table = pd.concat(
        [
            points.assign(family=family, reference=name, decibel=[gap, np.nan])
            for family, name, gap in (("f", "VTM", -2.0), ("f", "JPEG", 3.0), ("g", "VTM", -1.0))
        ]
    )
    figure = figures.rd_gaps(table)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["f against JPEG"].get_ydata() == pytest.approx([3.0])
    assert lines["f against VTM"].get_color() == lines["g against VTM"].get_color()
    assert lines["f against VTM"].get_marker() != lines["g against VTM"].get_marker()
    assert len(figure.legends[0].texts) == 3


def test_the_families_table_has_a_group_for_each_family():
    line = {"N": 64, "M": 192, "parameters": 4_060_000, "bytes": 8_140_000, "loss": 1.0, "bpp": 0.4321}
    rows = [{"family": family, "lmbda": 0.01, "psnr": 31.5, **line} for family in ("f", "g")]
    table = pd.DataFrame(rows).assign(steps=[31500, np.nan], hours=[1.84, np.nan])
    html = tables.families_table(table).as_raw_html()
    assert "f: N = 64, M = 192, 4.06 million parameters, 8.1 MB" in html and "g: N = 64" in html
    assert "31,500" in html and "0.4321" in html and "–" in html and "nan" not in html


def test_the_stages_table_tells_together_from_alone():
    line = {"family": "f", "steps": 300, "hours": 1.5, "hardware": "a processor"}
    recipe = {"crop": 64, "batch": 2, "lr": 0.001}
    rows = [
        {"stage": 1, "lmbda": [0.01, 0.02], "joint": True, "recipe": recipe, **line},
        {"stage": 2, "lmbda": [0.02], "joint": False, "recipe": recipe, **line},
    ]
    html = tables.stages_table(pd.DataFrame(rows)).as_raw_html()
    assert html.count("together<") == html.count("alone<") == 1
    assert "0.01, 0.02" in html and "2 of 64²" in html


def test_the_comparison_table_leaves_out_a_bd_rate_that_there_is_not():
    line = {"family": "f", "psnr_low": 27.0, "psnr_high": 36.04}
    numbers = {"decibel": -0.5, "decibel_low": -0.75, "decibel_high": 0.25, "rate": 9.0} | {
        "rate_low": 4.0,
        "rate_high": 14.0,
    }
    bd_rate = {"bd_rate": 10.46, "bd_rate_low": 5.0, "bd_rate_high": 15.0}
    missing = dict.fromkeys(bd_rate, np.nan)
    rows = [
        {"reference": "JPEG", **line, **numbers, **missing},
        {"reference": "VTM", **line, **numbers, **bd_rate},
    ]
    html = tables.comparison_table(pd.DataFrame(rows)).as_raw_html()
    assert "+10.5 [+5.0, +15.0]" in html and html.count("27.0 – 36.0") == 2
    assert html.count("−0.50 [−0.75, +0.25]") == 2
    assert html.count(">–<") == 1 and "nan" not in html.lower()


def test_the_slopes_table_says_which_slopes_fit():
    line = {"family": "f", "delta_bpp": 0.1, "delta_psnr": 1.5, "slope_low": 0.0123, "slope_high": 0.0152}
    rows = [
        {"lower": 0.01, "upper": 0.02, "slope": 0.01375, "between": True, **line},
        {"lower": 0.02, "upper": 0.04, "slope": 0.01375, "between": False, **line},
    ]
    html = tables.slopes_table(pd.DataFrame(rows)).as_raw_html()
    assert "0.01 → 0.02" in html and "0.0138 [0.0123, 0.0152]" in html.replace("0.0137 [", "0.0138 [")
    assert html.count(">yes<") == html.count(">no<") == 1


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
