"""The page beyond the paper, on rows made up by hand: whose budgets are compared, and what is said about
them."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from companion import configurations, tables
from companion.pages import beyond, rate_distortion
from sgaplus import plans, rounding, schedules
from sgaplus.errors import UserError
from sgaplus.studies.schema import load_study

from .made_rows import job, rows_of

CLIC = "097cb426910ba8ce2525dd8bb7fb1777@256"
COST = {"kodim01@256": 1.0, "kodim02@256": 2.0, CLIC: 4.0}
SSL = rounding.SSL(2.3).label


@pytest.fixture
def rows() -> pd.DataFrame:
    """`fast` is 2 % better than SSL at 50; at 50 as good as SSL at 500 on Kodak, 5 % worse on the other
    image."""
    jobs = []
    for image, cost in COST.items():
        at_50 = 0.95 if image == CLIC else 0.98
        for method, worse in (("ssl:a=2.3", 1.0), ("atanh", 1.01)):
            factors = {0: 1.0, 50: at_50 * worse, 500: at_50 * 0.98 * worse, 2000: 0.9 * worse}
            jobs.append(job(image, method, {t: cost * factor for t, factor in factors.items()}))
            jobs[-1] = [line | {"read_off": True} for line in jobs[-1]]
        for budget, factor in ((50, 0.98 * (1 if image == CLIC else 0.98)), (2000, 0.89)):
            jobs.append(job(image, "fast", {0: cost, budget // 2: 0.97 * cost, budget: factor * cost}))
        jobs.append(job(image, "base", {0: cost}))
    return rows_of(*jobs)


def test_the_presets_settings_are_those_of_its_plans():
    table = beyond.preset_plans(plans.fast, [100, 2000])
    assert table["iterations"].tolist() == [100, 2000] and set(table["optimizer"]) == {"soap"}
    assert table["lr"].tolist() == [plans.fast(budget).lr(0, budget) for budget in (100, 2000)]
    assert table["tau_first"].tolist() == [1, 1] and table["tau_last"].tolist() == pytest.approx([0.2, 0.2])


def test_a_budget_of_the_preset_is_a_run_and_of_the_others_a_read_off(rows):
    table = beyond.budgets(rows)
    found = {name: sorted(set(group["iteration"])) for name, group in table.groupby("configuration")}
    assert found == {"fast": [50, 2000], SSL: [50, 500, 2000], "atanh (SGA)": [50, 500, 2000]}
    assert set(table.loc[table["image"] == CLIC, "data"]) == {"CLIC 2025"}
    assert set(table.loc[table["image"] == "kodim01@256", "data"]) == {"Kodak"}
    assert table.loc[table["configuration"] == "fast", "change"].max() == pytest.approx(-2)


@pytest.mark.parametrize("kept", ["fast", SSL])
def test_both_sides_are_needed(rows, kept):
    with pytest.raises(UserError, match="compares the preset with published methods: run the study"):
        beyond.budgets(rows[rows["configuration"] == kept])


def test_images_without_a_published_method_have_no_place_among_the_budgets(rows):
    alone = rows[(rows["configuration"] == "fast") & (rows["image"] == "kodim01@256")].assign(
        image="kodim07", key="x"
    )
    pd.testing.assert_frame_equal(beyond.budgets(pd.concat([rows, alone])), beyond.budgets(rows))


def curve(name: str, share: float, iterations: int, images=("a", "b")) -> list[dict]:
    """Lines of whole photographs at four λ: a share of the base's rate at the same PSNR."""
    return [
        {"configuration": name, "image": image, "lmbda": lmbda, "codec_lmbda": lmbda, "read_off": True}
        | {"bpp": share * 0.1 * 2**k, "psnr": 26 + 2.0 * k, "psnr_8bit": 26 + 2.0 * k}
        | {"iterations": iterations, "iteration": iterations}
        for image in images
        for k, lmbda in enumerate((0.001, 0.0025, 0.005, 0.01))
    ]


def test_other_rates_are_those_of_the_budget_on_photographs_that_all_have():
    published = pd.DataFrame([*curve("base", 1.0, 0, "abc"), *curve(SSL, 0.8, 500, "abc")])
    lines = [*curve("fast", 0.7, 100), *curve("fast", 0.6, 200), *curve("fast", 0.5, 100, ["a@256"])]
    found = beyond.at_other_rates(pd.DataFrame(lines), published, 100)
    assert list(found) == ["base", SSL, "fast"]
    assert {name for rows in found.values() for name in rows["image"]} == {"a", "b"}
    deltas = (
        rate_distortion.per_image(found, ["base", SSL]).groupby(["anchor", "configuration"])["bd_rate"].mean()
    )
    assert deltas["base", "fast"] == pytest.approx(-30, abs=0.1)
    assert deltas[SSL, "fast"] == pytest.approx(-12.5, abs=0.1)
    with pytest.raises(UserError, match="no whole photograph was refined with 50 iterations of fast: run"):
        beyond.at_other_rates(pd.DataFrame(lines), published, 50)


def test_files_are_compared_by_their_own_bytes_and_pictures():
    real = {"base": 1.1, SSL: 0.9, "fast": 0.7}
    lines = {name: pd.DataFrame(curve(name, 1.0, 100)) for name in real}
    rates = {name: t.assign(real_bpp=t["bpp"] * real[name]) for name, t in lines.items()}
    found = beyond.in_files(rates, ["base", SSL])
    assert found["anchor"].tolist() == ["base", SSL] and set(found["images"]) == {2}
    assert found["bd_rate"].tolist() == pytest.approx([100 * (0.7 / 1.1 - 1), 100 * (0.7 / 0.9 - 1)], abs=0.2)
    none = {name: t.assign(real_bpp=float("nan")) for name, t in lines.items()}
    assert beyond.in_files(none, ["base"]).empty and beyond.in_files(lines, ["base"]).empty


def test_equal_budgets_are_compared_on_the_same_image(rows):
    table = beyond.at_equal_budget(beyond.budgets(rows), [SSL, "atanh (SGA)"])
    assert table["data"].tolist() == ["Kodak"] * 2 + ["CLIC 2025"] * 2
    assert table["iteration"].tolist() == [50, 2000] * 2
    assert table["images"].tolist() == [2, 2, 1, 1]
    expected = [-2, 100 * (0.89 / 0.9 - 1), 100 * (0.98 / 0.95 - 1), 100 * (0.89 / 0.9 - 1)]
    assert table[SSL].tolist() == pytest.approx(expected)
    assert table["atanh (SGA)"].tolist() == pytest.approx(
        [100 * ((1 + x / 100) / 1.01 - 1) for x in expected]
    )
    assert table.loc[0, [f"{SSL}_low", f"{SSL}_high"]].tolist() == pytest.approx([-2, -2])


def test_targets_compare_few_iterations_with_many(rows):
    table = beyond.reached(beyond.budgets(rows), SSL)
    found = list(zip(table["data"], table["budget"], table["target"], strict=True))
    assert found == [(data, *pair) for data in ("Kodak", "CLIC 2025") for pair in ((50, 500), (2000, 2000))]
    assert table["change"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert table["change"].iloc[2] == pytest.approx(100 * (1 / 0.95 - 1))
    assert table["images"].tolist() == [2, 2, 1, 1]
    assert table["verdict"].tolist()[:2] == ["not significantly different", "lower"]
    with pytest.raises(UserError, match=r"no budget of the preset stands against STE"):
        beyond.reached(beyond.budgets(rows), "STE")


def test_trials_are_read_and_shown(tmp_path):
    line = {"what": "larger steps", "setting": "lr = 0.1", "budget": 100, "images": 10, "change_percent": 1.5}
    line |= {"low": 0.5, "high": 2.5, "against": "SSL(2.3) after 500", "note": "", "git_commit": "abc"}
    failed = line | {"what": "no luck", "change_percent": None, "low": None, "high": None, "note": "stopped"}
    pd.DataFrame([line, failed]).assign(device="a processor").to_csv(tmp_path / "trials.csv", index=False)
    trials = beyond.read_trials(tmp_path)
    html = tables.ci_table(trials, "fast-trials").as_raw_html()
    assert "+1.50" in html and "stopped" in html and "nan" not in html.lower()
    with pytest.raises(UserError, match=r"there is no .*trials\.csv"):
        beyond.read_trials(tmp_path / "elsewhere")


def test_the_study_has_every_target():
    for profile in load_study("fast").profiles.values():
        budgets = {grid.iterations for grid in profile.grids if "fast" in grid.methods}
        published = [grid for grid in profile.grids if "ssl:a=2.3" in grid.methods]
        assert {budget for budget, _ in beyond.TARGETS} <= budgets
        for grid in published:
            assert {t for _, t in beyond.TARGETS} <= {*grid.read_offs, grid.iterations}
            assert budgets <= {*grid.read_offs, grid.iterations}


def row(plan: plans.Plan, iterations: int = 500) -> dict:
    """A stored row."""
    specification = {name: json.dumps(value) for name, value in plan.as_dict().items()}
    return {**specification, "label": plan.label, "iterations": iterations, "iteration": iterations}


def test_configurations_in_words_and_numbers():
    changed = plans.plan("ssl:a=3", temperature=schedules.Exponential(tau_max=0.4), lr=0.02)
    three = plans.plan("three-class:base=ssl,a=1.4")
    base = replace(plans.plan("map"), label=plans.BASE)
    chosen = [row(plans.plan("ssl")), row(changed), row(base, 0), row(plans.fast(100), 100), row(three)]
    rows = pd.DataFrame(chosen)
    found = configurations.described(rows)
    assert found["configuration"].tolist() == rows["label"].tolist()
    assert found["family"].tolist() == ["ssl", "ssl", "base", "quadratic", "three-class"]
    assert found["a"].tolist()[:2] == [2.3, 3.0]
    assert found["tau_max"].iloc[1] == 0.4 and found["rate"].iloc[1] == 0.02
    assert [configurations.label(name) for name in ("ssl", "fast")] == [SSL, "fast"]
