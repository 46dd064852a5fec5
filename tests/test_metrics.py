"""Metrics, Bjøntegaard deltas, intervals and paired differences against values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from companion import equal_rate, statistics
from sgaplus import metrics
from sgaplus.errors import UserError

BPP = (0.12, 0.25, 0.5, 0.9, 1.4)
PSNR = (27.0, 29.5, 32.0, 34.5, 36.5)


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_error():
    x = torch.full((2, 3, 8, 8), 0.5)
    x_hat = x + torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(metrics.psnr(x, x_hat), torch.tensor([20.0, 40.0]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(metrics.mse(x, x_hat), torch.tensor([1e-2, 1e-4]).double(), atol=1e-7, rtol=0)
    assert metrics.psnr(x, x).tolist() == [math.inf, math.inf]


def test_8bit_psnr_clamps_and_rounds_the_reconstruction():
    x = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    beyond = x + torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)
    assert metrics.psnr_8bit(x, beyond).tolist() == [math.inf, math.inf]
    assert metrics.psnr(x, beyond).tolist() == pytest.approx([20 * math.log10(2)] * 2)
    # An error of 1.4 steps is one of 1 step after rounding.
    grey = torch.full((1, 3, 4, 4), 100 / 255)
    assert metrics.psnr_8bit(grey, grey + 1.4 / 255).item() == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_ms_ssim_of_a_small_image_is_not_a_number():
    x = random_image(2, 3, 160, 400)
    assert metrics.ms_ssim(x, x).isnan().tolist() == [True, True]


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bd_rate_of_scaled_rates_is_the_scale(method):
    assert metrics.bd_rate((BPP, PSNR), (BPP, PSNR), method) == pytest.approx(0, abs=1e-9)
    for factor in (0.5, 0.848, 2):
        scaled = [factor * bpp for bpp in BPP]
        assert metrics.bd_rate((BPP, PSNR), (scaled, PSNR), method) == pytest.approx(100 * (factor - 1))


def test_bd_rate_does_not_care_for_the_order_or_number_of_points():
    scaled = [0.5 * bpp for bpp in BPP]
    assert metrics.bd_rate((BPP, PSNR), (scaled[::-1], PSNR[::-1])) == pytest.approx(-50)
    # On log-linear curves every subset of points gives the same interpolation.
    line = [10 ** (psnr / 20) for psnr in PSNR]
    half = [bpp / 2 for bpp in (line[0], *line[2:])]
    assert metrics.bd_rate((line, PSNR), (half, (PSNR[0], *PSNR[2:]))) == pytest.approx(-50)


def test_bd_psnr_of_shifted_curves_is_the_shift():
    """A curve moved up by 0.5 dB has a BD-PSNR of 0.5 dB, whatever the interpolation."""
    shifted = [value + 0.5 for value in PSNR]
    for method in ("pchip", "akima"):
        assert metrics.bd_psnr((BPP, PSNR), (BPP, shifted), method) == pytest.approx(0.5)
    with pytest.raises(UserError, match="use pchip or akima"):
        metrics.bd_rate((BPP, PSNR), (BPP, PSNR), "cubic")
    with pytest.raises(UserError, match="no rate in common"):
        metrics.bd_psnr((BPP, PSNR), ([1000 * value for value in BPP], PSNR))


@pytest.mark.parametrize(
    ("bpp", "psnr", "message"),
    [
        (BPP[:3], PSNR[:3], "at least four points"),
        ((0, *BPP[1:]), PSNR, "positive bpp"),
        (BPP, (math.nan, *PSNR[1:]), "finite PSNR"),
        (BPP, (*PSNR[:4], 34), "grows with the bpp"),
        ((BPP[1], *BPP[1:]), PSNR, "grows with the bpp"),
        (BPP, [psnr + 20 for psnr in PSNR], "no PSNR in common"),
    ],
)
def test_bd_rate_refuses_what_is_no_curve(bpp, psnr, message):
    with pytest.raises(UserError, match=message):
        metrics.bd_rate((BPP, PSNR), (bpp, psnr))
    with pytest.raises(UserError, match=message):
        metrics.bd_rate((bpp, psnr), (BPP, PSNR))


def test_one_image_is_a_batch_of_one_and_uint8_counts_to_255():
    x = torch.randint(0, 256, (3, 170, 170), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = (x.float() / 255 + 0.01).clamp(0, 1)
    for measure in (metrics.mse, metrics.psnr, metrics.psnr_8bit, metrics.ms_ssim):
        wanted = measure(x[None].float() / 255, y[None])
        for pair in ((x, y), (x.numpy(), y.numpy()), (x[None], y.double()), (x, y.clone().requires_grad_())):
            found = measure(*pair)
            assert found.shape == (1,)
            torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(metrics.to_8bit(x), x.float() / 255)
    assert metrics.to_8bit(y.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8), r"\(1, 3, 8, 8\) and \(2, 3, 8, 8\)"),
        (torch.rand(3, 8, 8), torch.rand(3, 8, 9), "one shape"),
        (torch.rand(8, 8), torch.rand(8, 8), r"\(8, 8\)"),
        (torch.rand(3, 0, 8), torch.rand(3, 0, 8), "one shape"),
        (torch.ones(3, 8, 8, dtype=torch.int64), torch.rand(3, 8, 8), "original holds int64"),
        (torch.rand(3, 8, 8), torch.ones(3, 8, 8, dtype=torch.bool), "reconstruction holds bool"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(x, y, reason):
    for measure in (metrics.mse, metrics.psnr, metrics.ms_ssim):
        with pytest.raises(UserError, match=reason):
            measure(x, y)


def named(values):
    return pd.Series(values, index=[f"image {k:03d}" for k in range(len(values))], dtype=float)


def loss(name, image, value, seed=0, **more):
    return {"configuration": name, "image": image, "loss": value, "seed": seed} | more


# Intervals


@pytest.mark.slow
@pytest.mark.parametrize("images", [8, 24])
def test_the_interval_covers_the_mean_about_as_often_as_few_says(images):
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        _, low, high = statistics.estimate(named(generator.normal(3, 2, images)))
        covered += low <= 3 <= high
    assert covered / 300 == pytest.approx(statistics.few(images)[0], abs=0.04)


def test_the_interval_of_a_quantity_does_not_depend_on_what_stands_beside_it():
    table = pd.DataFrame(np.random.default_rng(3).normal(size=(8, 3)), index=[f"k{i}" for i in range(8)])
    together = statistics.ends(statistics.resampled_means(table))
    for column in table:
        assert together[:, column] == pytest.approx(statistics.estimate(table[column])[1:], rel=1e-12)


def test_an_interval_of_samples_may_be_infinite_or_lack_values():
    samples = np.array([5.0, *([4.0] * 50), *([np.inf] * 50)])
    assert statistics.with_interval("x", samples) == {"x": 5.0, "x_low": 4.0, "x_high": np.inf}
    both = np.stack([np.full(4, np.nan), np.array([1.0, np.nan, 2.0, 2.0])], axis=1)
    low, high = statistics.ends(both)
    assert np.isnan([low[0], high[0]]).all() and (low[1], high[1]) == (2, 2)


def test_an_interval_in_words():
    assert statistics.interval(-7.034, -7.6, 6.52) == "−7.03\N{NO-BREAK SPACE}[−7.60,\N{NO-BREAK SPACE}+6.52]"
    assert statistics.interval(1, np.nan, np.nan) == "+1.00" and statistics.interval(*[np.nan] * 3) == "–"
    assert statistics.minus("-1.5 at 2026-11-20, one-sided") == "−1.5 at 2026-11-20, one-sided"


def test_an_interval_with_zero_shows_no_difference():
    ends = ((-2, -1), (1, 2), (-1, 1), (0, 1), (np.nan, np.nan))
    said = [statistics.verdict(*pair) for pair in ends]
    assert said[:2] == ["lower", "higher"] and len(set(said[2:])) == 1 and said[2] not in said[:2]


@pytest.mark.slow
def test_a_rank_correlation_has_an_interval():
    x = pd.Series(range(12))
    assert statistics.rank_correlation(x, x**2) == pytest.approx((1, 1, 1))
    rho, low, high = statistics.rank_correlation(x, pd.Series(np.random.default_rng(0).normal(size=12)))
    assert -1 <= low < rho < high <= 1 and low < 0 < high


# Rows of one iteration


def runs():
    return pd.DataFrame(
        [
            loss(name, image, value, iterations=budget, iteration=t, read_off=t in (0, 500, 2000))
            for name, image, value, budget, t in (
                ("ssl", "a", 1.0, 500, 500),
                ("ssl", "a", 3.0, 2000, 500),
                ("ssl", "a", 0.8, 2000, 2000),
                ("ssl", "a", 1.1, 500, 100),
                ("atanh", "a", 1.2, 500, 500),
                ("base", "a", 2.0, 0, 0),
            )
        ]
    )


def test_a_longer_run_is_no_second_run_of_the_same_iteration():
    found = statistics.at(runs(), 500).set_index("configuration")["loss"]
    assert found.to_dict() == {"ssl": 1.0, "atanh": 1.2, "base": 2.0}
    late = statistics.at(runs(), 2000).set_index("configuration")["loss"]
    assert late.to_dict() == {"ssl": 0.8, "base": 2.0}
    assert statistics.at(runs())["loss"].tolist() == statistics.at(runs(), 2000)["loss"].tolist()
    assert set(statistics.at(runs(), 100)["loss"]) == {1.1, 2.0}
    with pytest.raises(UserError, match="iteration 300: use one of 500, 2000"):
        statistics.at(runs(), 300)
    with pytest.raises(UserError, match="hold no refinement"):
        statistics.at(runs().assign(iterations=0))


# Means and pairs


def test_paired_differences_cancel_what_images_differ_in():
    """Image b is ten times as costly as image a; the name is 10 % below the base on both."""
    lines = [loss("base", "a", 1.0), loss("base", "b", 10.0), loss("ssl", "c", 5.0)]
    lines += [loss("ssl", "a", value, seed) for seed, value in enumerate((0.8, 1.0))]
    rows = pd.DataFrame([*lines, *(loss("ssl", "b", 9.0, seed) for seed in (0, 1))])
    [found] = statistics.paired_means(rows, "loss", "base").to_dict("records")
    assert (found["configuration"], found["images"]) == ("ssl", 2)
    assert [found["change"], found["change_low"], found["change_high"]] == pytest.approx([-10] * 3)
    spread = statistics.seed_spread(rows[rows["image"] != "c"], "loss", ["configuration"])
    spread = spread.set_index("configuration")
    # Means over images by seed: 4.9 and 5.0.
    assert spread.loc["ssl", "spread"] == pytest.approx(0.1 / np.sqrt(2))
    assert spread.loc["base", "seeds"] == 1 and np.isnan(spread.loc["base", "spread"])
    with pytest.raises(UserError, match="'atanh'"):
        statistics.paired(rows, "loss", "atanh")


@pytest.mark.parametrize(
    ("column", "values", "exempt"),
    [
        ("algorithm", (1, 2), ()),
        ("algorithm", (np.nan, 2), ()),
        ("dtype", ("float32", "bfloat16"), ()),
        ("codec_sha256", ("aa", "bb"), ()),
        ("dtype", ("float32", "bfloat16"), ("dtype",)),
    ],
)
def test_a_pair_agrees_in_algorithm_number_format_and_codec(column, values, exempt):
    sides = zip(("base", "ssl"), values, strict=True)
    common = {"lmbda": 0.01, "bpp": 1.0, "psnr": 1.0, "study": "rd", "profile": "cpu"}
    lines = [loss(name, image, 1.0, **common, **{column: kind}) for name, kind in sides for image in "ab"]
    rows = pd.DataFrame(lines)
    rows = rows.assign(**{"codec_sha256": "aa", "dtype": "bfloat16"} | {column: rows[column]})
    if exempt:
        assert len(statistics.paired_means(rows, "loss", "base", exempt=exempt)) == 1
        return
    for call in (
        lambda: statistics.paired_means(rows, "loss", "base"),
        lambda: statistics.bd_per_image(rows, "base", "ssl"),
        lambda: statistics.bd_of_means(rows, "base", "ssl"),
    ):
        with pytest.raises(UserError) as raised:
            call()
        text = str(raised.value)
        assert column in text and "2 images" in text and "sgaplus study run rd --profile cpu" in text
        assert all(str(1 if value != value else value) in text for value in values)


def test_no_algorithm_is_the_first():
    rows = pd.DataFrame([loss("base", "a", 1.0, algorithm=np.nan), loss("ssl", "a", 1.0, algorithm=1)])
    assert statistics.paired(rows, "loss", "base")["change"].tolist() == [0]


# Bjøntegaard deltas


@pytest.fixture
def curves(monkeypatch):
    """Two images, five λ; the name ``ssl`` needs 10 % less rate on image a and 20 % less on image b."""
    monkeypatch.setattr(statistics, "RESAMPLES", 50)
    lines = []
    for image, factor in (("a", 0.9), ("b", 0.8)):
        for k, lmbda in enumerate((0.001, 0.0025, 0.005, 0.01, 0.02)):
            bpp, psnr = 0.1 * 2**k, 26 + 2.0 * k
            lines.append(loss("base", image, 1.0, lmbda=lmbda, bpp=bpp, psnr=psnr))
            lines.append(loss("ssl", image, 0.9 * factor, lmbda=lmbda, bpp=factor * bpp, psnr=psnr))
    return pd.DataFrame(lines)


def test_bd_rate_image_by_image(curves):
    found = statistics.bd_per_image(curves, "base", "ssl")
    assert found["bd_rate"].tolist() == pytest.approx([-10, -20])
    summary = statistics.bd_summary(found)
    assert summary["bd_rate"] == pytest.approx(-15) and summary["bd_rate_least"] == pytest.approx(-20)
    # PSNR is linear in the logarithm of the rate here: 2 dB for each doubling.
    assert found["bd_psnr"].tolist() == pytest.approx([-2 * np.log2(f) for f in (0.9, 0.8)])


@pytest.mark.slow
def test_bd_rate_of_mean_curves(curves):
    found = statistics.bd_of_means(curves, "base", "ssl")
    assert found["bd_rate"] == pytest.approx(-15) and found["images"] == 2 and found["points"] == 5
    assert found["bd_rate_low"] == pytest.approx(-20) and found["bd_rate_high"] == pytest.approx(-10)
    # An image without all points does not count.
    part = curves.drop(curves.index[(curves["image"] == "b") & (curves["lmbda"] == 0.02)])
    assert statistics.bd_of_means(part, "base", "ssl")["bd_rate"] == pytest.approx(-10)


def test_too_short_curves_have_no_bd_rate(curves):
    short = curves[curves["lmbda"] < 0.01]
    assert statistics.bd_per_image(short, "base", "ssl")["bd_rate"].isna().all()
    assert statistics.bd_summary(statistics.bd_per_image(short, "base", "ssl"))["images"] == 0
    assert np.isnan(statistics.bd_of_means(short, "base", "ssl")["bd_rate_low"])


def test_gain_at_equal_rate(curves):
    """Both images' curves are lines in the logarithm of the rate, 2 dB for each doubling, and so are the
    means."""
    rows = curves.assign(codec_lmbda=curves["lmbda"])
    base, ssl = (rows[rows["configuration"] == name] for name in ("base", "ssl"))
    rates, _ = equal_rate.gains(base, ssl)
    found = equal_rate.band(base, ssl)
    # Mean rates are 0.85 of the base's: the curves share the rates from 0.1 to 0.85 · 1.6.
    assert rates[[0, -1]] == pytest.approx([0.1, 0.85 * 1.6])
    assert found["gain"].to_numpy() == pytest.approx(-2 * np.log2(0.85))
    assert found["gain_low"].to_numpy() == pytest.approx(-2 * np.log2(0.9))
    assert found["gain_high"].to_numpy() == pytest.approx(-2 * np.log2(0.8))


def test_gain_at_equal_rate_of_one_image_has_no_interval(curves):
    rows = curves.assign(codec_lmbda=curves["lmbda"])[curves["image"] == "a"]
    base, ssl = (rows[rows["configuration"] == name] for name in ("base", "ssl"))
    found = equal_rate.band(base, ssl)
    assert found["gain"].to_numpy() == pytest.approx(-2 * np.log2(0.9))
    assert found[["gain_low", "gain_high"]].isna().all(axis=None)
    apart = ssl.assign(bpp=ssl["bpp"] * 100)
    assert equal_rate.band(base, apart).empty
    with pytest.raises(UserError, match="no image has all points"):
        equal_rate.gains(base, ssl.assign(image="z"))


def test_a_figure_draws_the_interval_of_the_table():
    values = pd.Series([0.3, -1.2, 0.8, 2.0, 0.1], index=["kodim20", "kodim01", "kodim07", "kodim13", "a"])
    in_order = values.sort_index()
    assert statistics.ends_of(in_order) == statistics.estimate(values)[1:]


# The order of rows


@pytest.mark.slow
def test_no_digit_depends_on_the_order_of_rows(curves):
    rows = curves.assign(loss=curves["loss"] * np.random.default_rng(0).uniform(0.9, 1.1, len(curves)))
    others = rows.assign(image=rows["image"] + "2", loss=2 * rows["loss"] ** 2)
    rows = pd.concat([rows, others], ignore_index=True)
    for call in (
        lambda table: statistics.means(table, "loss", ["configuration", "lmbda"]),
        lambda table: statistics.paired_means(table, "loss", "base", ["lmbda"]),
        lambda table: statistics.bd_per_image(table, "base", "ssl"),
        lambda table: pd.DataFrame([statistics.bd_of_means(table, "base", "ssl")]),
        lambda table: statistics.seed_spread(table, "loss", ["configuration"]),
        lambda table: statistics.at(table.assign(iterations=500, iteration=500, read_off=True), 500),
    ):
        wanted = call(rows)
        for seed in range(3):
            found = call(rows.sample(frac=1, random_state=seed))
            pd.testing.assert_frame_equal(found, wanted, check_exact=True)
