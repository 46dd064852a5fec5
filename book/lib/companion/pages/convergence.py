"""Convergence over the iterations (paper, Figure 2): curves, what they come to, how fast and how smoothly.

A *traced* iteration is one at which the true loss was computed. The *gap* of a method is its own loss, that
of the relaxed latents, minus the true loss of the same latents rounded hard.
"""

import json

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import figures, moving, palette, pool, statistics

_PANELS = {
    "true R-D loss − base's": "delta_loss",
    "method's loss − true loss": "gap",
    "PSNR − base's (dB)": "delta_psnr",
    "bpp − base's": "delta_bpp",
}


def traces(rows: pd.DataFrame, lmbda: float | None = None) -> pd.DataFrame:
    """The refined configurations' lines at one λ of refinement and codec; None where there is one only."""
    refined = pool.own(rows[rows["iterations"] > 0])
    known = sorted(refined["lmbda"].unique())
    if lmbda is None and len(known) == 1:
        lmbda = known[0]
    if lmbda not in known:
        raise UserError(
            f"convergence is shown at one lambda: use one of {', '.join(f'{value:g}' for value in known)}"
            if known
            else "these rows hold no refinement: run the study to its end"
        )
    return refined[refined["lmbda"] == lmbda].reset_index(drop=True)


def from_start(trace: pd.DataFrame) -> pd.DataFrame:
    """By curve, image and iteration, mean over seeds: the gap and the differences from iteration 0."""
    names = ["loss", "psnr", "bpp", "gap"]
    curve = ["configuration", "image"]
    table = statistics.over_seeds(pool.with_gap(trace), names, ["configuration", "iteration"])
    table = table.sort_values([*curve, "iteration"])
    at_start = table.where(table["iteration"] == 0)
    start = at_start.groupby([table[name] for name in curve])[names].transform("first")
    differences = {f"delta_{name}": table[name] - start[name] for name in names[:3]}
    return table.assign(**differences, start=start["loss"])


def figure(trace: pd.DataFrame) -> Figure:
    """`from_start` over iterations, mean over images (paper, Figure 2)."""
    table = from_start(trace)

    def draw(axes: Axes, name: str) -> None:
        figures.lines(axes, table, "iteration", name)

    return figures.panels(_PANELS, draw, size=(4.4, 3.2), columns=2, sharex=True, zero=True)


def differences_figure(table: pd.DataFrame, reference: str) -> Figure:
    """True loss against one method on the same image and iteration, in %, mean over images."""

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        figures.lines(axes, rows, "iteration", "change")
        look = palette.looks([reference])[reference]
        axes.axhline(0, color=look["color"], linewidth=1.4, label=reference)

    label = f"true loss against {reference} (%)"
    return figures.panels({"": table}, draw, xlabel="iteration", ylabel=label, size=(4.4, 3.8), legend=3)


def lines(trace: pd.DataFrame) -> pd.DataFrame:
    """What `figure` draws, for `moving.lines`: ``part``, its panel's title, and `moving.with_means`."""
    table = from_start(trace)
    parts = {title: moving.with_means(table, "iteration", column) for title, column in _PANELS.items()}
    return pd.concat([rows.assign(part=title) for title, rows in parts.items()], ignore_index=True)


def differences_lines(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The same for `moving.lines`: `moving.with_means`, with the reference at zero."""
    zero = table.drop_duplicates("iteration")[["iteration"]].assign(configuration=reference, value=0.0)
    return pd.concat([moving.with_means(table, "iteration", "change"), zero], ignore_index=True)


def at_end(trace: pd.DataFrame) -> pd.DataFrame:
    """What the curves of `traces` come to, and how, by configuration in the book's order.

    ``rising`` is the share of the steps between neighbouring traced iterations over which an image's true
    loss rises; ``climbed``, the sum of these rises, is in percent of the image's loss at iteration 0.
    """
    table, by = from_start(trace), ["configuration", "image"]
    steps = table.groupby(by)["loss"].diff()
    table = table.assign(
        gain=100 * table["delta_loss"] / table["start"],
        rising=100.0 * (steps > 0).where(steps.notna()),
        climbed=100 * steps.clip(lower=0) / table["start"],
    )
    how = {"loss": "last", "gain": "last", "gap": "last", "rising": "mean", "climbed": "sum"}
    images = table.groupby(by).agg(how)
    last = trace[trace["iteration"] == trace["iteration"].max()]
    best = last.groupby("configuration")["loss"].mean().idxmin()
    found = pd.DataFrame(
        {"configuration": name, "images": len(images.loc[name]), "loss": images.loc[name, "loss"].mean()}
        | statistics.intervals(images.loc[name].drop(columns="loss"))
        for name in palette.in_order(images.index.unique("configuration"))
    )
    ends = {f"change{end}": f"against{end}" for end in ("", "_low", "_high")}
    changes = pd.DataFrame(columns=["configuration", "images", *ends])
    if len(found) > 1:
        changes = statistics.paired_means(last, "loss", best)
    found = found.merge(changes.drop(columns="images").rename(columns=ends), on="configuration", how="left")
    found.loc[found["configuration"] == best, "verdict"] = "lowest"
    # A method without a temperature has a constant schedule.
    annealed = last["temperature"].map(lambda text: json.loads(text)["schedule"] != "constant")
    taus = last[annealed].groupby("configuration")["tau"].mean()
    return found.assign(tau=found["configuration"].map(taus))


def reaching(trace: pd.DataFrame) -> pd.DataFrame:
    """Iterations until a configuration (the rows) is at or below the true loss that another (the columns) has
    at its end, on the curve of means over images, and of how many images the own curve gets there."""
    means = trace.pivot_table(index="iteration", columns="configuration", values="loss")
    last = trace[trace["iteration"] == trace["iteration"].max()]
    ends = last.pivot_table(index="image", columns="configuration", values="loss")
    lowest = trace.pivot_table(index="image", columns="configuration", values="loss", aggfunc="min")
    names = palette.in_order(means.columns)

    def reached(name: str, target: str) -> str:
        there = means[name] <= means[target].dropna().iloc[-1]
        first = f"{there.idxmax()}" if there.any() else "–"
        return f"{first} ({(lowest[name] <= ends[target]).sum()} of {len(lowest)})"

    columns = {target: [reached(name, target) for name in names] for target in names}
    return pd.DataFrame({"configuration": names} | columns)
