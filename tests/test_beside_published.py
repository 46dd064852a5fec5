"""Refined curves beside published ones: only on the same photographs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from companion import reference, statistics
from companion.pages import beside_published, rate_distortion
from sgaplus.data.sources import SOURCES

from .made_rows import curves_of


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 50)
    yield
    plt.close("all")


@pytest.fixture
def stored() -> pd.DataFrame:
    return curves_of()


@pytest.fixture
def rows(stored) -> pd.DataFrame:
    return rate_distortion.select(stored)


@pytest.fixture
def curves(rows) -> dict[str, pd.DataFrame]:
    return rate_distortion.curves(rows)


@pytest.fixture
def published() -> pd.DataFrame:
    """Twice the base's rate over the two images that were refined, at the same PSNR."""
    bpp = [2 * 0.1 * 2**k for k in range(4)]
    table = pd.DataFrame({"codec": "vtm", "name": "VTM", "bpp": bpp, "psnr_db": [26.5, 28.5, 30.5, 32.5]})
    return table


@pytest.fixture
def placed(rows):
    return beside_published.place(rows[rows["image"] != "c"])


def test_an_arm_is_placed_at_its_own_mean(rows, placed):
    own = rows[rows["arm"] == "good"].groupby("lmbda")[["bpp", "psnr_8bit"]].mean()
    bpp, psnr = placed["good"]
    assert bpp.iloc[0].to_numpy() == pytest.approx(own["bpp"].to_numpy())
    assert psnr.iloc[0].to_numpy() == pytest.approx(own["psnr_8bit"].to_numpy())
    assert len(bpp) == 51 and len(placed["base"][0]) == 1
    # The base alone has all three.
    assert set(beside_published.place(rows)) == {"base"}


def test_bd_rate_against_published(placed, published):
    table, columns = beside_published.compare(placed, published, ["vtm"])
    (line,) = table.to_dict("records")
    assert line["base"] == pytest.approx(-50) and np.isnan(line["base_low"])
    assert [line["good"], line["good_low"], line["good_high"]] == pytest.approx([-62.5, -65, -60])
    assert line["name"] == "VTM" and "4 λ" in columns["base"].under


def test_the_figure_has_ours_and_the_published(placed, published):
    figure = beside_published.figure(placed, published, ["vtm"])
    assert [text.get_text() for text in figure.legends[0].texts] == ["base", "fair", "good", "VTM"]
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 4


def test_published_curves_stand_beside_whole_data_sets_alone(rows, published, capsys, monkeypatch):
    monkeypatch.setattr(reference, "published", lambda dataset: published)
    beside_published.show(rows, "kodak", [], "command", "name")
    beside_published.show(rows, "tecnick", ["vtm"], "command", "name")  # three of a hundred photographs
    beside_published.show(rows.assign(image=rows["image"] + "@64"), "tecnick", ["vtm"], "command", "name")
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(SOURCES, "tecnick", dataclasses.replace(SOURCES["tecnick"], images=2))
    beside_published.show(rows[rows["image"] != "c"], "tecnick", ["vtm"], "command", "name")
    shown = capsys.readouterr().out
    assert "Tecnick's 2 photographs" in shown and "VTM" in shown


def test_sga_as_published_is_compared_on_the_same_photographs_alone(curves):
    """Paper, section 6, claim 9."""
    lines = rate_distortion.deltas(curves, rate_distortion.per_image(curves, ["base"]))
    text = beside_published.describe_sga("kodak", lines, "good", 24, 500)
    assert "−15.2 %" in text and "−25.0 [−30.0, −20.0] %" in text and text.count("outside that interval") == 2
    assert "2000 iterations" in text and "500 iterations" in text and "another base codec" in text
    for dataset, images, arm in (("tecnick", 1, "good"), ("kodak", 0, "good"), ("kodak", 24, "not run")):
        alone = beside_published.describe_sga(dataset, lines, arm, images, 500)
        assert "−25.0" not in alone and "cannot be compared" in alone
        assert ("−18.7 %" if dataset == "tecnick" else "−15.2 %") in alone
    assert beside_published.describe_sga(None, lines, "good", 24, 500) == ""
