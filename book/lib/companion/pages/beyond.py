"""The page beyond the paper: the preset `fast` against published methods at equal budget, and what else was tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from great_tables import GT
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sgaplus.errors import UserError
from sgaplus.plans import Plan

from .. import palette, pool, provenance, statistics
from . import rate_distortion
from .compute_cost import megapixels, step_seconds

PRESET = "fast"
# Budgets of the preset, and the iteration of a published method whose true loss they are to reach.
TARGETS = ((50, 500), (100, 500), (200, 2000), (400, 2000), (2000, 2000))
_TRIALS = ["what", "setting", "budget", "images", "change_percent", "low", "high", "against", "note"]
_PROVENANCE = ["git_commit", "device"]


def describe_preset(preset: Callable[[int], Plan], iterations: Sequence[int] = (25, 100, 400, 2000)) -> str:
    """In words, what a preset chooses for some budgets: a Markdown list."""
    lines = []
    for budget in iterations:
        plan = preset(budget)
        temperature, lr = plan.temperature, plan.lr
        lines.append(
            f"- {budget} iterations: {plan.method.label}, τ from {temperature(0, budget):.3g} to "
            f"{temperature(budget, budget):.3g}, learning rate from {lr(0, budget):.3g}, {plan.optimizer}."
        )
    return "\n".join(lines)


def budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """What each budget gives: the preset at the end of each of its runs, the others where they were read off.

    Args:
        rows: stored lines, as `configurations.with_arms` returns them.

    Returns:
        The rows of images on which there is a published method too, with ``data`` (Kodak or CLIC 2025) and
        ``change``, the true loss against the unrefined codec's in percent, in the order of the images. ``seconds``
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


def figure(table: pd.DataFrame) -> Figure:
    """True loss against the codec's over iterations and over seconds, a row of panels for each set of images.

    Args:
        table: `budgets`.
    """
    sets = list(dict.fromkeys(table["data"].sort_values(ascending=False)))
    looks = palette.of_arms(palette.in_order(table["arm"]))
    made, panels = plt.subplots(
        len(sets), 2, figsize=(9.5, 1.4 + 2.9 * len(sets)), layout="constrained", sharey="row", squeeze=False
    )
    for line, name in zip(panels, sets, strict=True):
        for axes, column in zip(line, ("iteration", "seconds"), strict=True):
            for arm, look in looks.items():
                own = table[(table["data"] == name) & (table["arm"] == arm)]
                means = statistics.means(own, "change", by=("iteration",)).sort_values("iteration")
                x = own.groupby("iteration")[column].mean().sort_index()
                axes.plot(x, means["mean"], **look, label=arm, linewidth=1.8, markersize=6)
                if means[["low", "high"]].notna().all(axis=None):
                    axes.fill_between(x, means["low"], means["high"], color=look["color"], alpha=0.1, lw=0)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_title(name)
        line[0].set_ylabel("true R-D loss − codec's (%)")
    panels[-1, 0].set_xlabel("iterations")
    panels[-1, 1].set_xlabel("seconds per image")
    made.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks))
    return made


def at_equal_budget(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The preset against a published method after as many iterations, on the same image.

    Args:
        table: `budgets`.
        reference: the method's arm.

    Returns:
        One row per set of images and budget: data, iteration, images, mean, low, high (percent of the true loss).
    """
    chosen = table[table["arm"].isin([PRESET, reference])]
    found = statistics.paired_means(chosen, "loss", reference, by=["data", "iteration"])
    return found.drop(columns="arm").sort_values(
        ["data", "iteration"], ascending=[False, True], ignore_index=True
    )


def reached(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The preset after few iterations against a published method after many: `TARGETS`, for those that are there.

    Returns:
        One row per set of images and target: data, budget, target, images, mean, low, high (percent of the true
        loss), and speedup, the ratio of the seconds of the two.

    Raises:
        UserError: no target has both sides.
    """
    lines = []
    for budget, target in TARGETS:
        ours = table[(table["arm"] == PRESET) & (table["iteration"] == budget)]
        theirs = table[(table["arm"] == reference) & (table["iteration"] == target)]
        for name in dict.fromkeys(table["data"].sort_values(ascending=False)):
            pair = pd.concat([side[side["data"] == name] for side in (ours, theirs)])
            if pair["arm"].nunique() < 2:
                continue
            found = statistics.paired_means(pair, "loss", reference).iloc[0]
            seconds = pair.groupby("arm")["seconds"].mean()
            lines.append(
                {"data": name, "budget": budget, "target": target}
                | found[["images", "mean", "low", "high"]].to_dict()
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
            f"no whole photograph was refined with {budget} iterations of {PRESET}: run the study fast to its end"
        )
    others = rate_distortion.select(published)
    return rate_distortion.curves(pd.concat([others[others["image"].isin(ours["image"])], ours]))


def describe_files(rates: dict[str, pd.DataFrame], anchors: Sequence[str]) -> str:
    """In words, what the preset saves in the bytes of files, at equal PSNR of the 8-bit pictures that they decode to.

    Args:
        rates: as `at_other_rates` returns them.
        anchors: the arms to compare with.
    """
    rows = pd.concat(rates.values())
    if "real_bpp" not in rows:
        return "No files are stored of these."
    rows = rows.assign(bpp=rows["real_bpp"]).dropna(subset=["bpp"])
    said = []
    for anchor in anchors:
        found = statistics.bd_summary(statistics.bd_per_image(rows, anchor, PRESET, psnr="psnr_8bit"))
        if found["images"]:
            change = statistics.interval(*(found[f"bd_rate{end}"] for end in ("", "_low", "_high")))
            said.append(
                f"**{change} %** against {anchor} ({provenance.count(found['images'], 'photograph')})"
            )
    if not said:
        return "No photograph has files at four λ of both."
    return (
        "Counted in the bytes of the files themselves, with the PSNR of the 8-bit pictures that they decode to, the "
        f"BD-rate of `{PRESET}` is {' and '.join(said)}, image by image."
    )


def budget_table(ssl: pd.DataFrame, atanh: pd.DataFrame, names: tuple[str, str]) -> GT:
    """`at_equal_budget` against two methods side by side.

    Args:
        names: the two methods, for the columns.
    """
    by = ["data", "iteration"]
    shown = ssl.merge(atanh, on=by, suffixes=("_first", "_second"))
    for side in ("first", "second"):
        columns = shown[[f"{name}_{side}" for name in ("mean", "low", "high")]]
        shown[side] = [statistics.interval(*line) for line in columns.itertuples(index=False)]
    return (
        GT(shown[[*by, "first", "second"]], rowname_col="iteration", groupname_col="data")
        .tab_stubhead("iterations")
        .tab_spanner(f"{PRESET} against", ["first", "second"])
        .cols_label(first=f"{names[0]}, % [95 %]", second=f"{names[1]}, % [95 %]")
        .cols_align("right", ["first", "second"])
        .tab_source_note("True R-D loss on the same image, mean over images with bootstrap intervals.")
        .tab_options(table_font_size="14px")
    )


def describe_reached(table: pd.DataFrame, reference: str) -> str:
    """In words, `reached`: a Markdown list; each verdict is that of the interval."""
    lines = []
    for row in table.itertuples():
        verdict = statistics.verdict(row.low, row.high)
        change = statistics.interval(row.mean, row.low, row.high)
        lines.append(
            f"- {row.data}: the true loss of `{PRESET}` after {row.budget} iterations, against that of {reference} after "
            f"{row.target}: {change} %, {verdict}, in {1 / row.speedup:.2f} times the seconds."
        )
    return "\n".join(lines)


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
    return table


def trials_table(trials: pd.DataFrame) -> GT:
    """`read_trials` as a table, a group for each yardstick and budget."""
    change = trials[["change_percent", "low", "high"]]
    group = [
        f"{row.budget} iterations, against {row.against}"
        for row in trials[["budget", "against"]].itertuples()
    ]
    shown = (
        trials[["what", "setting", "images", "note"]]
        .fillna("")
        .assign(change=[statistics.interval(*line) for line in change.itertuples(index=False)], group=group)
    )
    return (
        GT(shown[["group", "what", "setting", "images", "change", "note"]], groupname_col="group")
        .cols_label(what="tried", setting="setting", images="images", change="change, % [95 %]", note="")
        .cols_align("right", ["change"])
        .tab_source_note(
            "Paired change of the true loss, negative is better. One seed, crops of 128 × 128 pixels from photographs "
            "that are in no data set of the results and did not train the codecs."
        )
        .tab_options(table_font_size="13px")
    )


def describe_trials(trials: pd.DataFrame) -> str:
    """Where the trials come from, in a sentence."""
    commits = ", ".join(dict.fromkeys(trials["git_commit"]))
    devices = "; ".join(dict.fromkeys(trials["device"]))
    return f"<small>{len(trials)} trials, with sgaplus at git commit {commits}, on {devices}.</small>"
