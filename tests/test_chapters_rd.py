"""The rate-distortion pages, on curves whose gains and deltas are known by construction."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from companion import reference, statistics
from companion.pages import beside_published, rate_distortion
from companion.pages import rate_distortion_words as words
from sgaplus.data.sources import SOURCES
from sgaplus.errors import UserError

LAMBDAS = (0.001, 0.0025, 0.005, 0.01)
# Rate of an arm as a share of the base's at the same PSNR, by image.
FACTORS = {
    "base": {"a": 1.0, "b": 1.0, "c": 1.0},
    "good": {"a": 0.8, "b": 0.7},
    "fair": {"a": 0.9, "b": 0.9},
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


@pytest.fixture
def stored() -> pd.DataFrame:
    """Whole images a, b and c of the base, of which two are refined, and two crops; 2 dB for each doubling."""
    lines = []
    for crop, side in ((False, ""), (True, "@64")):
        for arm, factors in FACTORS.items():
            for image, factor in factors.items():
                if crop and image == "c":
                    continue
                for k, lmbda in enumerate(LAMBDAS):
                    bpp = 0.1 * 2**k * (3 if image == "c" else 1)
                    lines.append(
                        {"arm": arm, "image": image + side, "lmbda": lmbda, "codec_lmbda": lmbda, "seed": 0}
                        | {"bpp": factor * bpp, "psnr": 26 + 2.0 * k, "psnr_8bit": 26.5 + 2.0 * k}
                        | {"loss": factor, "read_off": True, "key": f"{arm}{image}{side}{lmbda}"}
                        | dict.fromkeys(("iteration", "iterations"), 0 if arm == "base" else 500)
                    )
    return pd.DataFrame(lines)


@pytest.fixture
def rows(stored) -> pd.DataFrame:
    return rate_distortion.select(stored)


@pytest.fixture
def curves(rows) -> dict[str, pd.DataFrame]:
    return rate_distortion.curves(rows)


def test_whole_photographs_and_crops_are_never_mixed(stored):
    assert set(rate_distortion.select(stored)["image"]) == {"a", "b", "c"}
    crops = rate_distortion.select(stored, "crops")
    assert set(crops["image"]) == {"a@64", "b@64"}
    assert "crops, read off at iteration 500" in words.describe_pictures(crops)
    assert "whole photographs" in words.describe_pictures(rate_distortion.select(stored))
    with pytest.raises(UserError, match="use whole or crops"):
        rate_distortion.select(stored, "halves")
    with pytest.raises(UserError, match="nothing was refined on whole pictures: use crops"):
        rate_distortion.select(stored[stored["image"].str.contains("@") | (stored["arm"] == "base")])


def test_lines_at_another_lambda_are_left_out(stored):
    other = stored[stored["arm"] == "good"].assign(lmbda=0.08)
    assert set(rate_distortion.select(pd.concat([stored, other]))["lmbda"]) == set(LAMBDAS)


def test_curves_are_over_the_images_that_all_have(rows):
    alone = rows[(rows["arm"] == "fair") & (rows["lmbda"] == 0.01)].assign(arm="of one λ")
    found = rate_distortion.curves(pd.concat([rows, alone]))
    assert set(found) == set(FACTORS)
    assert {tuple(sorted(lines["image"].unique())) for lines in found.values()} == {("a", "b")}
    table = rate_distortion.points(found).set_index(["arm", "lmbda"])
    assert table.loc[("good", 0.001), "bpp"] == pytest.approx(0.075)
    with pytest.raises(UserError, match="needs two lambda"):
        rate_distortion.curves(rows[rows["arm"] == "base"])


def test_the_figure_shows_curves_and_their_gain(curves):
    left, right = rate_distortion.figure(curves).axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["base"].get_xdata() == pytest.approx([0.1, 0.2, 0.4, 0.8])
    gains = {line.get_label(): line.get_ydata() for line in right.lines if len(line.get_xdata()) > 2}
    assert gains["good"] == pytest.approx(-2 * np.log2(0.75)) and "base" not in gains
    assert gains["fair"] == pytest.approx(-2 * np.log2(0.9))


def test_deltas_by_image_and_of_the_means(curves):
    images = rate_distortion.per_image(curves, ["base", "fair", "of another study"])
    pairs = images.groupby(["anchor", "arm"])["bd_rate"].apply(list)
    assert pairs["base", "good"] == pytest.approx([-20, -30])
    assert pairs["fair", "good"] == pytest.approx([100 * (8 / 9 - 1), 100 * (7 / 9 - 1)])
    assert set(pairs.index) == {("base", "good"), ("base", "fair"), ("fair", "good")}
    lines = rate_distortion.deltas(curves, images).set_index(["anchor", "arm"])
    assert lines.loc[("base", "good"), ["bd_rate", "means_bd_rate"]].tolist() == pytest.approx([-25, -25])
    html = words.deltas_table(lines.reset_index()).as_raw_html()
    assert "−25.0 [−30.0, −20.0]" in html and "−30.0 … −20.0" in html and "against fair" in html
    bold = [cell.split(">")[1].split("<")[0] for cell in html.split("<td")[1:] if "bold" in cell]
    assert bold[0] == "−25.0 [−30.0, −20.0]" and len(bold) == 4


def test_the_strips_show_every_image_and_the_mean(curves):
    images = rate_distortion.per_image(curves, ["base", "fair"])
    first, second = rate_distortion.deltas_figure(images).axes
    assert first.get_title() == "against base" and second.get_title() == "against fair"
    drawn = sorted(x for line in first.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert drawn == pytest.approx([-30, -20, -10, -10])
    assert [label.get_text() for label in second.get_yticklabels()] == ["good"]


def test_losses_are_paired_on_the_images_of_all_arms(rows):
    table = rate_distortion.losses(rows).set_index(["lmbda", "arm"])
    assert set(table["images"]) == {2}
    assert table.loc[(0.01, "good"), "change"] == pytest.approx(-25)
    assert np.isnan(table.loc[(0.01, "base"), "change"])
    html = words.losses_table(table.reset_index()).as_raw_html()
    assert html.count("λ = ") == len(LAMBDAS) and html.count("−25.00 [−30.00, −20.00]") == len(LAMBDAS)
    assert ">–<" in html and "nan" not in html


@pytest.mark.slow
def test_one_image_has_values_and_no_intervals(rows):
    curves = rate_distortion.curves(rows[rows["image"] == "a"])
    images = rate_distortion.per_image(curves, ["base"])
    lines = rate_distortion.deltas(curves, images)
    assert lines["bd_rate"].tolist() == pytest.approx([-10, -20])
    assert len(rate_distortion.deltas_figure(images).axes[0].containers) == 2
    for html in (
        words.deltas_table(lines),
        words.losses_table(rate_distortion.losses(rows[rows["image"] == "a"])),
    ):
        assert "−20.0" in html.as_raw_html() and "nan" not in html.as_raw_html()
    found = words.headline(lines, rate_distortion.losses(rows[rows["image"] == "a"]), 1, 500)
    assert "fair −20.0 %" in found and "one image" in found
    text = words.describe_coverage(curves, "tecnick", "tecnick")
    assert "are of 1 of the 100 photographs" in text and "no interval" in text
    assert "`sgaplus data fetch tecnick`" in text
    rate_distortion.figure(curves)


def test_three_lambda_have_no_bd_rate(rows, capsys):
    curves = rate_distortion.curves(rows[rows["lmbda"] < 0.01])
    images = rate_distortion.per_image(curves, ["base"])
    lines = rate_distortion.deltas(curves, images)
    assert "four λ" in words.headline(lines, rate_distortion.losses(rows), 2, 500)
    assert "nan" not in words.deltas_table(lines).as_raw_html()
    rate_distortion.show_deltas(images, "command")
    with pytest.raises(UserError, match="four points"):
        rate_distortion.deltas_figure(images)


def test_the_data_set_of_2025_is_not_that_of_the_paper(curves):
    text = words.describe_coverage(curves, "clic2025", "clic2025")
    assert "2 of the 23 photographs" in text and "not the 41 photographs of CLIC 2020" in text
    crops = {name: lines.assign(image=lines["image"] + "@64") for name, lines in curves.items()}
    assert "the central 64 × 64 pixels of 2 of the 24" in words.describe_coverage(crops, "kodak", "rd")


# Beside published codecs


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


def test_the_headline_has_both_sides(rows, curves):
    lines = rate_distortion.deltas(curves, rate_distortion.per_image(curves, ["base"]))
    text = words.headline(lines, rate_distortion.losses(rows), 2, 500)
    assert "good −25.0 [−30.0, −20.0] %" in text and "PSNR rises at 0 of 4 λ" in text and "grow at 0" in text
