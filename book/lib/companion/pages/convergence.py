"""Convergence over the iterations (paper, Figure 2): curves, what they come to, how fast and how smoothly.

A *traced* iteration is one at which the true loss was computed. The *gap* of a method is its own loss, that
of the relaxed latents, minus the true loss of the same latents rounded hard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from great_tables import GT, loc, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import palette, statistics
from ..statistics import interval

_PANELS = {
    "delta_loss": ("true R-D loss − codec's", "loss"),
    "gap": ("method's loss − true loss", None),
    "delta_psnr": ("PSNR − codec's (dB)", "psnr"),
    "delta_bpp": ("bpp − codec's", "bpp"),
}


def traces(rows: pd.DataFrame, lmbda: float | None = None) -> pd.DataFrame:
    """The refined arms' lines at one λ.

    Args:
        rows: as `analysis.arms.with_arms` returns them.
        lmbda: of the refinement and of the codec; not needed where there is one only.

    Raises:
        UserError: several λ and none chosen, or nothing was refined at it.
    """
    refined = rows[(rows["iterations"] > 0) & (rows["lmbda"] == rows["codec_lmbda"])]
    known = sorted(refined["lmbda"].unique())
    if lmbda is None and len(known) == 1:
        lmbda = known[0]
    chosen = refined[refined["lmbda"] == lmbda]
    if chosen.empty:
        raise UserError(
            f"convergence is shown at one lambda: use one of {', '.join(f'{value:g}' for value in known)}"
            if known
            else "these rows hold no refinement: run the study to its end"
        )
    return chosen.reset_index(drop=True)


def figure(trace: pd.DataFrame, by: str = "arm") -> Figure:
    """True loss, discretisation gap, PSNR and rate over iterations, mean over images (paper, Figure 2).

    Values are differences from the codec's own (iteration 0) except for the gap, so that the bands, 95 %
    bootstrap intervals over images, show the spread of the gain and not that of the images. The scales at the
    right say the means themselves.

    Args:
        trace: `traces`, or `Run.trace` of one or several methods, concatenated.
        by: the column that names the curves.
    """
    table = _from_start(trace, by)
    start = trace[trace["iteration"] == 0].drop_duplicates("image")
    looks = palette.of_arms(palette.in_order(table[by]))
    canvas, grid = plt.subplots(2, 2, figsize=(9.5, 6.8), layout="constrained", sharex=True)
    for axes, (column, (label, whole)) in zip(grid.flat, _PANELS.items(), strict=True):
        for name, look in looks.items():
            _mean_with_band(axes, table[table[by] == name], column, look, name)
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_ylabel(label)
        if whole:
            mean = start[whole].mean()
            scale = axes.secondary_yaxis(
                "right", functions=(lambda v, m=mean: v + m, lambda v, m=mean: v - m)
            )
            scale.tick_params(labelsize="small", colors="0.4")
    for axes in grid[1]:
        axes.set_xlabel("iteration")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    return canvas


def _from_start(trace: pd.DataFrame, by: str) -> pd.DataFrame:
    """One line per curve, image and iteration, mean over seeds: the gap and the differences from iteration 0."""
    table = trace.assign(gap=trace["method_loss"] - trace["loss"])
    table = statistics.over_seeds(table, ["loss", "psnr", "bpp", "gap"], [by, "iteration"])
    start = table[table["iteration"] == 0].set_index([by, "image"])
    index = pd.MultiIndex.from_frame(table[[by, "image"]])
    differences = {
        f"delta_{name}": table[name] - start[name].reindex(index).to_numpy()
        for name in ("loss", "psnr", "bpp")
    }
    return table.assign(**differences, start=start["loss"].reindex(index).to_numpy())


def _mean_with_band(axes: Axes, table: pd.DataFrame, column: str, look: dict, label: str) -> None:
    found = statistics.means(table.dropna(subset=[column]), column, by=["iteration"])
    axes.plot(found["iteration"], found["mean"], **look | {"marker": None}, label=label, linewidth=1.8)
    if found["low"].notna().all():
        band = found["iteration"], found["low"], found["high"]
        axes.fill_between(*band, color=look["color"], alpha=0.12, linewidth=0)


def differences_figure(trace: pd.DataFrame, reference: str) -> Figure:
    """True loss of every arm minus that of one arm on the same image and iteration, in percent of the latter.

    Args:
        trace: as `traces` returns it.
        reference: the arm that is the line at zero.

    Raises:
        UserError: there is no such arm, or no other.
    """
    table = statistics.paired(trace, "loss", reference, by=["iteration"])
    looks = palette.of_arms(palette.in_order([reference, *table["arm"]]))
    canvas, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name in palette.in_order(table["arm"]):
        _mean_with_band(axes, table[table["arm"] == name], "change", looks[name], name)
    axes.axhline(0, color=looks[reference]["color"], linewidth=1.4, label=reference)
    axes.set(xlabel="iteration", ylabel=f"true loss against\n{reference} (%)")
    canvas.legend(loc="outside upper center", ncols=4)
    return canvas


def at_end(trace: pd.DataFrame) -> pd.DataFrame:
    """What the curves come to, one line per arm in the book's order.

    Args:
        trace: as `traces` returns it.

    Returns:
        arm, images, loss (mean at the last iteration); gain, the change of the true loss from iteration 0 in
        percent; gap, in the loss's unit; rising, the share in percent of the steps between neighbouring traced
        iterations over which an image's true loss rises; climbed, the sum of these rises in percent of the
        image's loss at iteration 0. The last four are means over images of each image's value, with ``_low``
        and ``_high``.
    """
    table = _from_start(trace, "arm").sort_values(["arm", "image", "iteration"])
    steps = table.groupby(["arm", "image"])["loss"].diff()
    table = table.assign(
        change=100 * table["delta_loss"] / table["start"],
        rising=100.0 * (steps > 0).where(steps.notna()),
        climbed=100 * steps.clip(lower=0) / table["start"],
    )
    lines = []
    for name in palette.in_order(table["arm"]):
        grouped = table[table["arm"] == name].groupby("image")
        end = grouped.last()
        line: dict[str, str | float] = {"arm": name, "images": len(end), "loss": float(end["loss"].mean())}
        for column, values in (
            ("gain", end["change"]),
            ("gap", end["gap"]),
            ("rising", grouped["rising"].mean()),
            ("climbed", grouped["climbed"].sum()),
        ):
            line |= statistics.with_interval(column, statistics.resampled_means(values)[:, 0])
        lines.append(line)
    return pd.DataFrame(lines)


def at_end_table(table: pd.DataFrame, iteration: int) -> GT:
    """`at_end` as a table; the best of each column is in bold: least, of the gap the nearest to zero."""
    decimals = {"gain": 2, "gap": 4, "rising": 0, "climbed": 2}
    shown = table[["arm", "loss"]].assign(
        **{
            name: [
                interval(*line, digits, sign=name in ("gain", "gap"))
                for line in table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
            ]
            for name, digits in decimals.items()
        }
    )
    made = (
        GT(shown, rowname_col="arm")
        .tab_header(title=f"At iteration {iteration}", subtitle=f"mean over {table['images'].max()} images")
        .fmt_number("loss", decimals=4)
        .cols_label(
            loss="true R-D loss",
            gain="change from the codec, %",
            gap="method's loss − true loss",
            rising="steps that rise, %",
            climbed="sum of all rises, % of the codec's loss",
        )
        .cols_align("right", list(decimals))
        .tab_source_note("In brackets: 95 % percentile bootstrap intervals over images.")
        .tab_options(table_font_size="14px")
    )
    for column in ("loss", *decimals):
        best = int(table[column].abs().idxmin() if column == "gap" else table[column].idxmin())
        made = made.tab_style(style.text(weight="bold"), loc.body(column, [best]))
    return made


def reaching(trace: pd.DataFrame) -> pd.DataFrame:
    """Iterations until an arm's mean true loss is at or below the mean that another arm has at its end.

    Returns:
        One line per arm and one column per target, both in the book's order: the first traced iteration, on
        the mean curve over images; NaN where the arm does not get there. The first column is ``arm``.
    """
    means = trace.pivot_table(index="iteration", columns="arm", values="loss")
    names = palette.in_order(means.columns)
    ends = means[names].ffill().iloc[-1]
    lines = [
        {"arm": name} | {target: _first(means[name] <= ends[target]) for target in names} for name in names
    ]
    return pd.DataFrame(lines)


def _first(reached: pd.Series) -> float:
    return float(reached.idxmax()) if reached.any() else float("nan")


def reaching_table(table: pd.DataFrame) -> GT:
    """`reaching` as a table; the fastest arm to each target is in bold."""
    targets = list(table.columns[1:])
    made = (
        GT(table, rowname_col="arm")
        .tab_header(title="Iterations to the final loss of another method")
        .tab_spanner("final loss of", targets)
        .fmt_integer(targets)
        .sub_missing(missing_text="–")
        .tab_source_note(
            "First traced iteration at which the mean true loss over images is at or below the final one of the "
            "column's method; – where it is not reached."
        )
        .tab_options(table_font_size="14px")
    )
    for target in targets:
        fastest = [int(line) for line in np.flatnonzero(table[target] == table[target].min())]
        made = made.tab_style(style.text(weight="bold"), loc.body(target, fastest))
    return made


def describe_order(trace: pd.DataFrame) -> str:
    """In words: who ends lowest, and whether the others are told apart from it on these images."""
    last = int(trace["iteration"].max())
    end = trace[trace["iteration"] == last]
    means = end.groupby("arm")["loss"].mean()
    best = str(means.idxmin())
    sentence = f"At iteration {last} {best} has the lowest mean true loss, {means[best]:.4f}."
    if len(means) == 1:
        return sentence
    others = statistics.paired_means(end, "loss", best).sort_values("mean")
    apart = [f"{_against(line)}" for line in others.itertuples() if line.low > 0]
    close = [f"{_against(line)}" for line in others.itertuples() if not line.low > 0]
    if apart:
        sentence += f" Image by image it is told apart from {_listed(apart)}."
    if close:
        sentence += (
            f" The paired interval of {_listed(close)} does not exclude zero on these "
            f"{int(others['images'].max())} images."
        )
    return sentence


def _against(line: tuple) -> str:
    return f"{line.arm} ({interval(line.mean, line.low, line.high)} %)"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def describe_speed(trace: pd.DataFrame, arm: str, target: str) -> str:
    """In words: when one arm reaches the final loss of another, on the mean and image by image."""
    last = int(trace["iteration"].max())
    iteration = reaching(trace).set_index("arm").loc[arm, target]
    ends = trace[(trace["arm"] == target) & (trace["iteration"] == last)].set_index("image")["loss"]
    own = trace[trace["arm"] == arm]
    reached = (own["loss"] <= own["image"].map(ends)).groupby(own["image"]).any()
    mean = (
        f"{arm} does not reach the final loss of {target}"
        if np.isnan(iteration)
        else f"{arm} is at or below the final mean loss of {target} from iteration {iteration:.0f} of {last} on"
        if (_mean(own).loc[iteration:] <= ends.mean()).all()
        else f"{arm} is first at or below the final mean loss of {target} at iteration {iteration:.0f} of {last}"
    )
    return f"{mean}; taken image by image it gets there on {reached.sum()} of {len(reached)}."


def _mean(lines: pd.DataFrame) -> pd.Series:
    return lines.groupby("iteration")["loss"].mean()


def describe_gaps(trace: pd.DataFrame) -> str:
    """In words: whose own loss is nearest to the true one at the end, whose farthest, at which temperatures."""
    table = at_end(trace).set_index("arm")
    near, far = str(table["gap"].abs().idxmin()), str(table["gap"].abs().idxmax())
    last = trace[trace["iteration"] == trace["iteration"].max()]
    # Methods without a temperature have a constant schedule.
    annealed = last[[json.loads(text)["schedule"] != "constant" for text in last["temperature"]]]
    cold = annealed.groupby("arm")["tau"].mean()
    taus = [f"{cold[name]:.2f} for {name}" for name in palette.in_order(cold.index)]
    words = [
        f"{name}, {interval(*table.loc[name, ['gap', 'gap_low', 'gap_high']], 4)}" for name in (near, far)
    ]
    sentence = (
        f"At iteration {int(trace['iteration'].max())} the gap is nearest to zero for {words[0]}, "
        f"and farthest for {words[1]}."
    )
    return f"{sentence} The temperature there is {_listed(taus)}." if taus else sentence


def describe_smoothness(trace: pd.DataFrame) -> str:
    """In words: whose true loss rises least often and least in sum, and whose most."""
    table = at_end(trace).set_index("arm")
    parts = [
        f"{what} {table[name].idxmin()} ({table[name].min():.{digits}f} %) and {most} "
        f"{table[name].idxmax()} ({table[name].max():.{digits}f} %)"
        for name, what, most, digits in (
            ("rising", "rises least often with", "most often with", 0),
            ("climbed", "in sum least with", "most with", 2),
        )
    ]
    return f"Between traced iterations the true loss {parts[0]}; its rises are {parts[1]}."
