"""Rate and distortion (paper, Figure 3a and 3b, Table 1): curves, gains over them, Bjøntegaard deltas, losses.

PSNR is that of floats, as in the paper, unless something else is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import cells, equal_rate, palette, statistics
from ..configurations import BASE
from ..figures import rate_axis

WHOLE, CROPS = "whole", "crops"


def select(rows: pd.DataFrame, pictures: str = WHOLE, iteration: int | None = None) -> pd.DataFrame:
    """The read-offs of one iteration on one kind of pictures, refined at the codec's own λ.

    Args:
        rows: as `configurations.with_arms` returns them.
        pictures: ``whole`` photographs, or ``crops``, whose names end in ``@`` and the side in pixels.
        iteration: the last one where None.

    Raises:
        UserError: there is no such kind, or nothing was refined on it or read off there.
    """
    if pictures not in (WHOLE, CROPS):
        raise UserError(f"unknown pictures '{pictures}': use {WHOLE} or {CROPS}")
    chosen = rows[(rows["image"].str.contains("@") == (pictures == CROPS)) & _own(rows)]
    if not (chosen["iterations"] > 0).any():
        raise UserError(
            f"nothing was refined on {pictures} pictures: use {CROPS if pictures == WHOLE else WHOLE}"
        )
    return statistics.at(chosen, iteration)


def _own(rows: pd.DataFrame) -> pd.Series:
    return rows["lmbda"] == rows["codec_lmbda"]


def curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Lines of each arm that has two λ or more, in the book's order, on the images that have all their points.

    Args:
        rows: as `select` returns them.

    Raises:
        UserError: there is no refined curve beside the base's, or no such image.
    """
    counts = rows.groupby("arm")["lmbda"].nunique()
    names = palette.in_order(counts.index[counts > 1])
    found = {name: rows[rows["arm"] == name] for name in names}
    if BASE not in found or len(found) < 2:
        raise UserError("a curve needs two lambda, for the base and for one method: run the study to its end")
    images = equal_rate.whole_images(*found.values())
    if not images:
        raise UserError("no image has all points of all curves: run the study to its end")
    return {name: lines[lines["image"].isin(images)] for name, lines in found.items()}


def points(found: dict[str, pd.DataFrame], psnr: str = "psnr") -> pd.DataFrame:
    """Means over images of `curves`: arm, lmbda, images, bpp, psnr."""
    table = pd.concat(found.values())
    grouped = table.groupby(["arm", "lmbda"], sort=False)
    means = grouped.agg(images=("image", "nunique"), bpp=("bpp", "mean"), psnr=(psnr, "mean"))
    return means.reset_index().sort_values(["arm", "lmbda"], ignore_index=True)


def figure(found: dict[str, pd.DataFrame]) -> Figure:
    """PSNR over rate, and beside it the PSNR that each arm gains over the base at the same rate.

    Bands are 95 % bootstrap intervals over images. A curve has at least two points; between its points the
    gain is interpolated (`equal_rate`).

    Args:
        found: as `curves` returns them.
    """
    looks, table = palette.of_arms(found), points(found)
    canvas, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for name, look in looks.items():
        line = table[table["arm"] == name].sort_values("bpp")
        left.plot(line["bpp"], line["psnr"], **look, markersize=4, linewidth=1.4, label=name)
        if name != BASE:
            _with_band(right, equal_rate.band(*gain_over(found, BASE, name)), look, name)
    right.axhline(0, color=looks[BASE]["color"], linewidth=1.4)
    left.set_ylabel("PSNR (dB)")
    right.set_ylabel(f"PSNR − {BASE}'s at the same rate (dB)")
    for axes in (left, right):
        rate_axis(axes)
    right.set_xlim(left.get_xlim())
    canvas.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return canvas


def _with_band(axes: Axes, line: pd.DataFrame, look: dict, name: str) -> None:
    axes.plot(line["bpp"], line["gain"], **look | {"marker": None}, linewidth=1.8, label=name)
    axes.fill_between(line["bpp"], line["low"], line["high"], color=look["color"], alpha=0.12, linewidth=0)


def gain_over(found: dict[str, pd.DataFrame], anchor: str, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """`equal_rate.gains` of one of the `curves` over another, both with the λ that they share.

    Curves of the same λ are interpolated over intervals of about the same rates, so that the error of doing so
    largely cancels.
    """
    lmbdas = set(found[anchor]["lmbda"]) & set(found[arm]["lmbda"])
    return equal_rate.gains(*(found[name][found[name]["lmbda"].isin(lmbdas)] for name in (anchor, arm)))


def per_image(found: dict[str, pd.DataFrame], anchors: Sequence[str]) -> pd.DataFrame:
    """BD-rate and BD-PSNR of every arm against each anchor, image by image.

    Returns:
        anchor, arm, image, points, bd_rate (percent), bd_psnr (dB); NaN as `statistics.bd_per_image` says. No line for
        an anchor that is not among the curves.
    """
    rows = pd.concat(found.values())
    tables = [
        statistics.bd_per_image(rows, anchor, name).assign(anchor=anchor, arm=name)
        for anchor in anchors
        if anchor in found
        for name in found
        if name not in (anchor, BASE)
    ]
    columns = ["anchor", "arm", "image", "points", "bd_rate", "bd_psnr"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def deltas(found: dict[str, pd.DataFrame], images: pd.DataFrame) -> pd.DataFrame:
    """One line per anchor and arm of `per_image`: its summary, and the deltas of the mean curves.

    Args:
        found: as `curves` returns them.
        images: as `per_image` returns it.

    Returns:
        anchor, arm, points and the entries of `statistics.bd_summary`; and those of `statistics.bd_of_means`, named ``means_…``.
    """
    rows = pd.concat(found.values())
    lines = []
    for (anchor, name), table in images.groupby(["anchor", "arm"], sort=False):
        means = {f"means_{key}": value for key, value in statistics.bd_of_means(rows, anchor, name).items()}
        lines.append(
            {
                "anchor": anchor,
                "arm": name,
                "points": table["points"].min(),
                **statistics.bd_summary(table),
                **means,
            }
        )
    return pd.DataFrame(lines)


def deltas_figure(images: pd.DataFrame) -> Figure:
    """BD-rate of each image, a panel for each anchor: points, and mean with its 95 % interval over images.

    Args:
        images: as `per_image` returns it.

    Raises:
        UserError: no image has a BD-rate.
    """
    table = images.dropna(subset=["bd_rate"])
    if table.empty:
        raise UserError("no image has four points on both curves, which a BD-rate needs")
    anchors = list(dict.fromkeys(table["anchor"]))
    names = palette.in_order(table["arm"])
    looks = palette.of_arms(names)
    size = (10, 1.6 + 0.42 * len(names))
    canvas, grid = plt.subplots(1, len(anchors), figsize=size, layout="constrained", squeeze=False)
    for axes, anchor in zip(grid[0], anchors, strict=True):
        chosen = [name for name in names if name in set(table.loc[table["anchor"] == anchor, "arm"])]
        for position, name in enumerate(chosen):
            lines = table[(table["anchor"] == anchor) & (table["arm"] == name)].sort_values("bd_rate")
            spread = np.linspace(-0.22, 0.22, len(lines)) if len(lines) > 1 else np.zeros(1)
            colour = looks[name]["color"]
            axes.plot(lines["bd_rate"], position + spread, "o", color=colour, alpha=0.55, markersize=4)
            found = statistics.bd_summary(lines)
            bar = [[found["bd_rate"] - found["bd_rate_low"]], [found["bd_rate_high"] - found["bd_rate"]]]
            bar = bar if np.isfinite(bar).all() else None
            axes.errorbar(
                found["bd_rate"], position, xerr=bar, fmt="|", color="black", markersize=16, capsize=4
            )
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(range(len(chosen)), chosen)
        axes.set(xlabel="BD-rate (%)", title=f"against {anchor}", ylim=(len(chosen) - 0.5, -0.5))
    return canvas


def show_deltas(images: pd.DataFrame, command: str) -> None:
    """Display `deltas_figure`, or one sentence where no image has a BD-rate.

    Args:
        images: as `per_image` returns it.
        command: that makes the page.
    """
    with_rate = images.dropna(subset=["bd_rate"])
    if with_rate.empty:
        display(
            Markdown("No image has a BD-rate here: it needs four λ, and a PSNR that grows with the rate.")
        )
        return
    anchors = " and ".join(with_rate["anchor"].unique())
    cells.show(
        deltas_figure(images),
        alt=f"BD-rate of each image, a row for each method, against {anchors}; the table below has mean and extremes.",
        caption="BD-rate by pchip. Points: images, ordered within a row by their value. Bars: means with 95 % "
        "bootstrap intervals over images, where there are several.",
        command=command,
    )


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Every arm at every λ at which something was refined, on the images that all arms have there.

    Args:
        rows: as `select` returns them.

    Returns:
        lmbda, arm, images, the means loss, bpp, psnr, psnr_8bit, and change with low and high: the paired
        change of the loss from the base in percent, NaN for the base.
    """
    lines = []
    for lmbda, group in rows.groupby("lmbda"):
        names = palette.in_order(group["arm"])
        if names == [BASE] or BASE not in names:
            continue
        held = [set(group.loc[group["arm"] == name, "image"]) for name in names]
        group = group[group["image"].isin(set.intersection(*held))]
        if group.empty:
            continue
        paired = statistics.paired_means(group, "loss", BASE).set_index("arm")
        for name in names:
            lines_of = group[group["arm"] == name]
            means = lines_of[["loss", "bpp", "psnr", "psnr_8bit"]].mean()
            change = paired.loc[name, ["mean", "low", "high"]] if name != BASE else [float("nan")] * 3
            lines.append(
                {"lmbda": lmbda, "arm": name, "images": lines_of["image"].nunique(), **means}
                | dict(zip(("change", "low", "high"), map(float, change), strict=True))
            )
    return pd.DataFrame(lines)
