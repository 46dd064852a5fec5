"""Arms, paired comparisons and Bjøntegaard deltas, against values worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from companion import bd, comparisons, configurations, equal_rate
from sgaplus import plans, rounding, schedules
from sgaplus.errors import UserError


def row(image="a", method="ssl", iterations=500, iteration=None, lmbda=0.01, seed=0, read_off=True, **values):
    """A stored line with published settings unless told otherwise."""
    parsed = rounding.parse(method)
    settings = plans.plan(parsed).as_dict() | values.pop("settings", {})
    return {
        "image": image,
        "method": json.dumps(parsed.as_dict()),
        "temperature": json.dumps(settings["temperature"]),
        "lr": json.dumps(settings["lr"]),
        "optimizer": settings["optimizer"],
        "iterations": iterations,
        "iteration": iterations if iteration is None else iteration,
        "lmbda": lmbda,
        "seed": seed,
        "read_off": read_off,
        **values,
    }


def test_arms_are_named_after_what_differs_from_the_published_settings():
    settings = plans.plan("ssl:a=3", temperature=schedules.Exponential(tau_max=0.4), lr=0.02).as_dict()
    plan = plans.fast(100)
    rows = pd.DataFrame(
        [
            row(),
            row(method="ssl:a=3", settings=settings),
            row(method="map", iterations=0),
            row(method=plan.method.spec, settings=plan.as_dict(), iterations=100),
            row(method="three-class:base=ssl,a=1.4"),
        ]
    )
    found = configurations.with_arms(rows)
    named = list(found["arm"])
    assert named[1] == "SSL (a = 3), τ exponential:tau_max=0.4, lr 0.02"
    assert [named[0], *named[2:]] == [
        "SSL (a = 2.3)",
        "base",
        "fast",
        rounding.parse("three-class:base=ssl,a=1.4").label,
    ]
    assert found["a"].tolist()[:2] == [2.3, 3.0] and found["a"].isna().tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert found["tau_max"].iloc[1] == 0.4 and found["rate"].iloc[1] == 0.02
    assert configurations.label("ssl") == found["arm"].iloc[0] and configurations.label("fast") == "fast"


def test_read_offs_at_an_iteration_keep_the_base():
    rows = pd.DataFrame(
        [
            row(iterations=2000, iteration=500, loss=1.0),
            row(iterations=2000, iteration=2000, loss=0.9),
            row(iterations=2000, iteration=100, read_off=False, loss=1.1),
            row(iterations=0, loss=2.0),
        ]
    )
    assert list(configurations.at(rows, 500)["loss"]) == [1.0, 2.0]
    assert configurations.last_iteration(rows) == 2000
    with pytest.raises(UserError, match="use one of 500, 2000"):
        configurations.at(rows, 100)


def test_paired_differences_cancel_what_images_differ_in():
    """Image b is ten times as costly as image a; the arm is 10 % below the base on both."""
    rows = pd.DataFrame(
        [
            {"arm": "base", "image": "a", "loss": 1.0, "seed": 0},
            {"arm": "base", "image": "b", "loss": 10.0, "seed": 0},
            {"arm": "ssl", "image": "a", "loss": 0.8, "seed": 0},
            {"arm": "ssl", "image": "a", "loss": 1.0, "seed": 1},
            {"arm": "ssl", "image": "b", "loss": 9.0, "seed": 0},
            {"arm": "ssl", "image": "b", "loss": 9.0, "seed": 1},
            {"arm": "ssl", "image": "c", "loss": 5.0, "seed": 0},
        ]
    )
    found = comparisons.paired_means(rows, "loss", "base")
    assert found[["arm", "images"]].to_numpy().tolist() == [["ssl", 2]]
    assert found.loc[0, ["mean", "low", "high"]].to_numpy(dtype=float) == pytest.approx([-10, -10, -10])
    spread = comparisons.seed_spread(rows[rows["image"] != "c"], "loss").set_index("arm")
    # Means over images by seed: 4.9 and 5.0.
    assert spread.loc["ssl", "spread"] == pytest.approx(0.1 / np.sqrt(2))
    assert spread.loc["base", "seeds"] == 1 and np.isnan(spread.loc["base", "spread"])
    with pytest.raises(UserError, match="no row is of 'atanh'"):
        comparisons.paired(rows, "loss", "atanh")


def test_means_have_one_value_per_image():
    rows = pd.DataFrame({"arm": "x", "image": ["a", "b", "c"], "loss": [1.0, 2.0, 6.0]})
    found = comparisons.means(rows, "loss").iloc[0]
    assert found["mean"] == 3 and found["images"] == 3
    assert 1 <= found["low"] < 3 < found["high"] <= 6


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


def test_bd_rate_image_by_image(curves):
    found = bd.per_image(curves, "base", "ssl")
    assert found["bd_rate"].tolist() == pytest.approx([-10, -20])
    summary = bd.summary(found)
    assert summary["bd_rate"] == pytest.approx(-15) and summary["bd_rate_least"] == pytest.approx(-20)
    # PSNR is linear in the logarithm of the rate here: 2 dB for each doubling.
    assert found["bd_psnr"].tolist() == pytest.approx([-2 * np.log2(f) for f in (0.9, 0.8)])


def test_bd_rate_of_mean_curves(curves):
    found = bd.of_means(curves, "base", "ssl", resamples=200)
    assert found["bd_rate"] == pytest.approx(-15) and found["images"] == 2 and found["points"] == 5
    assert found["bd_rate_low"] == pytest.approx(-20) and found["bd_rate_high"] == pytest.approx(-10)
    # An image without all points does not count.
    part = curves.drop(curves.index[(curves["image"] == "b") & (curves["lmbda"] == 0.02)])
    assert bd.of_means(part, "base", "ssl", resamples=2)["bd_rate"] == pytest.approx(-10)


def test_too_short_curves_have_no_bd_rate(curves):
    short = curves[curves["lmbda"] < 0.01]
    assert bd.per_image(short, "base", "ssl")["bd_rate"].isna().all()
    assert bd.summary(bd.per_image(short, "base", "ssl"))["images"] == 0
    assert np.isnan(bd.of_means(short, "base", "ssl", resamples=5)["bd_rate_low"])


def test_every_arm_has_a_look_of_its_own():
    from companion import palette

    names = [
        configurations.label(spec)
        for spec in ("ssl", "atanh", "linear", "cosine", "ste", "uniform", "da", "fast")
    ]
    looks = palette.of_arms(["base", *names, "something new"])
    assert len({tuple(look.values()) for look in looks.values()}) == len(looks) == 10
    assert palette.of_arms(["atanh (SGA)"])["atanh (SGA)"] == looks["atanh (SGA)"]
    assert palette.in_order(["x", "atanh (SGA)", "base"]) == ["base", "atanh (SGA)", "x"]


def test_gain_at_equal_rate(curves):
    """Both images' curves are lines in the logarithm of the rate, 2 dB for each doubling, and so are the means."""
    rows = curves.assign(codec_lmbda=curves["lmbda"])
    base, ssl = (rows[rows["arm"] == arm] for arm in ("base", "ssl"))
    rates, samples = equal_rate.gains(base, ssl, resamples=200)
    found = equal_rate.band(rates, samples)
    # Mean rates are 0.85 of the base's: the curves share the rates from 0.1 to 0.85 · 1.6.
    assert rates[[0, -1]] == pytest.approx([0.1, 0.85 * 1.6])
    assert found["gain"].to_numpy() == pytest.approx(-2 * np.log2(0.85))
    assert found["low"].to_numpy() == pytest.approx(-2 * np.log2(0.9))
    assert found["high"].to_numpy() == pytest.approx(-2 * np.log2(0.8))
    assert equal_rate.mean_gain(samples)["gain"] == pytest.approx(-2 * np.log2(0.85))


def test_gain_at_equal_rate_of_one_image_has_no_interval(curves):
    rows = curves.assign(codec_lmbda=curves["lmbda"])[curves["image"] == "a"]
    base, ssl = (rows[rows["arm"] == arm] for arm in ("base", "ssl"))
    found = equal_rate.mean_gain(equal_rate.gains(base, ssl, resamples=5)[1])
    assert found["gain"] == pytest.approx(-2 * np.log2(0.9)) and np.isnan([found["low"], found["high"]]).all()
    apart = ssl.assign(bpp=ssl["bpp"] * 100)
    rates, samples = equal_rate.gains(base, apart, resamples=5)
    assert not len(rates) and np.isnan(equal_rate.mean_gain(samples)["gain"])
    with pytest.raises(UserError, match="no image has all points"):
        equal_rate.gains(base, ssl.assign(image="z"))


def test_an_interval_in_words():
    assert comparisons.interval(-7.034, -7.6, 6.52) == "−7.03 [−7.60, +6.52]"
    assert comparisons.interval(7.034, 6, 8, decimals=1, sign=False) == "7.0 [6.0, 8.0]"
    assert comparisons.interval(1, np.nan, np.nan) == "+1.00" and comparisons.interval(*[np.nan] * 3) == "–"


def test_only_numbers_get_a_minus():
    assert (
        comparisons.minus("-1.5 [-2, +3] at 2026-11-20, one-sided, 10-3")
        == "−1.5 [−2, +3] at 2026-11-20, one-sided, 10-3"
    )


def test_an_interval_with_zero_tells_nothing_apart():
    said = [
        comparisons.verdict(low, high) for low, high in ((-2, -1), (1, 2), (-1, 1), (0, 1), (np.nan, np.nan))
    ]
    assert said == ["lower", "higher", *["not told apart"] * 3]
