"""Convergence over the iterations (paper, Figure 2): curves, what they come to, how fast and how smoothly.

A *traced* iteration is one at which the true loss was computed. The *gap* of a method is its own loss, that
of the relaxed latents, minus the true loss of the same latents rounded hard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import figures, palette, statistics
from ..tables import Col

_PANELS = {
    "true R-D loss − codec's": "delta_loss",
    "method's loss − true loss": "gap",
    "PSNR − codec's (dB)": "delta_psnr",
    "bpp − codec's": "delta_bpp",
}


def traces(rows: pd.DataFrame, lmbda: float | None = None) -> pd.DataFrame:
    """The refined arms' lines at one λ.

    Args:
        rows: as `configurations.with_arms` returns them.
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


def longer(rows: pd.DataFrame, trace: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """The longest runs of some arms on the images and at the λ of a trace; empty where none goes further.

    Args:
        rows: of another study.
        trace: as `traces` returns it.
    """
    known = ["image", "lmbda", "codec_lmbda", "codec_sha256"]
    same = rows.merge(trace[known].drop_duplicates(), on=known)
    same = same[same["arm"].isin(arms) & (same["iterations"] > trace["iterations"].max())]
    return same[same["iterations"] == same["iterations"].max()] if len(same) else same


def from_start(trace: pd.DataFrame, by: str = "arm") -> pd.DataFrame:
    """By curve, image and iteration, mean over seeds: the gap and the differences from iteration 0."""
    table = trace.assign(gap=trace["method_loss"] - trace["loss"])
    table = statistics.over_seeds(table, ["loss", "psnr", "bpp", "gap"], [by, "iteration"])
    start = table[table["iteration"] == 0].set_index([by, "image"])
    index = pd.MultiIndex.from_frame(table[[by, "image"]])
    differences = {
        f"delta_{name}": table[name] - start[name].reindex(index).to_numpy()
        for name in ("loss", "psnr", "bpp")
    }
    return table.assign(**differences, start=start["loss"].reindex(index).to_numpy())


def figure(trace: pd.DataFrame, by: str = "arm") -> Figure:
    """True loss, discretisation gap, PSNR and rate over iterations, mean over images (paper, Figure 2).

    Values are differences from the codec's own (iteration 0) except for the gap, so that the bands, 95 %
    bootstrap intervals over images, show the spread of the gain and not that of the images.

    Args:
        trace: `traces`, or `Run.trace` of one or several methods, concatenated.
        by: the column that names the curves.
    """
    table = from_start(trace, by)

    def draw(axes: Axes, column: str) -> None:
        figures.lines(axes, table.dropna(subset=[column]), "iteration", column, by)
        axes.axhline(0, color="0.4", linewidth=0.8)

    return figures.panels(_PANELS, draw, size=(4.4, 3.2), columns=2, sharex=True)


def differences_figure(trace: pd.DataFrame, reference: str) -> Figure:
    """True loss of every arm minus that of one arm on the same image and iteration, in percent of the latter.

    Args:
        trace: as `traces` returns it.
        reference: the arm that is the line at zero.

    Raises:
        UserError: there is no such arm, or no other.
    """
    table = statistics.paired(trace, "loss", reference, by=["iteration"])

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        figures.lines(axes, rows, "iteration", "change")
        look = palette.of_arms([reference])[reference]
        axes.axhline(0, color=look["color"], linewidth=1.4, label=reference)

    return figures.panels({"": table}, draw, xlabel="iteration", ylabel=f"true loss against {reference} (%)")


AT_END = {
    "loss": Col("true R-D loss", 4, best="min"),
    "gain": Col("change from the codec, %", 2, sign=True, best="min"),
    "against": Col("against the lowest, %", 2, sign=True),
    "verdict": "paired",
}
ON_THE_WAY = {
    "gap": Col("method's loss − true loss", 4, sign=True),
    "tau": Col("τ", 2),
    "rising": Col("steps that rise, %", 0, best="min"),
    "climbed": Col("sum of rises, % of the codec's loss", 2, best="min"),
}


def at_end(trace: pd.DataFrame) -> pd.DataFrame:
    """What the curves come to, one line per arm in the book's order.

    Args:
        trace: as `traces` returns it.

    Returns:
        arm, images, loss (mean at the last iteration); gain, the change of the true loss from iteration 0 in
        percent; against, the paired difference from the arm of the lowest mean loss in percent, and its
        verdict; gap, in the loss's unit; tau, the temperature, NaN for methods without one; rising, the share
        in percent of the steps between neighbouring traced iterations over which an image's true loss rises;
        climbed, the sum of these rises in percent of the image's loss at iteration 0. Those that are means of
        each image's value have ``_low`` and ``_high``.
    """
    table = from_start(trace).sort_values(["arm", "image", "iteration"])
    steps = table.groupby(["arm", "image"])["loss"].diff()
    table = table.assign(
        gain=100 * table["delta_loss"] / table["start"],
        rising=100.0 * (steps > 0).where(steps.notna()),
        climbed=100 * steps.clip(lower=0) / table["start"],
    )
    last = trace[trace["iteration"] == trace["iteration"].max()]
    best = last.groupby("arm")["loss"].mean().idxmin()
    against = (
        statistics.paired_means(last, "loss", best).set_index("arm") if len(set(last["arm"])) > 1 else None
    )
    lines = []
    for name in palette.in_order(table["arm"]):
        grouped = table[table["arm"] == name].groupby("image")
        end = grouped.last()
        line: dict[str, Any] = {"arm": name, "images": len(end), "loss": float(end["loss"].mean())}
        for column, values in (
            ("gain", end["gain"]),
            ("gap", end["gap"]),
            ("rising", grouped["rising"].mean()),
            ("climbed", grouped["climbed"].sum()),
        ):
            line |= statistics.with_interval(column, statistics.resampled_means(values)[:, 0])
        if against is None or name == best:
            line |= {"against": float("nan"), "verdict": "lowest"}
        else:
            low, high = against.loc[name, ["low", "high"]]
            line |= {"against": against.loc[name, "mean"], "against_low": low, "against_high": high}
            line |= {"verdict": statistics.verdict(low, high)}
        own = last[last["arm"] == name]
        # A method without a temperature has a constant schedule.
        annealed = json.loads(own["temperature"].iloc[0])["schedule"] != "constant"
        line["tau"] = float(own["tau"].mean()) if annealed else float("nan")
        lines.append(line)
    return pd.DataFrame(lines)


def reaching(trace: pd.DataFrame) -> pd.DataFrame:
    """Iterations until an arm is at or below the true loss that another arm has at its end.

    Returns:
        One line per arm and one column per target, both in the book's order: the first traced iteration on
        the curve of means over images, – where the arm does not get there, and of how many images the own
        curve gets there. The first column is ``arm``.
    """
    means = trace.pivot_table(index="iteration", columns="arm", values="loss")
    names = palette.in_order(means.columns)
    ends = trace[trace["iteration"] == trace["iteration"].max()].pivot_table(
        index="image", columns="arm", values="loss"
    )
    lowest = trace.pivot_table(index="image", columns="arm", values="loss", aggfunc="min")
    lines = []
    for name in names:
        line = {"arm": name}
        for target in names:
            there = means[name] <= means[target].dropna().iloc[-1]
            first = f"{there.idxmax()}" if there.any() else "–"
            line[target] = f"{first} ({(lowest[name] <= ends[target]).sum()} of {len(lowest)})"
        lines.append(line)
    return pd.DataFrame(lines)
