"""The page beyond the paper: the preset `fast` against published methods, and what else was tried."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError
from sgaplus.plans import Plan

from .. import figures, palette, pool, statistics
from . import descent, rate_distortion

PRESET = "fast"
# Budgets of the preset, and the iteration of a published method whose true loss they are to reach.
TARGETS = ((25, 500), (50, 500), (100, 2000), (400, 2000), (2000, 2000))


def preset_plans(
    preset: Callable[[int], Plan], iterations: Sequence[int] = (10, 25, 100, 2000)
) -> pd.DataFrame:
    """A preset's choices for some budgets: iterations and the table ``fast-plans``."""
    lines = []
    for budget in iterations:
        plan = preset(budget)
        taus = {"tau_first": plan.temperature(0, budget), "tau_last": plan.temperature(budget, budget)}
        line = {"iterations": budget, "method": plan.method.label, **taus, "lr": plan.lr(0, budget)}
        lines.append(line | {"optimizer": plan.optimizer})
    return pd.DataFrame(lines)


def budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """What each budget gives on images on which there is a published method too: the preset at the end of
    each of its runs, the others where they were read off; with ``data`` (Kodak or CLIC 2025) and ``change``,
    the true loss against the unrefined codec's in percent."""
    published = rows["configuration"] != PRESET
    rows = rows[rows["image"].isin(rows.loc[published, "image"])]
    table = descent.changes(rows[rows["read_off"]])
    at_end = table["iteration"] == table["iterations"]
    published = table["configuration"] != PRESET
    shown = table[(table["iteration"] > 0) & (published | at_end)]
    if set(shown["configuration"] == PRESET) != {True, False}:
        raise UserError("the page compares the preset with published methods: run the study fast to its end")
    return shown.assign(data=pool.with_scope(shown)["dataset"].map(palette.dataset)).reset_index(drop=True)


def _sets(table: pd.DataFrame) -> list[str]:
    """The data sets of `budgets`, Kodak first."""
    return sorted(table["data"].unique(), reverse=True)


def figure(table: pd.DataFrame) -> Figure:
    """True loss of `budgets` against the codec's over iterations, a panel for each data set."""
    means = statistics.means(table, "change", ["data", "configuration", "iteration"])

    def draw(axes: Axes, name: str) -> None:
        figures.lines(axes, means[means["data"] == name], "iteration", "change")
        axes.set(xscale="log", xlabel="iterations")
        figures.plain_numbers(axes.xaxis)

    label = "true R-D loss − base's (%)"
    return figures.panels({name: name for name in _sets(table)}, draw, ylabel=label, size=(4.2, 3.6))


def at_equal_budget(table: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """By data set and budget in `budgets`, the mean change of the preset's true loss in percent from each
    published method's after as many iterations, under its name with the interval."""
    by, parts = ["data", "iteration"], []
    for name in references:
        chosen = table[table["configuration"].isin([PRESET, name])]
        found = statistics.paired_means(chosen, "loss", name, by).set_index([*by, "images"])
        ends = {f"change{end}": f"{name}{end}" for end in ("", "_low", "_high")}
        parts.append(found[list(ends)].rename(columns=ends))
    found = pd.concat(parts, axis=1).reset_index()
    return found.sort_values(by, ascending=[False, True], ignore_index=True)


def reached(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """By data set and `TARGETS`: the preset after few iterations against a published method after many."""
    lines = []
    for name, (budget, target) in itertools.product(_sets(table), TARGETS):
        at = {PRESET: budget, reference: target}
        pair = table[(table["data"] == name) & (table["configuration"].map(at) == table["iteration"])]
        if pair["configuration"].nunique() == 2:
            found = statistics.paired_means(pair, "loss", reference).drop(columns="configuration")
            lines.append(found.assign(data=name, budget=budget, target=target))
    if not lines:
        raise UserError(f"no budget of the preset stands against {reference}: run the study fast to its end")
    return pd.concat(lines, ignore_index=True)


def at_other_rates(rows: pd.DataFrame, published: pd.DataFrame, budget: int) -> rate_distortion.Curves:
    """Curves of the preset after ``budget`` iterations on whole photographs, and of ``published`` methods and
    the base on those, at the iteration of which there are files."""
    ended = (rows["iterations"] == budget) & (rows["iteration"] == budget)
    ours = rows[(rows["configuration"] == PRESET) & ended & ~rows["image"].str.contains("@")]
    if ours.empty:
        raise UserError(
            f"no whole photograph was refined with {budget} iterations of {PRESET}: run the study fast to"
            " its end"
        )
    named = published[published["iterations"] > 0].reindex(columns=["iteration", "stream"]).dropna()
    last = int(named["iteration"].max()) if len(named) else None
    others = rate_distortion.select(published, iteration=last)
    return rate_distortion.curves(pd.concat([others[others["image"].isin(ours["image"])], ours]))


def in_files(rates: rate_distortion.Curves, anchors: Sequence[str]) -> pd.DataFrame:
    """What the preset saves in the bytes of files, at equal PSNR of the 8-bit pictures that they decode to:
    `statistics.bd_summary` by anchor that has files at four λ."""
    rows = pd.concat(rates.values())
    rows = rows.assign(bpp=rows.get("real_bpp")).dropna(subset=["bpp"])
    found = [
        {"anchor": name} | statistics.bd_summary(statistics.bd_per_image(rows, name, PRESET, "psnr_8bit"))
        for name in anchors
        if {name, PRESET} <= set(rows["configuration"])
    ]
    return pd.DataFrame([line for line in found if line["images"]])


def read_trials(folder: str | Path) -> pd.DataFrame:
    """What was tried on the way, from ``trials.csv``: mean paired changes of the true loss."""
    path = Path(folder) / "trials.csv"
    if not path.is_file():
        raise UserError(f"there is no {path}: name the folder that holds trials.csv")
    ends = {end: f"change_percent_{end}" for end in ("low", "high")}
    return pd.read_csv(path).rename(columns=ends).fillna({"note": ""})
