"""The page beyond the paper: the preset `fast` against published methods at equal budget, and what else was
tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError
from sgaplus.plans import Plan

from .. import figures, palette, pool, statistics
from ..tables import Col
from . import rate_distortion
from .compute_cost import megapixels, step_seconds

PRESET = "fast"
# Budgets of the preset, and the iteration of a published method whose true loss they are to reach.
TARGETS = ((50, 500), (100, 500), (200, 2000), (400, 2000), (2000, 2000))
_TRIALS = ["what", "setting", "budget", "images", "change_percent", "low", "high", "against", "note"]
_PROVENANCE = ["git_commit", "device"]
# How the columns of `preset_plans`, `reached`, `in_files` and `read_trials` are shown.
PLANS = {
    "method": "loss",
    "tau_first": Col("first", 3, significant=True, under="temperature τ"),
    "tau_last": Col("last", 3, significant=True, under="temperature τ"),
    "lr": Col("first learning rate", 3, significant=True),
    "optimizer": "optimiser",
}
REACHED = {
    "budget": f"iterations of {PRESET}",
    "target": "of the published method",
    "images": "images",
    "mean": Col("change of the true loss, %", 2, sign=True, ends=("low", "high")),
    "verdict": "true loss",
    "speedup": Col(f"seconds, published method / {PRESET}", 1),
}
FILES = {"images": "photographs", "bd_rate": Col("BD-rate in the bytes of files, %", 1, sign=True)}
TRIALS = {
    "what": "tried",
    "setting": "setting",
    "images": "images",
    "change_percent": Col("change of the true loss, %", 2, sign=True, ends=("low", "high")),
    "note": "note",
}


def preset_plans(
    preset: Callable[[int], Plan], iterations: Sequence[int] = (25, 100, 400, 2000)
) -> pd.DataFrame:
    """A preset's choices for some budgets: iterations, method, tau_first, tau_last, lr (first), optimizer."""
    lines = []
    for budget in iterations:
        plan = preset(budget)
        taus = {"tau_first": plan.temperature(0, budget), "tau_last": plan.temperature(budget, budget)}
        line = {"iterations": budget, "method": plan.method.label, **taus, "lr": plan.lr(0, budget)}
        lines.append(line | {"optimizer": plan.optimizer})
    return pd.DataFrame(lines)


def budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """What each budget gives: the preset at the end of each of its runs, the others where they were read off.

    Args:
        rows: stored lines, as `configurations.with_arms` returns them.

    Returns:
        The rows of images on which there is a published method too, with ``data`` (Kodak or CLIC 2025) and
        ``change``, the true loss against the unrefined codec's in percent, in the order of the images.
        ``seconds``
        are iterations times the time of a step in the fastest run of the arm: what else the machine does only
        makes a run slower.

    Raises:
        UserError: the preset or every published method is missing.
    """
    rows = rows[rows["image"].isin(rows.loc[rows["arm"] != PRESET, "image"])]
    refined = rows[(rows["iterations"] > 0) & rows["read_off"]]
    start = refined[refined["iteration"] == 0].set_index("key")["loss"]
    at_end = refined["iteration"] == refined["iterations"]
    shown = refined[(refined["iteration"] > 0) & ((refined["arm"] != PRESET) | at_end)]
    if set(shown["arm"] == PRESET) != {True, False}:
        raise UserError("the page compares the preset with published methods: run the study fast to its end")
    names = pool.with_scope(shown)["dataset"].map(palette.dataset)
    change = 100 * (shown["loss"] / shown["key"].map(start) - 1)
    step = step_seconds(rows).set_index("arm")["least"]
    seconds = shown["iteration"] * shown["arm"].map(step) * shown["image"].map(megapixels)
    shown = shown.assign(data=names, change=change, seconds=seconds)
    return shown.sort_values(["image", "iteration"], ignore_index=True)


def _sets(table: pd.DataFrame) -> list[str]:
    """The data sets of `budgets`, Kodak first."""
    return sorted(table["data"].unique(), reverse=True)


def figure(table: pd.DataFrame) -> Figure:
    """True loss against the codec's over iterations and over seconds, a row of panels for each set of images.

    Args:
        table: `budgets`.
    """
    by = ["data", "arm", "iteration"]
    means = statistics.means(table, "change", by).join(table.groupby(by)["seconds"].mean(), on=by)

    def draw(axes: Axes, part: tuple[str, str]) -> None:
        name, x = part
        figures.bands(axes, means[means["data"] == name], x, "mean", ends=("low", "high"))
        axes.set(xscale="log", xlabel="iterations" if x == "iteration" else "seconds per image")
        figures.plain_numbers(axes.xaxis)

    columns = {"iterations": "iteration", "seconds": "seconds"}
    parts = {f"{name}, by {text}": (name, x) for name in _sets(table) for text, x in columns.items()}
    label = "true R-D loss − codec's (%)"
    return figures.panels(parts, draw, ylabel=label, columns=2, size=(4.2, 3.1), sharey="row")


def at_equal_budget(
    table: pd.DataFrame, references: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Col | str]]:
    """The preset against published methods after as many iterations, on the same image.

    Args:
        table: `budgets`.
        references: the methods' arms.

    Returns:
        One row per set of images and budget: data, iteration, images, and under each reference's name the
        mean change of the true loss in percent, with ``_low`` and ``_high``; and how the columns are shown.
    """
    by, parts = ["data", "iteration"], []
    for name in references:
        chosen = table[table["arm"].isin([PRESET, name])]
        found = statistics.paired_means(chosen, "loss", name, by=by).set_index([*by, "images"])
        ends = {"mean": name, "low": f"{name}_low", "high": f"{name}_high"}
        parts.append(found[list(ends)].rename(columns=ends))
    found = pd.concat(parts, axis=1).reset_index()
    shown = {name: Col(f"{name}, %", 2, sign=True, under=f"{PRESET} against") for name in references}
    return found.sort_values(by, ascending=[False, True], ignore_index=True), {"images": "images"} | shown


def reached(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The preset after few iterations against a published method after many: `TARGETS`, for those that are
    there.

    Returns:
        One row per set of images and target: data, budget, target, images, mean, low, high (percent of the
        true loss), verdict, and speedup, the ratio of the seconds of the two.

    Raises:
        UserError: no target has both sides.
    """
    lines = []
    for name in _sets(table):
        for budget, target in TARGETS:
            at = {PRESET: budget, reference: target}
            pair = table[(table["data"] == name) & (table["arm"].map(at) == table["iteration"])]
            if pair["arm"].nunique() < 2:
                continue
            found = statistics.paired_means(pair, "loss", reference).drop(columns="arm").to_dict("records")[0]
            seconds = pair.groupby("arm")["seconds"].mean()
            lines.append(
                {"data": name, "budget": budget, "target": target, **found}
                | {"verdict": statistics.verdict(found["low"], found["high"])}
                | {"speedup": float(seconds[reference] / seconds[PRESET])}
            )
    if not lines:
        raise UserError(f"no budget of the preset stands against {reference}: run the study fast to its end")
    return pd.DataFrame(lines)


def at_other_rates(rows: pd.DataFrame, published: pd.DataFrame, budget: int) -> dict[str, pd.DataFrame]:
    """Rate-distortion curves of the preset on whole photographs beside those of published methods.

    Args:
        rows: stored lines of the preset, as `configurations.with_arms` returns them.
        published: those of the other methods and of the base; their last iteration counts.
        budget: the preset's.

    Returns:
        `rate_distortion.curves` on the images that all of them have.

    Raises:
        UserError: there is no such budget of the preset, or the curves have no image in common.
    """
    ended = (rows["iterations"] == budget) & (rows["iteration"] == budget)
    ours = rows[(rows["arm"] == PRESET) & ended & ~rows["image"].str.contains("@")]
    if ours.empty:
        raise UserError(
            f"no whole photograph was refined with {budget} iterations of {PRESET}: run the study fast to"
            " its end"
        )
    others = rate_distortion.select(published)
    return rate_distortion.curves(pd.concat([others[others["image"].isin(ours["image"])], ours]))


def in_files(rates: dict[str, pd.DataFrame], anchors: Sequence[str]) -> pd.DataFrame:
    """What the preset saves in the bytes of files, at equal PSNR of the 8-bit pictures that they decode to.

    Args:
        rates: as `at_other_rates` returns them.
        anchors: the arms to compare with.

    Returns:
        One row per anchor that has files at four λ: anchor and the entries of `statistics.bd_summary`, image
        by image.
    """
    rows = pd.concat(rates.values())
    rows = rows.assign(bpp=rows.get("real_bpp")).dropna(subset=["bpp"])
    found = [
        {"anchor": name}
        | statistics.bd_summary(statistics.bd_per_image(rows, name, PRESET, psnr="psnr_8bit"))
        for name in anchors
    ]
    return pd.DataFrame([line for line in found if line["images"]])


def read_trials(folder: str | Path) -> pd.DataFrame:
    """What was tried on the way, from ``trials.csv``: one row per trial.

    ``change_percent`` with low and high is the mean paired change of the true loss against what ``against``
    says, negative being better.

    Raises:
        UserError: there is no such file, or a column is missing.
    """
    path = Path(folder) / "trials.csv"
    if not path.is_file():
        raise UserError(f"there is no {path}: name the folder that holds trials.csv")
    table = pd.read_csv(path)
    if missing := [name for name in [*_TRIALS, *_PROVENANCE] if name not in table]:
        raise UserError(f"{path} lacks the column {missing[0]}")
    return table.fillna({"note": ""})
