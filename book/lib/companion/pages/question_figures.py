"""The figures of the ten questions: from closed forms, and from rows where there are some.

A figure from rows is None where its rows are not stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from sgaplus import rounding

from .. import closed_forms, palette, pool, statistics, verdict_rules_of_settings
from ..configurations import BASE, label

METHODS = ("atanh", "linear", "cosine", "ssl")


def methods() -> list[rounding.Method]:
    """The four two-class methods of the paper's figures."""
    return [rounding.parse(spec) for spec in METHODS]


def inner(points: int = 99) -> torch.Tensor:
    """v − ⌊v⌋ at midpoints of equal parts of (0, 1)."""
    return (torch.arange(points, dtype=torch.float64) + 0.5) / points


def _looks() -> dict[str, dict]:
    looks = palette.of_arms([method.label for method in methods()])
    return {name: {k: v for k, v in look.items() if k != "marker"} for name, look in looks.items()}


def gradients(tau: float) -> Figure:
    """Mean and standard deviation of a draw's derivative, and of the draw itself, over v (question 2)."""
    x = inner()
    figure, grid = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
    looks = _looks()
    for method in methods():
        found = closed_forms.moments(method, x, tau, 4001)
        for axes, name in zip(grid, ("slope", "slope_sd", "value_sd"), strict=True):
            axes.plot(x, found[name], label=method.label, linewidth=1.8, **looks[method.label])
    titles = ("mean of ds/dv", "standard deviation of ds/dv", "standard deviation of s")
    for axes, title in zip(grid, titles, strict=True):
        axes.set(title=title, xlabel="$v - \\lfloor v \\rfloor$", xlim=(0, 1))
        axes.set_ylim(0, min(axes.get_ylim()[1], 5))
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def third_class(r: Sequence[float], n: Sequence[float]) -> Figure:
    """Probability of the third integer over the distance from the nearest one (question 3), for linear.

    Args:
        r: each at the authors' best n.
        n: each at the authors' best r.
    """
    best = rounding.ThreeClass()
    w = np.linspace(0, 0.3, 301)
    figure, grid = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    sweeps = (("r", r, lambda value: (value, best.n)), ("n", n, lambda value: (best.r, value)))
    for axes, (name, values, settings) in zip(grid, sweeps, strict=True):
        for position, value in enumerate(values):
            method = rounding.ThreeClass(rounding.Linear(), *settings(value))
            mass = method.probabilities(torch.tensor(w, dtype=torch.float64))[:, 0]
            style = {"color": palette.colour(position), "linestyle": palette.DASHES[position % 4]}
            axes.plot(w, mass, label=f"{name} = {value:g}", linewidth=1.8, **style)
        other = f"n = {best.n:g}" if name == "r" else f"r = {best.r:g}"
        axes.set(title=f"over {name}, at {other}", xlabel="distance from the nearest integer", xlim=(0, 0.3))
        axes.set(yscale="log", ylim=(1e-6, 0.5))
        axes.legend()
    grid[0].set_ylabel("probability of the third")
    return figure


def temperatures(rows: pd.DataFrame, iteration: int) -> Figure | None:
    """Mean true loss over τ_max against each method's lowest, and how random a draw is over τ (question 4)."""
    table = verdict_rules_of_settings.temperature_grid(rows, iteration)
    if table is None:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    looks = palette.of_arms([method.label for method in methods()])
    for method in methods():
        means = table[method.label].mean().sort_index()
        left.plot(means.index, means, label=method.label, **looks[method.label])
        taus = np.linspace(0.1, 1, 19)
        errors = [closed_forms.moments(method, inner(49), tau, 1001)["error"].mean() for tau in taus]
        right.plot(taus, errors, **{k: v for k, v in looks[method.label].items() if k != "marker"})
    left.set(xlabel="$\\tau_{\\max}$", ylabel="mean true loss", title=f"rows, {iteration} iterations")
    right.set(xlabel="$\\tau$", ylabel="mean |s − ⌊v⌉|", title="formulas: distance from rounding")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def along_the_curve(rows: pd.DataFrame, iteration: int) -> Figure | None:
    """Rate and PSNR of codecs refined with SSL at other λ, beside the unrefined codecs (question 5)."""
    ssl = label("ssl")
    kodak = pool.at(rows[(rows["dataset"] == "kodak") & rows["arm"].isin([ssl, BASE])], iteration)
    counts = kodak[kodak["arm"] == ssl].groupby(["scope", "codec_lmbda"])["lmbda"].nunique()
    counts = counts[counts > 2]
    if counts.empty:
        return None
    scope = counts.index[0][0]
    kodak = kodak[kodak["scope"] == scope]
    away = kodak[(kodak["arm"] == ssl) & (kodak["lmbda"] != kodak["codec_lmbda"])]
    kodak = kodak[kodak["image"].isin(away["image"])]
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    refined = kodak[kodak["arm"] == ssl]
    for position, trained in enumerate(counts[scope].index):
        points = refined[refined["codec_lmbda"] == trained].groupby("lmbda")[["bpp", "psnr"]].mean()
        style = {"color": palette.colour(position), "linestyle": palette.DASHES[position % 4]}
        marker = palette.MARKERS[position % 4]
        axes.plot(
            points["bpp"], points["psnr"], marker=marker, label=f"codec of λ = {trained:g}, SSL", **style
        )
        if trained in points.index:
            own = points.loc[trained]
            axes.plot(own["bpp"], own["psnr"], marker, markersize=12, color=style["color"], fillstyle="none")
    base = pool.own(kodak[kodak["arm"] == BASE]).groupby("codec_lmbda")[["bpp", "psnr"]].mean()
    axes.plot(base["bpp"], base["psnr"], "kx--", label="not refined, each at its own λ")
    axes.set(xlabel="bits per pixel", ylabel="PSNR (dB)", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.legend()
    return figure


def slope_of_ssl(rows: pd.DataFrame, iteration: int) -> Figure | None:
    """What a does to probabilities and gradients, and to the true loss (question 6)."""
    table, reference = verdict_rules_of_settings.slopes(rows, iteration), rounding.SSL().a
    if table is None or reference not in table:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    a = np.geomspace(table.columns[0], table.columns[-1], 41)
    wrong = [100 * closed_forms.wrong_class(rounding.SSL(value)) for value in a]
    flat = [100 * closed_forms.flat_share(rounding.SSL(value)) for value in a]
    left.plot(a, wrong, "--", color=palette.colour(1), label="probability of the farther integer")
    left.plot(a, flat, "-", color=palette.colour(0), label="share of v with dp/dv below 0.1")
    left.set(xlabel="a", ylabel="%", xscale="log", title="formulas, τ = 1")
    left.legend()
    change = 100 * (table.div(table[reference], axis=0) - 1)
    mean = change.mean()
    ends = statistics.ends(statistics.resampled_means(change))
    right.errorbar(mean.index, mean, np.abs(ends - mean.to_numpy()), fmt="o-", color=palette.colour(0))
    right.axhline(0, color="0.4", linewidth=0.8)
    right.set(xlabel="a", ylabel=f"true loss against a = {reference:g} (%)", xscale="log")
    right.set_title(f"rows, {iteration} iterations")
    for axes in (left, right):
        axes.set_xticks([0.3, 1, 2.3, 5, 10], ["0.3", "1", "2.3", "5", "10"])
        axes.minorticks_off()
    return figure


def parts_of_the_gain(table: pd.DataFrame) -> Figure | None:
    """Rate and distortion parts of the gain in loss, and the discretisation gap, by method (question 8).

    Args:
        table: `questions.parts`.
    """
    if table.empty:
        return None
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 1.2 + 0.42 * len(table)), layout="constrained", sharey=True
    )
    at = np.arange(len(table))
    for offset, (name, title) in zip(
        (-0.2, 0.2), (("rate", "rate"), ("distortion", "λ·255²·MSE")), strict=True
    ):
        colour = palette.colour(0 if name == "rate" else 4)
        left.barh(at + offset, table[name], 0.38, color=colour, label=title)
    left.plot(table["loss"], at, "k|", markersize=14, label="their sum, the true loss")
    left.axvline(0, color="0.4", linewidth=0.8)
    left.set_yticks(at, table["arm"])
    left.set(xlabel="change against the base (% of its loss)")
    left.invert_yaxis()
    right.barh(at, table["gap"], 0.5, color=palette.colour(1))
    right.axvline(0, color="0.4", linewidth=0.8)
    right.set(xlabel="method's loss − true loss (% of the base's loss)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def gain_by_image(table: pd.DataFrame) -> Figure | None:
    """Gain over the base by the image's rate without refinement (question 9).

    Args:
        table: `questions.by_image`.
    """
    if table.empty:
        return None
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for position, (name, group) in enumerate(table.groupby("dataset", sort=False)):
        style = {"color": palette.colour(position), "marker": palette.MARKERS[position % 4]}
        axes.plot(group["bpp"], group["change"], linestyle="", label=pool.DATASETS[name], **style)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xlabel="bits per pixel without refinement", ylabel="change of the true loss (%)")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def mean_with_interval(values: pd.Series, form: str = "+.2f", unit: str = "%") -> str:
    """A mean over images with its interval, in words."""
    return f"{statistics.interval(*statistics.estimate(values), form=form)} {unit}"
