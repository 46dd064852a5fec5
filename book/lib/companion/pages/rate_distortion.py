"""Rate and distortion (paper, Figure 3a and 3b, Table 1): curves, gains over them, Bjøntegaard deltas,
losses.

PSNR is that of floats, as in the paper, unless something else is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES
from sgaplus.errors import UserError

from .. import equal_rate, figures, palette, statistics
from ..configurations import BASE
from ..tables import Col

WHOLE, CROPS = "whole", "crops"
# The columns of `deltas` that tables show: of curves of means, and image by image.
DELTAS = {
    "points": "λ",
    "means_bd_rate": Col("BD-rate, %", 1, sign=True, best="min"),
    "means_bd_psnr": Col("BD-PSNR, dB", 2, sign=True, best="max"),
}
BY_IMAGE = {
    "images": "images",
    "bd_rate": Col("BD-rate, %", 1, sign=True, best="min"),
    "bd_rate_least": Col("least", 1, sign=True),
    "bd_rate_most": Col("greatest", 1, sign=True),
    "bd_psnr": Col("BD-PSNR, dB", 2, sign=True, best="max"),
}
BD_NOTE = (
    "BD by pchip, over the λ that both curves have. A negative BD-rate and a positive BD-PSNR are better."
    " Images: those with a BD-rate, which needs four λ and a PSNR that grows with the rate."
)


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
    chosen = rows[
        (rows["image"].str.contains("@") == (pictures == CROPS)) & (rows["lmbda"] == rows["codec_lmbda"])
    ]
    if not (chosen["iterations"] > 0).any():
        raise UserError(
            f"nothing was refined on {pictures} pictures: use {CROPS if pictures == WHOLE else WHOLE}"
        )
    return statistics.at(chosen, iteration)


def curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Lines of each arm that has two λ or more, in the book's order, on the images that have all their
    points.

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
    """PSNR over rate, and beside it the PSNR that each method gains over the base at the same rate.

    Bands are 95 % bootstrap intervals over images. Between its points a curve is interpolated (`equal_rate`).

    Args:
        found: as `curves` returns them.
    """
    bands = [
        equal_rate.band(*gain_over(found, BASE, name)).assign(arm=name) for name in found if name != BASE
    ]
    base = palette.of_arms([BASE])[BASE]

    def draw(axes: Axes, gains: pd.DataFrame | None) -> None:
        if gains is None:
            figures.lines(axes, points(found), "bpp", "psnr")
        else:
            figures.bands(axes, gains, "bpp", "gain", ends=("low", "high"))
            axes.axhline(0, color=base["color"], linewidth=1.4)

    parts = {"PSNR (dB)": None, f"PSNR − {BASE}'s at the same rate (dB)": pd.concat(bands)}
    return figures.panels(parts, draw, rate=True, size=(4.5, 4.0), sharex=True)


def gain_over(found: dict[str, pd.DataFrame], anchor: str, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """`equal_rate.gains` of one of the `curves` over another, both with the λ that they share.

    Curves of the same λ are interpolated over intervals of about the same rates, so that the error of doing
    so largely cancels.
    """
    lmbdas = set(found[anchor]["lmbda"]) & set(found[arm]["lmbda"])
    return equal_rate.gains(*(found[name][found[name]["lmbda"].isin(lmbdas)] for name in (anchor, arm)))


def per_image(found: dict[str, pd.DataFrame], anchors: Sequence[str]) -> pd.DataFrame:
    """BD-rate and BD-PSNR of every arm against each anchor, image by image.

    Returns:
        anchor, arm, image, points, bd_rate (percent), bd_psnr (dB); NaN as `statistics.bd_per_image` says. No
        line for an anchor that is not among the curves.
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
        anchor, arm, points and the entries of `statistics.bd_summary`; and those of `statistics.bd_of_means`,
        named ``means_…``.
    """
    rows = pd.concat(found.values())
    return pd.DataFrame(
        [
            {"anchor": anchor, "arm": name, "points": table["points"].min(), **statistics.bd_summary(table)}
            | {f"means_{key}": value for key, value in statistics.bd_of_means(rows, anchor, name).items()}
            for (anchor, name), table in images.groupby(["anchor", "arm"], sort=False)
        ]
    )


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
    parts = {f"against {anchor}": part for anchor, part in table.groupby("anchor", sort=False)}
    size = (4.5, 0.8 + 0.42 * table["arm"].nunique())
    return figures.panels(
        parts,
        lambda axes, part: figures.points_with_means(axes, part, "bd_rate"),
        xlabel="BD-rate (%)",
        size=size,
    )


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Every arm at every λ at which something was refined, on the images that all arms have there.

    Args:
        rows: as `select` returns them.

    Returns:
        lmbda, arm, images, the means loss, bpp, psnr, psnr_8bit, and change with its interval: the paired
        change of the loss from the base in percent, NaN for the base.
    """
    tables = []
    for lmbda, group in rows.groupby("lmbda"):
        names = palette.in_order(group["arm"])
        held = [set(group.loc[group["arm"] == name, "image"]) for name in names]
        group = group[group["image"].isin(set.intersection(*held))]
        if names[0] == BASE and len(names) > 1 and len(group):
            means = group.groupby("arm")[["loss", "bpp", "psnr", "psnr_8bit"]].mean()
            changes = statistics.paired_means(group, "loss", BASE, name="change").set_index("arm")
            table = means.join(changes).loc[names].reset_index()
            tables.append(table.assign(lmbda=lmbda, images=group["image"].nunique()))
    return pd.concat(tables, ignore_index=True)


def coverage(found: dict[str, pd.DataFrame], dataset: str, study: str) -> str:
    """Which and how many of a data set's images the curves are of, and how to compute the others.

    Args:
        found: as `curves` returns them.
        dataset: a name in `data.sources.SOURCES`.
        study: what computes them.
    """
    names, source = found[BASE]["image"].unique(), SOURCES[dataset]
    sides = sorted({name.split("@")[1] for name in names if "@" in name})
    pieces = f"the central {sides[0]} × {sides[0]} pixels of " if len(sides) == 1 else ""
    text = (
        f"The curves are {'means over' if len(names) > 1 else 'of'} {pieces}{len(names)} of the"
        f" {source.images} photographs ({source.about})."
    )
    if len(names) == 1:
        text += " With one image there is no interval over images."
    if dataset == "clic2025":
        text += (
            f" These are not the {SOURCES['clic2020'].images} photographs of CLIC 2020 that the paper has."
        )
    if sides or source.images > len(names):
        text += (
            f" For all photographs, whole: `sgaplus data fetch {dataset}` downloads them, and "
            f"`sgaplus study run {study} --profile paper` runs the paper's protocol on them."
        )
    return text


def headline(lines: pd.DataFrame, losses: pd.DataFrame, on: str, iteration: int) -> str:
    """What refinement saves at equal quality, and what moves at equal λ, in one paragraph.

    Args:
        lines: `deltas`.
        losses: `losses`.
        on: the images, in words.
        iteration: of the refined methods.
    """
    against = lines[lines["anchor"] == BASE].dropna(subset=["means_bd_rate"]).sort_values("means_bd_rate")
    if against.empty:
        return "There is no BD-rate here: it needs four λ, and a PSNR that grows with the rate."
    columns = ["means_bd_rate", "means_bd_rate_high", "means_bd_rate_low"]
    saved = [
        f"{statistics.interval(*-line[columns].astype(float), decimals=1, sign=False)} % with {line['arm']}"
        for _, line in against.iterrows()
    ]
    wide = losses.pivot_table(index="lmbda", columns="arm", values=["bpp", "psnr"])
    best = against["arm"].iloc[0]
    grows, better = ((wide[name][best] > wide[name][BASE]).sum() for name in ("bpp", "psnr"))
    return (
        f"**On {on}, refinement saves {', '.join(saved)} of the rate at equal PSNR** (BD-rate against the"
        f" base, which is the codec without refinement; {iteration} iterations). At equal λ the gain is"
        f" mostly in quality: with {best}, PSNR rises at {better} of {len(wide)} λ, and the files grow at"
        f" {grows}."
    )
