"""The gain of one curve over another at equal rate, on curves known by construction."""

import numpy as np
import pandas as pd
import pytest

from companion import equal_rate
from sgaplus.errors import UserError


@pytest.fixture
def curves():
    """Two images, five λ; the arm ``ssl`` needs 10 % less rate on image a and 20 % less on image b."""
    lines = []
    for image, factor in (("a", 0.9), ("b", 0.8)):
        for k, lmbda in enumerate((0.001, 0.0025, 0.005, 0.01, 0.02)):
            bpp, psnr = 0.1 * 2**k, 26 + 2.0 * k
            lines.append({"arm": "base", "image": image, "lmbda": lmbda, "bpp": bpp, "psnr": psnr})
            lines.append({"arm": "ssl", "image": image, "lmbda": lmbda, "bpp": factor * bpp, "psnr": psnr})
    return pd.DataFrame(lines)


def test_gain_at_equal_rate(curves):
    """Both images' curves are lines in the logarithm of the rate, 2 dB for each doubling, and so are the
    means."""
    rows = curves.assign(codec_lmbda=curves["lmbda"])
    base, ssl = (rows[rows["arm"] == arm] for arm in ("base", "ssl"))
    rates, samples = equal_rate.gains(base, ssl)
    found = equal_rate.band(rates, samples)
    # Mean rates are 0.85 of the base's: the curves share the rates from 0.1 to 0.85 · 1.6.
    assert rates[[0, -1]] == pytest.approx([0.1, 0.85 * 1.6])
    assert found["gain"].to_numpy() == pytest.approx(-2 * np.log2(0.85))
    assert found["low"].to_numpy() == pytest.approx(-2 * np.log2(0.9))
    assert found["high"].to_numpy() == pytest.approx(-2 * np.log2(0.8))


def test_gain_at_equal_rate_of_one_image_has_no_interval(curves):
    rows = curves.assign(codec_lmbda=curves["lmbda"])[curves["image"] == "a"]
    base, ssl = (rows[rows["arm"] == arm] for arm in ("base", "ssl"))
    found = equal_rate.band(*equal_rate.gains(base, ssl))
    assert found["gain"].to_numpy() == pytest.approx(-2 * np.log2(0.9)) and found[["low", "high"]].isna().all(
        axis=None
    )
    apart = ssl.assign(bpp=ssl["bpp"] * 100)
    rates, samples = equal_rate.gains(base, apart)
    assert not len(rates) and equal_rate.band(rates, samples).empty
    with pytest.raises(UserError, match="no image has all points"):
        equal_rate.gains(base, ssl.assign(image="z"))
