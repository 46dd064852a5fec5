"""Pages that compare methods: SSL's a, two classes or three, number formats, other distortions."""

import numpy as np
import pandas as pd
import pytest

from companion import configurations
from companion.pages import descent, distortion, number_format, ssl_a, three_class
from sgaplus.distortion import lambda_in
from sgaplus.errors import UserError

from .made_rows import everywhere, job, rows_of


@pytest.fixture
def slopes() -> pd.DataFrame:
    """Early the largest a is the best, late the one in the middle."""
    return rows_of(
        everywhere("ssl:a=0.5", {0: 1.0, 5: 0.99, 10: 0.88}),
        everywhere("ssl:a=2.3", {0: 1.0, 5: 0.95, 10: 0.80}),
        everywhere("ssl:a=10", {0: 1.0, 5: 0.93, 10: 0.84}),
        everywhere("map", {0: 1.0}),
    )


def test_the_loss_over_a_is_paired_with_the_reference(slopes):
    table = ssl_a.over_a(slopes, 2.3, [5, 10])
    late = table[table["iteration"] == 10]
    assert late["a"].tolist() == [0.5, 2.3, 10]
    for column in ("change", "change_low", "change_high"):
        assert late[column].tolist() == pytest.approx([10, float("nan"), 5], nan_ok=True)
    with pytest.raises(UserError, match=r"no row has a = 3: use one of 0\.5, 2\.3, 10"):
        ssl_a.over_a(slopes, 3, [10])


def test_the_optimum_is_interior_only_where_both_ends_are_worse(slopes, monkeypatch):
    early, late = ssl_a.optima(slopes, [5, 10]).to_dict("records")
    assert (early["best"], late["best"]) == (10, 2.3)
    assert late["interior"] and not early["interior"], "the best a is at an end"
    assert (late["first"], late["last"]) == pytest.approx((10, 5)) and late["good"] == {2.3}
    table = ssl_a.grids.summary(ssl_a._grid(slopes, 10), "a").assign(change_low=[9.0, float("nan"), -1.0])
    monkeypatch.setattr(ssl_a.grids, "summary", lambda *_: table)
    (line,) = ssl_a.optima(slopes, [10]).to_dict("records")
    assert not line["interior"] and line["good"] == {2.3, 10} and line["alike"] == "10"


@pytest.fixture
def classes() -> pd.DataFrame:
    return rows_of(
        everywhere("linear", {0: 1.0, 25: 1.0, 100: 0.90, 200: 0.80}),
        everywhere("three-class:base=linear", {0: 1.0, 25: 0.99, 100: 0.81, 200: 0.80}),
        everywhere("ssl:a=2.3", {0: 1.0, 25: 0.90, 100: 0.80, 200: 0.70}),
        everywhere("three-class:base=ssl,a=1.4", {0: 1.0, 25: 0.90, 100: 0.88, 200: 0.77}),
        everywhere("map", {0: 1.0}),
        job("a@100", "atanh", {0: 1.0, 200: 0.9}),
        everywhere("linear", {0: 1.0, 200: 0.5}, lmbda=0.02),
    )


LINEAR = ("linear", configurations.label("three-class:base=linear"))
SSL = ("SSL (a = 2.3)", configurations.label("three-class:base=ssl,a=1.4"))


def test_three_classes_are_paired_with_two_of_the_same_function(classes):
    rows = three_class.select(classes, 0.01)
    assert three_class.pairs(rows) == [("linear", *LINEAR), ("SSL", *SSL)]
    assert set(rows["configuration"]) == {*LINEAR, *SSL}
    assert descent.marks(rows) == [25, 100, 200]
    table = three_class.against_two_classes(rows, [25, 100, 200])
    found = table.set_index(["two", "iteration"])["change"]
    assert found["linear", 100] == pytest.approx(-10) and found["linear", 200] == pytest.approx(0)
    assert found["SSL (a = 2.3)", 100] == pytest.approx(10)
    verdicts = table.set_index(["two", "iteration"])["verdict"]
    assert verdicts["linear", 100] == "lower" and verdicts["SSL (a = 2.3)", 100] == "higher"
    assert verdicts["SSL (a = 2.3)", 25] == "not significantly different"


def test_only_images_with_all_configurations_are_compared(classes):
    lacking = classes[~((classes["configuration"] == SSL[1]) & (classes["image"] == "b@100"))]
    rows = three_class.select(lacking, 0.01)
    assert set(rows["image"]) == {"a@100", "c@100"}
    with pytest.raises(UserError, match=r"at lambda 0\.03: use one of 0\.01, 0\.02"):
        three_class.select(classes, 0.03)
    with pytest.raises(UserError, match="no three-class method is stored"):
        three_class.select(classes[~classes["configuration"].isin([LINEAR[1], SSL[1]])], 0.01)


def test_three_classes_are_held_against_ssl_of_the_same_sharpness(classes):
    """`tests.test_rounding` shows that without the third class they are SSL of this sharpness."""
    rows = three_class.select(classes, 0.01)
    assert three_class.sharpness(rows) == pytest.approx({LINEAR[1]: 1.5, SSL[1]: 2.1})
    over_a = rows_of(
        everywhere("ssl:a=1", {0: 1.0, 100: 0.9}),
        everywhere("ssl:a=1.6", {0: 1.0, 100: 0.75}),
        everywhere("ssl:a=3", {0: 1.0, 100: 0.8}),
    )
    table = three_class.against_sharpness(rows, over_a, 100)
    linear = table[table["three"] == LINEAR[1]]
    assert linear["ssl"].tolist() == [1, 1.6] and linear["change"].tolist() == pytest.approx([-10, 8])
    ssl = table[table["three"] == SSL[1]]
    assert ssl["ssl"].tolist() == [1.6, 3] and (ssl["change"] > 0).all()
    assert linear["between"].all() and not ssl["between"].any()
    assert linear["a"].tolist() == [1.5, 1.5]
    between = table.groupby("three")["between"].first()
    assert three_class.named(between) == f"1 ({LINEAR[1]})" and three_class.named(between & False) == "none"
    other = over_a.assign(codec_sha256="another")
    assert three_class.against_sharpness(rows, other, 100).empty


def test_formats_are_compared_image_by_image():
    """bfloat16 is 1 % worse on one image and 2 % better on the other, and takes half the seconds."""
    table = pd.DataFrame(
        [
            {"dtype": dtype, "image": image, "iteration": t, "seconds": seconds}
            | {"loss": loss * (1 + change * (t > 0) * (dtype == "bfloat16"))}
            for dtype, seconds in (("float32", 10), ("bfloat16", 5))
            for image, loss, change in (("a", 1.0, 0.01), ("b", 4.0, -0.02))
            for t in (0, 100, 1000)
        ]
    )
    found = number_format.summary(table)
    assert found["iteration"].tolist() == [0, 100, 1000] and set(found["images"]) == {2}
    assert found["change"].tolist() == pytest.approx([0, -0.5, -0.5])
    assert found["largest"].tolist() == pytest.approx([0, 2, 2])
    assert set(found["float32"]) == {10} and set(found["bfloat16"]) == {5}
    with pytest.raises(UserError, match="float32"):
        number_format.summary(table[table["dtype"] == "bfloat16"])


@pytest.fixture
def rows() -> pd.DataFrame:
    """Three images; fast needs 80 % of the base's rate at equal PSNR, its form for MS-SSIM 70 % at equal
    MS-SSIM."""
    lines = []
    shares = {"base": (1, 1), "fast": (0.8, 0.9), "base, MS-SSIM": (1, 1), "fast, MS-SSIM": (1.1, 0.7)}
    for arm, (of_psnr, of_ms_ssim) in shares.items():
        metric, steps = "ms-ssim" if "MS-SSIM" in arm else "mse", 0 if arm.startswith("base") else 100
        common = {"configuration": arm, "seed": 0, "iterations": steps, "iteration": steps, "codec": "c"}
        common |= {"read_off": True, "distortion": metric}
        for lmbda in (0.0025, 0.005, 0.01, 0.02, 0.04):
            for number in range(3):
                bpp = 0.1 * (lmbda / 0.0025) ** 0.5 * (1 + number)
                psnr, db = (30 + 5 * np.log2(bpp / share) for share in (of_psnr, of_ms_ssim))
                line = {"image": f"kodim0{number}", "codec_lmbda": lmbda, "bpp": bpp, "psnr": psnr}
                line |= {"lmbda": lambda_in(metric, lmbda, "mse"), "ms_ssim": 1 - 10 ** (-db / 10)}
                lines.append(common | line)
    return pd.DataFrame(lines)


def test_rates_at_equal_quality_are_those_of_each_metric(rows):
    table = distortion.rates(distortion.points(rows)).set_index(["configuration", "metric"])
    expected = {("fast", "PSNR"): -20, ("fast", "MS-SSIM"): -10}
    expected |= {("fast, MS-SSIM", "PSNR"): 10, ("fast, MS-SSIM", "MS-SSIM"): -30}
    assert table["bd_rate"].to_dict() == pytest.approx(expected)
    assert set(table["images"]) == {3}
