"""Rate-distortion curves: measured once, compared with published ones, checked against their λ."""

import numpy as np
import pandas as pd
import pytest

from companion import reference, training_curves
from sgaplus.codecs.weights import load_codec
from sgaplus.data.datasets import list_images
from sgaplus.errors import UserError
from sgaplus.store import Store
from sgaplus.training import publishing
from tests.conftest import write_codec

LAMBDAS = (0.0025, 0.005, 0.01, 0.02, 0.04)


def ideal(lmbdas=LAMBDAS, family="ideal", images=6, spread=0.3) -> pd.DataFrame:
    """Rows of codecs that are the best for their λ: R = b − a·ln D has the slope −λ·255² at D = a/(λ·255²)."""
    rows = []
    for image in range(images):
        b = -0.7 + spread * image / images
        for lmbda in lmbdas:
            mse = 0.2 / (lmbda * 255**2)
            values = {"bpp": b - 0.2 * np.log(mse), "psnr_8bit": -10 * np.log10(mse), "mse": mse}
            rows.append({"family": family, "lmbda": lmbda, "image": str(image), **values})
    return pd.DataFrame(rows)


def straight(offset=0.0, bpp=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6)) -> tuple[np.ndarray, np.ndarray]:
    """bpp and PSNR on a curve that is straight over the logarithm of the rate, as pchip keeps it."""
    return np.array(bpp), 38 + 5 * np.log(bpp) + offset


def published(bpp, psnr) -> pd.DataFrame:
    return pd.DataFrame({"codec": "vtm", "name": "VTM", "bpp": bpp, "psnr_db": psnr})


def family_on(bpp, psnr, images=2, spread=0.0) -> pd.DataFrame:
    """Rows of one codec for each point; PSNR differs between images by at most ``spread`` dB from the mean."""
    offsets = np.linspace(-spread, spread, images) if images > 1 else [0.0]
    return pd.DataFrame(
        [
            {"family": "ours", "lmbda": 0.001 * (k + 1), "image": str(i), "bpp": bpp[k]}
            | {"psnr_8bit": psnr[k] + offset, "mse": 10 ** (-psnr[k] / 10)}
            for k in range(len(bpp))
            for i, offset in enumerate(offsets)
        ]
    )


# Measuring and loading


@pytest.fixture
def measured(bundled, photo, tmp_path):
    write_codec(bundled, lmbda=0.05, seed=1)
    store = Store(tmp_path / "store")
    training_curves.measure(store, list_images(photo), "photo")
    return store


def test_every_bundled_codec_is_measured_once(measured, photo):
    assert [path.name for path in measured.root.rglob("*.parquet")] == ["photo.parquet"]
    before = (measured.root / "photo.parquet").stat().st_mtime_ns
    training_curves.measure(measured, list_images(photo), "photo")
    assert (measured.root / "photo.parquet").stat().st_mtime_ns == before
    rows = training_curves.load(measured, "papermill page")
    assert list(zip(rows["family"], rows["lmbda"], rows["image"], strict=True)) == [
        ("mshyper-s", 0.01, "photo"),
        ("mshyper-s", 0.05, "photo"),
    ]
    codec = load_codec("mshyper-s", 0.05, dtype="float32", device="cpu")
    point = publishing.rd_point(codec, [list_images(photo)[0].read()])
    found = rows.iloc[1]
    assert (found["bpp"], found["psnr_8bit"]) == pytest.approx((point["bpp"], point["psnr"]), rel=1e-5)


def test_missing_rows_name_the_command(bundled, measured, photo, tmp_path):
    with pytest.raises(UserError, match=r"holds no results.*papermill page"):
        training_curves.load(Store(tmp_path / "nothing"), "papermill page")
    write_codec(bundled, lmbda=0.2, seed=2)
    with pytest.raises(UserError, match=r"lacks images of mshyper-s with lambda 0\.2.*papermill page"):
        training_curves.load(measured, "papermill page")
    write_codec(bundled, lmbda=0.05, seed=3)
    with pytest.raises(UserError, match=r"not the bundled one.*papermill page"):
        training_curves.load(measured, "papermill page")


# Curves and their comparison


def test_points_are_means_over_images_with_their_intervals():
    [curve] = training_curves.of_families(family_on(*straight(), images=24, spread=2.0))
    table = training_curves.points(curve)
    bpp, psnr = straight()
    assert table["psnr"].to_numpy() == pytest.approx(psnr)
    assert table["bpp"].to_numpy() == pytest.approx(bpp)
    error = np.linspace(-2, 2, 24).std() / np.sqrt(24)
    assert (table["psnr_high"] - table["psnr"]).to_numpy() == pytest.approx(
        np.full(6, 1.96 * error), rel=0.12
    )
    assert table["bpp_low"].to_numpy() == pytest.approx(table["bpp_high"].to_numpy())


def test_all_families_and_points_share_the_images_drawn():
    rows = pd.concat([ideal(), ideal(family="other", lmbdas=LAMBDAS[:2])], ignore_index=True)
    first, second = training_curves.of_families(rows.sample(frac=1, random_state=0))
    assert (first.family, second.family) == ("ideal", "other")
    assert np.array_equal(first.bpp[:2], second.bpp)
    assert np.ptp(first.bpp[0]) > 0.01
    # The images differ in their rate by a constant, and so does every resample between two λ.
    assert np.ptp(first.bpp[1] - first.bpp[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("offset", [-0.5, 0.3])
def test_gaps_and_bd_rate_of_parallel_curves(offset):
    theirs = published(*straight())
    [curve] = training_curves.of_families(family_on(*straight(offset, (0.1, 0.2, 0.4, 0.8))))
    excess = 100 * (np.exp(-offset / 5) - 1)
    table = training_curves.gaps(curve, theirs, "vtm")
    assert table["decibel"].to_numpy() == pytest.approx(np.full(4, offset))
    assert table["rate"].to_numpy() == pytest.approx(np.full(4, excess))
    line = training_curves.compare(curve, theirs, "vtm")
    assert line["reference"] == reference.NAMES["vtm"]
    for name, value in (("bd_rate", excess), ("decibel", offset), ("rate", excess)):
        assert [line[name + end] for end in ("", "_low", "_high")] == pytest.approx([value] * 3)
    assert (line["psnr_low"], line["psnr_high"]) == pytest.approx((curve.psnr[0, 0], curve.psnr[-1, 0]))


def test_the_interval_of_a_comparison_is_that_of_our_images():
    [curve] = training_curves.of_families(
        family_on(*straight(-1, (0.1, 0.2, 0.4, 0.8)), images=24, spread=1.5)
    )
    line = training_curves.compare(curve, published(*straight()), "vtm")
    error = np.linspace(-1.5, 1.5, 24).std() / np.sqrt(24)
    assert line["decibel"] == pytest.approx(-1)
    assert line["decibel_high"] - line["decibel_low"] == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert line["bd_rate_low"] < 100 * (np.exp(0.2) - 1) < line["bd_rate_high"]
    assert line["bd_rate"] == pytest.approx(100 * (np.exp(0.2) - 1))


def test_points_beyond_the_published_curve_have_no_gap():
    [curve] = training_curves.of_families(family_on(*straight(-0.5, (0.02, 0.1, 0.2, 2.0))))
    table = training_curves.gaps(curve, published(*straight()), "vtm")
    assert table["decibel"].notna().tolist() == [False, True, True, False]
    line = training_curves.compare(curve, published(*straight()), "vtm")
    assert line["decibel"] == pytest.approx(-0.5)
    assert (line["psnr_low"], line["psnr_high"]) == pytest.approx(tuple(straight()[1][[0, -1]]))


@pytest.mark.parametrize("bpp", [(0.2,), (0.1, 0.2, 0.4)])
def test_fewer_than_four_points_have_no_bd_rate(bpp):
    [curve] = training_curves.of_families(family_on(*straight(-0.5, bpp)))
    line = training_curves.compare(curve, published(*straight()), "vtm")
    assert np.isnan([line["bd_rate"], line["bd_rate_low"], line["bd_rate_high"]]).all()
    assert line["rate"] == pytest.approx(100 * (np.exp(0.1) - 1))


def test_no_bd_rate_where_psnr_falls_with_the_rate():
    bpp, psnr = straight(0, (0.1, 0.2, 0.4, 0.8))
    [curve] = training_curves.of_families(family_on(bpp, psnr[[0, 2, 1, 3]]))
    assert np.isnan(training_curves.compare(curve, published(*straight()), "vtm")["bd_rate"])


def test_curves_without_a_common_range_are_not_compared():
    [curve] = training_curves.of_families(family_on(*straight(0, (4.0, 5.0))))
    with pytest.raises(UserError, match="vtm was not published at the rates of ours"):
        training_curves.compare(curve, published(*straight()), "vtm")


def test_the_nearest_and_the_farthest_point_are_told():
    bpp, psnr = straight(0, (0.1, 0.2, 0.4))
    [curve] = training_curves.of_families(family_on(bpp, psnr - (0.5, 0.25, 1.5)))
    text = training_curves.describe_gaps(training_curves.gaps(curve, published(*straight()), "vtm"), "VTM")
    assert text == (
        "At equal rate `ours` differs from VTM by -0.25 dB at λ = 0.002 (0.20 bpp) "
        "and by -1.50 dB at λ = 0.003 (0.40 bpp)."
    )
    [curve] = training_curves.of_families(family_on(bpp[:1], psnr[:1] - 0.5))
    text = training_curves.describe_gaps(training_curves.gaps(curve, published(*straight()), "vtm"), "VTM")
    assert text == "At equal rate `ours` differs from VTM by -0.50 dB at λ = 0.001 (0.10 bpp)."


# The curve's shape


def test_slopes_of_ideal_codecs_lie_between_their_lambda():
    [curve] = training_curves.of_families(ideal())
    table = training_curves.slopes(curve)
    # Of R = b − a·ln D between D and D/2: a·ln 2 / (D/2), in units of λ = a/D.
    assert table["slope"].to_numpy() == pytest.approx(np.log(2) * 2 * np.array(LAMBDAS[:-1]))
    assert table["between"].all()
    assert training_curves.describe_shape(table, "ideal") == (
        "`ideal`: bpp and PSNR grow with λ throughout; D is a convex function of R; "
        "4 of 4 slopes lie between the λ of their neighbours."
    )


def test_a_codec_that_is_too_weak_for_its_lambda_is_found():
    rows = ideal()
    rows.loc[rows["lmbda"] == 0.02, "bpp"] += 0.1
    [curve] = training_curves.of_families(rows)
    table = training_curves.slopes(curve)
    assert table["between"].tolist() == [True, True, False, False]
    text = training_curves.describe_shape(table, "ideal")
    assert "D is not convex in R (1 of the slopes fall)" in text
    assert "2 of 4 slopes" in text and text.endswith(", but not 0.01 → 0.02, 0.02 → 0.04.")
    # Then the neighbour does better at this codec's own λ.
    loss = 0.02 * 255**2 * curve.mse[:, 0] + curve.bpp[:, 0]
    assert loss[3] > min(loss[2], loss[4])


def test_a_curve_that_is_not_monotone_is_called_so():
    rows = ideal()
    rows.loc[rows["lmbda"] == 0.02, "bpp"] += 1
    [curve] = training_curves.of_families(rows)
    text = training_curves.describe_shape(training_curves.slopes(curve), "ideal")
    assert "bpp and PSNR do not both grow from λ = 0.02 to 0.04" in text


def test_one_lambda_has_no_slope():
    [curve] = training_curves.of_families(ideal(lmbdas=(0.01,)))
    table = training_curves.slopes(curve)
    assert table.empty
    assert training_curves.describe_shape(table, "ideal") == "`ideal` has one λ only, and so no slope."
