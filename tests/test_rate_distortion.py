"""The rate-distortion pages, on curves whose gains and deltas are known by construction; published curves
stand beside the same photographs alone."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from companion import reference, statistics
from companion.pages import beside_published, curves_shown, rate_distortion
from sgaplus.data.sources import SOURCES
from sgaplus.errors import UserError

from .made_rows import FACTORS, LAMBDAS, curves_of


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


@pytest.fixture
def stored() -> pd.DataFrame:
    return curves_of()


@pytest.fixture
def rows(stored) -> pd.DataFrame:
    return rate_distortion.select(stored)


@pytest.fixture
def curves(rows) -> dict[str, pd.DataFrame]:
    return rate_distortion.curves(rows)


def test_whole_photographs_crops_and_other_lambda_are_never_mixed(stored):
    other = stored[stored["configuration"] == "good"].assign(lmbda=0.08)
    chosen = rate_distortion.select(pd.concat([stored, other]))
    assert set(chosen["image"]) == {"a", "b", "c"} and set(chosen["lmbda"]) == set(LAMBDAS)
    crops = rate_distortion.select(stored, "crops")
    assert set(crops["image"]) == {"a@64", "b@64"}
    with pytest.raises(UserError, match="use whole or crops"):
        rate_distortion.select(stored, "halves")
    with pytest.raises(UserError, match="nothing was refined on whole pictures: use crops"):
        rate_distortion.select(
            stored[stored["image"].str.contains("@") | (stored["configuration"] == "base")]
        )


def test_the_last_iteration_is_one_that_all_methods_have_everywhere(stored):
    last = int(stored["iteration"].max())
    longer = stored[stored["iterations"] > 0].assign(iterations=2 * last)
    longer["iteration"] *= 2
    some = longer[(longer["configuration"] != "good") | (longer["lmbda"] == LAMBDAS[0])]
    for rows, expected in ((longer, 2 * last), (some, last)):
        both = pd.concat([stored, rows], ignore_index=True)
        assert rate_distortion.read_offs(both)[-1] == expected
        chosen = rate_distortion.select(both)
        assert set(chosen["iteration"]) == {0, expected}
        assert not chosen.duplicated(["configuration", "lmbda", "image"]).any()


def test_crops_stand_beside_photographs_where_they_have_more_methods(stored):
    whole = curves_shown.part(stored, "Kodak", ["base"])
    assert curves_shown.on_crops(stored, "Kodak", ["base"], whole) is None
    crops = stored["image"].str.contains("@") & (stored["configuration"] == "good")
    more = [stored, stored[crops].assign(configuration="linear", key="linear")]
    more = pd.concat(more, ignore_index=True)
    found = curves_shown.on_crops(more, "Kodak", ["base"], whole)
    assert found.pictures == "crops" and "2 crops" in found.said and "linear" in found.said


def test_curves_are_over_the_images_that_all_have(rows):
    alone = rows[(rows["configuration"] == "fair") & (rows["lmbda"] == 0.01)].assign(configuration="of one λ")
    found = rate_distortion.curves(pd.concat([rows, alone]))
    assert set(found) == set(FACTORS)
    assert {tuple(sorted(lines["image"].unique())) for lines in found.values()} == {("a", "b")}
    with pytest.raises(UserError, match="needs two lambda"):
        rate_distortion.curves(rows[rows["configuration"] == "base"])


def test_deltas_by_image_and_of_the_means(curves):
    images = rate_distortion.per_image(curves, ["base", "fair", "of another study"])
    pairs = images.groupby(["anchor", "configuration"])["bd_rate"].apply(list)
    assert pairs["base", "good"] == pytest.approx([-20, -30])
    assert pairs["fair", "good"] == pytest.approx([100 * (8 / 9 - 1), 100 * (7 / 9 - 1)])
    assert set(pairs.index) == {("base", "good"), ("base", "fair"), ("fair", "good")}
    lines = rate_distortion.deltas(curves, images).set_index(["anchor", "configuration"])
    assert lines.loc[("base", "good"), ["bd_rate", "means_bd_rate"]].tolist() == pytest.approx([-25, -25])
    means = lines.loc[("base", "good"), ["means_bd_rate_low", "means_bd_rate_high"]]
    assert means.tolist() == pytest.approx([-30, -20])


def test_losses_are_paired_on_the_images_of_all_configurations(rows):
    table = rate_distortion.losses(rows).set_index(["lmbda", "configuration"])
    assert set(table["images"]) == {2}
    assert table.loc[(0.01, "good"), "change"] == pytest.approx(-25)
    assert np.isnan(table.loc[(0.01, "base"), "change"])


@pytest.mark.slow
def test_one_image_has_values_and_no_intervals(rows):
    curves = rate_distortion.curves(rows[rows["image"] == "a"])
    images = rate_distortion.per_image(curves, ["base"])
    lines = rate_distortion.deltas(curves, images)
    assert lines["bd_rate"].tolist() == pytest.approx([-10, -20])
    assert lines["bd_rate_low"].isna().all()
    losses = rate_distortion.losses(rows[rows["image"] == "a"])
    assert losses["change_low"].isna().all() and losses["change"].min() == pytest.approx(-20)
    found = rate_distortion.headline(lines, losses, "one photograph", 500)
    assert "−20.0 % with good**, −10.0 % with fair" in found
    assert "On one photograph" in found and "[" not in found
    text = rate_distortion.coverage(curves, "tecnick", "tecnick")
    assert "1 of the 100 photographs" in text and "`sgaplus data fetch tecnick`" in text


# Beside published curves


@pytest.fixture
def published() -> pd.DataFrame:
    """Twice the base's rate over the two images that were refined, at the same PSNR."""
    bpp = [2 * 0.1 * 2**k for k in range(4)]
    return pd.DataFrame({"codec": "vtm", "name": "VTM", "bpp": bpp, "psnr_db": [26.5, 28.5, 30.5, 32.5]})


@pytest.fixture
def placed(rows):
    return beside_published.place(rows[rows["image"] != "c"])


def test_an_arm_is_placed_at_its_own_mean(rows, placed):
    own = rows[rows["configuration"] == "good"].groupby("lmbda")[["bpp", "psnr_8bit"]].mean()
    bpp, psnr = placed["good"]
    assert bpp.iloc[0].to_numpy() == pytest.approx(own["bpp"].to_numpy())
    assert psnr.iloc[0].to_numpy() == pytest.approx(own["psnr_8bit"].to_numpy())
    assert len(bpp) == 51 and len(placed["base"][0]) == 1
    # The base alone has all three.
    assert set(beside_published.place(rows)) == {"base"}


def test_bd_rate_against_published(placed, published):
    table, lmbdas = beside_published.compare(placed, published, ["vtm"])
    (line,) = table.to_dict("records")
    assert line["base"] == pytest.approx(-50) and np.isnan(line["base_low"])
    assert [line["good"], line["good_low"], line["good_high"]] == pytest.approx([-62.5, -65, -60])
    assert line["name"] == "VTM" and lmbdas == 4


def test_published_curves_stand_beside_whole_data_sets_alone(rows, published, capsys, monkeypatch):
    monkeypatch.setattr(reference, "published", lambda dataset: published)
    beside_published.show(rows, "kodak", [], "name")
    beside_published.show(rows, "tecnick", ["vtm"], "name")  # three of a hundred photographs
    beside_published.show(rows.assign(image=rows["image"] + "@64"), "tecnick", ["vtm"], "name")
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(SOURCES, "tecnick", dataclasses.replace(SOURCES["tecnick"], images=2))
    beside_published.show(rows[rows["image"] != "c"], "tecnick", ["vtm"], "name")
    shown = capsys.readouterr().out
    assert "Tecnick's 2 photographs" in shown and "VTM" in shown


def test_sga_as_published_is_compared_on_the_same_photographs_alone(curves):
    """Paper, section 6, claim 9."""
    lines = rate_distortion.deltas(curves, rate_distortion.per_image(curves, ["base"]))
    found = beside_published.sga("kodak", lines, "good", 24, 500)
    assert found["bd_rate"].tolist() == pytest.approx([-15.22, -25, -25], abs=0.01)
    assert found["iterations"].tolist() == [2000, 500, 500] and found["bd_rate_low"].iloc[1] == pytest.approx(
        -30
    )
    for dataset, images, name in (("tecnick", 1, "good"), ("kodak", 0, "good"), ("kodak", 24, "not run")):
        (alone,) = beside_published.sga(dataset, lines, name, images, 500)["bd_rate"]
        assert alone == pytest.approx(-18.7 if dataset == "tecnick" else -15.22, abs=0.01)
