"""Continuous rate beside refinement at another λ, on rows in which arithmetic shows the answer."""

import numpy as np
import pandas as pd
import pytest

from companion.configurations import BASE
from companion.pages import variable_rate
from sgaplus.errors import UserError

LAMBDAS = (0.0035, 0.0067, 0.013, 0.025, 0.0483)


def line(image: str, configuration: str, codec: float, lmbda: float, bpp: float) -> dict:
    return {
        "image": image,
        "configuration": configuration,
        "codec_lmbda": codec,
        "lmbda": lmbda,
        "iteration": 100,
        "iterations": 100,
        "bpp": bpp,
        "psnr_8bit": 40 + 5 * np.log10(lmbda),
    }


def made(one: float) -> pd.DataFrame:
    """Rates of the base at each λ; a tenth less where refined, ``one`` times as much from one rate."""
    lines = []
    for image, cost in (("a", 1.0), ("b", 2.0)):
        for lmbda in LAMBDAS:
            rate = cost * np.sqrt(lmbda)
            lines += [line(image, BASE, lmbda, lmbda, rate), line(image, "fast", lmbda, lmbda, 0.9 * rate)]
            if lmbda != 0.013:
                lines.append(line(image, "fast", 0.013, lmbda, one * rate))
    return pd.DataFrame(lines)


def test_changes_are_those_of_the_rates():
    points = variable_rate.curves(made(0.9))
    assert points.groupby("curve").size().to_dict() == {
        variable_rate.ANY: 10,
        variable_rate.REFINED: 10,
        variable_rate.ONE: 10,
    }
    table = variable_rate.changes(points).set_index("curve")
    np.testing.assert_allclose(table[["change", "change_low", "change_high"]], -10, atol=1e-6)
    assert (table["images"] == 2).all()
    worse = variable_rate.changes(variable_rate.curves(made(1.2))).set_index("curve")["change"]
    assert worse[variable_rate.REFINED] == pytest.approx(-10) and worse[variable_rate.ONE] > 5
    assert len(variable_rate.figure(points).axes) == 1


def test_a_photograph_counts_with_all_three_curves():
    rows = made(0.9)
    rows = rows[(rows["image"] == "a") | (rows["configuration"] == BASE)]
    assert set(variable_rate.curves(rows)["image"]) == {"a"}
    with pytest.raises(UserError, match="another lambda"):
        variable_rate.curves(rows[rows["lmbda"] == rows["codec_lmbda"]])
