"""The answers to the ten questions: numbers from formulas against known values, words from rows made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from companion import closed_forms, pool, verdict_rules_of_settings
from companion.pages import question_figures, questions, questions_of_practice
from sgaplus import rounding
from tests.test_claims import CLIC, KODAK, TECNICK, job, levels, semi, table, temperatures, three

_EMPTY = pd.DataFrame(columns=[*pool._COLUMNS, *pool._OF_ARMS])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def with_machine(rows):
    """What stored rows have beside what claims look at."""
    extra = {
        "codec": "mshyper-s",
        "device": "a processor",
        "seconds": 10.0,
        "psnr_8bit": 30.0,
        "ms_ssim": 0.9,
    }
    return rows.assign(**{name: value for name, value in extra.items() if name not in rows})


def test_shapes_are_those_of_the_formulas():
    found = questions.shapes().set_index("method")
    assert found.loc["linear", ["middle", "near", "a"]].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert found.loc["cosine", "middle"] == pytest.approx(np.pi / 2)
    # A draw from linear probabilities picks the farther integer with probability ¼ on average.
    assert found.loc["linear", "wrong"] == pytest.approx(0.25)
    assert found.loc["cosine", "a"] == pytest.approx(1.6, abs=0.02)
    assert found.loc["atanh (SGA)", "a"] == pytest.approx(0.63, abs=0.01)
    assert "a = 1;" in questions.describe_shapes(questions.shapes())
    assert "power of the distance" in questions.shapes_table(questions.shapes()).as_raw_html()


def test_a_draw_has_the_moments_of_its_distribution():
    """Linear at τ = 1 and v = ½: s = σ(logit u) = u, uniform, with ds/dv = 4·u(1 − u)."""
    found = closed_forms.moments(rounding.Linear(), torch.tensor([0.5], dtype=torch.float64), 1.0)
    assert found["value"][0] == pytest.approx(0.5) and found["slope"][0] == pytest.approx(4 / 6, abs=1e-4)
    assert found["value_sd"][0] == pytest.approx(np.sqrt(1 / 12), abs=1e-4)


def test_the_mean_derivative_is_spent_where_the_shape_says():
    found = questions.budgets(1.0).set_index("method")
    assert found["middle"].is_monotonic_increasing and found["ends"].is_monotonic_decreasing
    assert found["settled"].is_monotonic_decreasing
    # In the middle d = 0, so that the ratio does not depend on the method.
    assert np.ptp(found["at_middle"]) == pytest.approx(0, abs=1e-6)
    assert "of the mean derivative in the middle half" in questions.describe_budgets(found.reset_index(), 1.0)


def test_the_third_integer_has_a_zone():
    method = rounding.ThreeClass(rounding.Linear(), 0.9, 1.5)
    inside, outside = (closed_forms.third_mass(method, w) for w in (0.0, 0.12))
    assert inside > 1e-3 > 1e-6 > outside
    assert "1/r − 1 = 0.020" in questions.describe_third()
    assert isinstance(question_figures.third_class([0.9], [1.0]), Figure)
    assert isinstance(question_figures.gradients(1.0), Figure)


@pytest.mark.parametrize(
    "make",
    [
        lambda: question_figures.temperatures(_EMPTY, 500),
        lambda: question_figures.along_the_curve(_EMPTY, 500),
        lambda: question_figures.slope_of_ssl(_EMPTY, 500),
        lambda: question_figures.parts_of_the_gain(questions_of_practice.parts(_EMPTY, 500)),
        lambda: question_figures.gain_by_image(questions_of_practice.by_image(_EMPTY, 500)),
    ],
)
def test_without_rows_there_is_no_figure(make):
    assert make() is None


def test_without_rows_the_command_is_said():
    practice = questions_of_practice.practice(_EMPTY, 500)
    for text in (
        questions.describe_against(_EMPTY, 500, "cpu"),
        questions.describe_temperature(_EMPTY, 500, "cpu"),
        questions.describe_reach(verdict_rules_of_settings.other_lambda(_EMPTY, "cpu"), "cpu"),
        questions.describe_slope(_EMPTY, 500, "cpu"),
        questions_of_practice.describe_training(_EMPTY, 500, "cpu"),
        questions_of_practice.describe_parts(questions_of_practice.parts(_EMPTY, 500), 500, "cpu"),
        questions_of_practice.describe_by_image(questions_of_practice.by_image(_EMPTY, 500), "cpu"),
        questions_of_practice.describe_practice(practice, "cpu"),
    ):
        assert "sgaplus study run" in text and "--profile cpu" in text


def test_figures_from_rows():
    grid = table(temperatures({"atanh": 0.4, "linear": 0.01, "cosine": 0.1, "ssl": 0.2}))
    assert isinstance(question_figures.temperatures(grid, 500), Figure)
    text = questions.describe_temperature(grid, 500, "cpu")
    assert "atanh (SGA): lowest at τ_max = 0.2; against that, +20.00" in text
    by_a = table(levels({f"ssl:a={a}": level for a, level in {0.3: 1.3, 2.3: 1.0, 10: 1.1}.items()}))
    assert isinstance(question_figures.slope_of_ssl(by_a, 500), Figure)
    text = questions.describe_slope(by_a, 500, "cpu")
    assert "Its true loss is +30.00" in text and "that of a = 2.3; from 2.3 to 2.3" in text
    assert isinstance(question_figures.along_the_curve(semi(), 500), Figure)
    assert "The cost runs from" in questions.describe_reach(
        verdict_rules_of_settings.other_lambda(semi(), "cpu"), "cpu"
    )
    assert "claim 5" in questions.judged(
        verdict_rules_of_settings.three_class(table(three((0.9,) * 3)), "cpu"), ""
    )


def test_the_gain_is_split_into_rate_and_distortion():
    """The base's loss is 2 with 0.5 bpp; SSL's 1.8 with 0.4 bpp: −5 % in rate, −5 % in distortion."""
    jobs = []
    for image in KODAK:
        jobs.append(job(image, "base", {0: 2.0}))
        jobs.append(job(image, "ssl", {0: 2.0, 500: 1.8}, bpp=0.4, method_loss=1.7))
        jobs.append(job(image, "atanh", {0: 2.0, 500: 1.9}, method_loss=2.2))
    found = questions_of_practice.parts(table(jobs), 500)
    assert list(found["arm"]) == ["SSL (a = 2.3)", "atanh (SGA)"]
    assert found.loc[0, ["loss", "rate", "distortion", "gap"]].tolist() == pytest.approx([-10, -5, -5, -5])
    assert found.loc[1, "gap"] == pytest.approx(15)
    text = questions_of_practice.describe_parts(found, 500, "cpu")
    assert "−10.00 % of the base's loss" in text and "farthest for atanh (SGA) (+15.00 %)" in text
    assert isinstance(question_figures.parts_of_the_gain(found), Figure)


def gains(rising):
    """Images of growing rate whose gain grows or falls with it."""
    jobs = []
    for images in (KODAK, CLIC, TECNICK):
        for k, image in enumerate(images):
            jobs.append(job(image, "base", {0: 2.0}, bpp=0.1 + 0.1 * k))
            jobs.append(job(image, "ssl", {0: 2.0, 500: 1.8 - rising * 0.1 * k}))
    return table(jobs)


def test_the_gain_goes_with_the_rate_or_not():
    found = questions_of_practice.by_image(gains(1), 500)
    # Tecnick's centre is of another size and is left out.
    assert set(found["dataset"]) == {"kodak", "clic2025"} and len(found) == 9
    assert "images that need more bits gain more" in questions_of_practice.describe_by_image(found, "cpu")
    found = questions_of_practice.by_image(gains(-1), 500)
    assert "images that need more bits gain less" in questions_of_practice.describe_by_image(found, "cpu")
    assert isinstance(question_figures.gain_by_image(found), Figure)
    text = questions_of_practice.describe_data_sets(gains(1))
    assert "one image, no interval" in text and "BD-rate against it is −18.7 %" in text


def test_bytes_and_seconds():
    jobs = []
    for lmbda in (0.01, 0.04):
        for name in KODAK[:2]:
            image = name.split("@")[0]
            jobs.append(
                job(image, "base", {0: 2.0}, lmbda, bpp=0.8, psnr_8bit=30.0, ms_ssim=0.9, seconds=0.0)
            )
            changed = {"bpp": 0.72, "psnr_8bit": 30.5, "ms_ssim": 0.91, "seconds": 20.0}
            jobs.append(job(image, "ssl", {0: 2.0, 500: 1.8}, lmbda, **changed))
    rows = with_machine(table(jobs))
    found = questions_of_practice.practice(rows, 500)
    first = found.iloc[0]
    assert first["scope"] == "whole photographs" and list(found["lmbda"]) == [0.01, 0.04]
    # 0.8 bits per pixel are 100 kB per megapixel.
    assert first[["kilobytes", "refined"]].tolist() == pytest.approx([100, 90])
    assert first["per_percent"] == pytest.approx(2)
    text = questions_of_practice.describe_practice(found, "cpu")
    assert "one of 1200 kB" in text and "120 kB smaller" in text and "0.50 dB higher" in text
    assert "rises by 0.0100" in text
    assert "90.0" in questions_of_practice.practice_table(found).as_raw_html()
    training = questions_of_practice.describe_training(rows, 500, "cpu")
    assert "20.0 s for each of the whole photographs" in training and "−10.00" in training
