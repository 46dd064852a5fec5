"""Several rates of one codec, by refinement at other λ or by its own: curves, reach and cost."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from companion import variable_training
from companion.configurations import BASE
from companion.pages import semi_multi_rate, standing
from sgaplus import distortion
from sgaplus.codecs.series import series
from sgaplus.errors import UserError
from sgaplus.training import publishing
from tests.conftest import untrained

LAMBDAS = (0.001, 0.0025, 0.005, 0.01, 0.02)
OWN = 0.005


def line(name, trained, tested, bpp, psnr, loss, image):
    found = {"configuration": name, "image": image, "codec_lmbda": trained, "lmbda": tested, "seed": 0}
    found |= {"bpp": bpp, "psnr": psnr, "loss": loss * {"a": 1, "b": 2}[image], "read_off": True}
    found |= {"key": f"{name} {trained} {tested} {image}"}
    return found | dict.fromkeys(("iteration", "iterations"), 0 if name == "base" else 500)


@pytest.fixture
def stored() -> pd.DataFrame:
    """Five codecs on a line of 2 dB for each doubling of the rate; the middle one is refined at all five λ.

    Refined, it keeps its rates but has 1 dB a doubling about the point of its own λ, 0.4 bpp, which lies 1 dB
    above the family's: the curves meet where the rate is half and where it is double that.
    """
    lines = []
    for image in "ab":
        for k, lmbda in enumerate(LAMBDAS):
            lines.append(line("base", lmbda, lmbda, 0.1 * 2**k, 26 + 2.0 * k, 1.0, image))
            if lmbda != OWN:
                lines.append(line("base", OWN, lmbda, 0.4, 30.0, 1.5, image))
            slope = 3 if k < 2 else 1
            lines.append(
                line("ssl", OWN, lmbda, 0.1 * 2**k, 31 + slope * (k - 2.0), 0.9 if k == 1 else 1.2, image)
            )
    lines += [line("ssl", 0.001, 0.001, 0.1, 27.0, 0.75, image) for image in "ab"]
    return pd.DataFrame(lines)


def test_nothing_is_moved_without_another_lambda(stored):
    with pytest.raises(UserError, match="nothing was refined at another lambda"):
        semi_multi_rate.select(stored[stored["lmbda"] == stored["codec_lmbda"]])


def test_another_study_adds_codecs_of_the_family_on_the_same_images(stored):
    study = stored[stored["codec_lmbda"] == OWN]
    others = pd.concat([stored, stored.assign(image="c"), stored.assign(configuration="linear")])
    rows = semi_multi_rate.select(study, others)
    assert len(rows) == len(stored) and set(rows["image"]) == {"a", "b"}
    assert set(semi_multi_rate.family(rows)["codec_lmbda"]) == set(LAMBDAS)
    assert set(semi_multi_rate.family(semi_multi_rate.select(study))["codec_lmbda"]) == {OWN}


def test_codecs_refined_at_one_lambda_make_no_curve(stored):
    curves = semi_multi_rate.moved(semi_multi_rate.select(stored))
    assert curves[semi_multi_rate.CODEC].drop_duplicates().to_numpy().tolist() == [["ssl", OWN]]
    with pytest.raises(UserError, match="no codec was refined at two lambda"):
        semi_multi_rate.moved(stored[stored["lmbda"] == stored["codec_lmbda"]])


@pytest.mark.slow
def test_the_reach_is_where_the_curve_is_above_the_family(stored):
    rows = semi_multi_rate.select(stored)
    curves = semi_multi_rate.moved(rows)
    (reach,) = semi_multi_rate.reaches(rows, curves).itertuples()
    step = 16 ** (1 / 59)
    assert 0.2 <= reach.low < 0.2 * step and 0.8 / step < reach.high <= 0.8
    assert (
        reach.open == "–" and reach.own == pytest.approx(0.4) and reach.high_factor == reach.high / reach.own
    )
    assert reach.images == 2 and "0.005" in reach.lmbdas
    (wide,) = semi_multi_rate.reaches(rows, curves, tolerance=1.01).itertuples()
    assert (wide.low, wide.high) == pytest.approx((0.1, 1.6)) and wide.open == "below and above"
    assert wide.lmbdas == ", ".join(f"{value:g}" for value in LAMBDAS)


def test_a_reach_ends_at_the_first_gap():
    band = pd.DataFrame({"bpp": range(1, 7), "gain": [1.0, -1.0, 1.0, 0.5, -1.0, 1.0]})
    assert semi_multi_rate._around(band, "gain", 0.5, 3.1) == (3, 4)
    assert semi_multi_rate._around(band, "gain", 0.5, 100.0) == (6, 6)
    assert np.isnan(semi_multi_rate._around(band, "gain", 0.5, 2.0)).all()
    assert np.isnan(semi_multi_rate._around(band[:0], "gain", 0.5, 2.0)).all()


def test_the_cost_of_the_wrong_codec(stored):
    rows = semi_multi_rate.select(stored)
    table = semi_multi_rate.mismatches(rows).set_index(["configuration", "codec_lmbda", "lmbda"])
    assert table.loc[("base", OWN, 0.001), "matched"] == pytest.approx(50)
    assert table.loc[("ssl", OWN, 0.001), "matched"] == pytest.approx(60)
    assert table.loc[("ssl", OWN, 0.0025), "unrefined"] == pytest.approx(-10)
    assert np.isnan(table.loc[("ssl", OWN, 0.0025), "matched"])


def test_two_methods_are_compared_codec_by_codec_and_lambda_by_lambda(stored):
    """At the lowest λ the other method has half the loss with the middle codec, elsewhere twice."""
    ssl = stored[stored["configuration"] == "ssl"]
    factor = np.where((ssl["lmbda"] == 0.001) & (ssl["codec_lmbda"] == OWN), 0.5, 2.0)
    table = semi_multi_rate.rivals(
        pd.concat([ssl, ssl.assign(configuration="x", loss=ssl["loss"] * factor)]), "ssl", "x"
    )
    own = table[table["codec_lmbda"] == OWN].set_index("lmbda")
    assert own["change"].to_dict() == pytest.approx({0.001: 100} | dict.fromkeys(LAMBDAS[1:], -50))
    assert own["verdict"].tolist() == ["higher"] + ["lower"] * 4


DRAWN = (0.0035, 0.0067, 0.013, 0.025, 0.0483)


def at_rate(image: str, configuration: str, codec: float, lmbda: float, bpp: float) -> dict:
    found = {"image": image, "configuration": configuration, "codec_lmbda": codec, "lmbda": lmbda}
    return found | {"iteration": 100, "iterations": 100, "bpp": bpp, "psnr_8bit": 40 + 5 * np.log10(lmbda)}


def made(one: float) -> pd.DataFrame:
    """Rates of the base at each λ; a tenth less where refined, ``one`` times as much from one rate."""
    lines = []
    for image, cost in (("a", 1.0), ("b", 2.0)):
        for lmbda in DRAWN:
            rate = cost * np.sqrt(lmbda)
            lines += [
                at_rate(image, BASE, lmbda, lmbda, rate),
                at_rate(image, "fast", lmbda, lmbda, 0.9 * rate),
            ]
            if lmbda != 0.013:
                lines.append(at_rate(image, "fast", 0.013, lmbda, one * rate))
    return pd.DataFrame(lines)


def test_changes_are_those_of_the_rates():
    points = standing.rate_curves(made(0.9))
    curves = standing.ANY, standing.REFINED, standing.ONE
    assert points.groupby("curve").size().to_dict() == dict.fromkeys(curves, 10)
    table = standing.rate_changes(points).set_index("curve")
    np.testing.assert_allclose(table[["change", "change_low", "change_high"]], -10, atol=1e-6)
    assert (table["images"] == 2).all()
    worse = standing.rate_changes(standing.rate_curves(made(1.2))).set_index("curve")["change"]
    assert worse[standing.REFINED] == pytest.approx(-10) and worse[standing.ONE] > 5
    assert len(standing.rate_figure(points).axes) == 1


def test_a_photograph_counts_with_all_three_curves():
    rows = made(0.9)
    rows = rows[(rows["image"] == "a") | (rows["configuration"] == BASE)]
    assert set(standing.rate_curves(rows)["image"]) == {"a"}
    with pytest.raises(UserError, match="another lambda"):
        standing.rate_curves(rows[rows["lmbda"] == rows["codec_lmbda"]])


@pytest.mark.slow
def test_a_codec_of_variable_rate_is_trained_from_one_of_one_rate(tmp_path):
    weights = publishing.publishable(untrained())
    model = variable_training.start(weights)
    photo = torch.randint(0, 255, (3, 80, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    steps = variable_training.train(model, [photo], 0.5, torch.float32, crop=64)
    save_file(publishing.publishable(model, variable_training.WHOLE), tmp_path / "own.safetensors")
    found = series(tmp_path / "own.safetensors")
    codecs = [found.member(lmbda).load("cpu", "float32") for lmbda in (0.005, 0.02)]
    assert steps > 0 and found.lmbdas == distortion.LAMBDAS["mse"]
    assert [codec.model.rate.scale for codec in codecs] == pytest.approx([np.sqrt(0.5), np.sqrt(2)], rel=0.02)
    x = photo[None, :, :64, :64] / 255
    bits = [codec.decode(codec.analyse(x)).all_bits.sum().item() for codec in codecs]
    assert bits[0] < bits[1], "a finer step takes more bits"
