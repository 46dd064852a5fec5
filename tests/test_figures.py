"""Figures and tables show the numbers they are given: checked on rows made up for the purpose."""

import numpy as np
import pytest

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
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]
    zero = next(line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    at_one = zero.get_ydata()[np.argmin(np.abs(zero.get_xdata() - 1))]
    assert at_one == pytest.approx(0.1 / 1.2, abs=0.01)


def test_a_methods_colour_is_its_own_whatever_the_order():
    methods = [rounding.SSL(2.3), rounding.Atanh()]
    for order in (methods, methods[::-1]):
        for figure in (figures.probability_space(order), figures.rounding_slopes(order)):
            colours = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
            assert all(colours[m.label] == palette.METHODS[m.label][0] for m in methods)
