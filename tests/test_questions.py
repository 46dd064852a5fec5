"""The answers to the ten questions: numbers from formulas against known values, tables from rows made by
hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from companion import closed_forms, pool
from companion.pages import questions
from sgaplus import rounding
from tests.test_verdict_rules import CLIC, KODAK, TECNICK, job, table

_EMPTY = pd.DataFrame(columns=[*pool._COLUMNS])


def test_shapes_are_those_of_the_formulas():
    found = questions.shapes().set_index("method")
    assert found.loc["linear", ["middle", "near", "a"]].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert found.loc["cosine", "middle"] == pytest.approx(np.pi / 2)
    # A draw from linear probabilities picks the farther integer with probability ¼ on average.
    assert found.loc["linear", "wrong"] == pytest.approx(0.25)
    assert found.loc["cosine", "a"] == pytest.approx(1.6, abs=0.02)
    assert found.loc["atanh (SGA)", "a"] == pytest.approx(0.63, abs=0.01)


def test_a_draw_has_the_moments_of_its_distribution():
    """Linear at τ = 1 and v = ½: s = σ(logit u) = u, uniform, with ds/dv = 4·u(1 − u)."""
    found = closed_forms.moments(rounding.Linear(), torch.tensor([0.5], dtype=torch.float64), 1.0)
    assert found["value"][0] == pytest.approx(0.5) and found["slope"][0] == pytest.approx(4 / 6, abs=1e-4)
    assert found["value_sd"][0] == pytest.approx(np.sqrt(1 / 12), abs=1e-4)


def test_the_gradient_of_a_draw_is_not_the_slope_of_the_probability():
    """In the middle it is two thirds of it, and next to an integer linear's has no bound."""
    at = torch.tensor([0.05, 0.2, 0.499], dtype=torch.float64)
    for method in questions.methods():
        slope = closed_forms.draw_slope(method, at)
        ratio = float(slope[2] / closed_forms.probability_slope(method, at)[2])
        assert slope.numpy() == pytest.approx(closed_forms.moments(method, at, 1.0)["slope"], rel=0.01)
        assert ratio == pytest.approx(2 / 3, rel=1e-3)
    near = torch.tensor([1e-4, 1e-8, 1e-12], dtype=torch.float64)
    steps = closed_forms.draw_slope(rounding.Linear(), near).diff()
    assert steps.numpy() == pytest.approx(np.log(1e4), rel=0.01)


def test_the_mean_derivative_is_spent_where_the_shape_says():
    found = questions.budgets(1.0)
    assert found["middle"].is_monotonic_increasing and found["ends"].is_monotonic_decreasing
    assert found["settled"].is_monotonic_decreasing
    # In the middle d = 0, so that the ratio does not depend on the method.
    assert np.ptp(found["at_middle"]) == pytest.approx(0, abs=1e-6)


def test_the_third_integer_has_a_zone():
    method = rounding.ThreeClass(rounding.Linear(), 0.9, 1.5)
    inside, outside = (closed_forms.third_mass(method, w) for w in (0.0, 0.12))
    assert inside > 1e-3 > 1e-6 > outside
    found = questions.thirds()
    assert found["zone"].iloc[0] == pytest.approx(1 / 0.98 - 1)
    assert (found["neighbours"] > found["whole"]).all()


def test_the_gain_is_split_into_rate_and_distortion():
    """The base's loss is 2 with 0.5 bpp; SSL's 1.8 with 0.4 bpp: −5 % in rate, −5 % in distortion."""
    jobs = []
    for image in KODAK:
        jobs.append(job(image, "base", {0: 2.0}))
        jobs.append(job(image, "ssl", {0: 2.0, 500: 1.8}, bpp=0.4, method_loss=1.7))
        jobs.append(job(image, "atanh", {0: 2.0, 500: 1.9}, method_loss=2.2))
    assert questions.parts(_EMPTY, 500).empty and questions.practice(_EMPTY, 500).empty
    found = questions.parts(table(jobs), 500).set_index("configuration")
    assert found.loc["SSL (a = 2.3)", ["loss", "rate", "distortion", "gap"]].tolist() == pytest.approx(
        [-10, -5, -5, -5]
    )
    assert found.loc["atanh (SGA)", "gap"] == pytest.approx(15)


def gains(rising):
    """Images of growing rate whose gain grows or falls with it."""
    jobs = []
    for images in (KODAK, CLIC, TECNICK):
        for k, image in enumerate(images):
            jobs.append(job(image, "base", {0: 2.0}, bpp=0.1 + 0.1 * k))
            jobs.append(job(image, "ssl", {0: 2.0, 500: 1.8 - rising * 0.1 * k}))
    return table(jobs)


@pytest.mark.slow
def test_the_gain_goes_with_the_rate():
    found = questions.by_image(gains(1), 500)
    # Tecnick's centre is of another size and is left out.
    assert set(found["dataset"]) == {"kodak", "clic2025"} and len(found) == 9
    assert found["bpp"].corr(found["change"], method="spearman") == pytest.approx(-1)


def test_rates_of_the_data_sets_and_published_gains():
    found = questions.data_sets(gains(1)).set_index("what")
    published = found[found["images"].isna()]
    assert published["bd_rate"].tolist() == pytest.approx([-15.22, -18.70], abs=0.01)
    assert found.loc["Kodak, centres of 256 × 256 pixels", "bpp"] == pytest.approx(0.35)
    one = found.loc["Tecnick, centres of 512 × 512 pixels"]
    assert one["images"] == 1 and np.isnan(one["bpp_low"])


def test_bytes_and_seconds():
    jobs = []
    for lmbda in (0.01, 0.04):
        for name in KODAK[:2]:
            fixed = {"lmbda": lmbda, "codec": "mshyper-s"}
            base = fixed | {"bpp": 0.8, "psnr_8bit": 30.0, "ms_ssim": 0.9, "seconds": 0.0}
            changed = fixed | {"bpp": 0.72, "psnr_8bit": 30.5, "ms_ssim": 0.91, "seconds": 20.0}
            image = name.split("@")[0]
            jobs += [job(image, "base", {0: 2.0}, **base), job(image, "ssl", {0: 2.0, 500: 1.8}, **changed)]
    rows = table(jobs)
    found = questions.practice(rows, 500)
    first = found.iloc[0]
    assert first["scope"] == "whole photographs" and list(found["lmbda"]) == [0.01, 0.04]
    # 0.8 bits per pixel are 100 kB per megapixel.
    assert first[["kilobytes", "refined"]].tolist() == pytest.approx([100, 90])
    assert first["per_percent"] == pytest.approx(2)
    assert first[["psnr", "ms_ssim", "loss"]].tolist() == pytest.approx([0.5, 0.01, -10])
    assert set(questions.at_lambda(rows, 500, "image")["scope"]) == {"whole photographs"}
