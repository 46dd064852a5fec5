"""Figures from tables and methods alone, by seaborn, with one look and one legend for all pages.

A figure is `panels` of what one function draws: `lines`, `points_with_means`, `heat_map`. Nothing
here computes a result but means over images and their intervals.
"""

import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from sgaplus.rounding import Method, ThreeClass

from . import closed_forms, palette, statistics
from .palette import DASHES

Part = TypeVar("Part")

# The width of a phone's screen in inches at 96 CSS pixels, and how much smaller its letters may be.
_PHONE, _LETTERS = 3.7, 0.8
# What draws a figure again for a phone.
_NARROW: weakref.WeakKeyDictionary[Figure, Callable[[], Figure]] = weakref.WeakKeyDictionary()


def panels(
    parts: Mapping[str, Part],
    draw: Callable[[Axes, Part], Any],
    *,
    size: tuple[float, float] = (3.0, 3.8),
    columns: int = 4,
    legend: int = 4,
    **how: Any,
) -> Figure:
    """A panel for each of ``parts`` under its title, drawn by ``draw``, with one legend above all of them.

    Args:
        size: of a panel in inches; a single one is as wide as the page.
        columns: panels, and ``legend`` entries, side by side.
        how: ``xlabel`` and ``ylabel``; ``rate``, whether x is a rate in bpp, on a logarithmic axis; ``zero``,
            whether a line marks y = 0; ``sharex`` and ``sharey`` of `matplotlib.pyplot.subplots`.
    """
    columns = min(columns, len(parts))
    width = 7.5 if columns == 1 else 1 + size[0] * columns
    figure = _grid(parts, draw, (width, size[1]), columns, legend, **how)
    _NARROW[figure] = functools.partial(_grid, parts, draw, (_PHONE, max(0.72 * size[1], 2)), 1, 2, **how)
    return figure


def narrow(figure: Figure) -> Figure | None:
    """A figure of `panels` or `pictures` again as wide as a phone: a panel per row, legible letters."""
    if figure not in _NARROW:
        return None
    with sns.plotting_context("notebook", font_scale=_LETTERS):
        return _NARROW[figure]()


def _grid(
    parts: Mapping[str, Part],
    draw: Callable[[Axes, Part], Any],
    size: tuple[float, float],
    columns: int,
    legend: int,
    *,
    xlabel: str = "",
    ylabel: str = "",
    rate: bool = False,
    zero: bool = False,
    **share: Any,
) -> Figure:
    """`panels` of so many columns; ``size`` is the figure's width and a panel's height."""
    rows = math.ceil(len(parts) / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size[0], 0.6 + size[1] * rows), layout="constrained", squeeze=False, **share
    )
    for axes in grid.flat[len(parts) :]:
        axes.remove()
    for axes, (title, part) in zip(grid.flat, parts.items(), strict=False):
        draw(axes, part)
        axes.set_title(title)
        if rate:
            rate_axis(axes)
        if zero:
            axes.axhline(0, color="0.4", linewidth=0.8)
        if xlabel:
            axes.set_xlabel(xlabel if axes in grid.flat[max(0, len(parts) - columns) : len(parts)] else "")
        axes.set_ylabel(ylabel if axes in grid[:, 0] else "")
    legend_above(figure, legend)
    return figure


def legend_above(figure: Figure, columns: int = 4) -> None:
    """One legend above all panels, each name once; panels have none of their own."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(name, handle)
        if axes.get_legend():
            axes.get_legend().remove()
    if known:
        inches = 0.5 + 0.08 * max(map(len, known))
        columns = max(1, min(columns, int(figure.get_figwidth() / inches)))
        figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=columns)


def lines(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: str = "configuration") -> None:
    """The mean of ``y`` over images at each ``x`` with the band of its interval: a line for each ``by``.

    Rows without images, or with an interval from ``<y>_low`` to ``<y>_high``, are means already.
    """
    known = "image" not in rows or f"{y}_low" in rows
    table = (rows if known else statistics.means(rows.dropna(subset=[y]), y, [by, x])).sort_values(x)
    looks, parts = palette.for_seaborn(table[by]), palette.parts(table, by)
    # All of a few points have their marker, some six of many.
    points = max(map(len, parts.values()))
    every = 1 if points <= 12 else points // 5
    marks: dict[str, Any] = {"markersize": 6, "markeredgewidth": 0, "markevery": every}
    sns.lineplot(table, x=x, y=y, hue=by, style=by, **looks, **marks, estimator=None, ax=axes)
    if f"{y}_low" in table:
        for name, line in parts.items():
            ends = line[f"{y}_low"], line[f"{y}_high"]
            axes.fill_between(line[x], *ends, color=looks["palette"][name], alpha=0.12, linewidth=0)


def points_with_means(axes: Axes, rows: pd.DataFrame, value: str, by: str = "configuration") -> None:
    """Images as points, a row for each ``by``, and over them the mean with its 95 % bootstrap interval."""
    # In the order of the images, in which `statistics.ends_of` draws them.
    looks, rows = palette.for_seaborn(rows[by]), rows.sort_values("image")
    order = looks["hue_order"]
    common: dict[str, Any] = {"x": value, "y": by, "hue": by, "order": order, "hue_order": order, "ax": axes}
    common["legend"] = False
    sns.swarmplot(rows, **common, palette=looks["palette"], alpha=0.55, size=4, warn_thresh=1)
    sns.pointplot(
        rows, **common, palette=["black"] * len(order), errorbar=statistics.ends_of, linestyle="none",
        marker="|", markersize=16, capsize=0.2, err_kws={"linewidth": 1.5},
    )  # fmt: skip
    axes.axvline(0, color="0.4", linewidth=0.8)


def heat_map(
    axes: Axes, table: pd.DataFrame, row: str, column: str, value: str, form: str, texts="", **style: Any
) -> None:
    """Numbers of ``value`` in cells, darker where larger, in the table's order; their texts are in the column
    ``texts``, or the numbers in ``form``."""

    def wide(name: str, how: str) -> pd.DataFrame:
        found = table.pivot_table(index=row, columns=column, values=name, sort=False, aggfunc=how)
        return found.sort_index(axis=1)

    values = wide(value, "mean")
    said = wide(texts, "first").fillna("") if texts else values.map(lambda number: f"{number:{form}}")
    values.columns = [f"{name:g}" if isinstance(name, float) else name for name in values.columns]
    said = said.map(lambda text: text.replace("-", "−"))
    sns.heatmap(values, ax=axes, annot=said, fmt="", linewidths=1, cbar=False, **{"cmap": "Blues"} | style)
    axes.set(xlabel="", ylabel="")
    axes.grid(False)
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=30 if len(values.columns) > 6 else 0)


def probability_rows(methods: Sequence[Method], tau: float = 1.0, points: int = 1001) -> pd.DataFrame:
    """Probability of each class over v in [−½, 3/2] at temperature τ: method, v, integer, probability.

    Classes that cannot be reached there are left out.
    """
    v = torch.linspace(-0.5, 1.5, points, dtype=torch.float64)
    found = []
    for method in methods:
        classes, p = method.classes(v), method.probabilities(v, tau)
        for integer in range(-1, 3):
            mass = torch.where(classes == integer, p, 0.0).sum(-1).numpy()
            if mass.max() >= 1e-3:
                line = {"method": method.label, "v": v.numpy(), "integer": integer, "probability": mass}
                found.append(pd.DataFrame(line))
    return pd.concat(found, ignore_index=True)


def probability_space(methods: Sequence[Method], tau: float = 1.0) -> Figure:
    """`probability_rows` (paper, Figure 1).

    Two-class methods show p(⌊v⌋) and p(⌈v⌉), three-class ones all classes that can be reached there, and
    those a second time on a logarithmic scale. A colour is a function f, a dash an integer; three classes are
    drawn bold.
    """
    rows = probability_rows(methods, tau)
    bold = {method.label for method in methods if isinstance(method, ThreeClass)}
    looks = palette.looks([method.label for method in methods])

    def draw(axes: Axes, logarithmic: bool) -> None:
        for (name, integer), line in rows.groupby(["method", "integer"], sort=False):
            style = {"color": looks[name]["color"], "linestyle": DASHES[integer % 4]}
            style |= {"label": name if integer == 0 else None, "linewidth": 2.6 if name in bold else 1.4}
            axes.plot(line["v"], line["probability"].where(line["probability"] > 1e-6), **style)
        axes.set(xlim=(-0.5, 1.5), xticks=np.arange(-0.5, 1.51, 0.5))
        axes.set(**{"yscale": "log", "ylim": (1e-4, 1.3)} if logarithmic else {"ylim": (-0.02, 1.02)})

    parts = {"probability": False, "the same, logarithmic": True} if bold else {"": False}
    return panels(parts, draw, xlabel="$v$", ylabel="probability of the class", size=(4, 3.6), legend=2)


def slope_rows(methods: Sequence[Method], tau: float = 1.0, points: int = 1001) -> pd.DataFrame:
    """dp(⌈v⌉)/dv over x = v − ⌊v⌋ in (0, 1), by automatic differentiation: x, and a column per method."""
    x = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    found = {method.label: closed_forms.probability_slope(method, x, tau) for method in methods}
    return pd.DataFrame({"x": x, **found})


def rounding_slopes(methods: Sequence[Method], tau: float = 1.0) -> Figure:
    """`slope_rows`: where latents can move."""
    found = slope_rows(methods, tau)
    label = r"slope of $p(\lceil v \rceil)$"
    return over_fraction({"": found.drop(columns="x")}, found["x"], label, 6, (4, 3.2))


def over_fraction(
    parts: Mapping[str, Any], x: Any, ylabel: str, top: float, size: tuple[float, float]
) -> Figure:
    """Lines over x = v − ⌊v⌋, a panel for each of ``parts``, a line for each method in it, cut at ``top``."""

    def draw(axes: Axes, found: Mapping[str, Any]) -> None:
        for name, look in palette.looks(found).items():
            axes.plot(x, found[name], **look | {"marker": ""}, label=name, linewidth=1.8)
        axes.set(xlim=(0, 1), ylim=(0, min(axes.get_ylim()[1], top)))

    return panels(parts, draw, xlabel=r"$x = v - \lfloor v \rfloor$", ylabel=ylabel, size=size)


def pictures(images: Sequence[tuple[str, Tensor]], columns: int = 4, side: float = 2.6) -> Figure:
    """Images (3, H, W) in rows of so many, each under its title, every pixel as it is."""
    columns = min(columns, len(images))
    figure = _pictures(images, columns, side)
    _NARROW[figure] = functools.partial(_pictures, images, columns, _PHONE / columns, 7.5)
    return figure


def _pictures(
    images: Sequence[tuple[str, Tensor]], columns: int, side: float, points: float | str = "small"
) -> Figure:
    """`pictures` whose titles have letters of so many points."""
    height, width = images[0][1].shape[1:]
    rows = math.ceil(len(images) / columns)
    size = (side * columns, (side * height / width + 0.25 + 0.2 * images[0][0].count("\n")) * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (title, image) in zip(grid.flat, images, strict=False):
        axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
        shown = title.replace(", ", "\n") if points != "small" else title
        axes.set_title(shown, fontweight="normal", fontsize=points)
    return figure


def rd_curves(
    ours: pd.DataFrame, published: pd.DataFrame, codecs: Sequence[str], looks: Mapping[str, Any]
) -> Figure:
    """PSNR over rate of our curves and of published ones, in the range of rates of ours and a little beyond.

    Args:
        ours: name, bpp, psnr; with psnr_low and psnr_high a bar for each point.
        published: `reference.published`, of which ``codecs`` are drawn.
        looks: of ours, `palette.looks`.
    """
    published = published[published["codec"].isin(codecs)].rename(columns={"psnr_db": "psnr"})
    theirs = palette.looks(published.set_index("codec").loc[list(codecs), "name"])

    def draw(axes: Axes, ours: pd.DataFrame) -> None:
        for table, styles, width in ((ours, looks, 1.8), (published, theirs, 1.3)):
            for name, look in styles.items():
                line = table[table["name"] == name].sort_values("bpp")
                order = 4 - len(line) / 100  # few points over many
                axes.plot(line["bpp"], line["psnr"], **look, lw=width, ms=5, label=name, zorder=order)
        if "psnr_low" in ours:
            bars = [ours["psnr"] - ours["psnr_low"], ours["psnr_high"] - ours["psnr"]]
            colours = [looks[name]["color"] for name in ours["name"]]
            axes.errorbar(ours["bpp"], ours["psnr"], bars, ecolor=colours, elinewidth=0.8, fmt="none")
        low, high = ours["bpp"].min() / 1.3, ours["bpp"].max() * 1.3
        there = published["bpp"].between(low, high)
        levels = [*ours.filter(like="psnr").to_numpy().ravel(), *published.loc[there, "psnr"]]
        axes.set(xlim=(low, high), ylim=(min(levels) - 0.5, max(levels) + 0.5))

    return panels({"": ours}, draw, rate=True, ylabel="PSNR of the 8-bit image (dB)", size=(7.5, 5), legend=2)


def rate_axis(axes: Axes) -> None:
    """A logarithmic axis of bits per pixel that says plain numbers."""
    axes.set(xscale="log", xlabel="bits per pixel (logarithmic)")
    plain_numbers(axes.xaxis)


def plain_numbers(axis: Axis) -> None:
    """Plain numbers along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
