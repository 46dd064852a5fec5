"""Figures and tables show the numbers they are given: checked on rows made up for the purpose."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

from companion import figures, palette
from sgaplus import rounding


def test_probability_space_draws_the_methods_own_probabilities():
    figure = figures.probability_space([rounding.Linear()])
    (axes,) = figure.axes
    lines = {line.get_linestyle(): line for line in axes.lines}
    v = np.linspace(-0.5, 1.5, 1001)
    assert np.allclose(np.nan_to_num(lines["-"].get_ydata()), np.clip(1 - np.abs(v), 0, 1), atol=1e-4)
    assert np.allclose(np.nan_to_num(lines["--"].get_ydata()), np.clip(1 - np.abs(v - 1), 0, 1), atol=1e-4)


def test_three_classes_reach_beyond_the_neighbours():
    method = rounding.ThreeClass(rounding.Linear(), r=0.9, n=1.0)
    figure = figures.probability_space([method])
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
    (axes,) = figures.rounding_slopes([rounding.Linear()]).axes
    assert np.allclose(axes.lines[0].get_ydata(), 1, atol=1e-6)


def heat_map():
    table = pd.DataFrame({"row": ["a", "b"] * 3, "column": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], "value": range(6)})
    return figures.panels(
        {"": table}, lambda axes, t: figures.heat_map(axes, t, "row", "column", "value", "g")
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda: figures.probability_space([rounding.Linear(), rounding.ThreeClass(rounding.Linear())]),
        lambda: figures.rounding_slopes([rounding.SSL(2.3), rounding.Atanh()]),
        lambda: figures.pictures([("base\n0.1 bpp, 25 dB", torch.zeros(3, 8, 8))] * 3, columns=3),
        heat_map,
    ],
)
def test_letters_can_be_read_on_a_phone(made):
    narrow = figures.narrow(made())
    letters = [text.get_fontsize() for text in narrow.findobj(Text) if text.get_text().strip()]
    width = 72 * narrow.get_figwidth()
    assert width <= 300 and min(letters) * 358 / width >= 8
