"""Pages over grids of settings and over iterations: numbers, figures, tables and sentences on rows made up by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from companion import configurations, gains, statistics
from companion.pages import compute_cost, descent, grids, learning_rate, ssl_a, stability, three_class
from sgaplus import plans, rounding, schedules
from sgaplus.errors import UserError

# What the images cost in every arm; differences between arms are factors on it.
COST = {"a@100": 1.0, "b@100": 2.0, "c@100": 4.0}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def job(image: str, method: str, factors: dict[int, float], seed: int = 0, tau_max=None, rate=None, **values):
    """The lines of one job; its true loss is the image's cost, times the factor at each iteration."""
    parsed = rounding.parse(method)
    settings = plans.plan(parsed).as_dict()
    if tau_max is not None:
        settings["temperature"] = schedules.Exponential(tau_max=tau_max).as_dict()
    if rate is not None:
        settings["lr"] = schedules.Constant(rate).as_dict()
    last = max(factors)
    line = {
        "image": image,
        "image_sha256": f"sha of {image}",
        "key": f"{image} {method} {tau_max} {rate} {seed}",
        "method": json.dumps(parsed.as_dict()),
        "temperature": json.dumps(settings["temperature"]),
        "lr": json.dumps(settings["lr"]),
        "optimizer": settings["optimizer"],
        "iterations": last,
        "seed": seed,
        "lmbda": 0.01,
        "codec": "mshyper-s",
        "codec_lmbda": 0.01,
        "codec_sha256": "sha of the codec",
        "dtype": "bfloat16",
        "device": "a processor",
    } | values
    return [
        line
        | {"iteration": t, "loss": COST[image] * factor, "read_off": t in (0, last)}
        | {"seconds": 0.02 * t, "tau": np.nan if t == 0 else min(tau_max or 1, 0.6)}
        for t, factor in factors.items()
    ]


def rows_of(*jobs: list[dict]) -> pd.DataFrame:
    return configurations.with_arms(pd.DataFrame([line for lines in jobs for line in lines]))


def everywhere(method: str, factors: dict[int, float], **values) -> list[dict]:
    return [line for image in COST for line in job(image, method, factors, **values)]


# A grid of τ_max: atanh loses 10 % at 1, linear 1 % at 0.2; the mean cost of an image is 7/3.
FACTORS = {("atanh", 0.2): 0.90, ("atanh", 1.0): 0.99, ("linear", 0.2): 0.909, ("linear", 1.0): 0.90}
MEAN = 7 / 3


@pytest.fixture
def grid() -> pd.DataFrame:
    rows = rows_of(
        *(everywhere(m, {0: 1.0, 10: factor}, tau_max=tau) for (m, tau), factor in FACTORS.items()),
        everywhere("map", {0: 1.0}),
    )
    return stability.grid(rows)


def test_every_cell_of_a_grid_is_compared_with_its_methods_best(grid):
    table = grids.summary(grid, "tau_max")
    assert list(zip(table["label"], table["tau_max"], strict=True)) == [
        ("atanh (SGA)", 0.2),
        ("atanh (SGA)", 1.0),
        ("linear", 0.2),
        ("linear", 1.0),
    ]
    assert table["mean"].tolist() == pytest.approx([MEAN * factor for factor in FACTORS.values()])
    # Every image changes by the same factor: the paired intervals are points.
    for column in ("change", "change_low", "change_high"):
        assert table[column].tolist() == pytest.approx([0, 10, 1, 0])
    assert table["best"].tolist() == [True, False, False, True]
    assert table["spread"].isna().all() and (table["images"] == 3).all()


def test_the_spread_over_seeds_is_in_the_table_where_there_are_several():
    rows = rows_of(
        *(
            everywhere(method, {0: 1.0, 10: factor + 0.03 * seed}, seed=seed, tau_max=tau)
            for (method, tau), factor in FACTORS.items()
            for seed in (0, 1)
        )
    )
    table = grids.summary(stability.grid(rows), "tau_max")
    assert table["spread"].tolist() == pytest.approx([MEAN * 0.03 / np.sqrt(2)] * 4)
    html = grids.grid_table(table, "tau_max", "τ_max").as_raw_html()
    assert "SD over seeds" in html and "0.049" in html
    one = table.assign(seeds=1, spread=np.nan)
    assert "SD over seeds" not in grids.grid_table(one, "tau_max", "τ_max").as_raw_html()


def test_an_incomplete_grid_is_refused(grid):
    part = grid[~((grid["label"] == "linear") & (grid["tau_max"] == 1) & (grid["image"] == "b@100"))]
    with pytest.raises(UserError, match="linear lacks images at tau_max = 1: run the study"):
        stability.grid(part)
    with pytest.raises(UserError, match="not all rows have iteration 7: use one of 10"):
        stability.grid(grid, 7)


def test_heat_maps_have_the_numbers_in_their_cells(grid):
    table = grids.summary(grid, "tau_max")
    figure = grids.heat_maps(table, "tau_max", "τ_max")
    losses, changes = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert losses == [f"{MEAN * factor:.4f}" for factor in FACTORS.values()]
    assert changes == ["+0.00", "+10.00", "+1.00", "+0.00"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0.2", "1"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["atanh (SGA)", "linear"]


def test_the_grids_table_marks_the_best(grid):
    table = grids.summary(grid, "tau_max")
    html = grids.grid_table(table, "tau_max", "τ_max").as_raw_html()
    assert html.count(">best<") == 2 and "+10.00 [+10.00, +10.00]" in html
    bold = re.findall(r'font-weight: bold;"[^>]*>([^<]*)<', html)
    assert len(bold) == 1 and bold[0].startswith("2.1000 [")


def test_ranges_are_compared_on_the_same_images(grid):
    table = grids.ranges(grid, "tau_max")
    assert table["label"].tolist() == ["linear", "atanh (SGA)"]
    assert table["range"].tolist() == pytest.approx([0.009 * MEAN, 0.09 * MEAN])
    assert table[["best", "worst"]].to_numpy().tolist() == [[1, 0.2], [0.2, 1]]
    # A sample of images changes both ranges by the same factor, from 1 (image a alone) to 4 (image c alone).
    difference = table.iloc[1]
    assert difference["difference"] == pytest.approx(0.081 * MEAN)
    assert difference["difference_low"] == pytest.approx(0.081 * 1, rel=0.01)
    assert difference["difference_high"] == pytest.approx(0.081 * 4, rel=0.01)
    html = grids.ranges_table(table, "τ_max").as_raw_html()
    assert "0.0210 [0.0090, 0.0360]" in html and "+0.1890 [+0.0810, +0.3240]" in html
    text = grids.describe_ranges(table, "τ_max")
    assert text.startswith("Least sensitive to τ_max is **linear**") and "atanh (SGA) by +0.1890" in text
    assert "told apart" not in text
    unclear = table.assign(difference_low=[0, -0.1])
    assert "Not told apart from it: atanh (SGA)." in grids.describe_ranges(unclear, "τ_max")


def ranges_table(*lines: tuple[str, float]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["label", "difference_low"])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [("linear", 0.0), ("cosine", 0.1), ("atanh (SGA)", 0.2)],
            "linear has the smallest range, by intervals that exclude zero; atanh (SGA) has the largest, clearly above",
        ),
        (
            [("linear", 0.0), ("atanh (SGA)", -0.1), ("cosine", 0.1)],
            "linear has the smallest range, but not clearly so for all others; atanh (SGA) has not the largest, which "
            "is that of cosine",
        ),
        (
            [("cosine", 0.0), ("linear", -0.1), ("atanh (SGA)", -0.1)],
            "linear has a larger range than cosine, but the two are not told apart; atanh (SGA) has the largest, "
            "though not clearly",
        ),
        (
            [("cosine", 0.0), ("linear", 0.1), ("atanh (SGA)", 0.1)],
            "linear has a larger range than cosine, by an interval that excludes zero",
        ),
    ],
)
def test_the_claim_about_the_temperature_follows_the_ranges(lines, said):
    assert said in stability.describe_claim(ranges_table(*lines))


def test_temperatures_that_never_fell_are_named(grid):
    """Rows made above have min(τ_max, 0.6) at iteration 10."""
    text = stability.describe_schedule(grid)
    assert "in the runs with τ_max = 0.2 (all others have come to 0.600)" in text
    fallen = grid.assign(tau=0.1)
    assert "every run has left its τ_max" in stability.describe_schedule(fallen)


# The learning rate


@pytest.fixture
def rates() -> pd.DataFrame:
    return rows_of(
        everywhere("atanh", {0: 1.0, 5: 0.95, 10: 0.90}, rate=0.005),
        everywhere("atanh", {0: 1.0, 5: 0.91, 10: 0.99}, rate=0.02),
        everywhere("ssl", {0: 1.0, 5: 0.80, 10: 0.81}, rate=0.005),
        everywhere("ssl", {0: 1.0, 5: 0.91, 10: 0.81}, rate=0.02),
    )


def test_learning_rates_have_a_panel_each_and_methods_a_line(rates):
    figure = learning_rate.curves(rates)
    assert [axes.get_title() for axes in figure.axes] == ["learning rate 0.005", "learning rate 0.02"]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[1].lines}
    assert drawn["atanh (SGA)"] == pytest.approx([0, -9, -1]) and drawn["SSL (a = 2.3)"] == pytest.approx(
        [0, -9, -19]
    )


def test_methods_are_compared_at_the_same_rate(rates):
    table = learning_rate.between(learning_rate.grid(rates), "atanh (SGA)")
    assert table["mean"].tolist() == pytest.approx([100 * (0.81 / 0.9 - 1), 100 * (0.81 / 0.99 - 1)])
    lines = learning_rate.describe_between(table, "atanh (SGA)").splitlines()
    assert lines[0].endswith("−10.00 [−10.00, −10.00] %, lower.") and "0.02" in lines[1]
    early = learning_rate.between(learning_rate.grid(rates, 5), "atanh (SGA)")
    assert (
        learning_rate.describe_between(early, "atanh (SGA)")
        .splitlines()[1]
        .endswith("not significantly different.")
    )
    worse = early.assign(low=1.0, high=2.0)
    assert "higher." in learning_rate.describe_between(worse, "atanh (SGA)")


def test_the_best_rate_of_each_method_is_named(rates):
    text = learning_rate.describe_best(grids.summary(learning_rate.grid(rates), "rate"))
    assert "- atanh (SGA): the lowest true loss is at 0.005; 0.02 costs +10.00 [+10.00, +10.00] %." in text


# SSL's a


def test_ssl_meets_other_methods_where_the_formulas_say():
    table = ssl_a.likeness().set_index("label")
    assert table.loc["linear", "a"] == pytest.approx(1, abs=1e-4) and table.loc["linear", "distance"] < 1e-4
    assert table.loc["cosine", "a"] == pytest.approx(1.6, abs=0.03)
    assert table.loc["atanh (SGA)", "a"] == pytest.approx(0.63, abs=0.01)
    text = ssl_a.describe_likeness(table.reset_index())
    assert "linear at a = 1 (the same function)" in text and "atanh (SGA) at a = 0.631 (p differs by" in text


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
    assert late["a"].tolist() == [0.5, 2.3, 10] and late["change"].tolist() == pytest.approx([10, 0, 5])
    assert late["change_low"].tolist() == pytest.approx([10, 0, 5])
    with pytest.raises(UserError, match=r"no row has a = 3: use one of 0\.5, 2\.3, 10"):
        ssl_a.over_a(slopes, 3, [10])
    figure = ssl_a.slopes(table, 2.3, ssl_a.likeness())
    whole, part = figure.axes
    drawn = {tuple(line.get_xdata()): line.get_ydata() for line in whole.lines if len(line.get_xdata()) == 3}
    assert drawn[(0.5, 2.3, 10)] == pytest.approx([10, 0, 5]) and whole.get_xscale() == "log"
    assert [text.get_text() for text in whole.texts] == ["≈ atanh (SGA)", "= linear", "≈ cosine"]
    assert not part.texts and all(min(line.get_xdata()) != 0.5 for line in part.lines)
    html = ssl_a.slopes_table(table, 2.3).as_raw_html()
    assert "+10.00 [+10.00, +10.00]" in html and html.count(">–<") == 2
    bold = re.findall(r'font-weight: bold;"[^>]*>([^<]*)<', html)
    assert set(bold) == {f"{0.93 * MEAN:.4f}", f"{0.80 * MEAN:.4f}"}


def test_the_optimum_is_interior_only_where_both_ends_are_worse(slopes):
    late, early = ssl_a.against_best(slopes, 10), ssl_a.against_best(slopes, 5)
    assert late["mean"].tolist() == pytest.approx([10, 0, 5]) and ssl_a.is_interior(late)
    assert not ssl_a.is_interior(early), "the best a is at an end"
    unclear = late.assign(low=[9.0, 0.0, -1.0])
    assert not ssl_a.is_interior(unclear)
    text = ssl_a.describe_optimum(late, 10)
    assert "that of a = 2.3;" in text and text.endswith("the optimum is an interior one.")
    text = ssl_a.describe_optimum(unclear, 10)
    assert "not shown to be an interior one" in text and text.endswith(
        "Not told apart from the best: a = 10."
    )
    assert "moves down from a = 10 to a = 2.3" in ssl_a.describe_shift(slopes, 5, 10)
    with pytest.raises(UserError, match="at least three"):
        ssl_a.against_best(slopes[slopes["a"] < 10], 10)


# Three classes


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
    assert three_class.pairs(rows) == [LINEAR, SSL] and set(rows["arm"]) == {*LINEAR, *SSL}
    assert descent.marks(rows) == [25, 100, 200]
    table = three_class.against_two_classes(rows, [25, 100, 200])
    found = {
        (two, t): mean
        for two, t, mean in table[["two", "iteration", "mean"]].itertuples(index=False, name=None)
    }
    assert found["linear", 100] == pytest.approx(-10) and found["linear", 200] == pytest.approx(0)
    assert found["SSL (a = 2.3)", 100] == pytest.approx(10)
    lines = three_class.describe_early(table, 100).splitlines()
    assert (
        "**faster early**" in lines[0]
        and "−10.00 [−10.00, −10.00] % after 100" in lines[0]
        and "200" not in lines[0][:90]
    )
    assert "**slower early**" in lines[1] and lines[1].endswith(
        "After 200 iterations +10.00 [+10.00, +10.00] %: higher."
    )
    assert "**no difference shown early**" in three_class.describe_early(table, 25).splitlines()[1]
    with pytest.raises(UserError, match="no iteration 50: use one of 25, 100, 200"):
        three_class.describe_early(table, 50)


def test_only_images_with_all_arms_are_compared(classes):
    lacking = classes[~((classes["arm"] == SSL[1]) & (classes["image"] == "b@100"))]
    rows = three_class.select(lacking, 0.01)
    assert set(rows["image"]) == {"a@100", "c@100"}
    assert three_class.describe_selection(rows).startswith("Shown are the 2 images")
    with pytest.raises(UserError, match=r"at lambda 0\.03: use one of 0\.01, 0\.02"):
        three_class.select(classes, 0.03)
    with pytest.raises(UserError, match="no three-class method is stored"):
        three_class.select(classes[~classes["arm"].isin([LINEAR[1], SSL[1]])], 0.01)


def test_figures_of_the_classes(classes):
    rows = three_class.select(classes, 0.01)
    figure = three_class.curves(rows)
    first, second = figure.axes
    assert [line.get_ydata().tolist() for line in first.lines] == [
        pytest.approx([0, 0, -10, -20]),
        pytest.approx([0, -1, -19, -20]),
    ]
    names = [text.get_text() for text in second.get_legend().get_texts()]
    assert names == ["SSL (a = 2.3)", "three classes\n(a = 1.4, r = 0.933, n = 1.5)"]
    table = three_class.against_two_classes(rows, [25, 100, 200])
    figure = three_class.differences(table)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert drawn["linear: three classes against two"] == pytest.approx([-1, -10, 0], abs=1e-9)
    assert drawn["SSL (a = 1.4) with three classes against SSL (a = 2.3)"] == pytest.approx(
        [0, 10, 10], abs=1e-9
    )
    html = three_class.differences_table(table).as_raw_html()
    bold = re.findall(r'font-weight: bold;"[^>]*>([^<]*)<', html)
    assert [text.split(" ")[0] for text in bold] == ["−1.00", "−10.00", "+0.00"]


def test_without_the_third_class_the_sharpness_is_that_of_ssl(classes):
    """At r = 1, n·log f has the probabilities of the two-class method that the page names."""
    v = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    found = three_class.sharpness(three_class.select(classes, 0.01))
    assert found == pytest.approx({LINEAR[1]: 1.5, SSL[1]: 2.1})
    for base, n, two in (
        (rounding.Linear(), 1.5, rounding.SSL(1.5)),
        (rounding.SSL(1.4), 1.5, rounding.SSL(2.1)),
        (rounding.Cosine(), 2.0, rounding.Cosine()),
    ):
        three = rounding.ThreeClass(base, r=1.0, n=n)
        up = torch.where(three.classes(v) == 1, three.probabilities(v), 0).sum(-1)
        assert torch.allclose(up, two.probabilities(v)[:, 1], atol=1e-6)


def test_three_classes_are_held_against_ssl_of_the_same_sharpness(classes):
    rows = three_class.select(classes, 0.01)
    over_a = rows_of(
        everywhere("ssl:a=1", {0: 1.0, 100: 0.9}),
        everywhere("ssl:a=1.6", {0: 1.0, 100: 0.75}),
        everywhere("ssl:a=3", {0: 1.0, 100: 0.8}),
    )
    table = three_class.against_sharpness(rows, over_a, 100)
    linear = table[table["three"] == LINEAR[1]]
    assert linear["ssl"].tolist() == [1, 1.6] and linear["mean"].tolist() == pytest.approx([-10, 8])
    ssl = table[table["three"] == SSL[1]]
    assert ssl["ssl"].tolist() == [1.6, 3] and (ssl["mean"] > 0).all()
    lines = three_class.describe_sharpness(table, 100).splitlines()
    assert "would be SSL with a = 1.5 at r = 1" in lines[0] and "it lies between the two" in lines[0]
    assert "it does not lie between two" in lines[1]
    other = over_a.assign(codec_sha256="another")
    assert three_class.against_sharpness(rows, other, 100).empty
    assert three_class.describe_sharpness(three_class.against_sharpness(rows, other, 100), 100).startswith(
        "No SSL"
    )


# What a gain costs


@pytest.fixture
def traced() -> pd.DataFrame:
    """SSL gains 4 % by 10 steps and 8 % by 40, STE 1 % and 2 %; a step of 10⁴ pixels takes 0.02 s."""
    return rows_of(
        everywhere("ssl", {0: 1.0, 10: 0.96, 40: 0.92}),
        everywhere("ste", {0: 1.0, 10: 0.99, 40: 0.98}),
        everywhere("map", {0: 1.0}),
    )


def test_gains_and_their_shares(traced):
    table = gains.over_iterations(traced, [10, 40])
    assert table["arm"].tolist() == ["SSL (a = 2.3)"] * 2 + ["STE"] * 2
    assert table["gain"].tolist() == pytest.approx([4, 8, 1, 2])
    assert table["share"].tolist() == pytest.approx([0.5, 1, 0.5, 1])
    assert table["share_low"].tolist() == pytest.approx([0.5, 1, 0.5, 1])
    with pytest.raises(UserError, match="not all rows have iteration 20: use some of 10, 40"):
        gains.over_iterations(traced, [20, 40])
    assert (
        gains.describe_shares(table)
        == "The most is gained by SSL (a = 2.3): 8.00 [8.00, 8.00] % after 40 iterations, 50 % of that after 10."
    )
    html = gains.gains_table(table).as_raw_html()
    bold = re.findall(r'font-weight: bold;"[^>]*>([^<]*)<', html)
    assert [text.split(" ")[0] for text in bold] == ["4.00", "8.00"]
    assert gains.shares_table(table).as_raw_html().count("50 [50,") == 2


def test_levels_are_reached_between_the_traced_iterations(traced):
    table = compute_cost.levels(traced, [2, 6]).set_index(["level", "arm"])["iterations"]
    assert table[2, "SSL (a = 2.3)"] == pytest.approx(5) and table[6, "SSL (a = 2.3)"] == pytest.approx(25)
    assert table[2, "STE"] == pytest.approx(40) and table[6, "STE"] == np.inf


def test_seconds_are_per_megapixel_and_step(traced):
    steps = compute_cost.step_seconds(traced)
    # 0.02 s a step for 100 × 100 pixels.
    assert steps["seconds"].tolist() == pytest.approx([2, 2]) and steps["jobs"].tolist() == [3, 3]
    assert compute_cost.megapixels("kodim05") == pytest.approx(0.393216)
    with pytest.raises(UserError, match="the size of photo is not known"):
        compute_cost.megapixels("photo")


@pytest.fixture
def measured() -> pd.DataFrame:
    """Two sizes of pictures in bfloat16, one of them compiled too, and one in float32, as `speed.load` returns them."""
    return pd.DataFrame(
        {
            "place": "a machine; N = 128, M = 192",
            "N": 128,
            "M": 192,
            "dtype": ["bfloat16", "bfloat16", "float32", "bfloat16"],
            "compiled": [False, False, False, True],
            "ours_seconds": [0.4, 1.2, 9.0, 0.1],
            "megapixels": [1.0, 2.0, 1.0, 1.0],
        }
    )


def test_costs_have_a_column_for_each_place(traced, measured):
    quiet = compute_cost.quiet_seconds(measured, "bfloat16")
    assert quiet[["seconds", "least", "most"]].to_numpy().tolist() == [pytest.approx([0.5, 0.4, 0.6])]
    with pytest.raises(UserError, match="no step was measured in float16"):
        compute_cost.quiet_seconds(measured, "float16")
    steps = compute_cost.step_seconds(traced)
    table = compute_cost.costs(compute_cost.levels(traced, [2, 6, 9]), steps, quiet)
    first = table.iloc[0]
    assert first["stored"] == pytest.approx(10) and first["a machine; N = 128, M = 192"] == pytest.approx(2.5)
    html = compute_cost.costs_table(table, 40).as_raw_html()
    assert html.count("> 40") + html.count("&gt; 40") == 3 and "a machine; N = 128, M = 192" in html
    lines = compute_cost.describe_costs(table, 40).splitlines()
    assert (
        lines[0]
        == "- 2 %: SSL (a = 2.3) needs 5 iterations, 10 s per megapixel as stored; next is STE with 40."
    )
    assert lines[1].endswith("as stored; not reached by STE.")
    assert lines[2] == "- 9 %: not reached by any method within 40 iterations."
    text = compute_cost.describe_seconds(steps, quiet, traced)
    assert "do not tell which method's step is cheaper" in text
    assert "N = 128 and M = 192, while `mshyper-s` has N = 64 and M = 192" in text
    same = compute_cost.describe_seconds(steps, quiet.assign(N=64), traced)
    assert "while" not in same
    faster = steps.assign(seconds=[1.0, 2.0])
    assert "do not tell" not in compute_cost.describe_seconds(faster, quiet, traced)


def test_the_cost_figure_shows_gains_over_steps_and_seconds(traced):
    figure = compute_cost.curves(traced, compute_cost.step_seconds(traced))
    left, right = figure.axes
    assert left.lines[0].get_xdata().tolist() == [0, 10, 40]
    assert left.lines[0].get_ydata().tolist() == pytest.approx([0, 4, 8])
    assert right.lines[0].get_xdata().tolist() == pytest.approx([20, 80]) and right.get_xscale() == "log"
    assert right.lines[0].get_ydata().tolist() == pytest.approx([4, 8])


# What they share


def test_iterations_that_not_all_have_are_left_out():
    rows = rows_of(everywhere("ssl", {0: 1.0, 5: 0.9, 10: 0.8}), everywhere("atanh", {0: 1.0, 10: 0.8}))
    assert descent.iterations_of(rows) == [10] and set(descent.at(rows, None)["iteration"]) == {10}
    with pytest.raises(UserError, match="run the study to its end"):
        descent.iterations_of(rows[rows["iteration"] == 0])


def test_an_interval_of_samples_may_be_infinite():
    values = np.array([5.0, *([4.0] * 50), *([np.inf] * 50)])
    found = statistics.with_interval("x", values)
    assert found == {"x": 5.0, "x_low": 4.0, "x_high": np.inf}
