"""Continuous rate beside refinement at another λ, on rows in which arithmetic shows the answer."""

import numpy as np
import pandas as pd
import pytest
import torch

from companion import variable_training
from companion.configurations import BASE
from companion.pages import variable_rate
from sgaplus.codecs.series import series
from sgaplus.distortion import LAMBDAS
from sgaplus.errors import UserError
from sgaplus.training import publishing
from tests.conftest import untrained

DRAWN = (0.0035, 0.0067, 0.013, 0.025, 0.0483)


def line(image: str, configuration: str, codec: float, lmbda: float, bpp: float) -> dict:
    found = {"image": image, "configuration": configuration, "codec_lmbda": codec, "lmbda": lmbda}
    return found | {"iteration": 100, "iterations": 100, "bpp": bpp, "psnr_8bit": 40 + 5 * np.log10(lmbda)}


def made(one: float) -> pd.DataFrame:
    """Rates of the base at each λ; a tenth less where refined, ``one`` times as much from one rate."""
    lines = []
    for image, cost in (("a", 1.0), ("b", 2.0)):
        for lmbda in DRAWN:
            rate = cost * np.sqrt(lmbda)
            lines += [line(image, BASE, lmbda, lmbda, rate), line(image, "fast", lmbda, lmbda, 0.9 * rate)]
            if lmbda != 0.013:
                lines.append(line(image, "fast", 0.013, lmbda, one * rate))
    return pd.DataFrame(lines)


def test_changes_are_those_of_the_rates():
    points = variable_rate.curves(made(0.9))
    curves = variable_rate.ANY, variable_rate.REFINED, variable_rate.ONE
    assert points.groupby("curve").size().to_dict() == dict.fromkeys(curves, 10)
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


@pytest.mark.slow
def test_a_codec_of_variable_rate_is_trained_from_one_of_one_rate(tmp_path):
    weights = publishing.publishable(untrained())
    model = variable_training.start(weights)
    photo = torch.randint(0, 255, (3, 80, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    steps = variable_training.train(model, [photo], 0.5, torch.float32, crop=64)
    variable_training.save(model, tmp_path / "own.safetensors")
    found = series(tmp_path / "own.safetensors")
    codecs = [found.member(lmbda).load("cpu", "float32") for lmbda in (0.005, 0.02)]
    assert steps > 0 and found.lmbdas == LAMBDAS["mse"]
    assert [codec.model.rate.scale for codec in codecs] == pytest.approx([np.sqrt(0.5), np.sqrt(2)], rel=0.02)
    x = photo[None, :, :64, :64] / 255
    bits = [codec.decode(codec.analyse(x)).all_bits.sum().item() for codec in codecs]
    assert bits[0] < bits[1], "a finer step takes more bits"
