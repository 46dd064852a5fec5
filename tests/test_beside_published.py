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
    """Twice the base's rate over all three images, at the same PSNR."""
    bpp = [2 * 0.1 * 2**k * 5 / 3 for k in range(4)]
    table = pd.DataFrame({"codec": "vtm", "name": "VTM", "bpp": bpp, "psnr_db": [26.5, 28.5, 30.5, 32.5]})
    return table


def test_a_curve_of_some_images_is_placed_by_what_it_changes(rows):
    placed = beside_published.place(rows)
    first = {name: table[table["sample"] == 0].set_index("lmbda") for name, table in placed.items()}
    # The base's mean rate over three images is 5/3 of that over the two that were refined.
    assert first["base"]["bpp"].to_numpy() == pytest.approx([0.1 * 2**k * 5 / 3 for k in range(4)])
    assert first["good"]["bpp"].to_numpy() == pytest.approx([0.075 * 2**k * 5 / 3 for k in range(4)])
    assert first["good"]["psnr"].tolist() == pytest.approx([26.5, 28.5, 30.5, 32.5])
    assert set(first["good"]["images"]) == {2} and set(first["base"]["images"]) == {3}


def test_an_arm_with_all_images_is_placed_at_its_own_mean(rows):
    placed = beside_published.place(rows[rows["image"] != "c"])
    own = rows[rows["arm"] == "good"].groupby("lmbda")["bpp"].mean()
    good = placed["good"]
    assert good[good["sample"] == 0]["bpp"].to_numpy() == pytest.approx(own.to_numpy())


def test_bd_rate_against_published(rows, published):
    lines = beside_published.compare(beside_published.place(rows), published, ["vtm"]).set_index("arm")
    assert lines.loc["base", "bd_rate"] == pytest.approx(-50)
    assert lines.loc["good", "bd_rate"] == pytest.approx(-62.5)
    assert lines.loc["good", ["bd_rate_low", "bd_rate_high"]].tolist() == pytest.approx([-65, -60])
    assert np.isnan(lines.loc["base", "bd_rate_low"])
    table, columns = beside_published.wide(lines.reset_index())
    assert table.loc[0, ["good", "good_low", "good_high"]].tolist() == pytest.approx([-62.5, -65, -60])
    assert "4 λ" in columns["base"].label


def test_the_figure_has_ours_and_the_published(rows, published):
    figure = beside_published.figure(beside_published.place(rows), published, ["vtm"])
    assert [text.get_text() for text in figure.legends[0].texts] == ["base", "fair", "good", "VTM"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 4


def test_crops_stand_beside_nothing_published(stored):
    crops = rate_distortion.select(stored, "crops")
    found = beside_published.rows_for(stored, crops)
    assert set(found["arm"]) == {"base"} and set(found["image"]) == {"a", "b", "c"}
    whole = rate_distortion.select(stored)
    assert len(beside_published.rows_for(stored, whole)) == len(whole)


def test_published_curves_stand_beside_whole_data_sets_alone(rows, published, capsys, monkeypatch):
    monkeypatch.setattr(reference, "published", lambda dataset: published)
    beside_published.show(rows, "kodak", [], "command", "name")
    beside_published.show(rows, "tecnick", ["vtm"], "command", "name")  # three of a hundred photographs
    assert capsys.readouterr().out == ""
    few = dataclasses.replace(SOURCES["tecnick"], images=3)
    monkeypatch.setitem(SOURCES, "tecnick", few)
    beside_published.show(rows, "tecnick", ["vtm"], "command", "name")
    shown = capsys.readouterr().out
    assert "Tecnick's 3 photographs" in shown and "refined were 2 photographs" in shown and "VTM" in shown


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
