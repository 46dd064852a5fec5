"""Rate and distortion (paper, Figure 3a and 3b, Table 1): curves, gains, Bjøntegaard deltas, losses.

PSNR is that of floats, as in the paper, unless something else is said. *Curves* are the lines of each
configuration, by its name.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES
from sgaplus.errors import UserError

from .. import equal_rate, figures, palette, pool, statistics, tables
from ..configurations import BASE

WHOLE, CROPS = "whole", "crops"
Curves = dict[str, pd.DataFrame]


def _own(rows: pd.DataFrame, pictures: str) -> pd.DataFrame:
    if pictures not in (WHOLE, CROPS):
        raise UserError(f"unknown pictures '{pictures}': use {WHOLE} or {CROPS}")
    chosen = pool.own(rows[rows["image"].str.contains("@") == (pictures == CROPS)])
    if not (chosen["iterations"] > 0).any():
        other = CROPS if pictures == WHOLE else WHOLE
        raise UserError(f"nothing was refined on {pictures} pictures: use {other}")
    return chosen


def read_offs(rows: pd.DataFrame, pictures: str = WHOLE) -> list[int]:
    """The iterations at which every method has results on as many images and λ as at any, in order, on
    ``whole`` photographs or ``crops``, whose names end in ``@`` and the side in pixels."""
    own = _own(rows, pictures)
    read = own[own["read_off"] & (own["iteration"] > 0)]
    points = read[["configuration", "lmbda", "image", "iteration"]].drop_duplicates()
    counts = pd.crosstab(points["iteration"], points["configuration"])
    return [int(t) for t in counts.index[(counts == counts.max()).all(axis=1)]] or [int(counts.index[-1])]


def select(rows: pd.DataFrame, pictures: str = WHOLE, iteration: int | None = None) -> pd.DataFrame:
    """The rows of one iteration (the last of `read_offs` where None), refined at the codec's own λ."""
    chosen = _own(rows, pictures)
    return statistics.at(chosen, read_offs(rows, pictures)[-1] if iteration is None else iteration)


def curves(rows: pd.DataFrame) -> Curves:
    """Of each configuration with two λ or more, in the book's order, on the images that have all points."""
    counts = rows.groupby("configuration")["lmbda"].nunique()
    found = palette.parts(rows[rows["configuration"].isin(counts.index[counts > 1])])
    if BASE not in found or len(found) < 2:
        raise UserError("a curve needs two lambda, for the base and for one method: run the study to its end")
    images = equal_rate.whole_images(*found.values())
    if not images:
        raise UserError("no image has all points of all curves: run the study to its end")
    return {name: lines[lines["image"].isin(images)] for name, lines in found.items()}


def rows_of(found: Curves) -> pd.DataFrame:
    """The rows of all curves."""
    return pd.concat(found.values(), ignore_index=True)


def gains(found: Curves) -> pd.DataFrame:
    """The PSNR that each method gains over the base at the same rate: configuration, bpp, gain with its
    interval. Between its points a curve is interpolated (`equal_rate`); curves of the same λ over about the
    same rates, so that the error of doing so largely cancels.
    """

    def gain(name: str) -> pd.DataFrame:
        lmbdas = set(found[BASE]["lmbda"]) & set(found[name]["lmbda"])
        both = (found[side][found[side]["lmbda"].isin(lmbdas)] for side in (BASE, name))
        return equal_rate.band(*both).assign(configuration=name)

    return pd.concat([gain(name) for name in found if name != BASE], ignore_index=True)


_PSNR, _GAIN = "PSNR (dB)", f"PSNR − {BASE}'s at the same rate (dB)"


def _points(found: Curves) -> pd.DataFrame:
    return rows_of(found).groupby(["configuration", "lmbda"])[["bpp", "psnr"]].mean().reset_index()


def figure(found: Mapping[str, tuple[Curves, pd.DataFrame]]) -> Figure:
    """PSNR over rate of curves, and beside it their `gains`, whose bands are 95 % bootstrap intervals over
    images; several by what their titles end with."""

    def draw(axes: Axes, table: pd.DataFrame) -> None:
        if "gain" not in table:
            figures.lines(axes, table, "bpp", "psnr")
        else:
            figures.lines(axes, table, "bpp", "gain")
            axes.axhline(0, color=palette.looks([BASE])[BASE]["color"], linewidth=1.4)

    parts = {}
    for end, (drawn, bands) in found.items():
        parts |= {f"{_PSNR}{end}": _points(drawn), f"{_GAIN}{end}": bands}
    return figures.panels(parts, draw, rate=True, size=(4.5, 4.0), sharex=True, columns=2)


def lines(found: Curves, bands: pd.DataFrame) -> pd.DataFrame:
    """The same for `moving.lines`: ``part``, configuration, bpp, value with its interval; and each image."""
    names = {"psnr": "value", "gain": "value", "gain_low": "value_low", "gain_high": "value_high"}
    parts = {_PSNR: pd.concat([_points(found), rows_of(found)]), _GAIN: bands}
    tables = [table.assign(part=part).rename(columns=names) for part, table in parts.items()]
    columns = ["part", "configuration", "image", "bpp", "value", "value_low", "value_high"]
    return pd.concat(tables, ignore_index=True).reindex(columns=columns)


def per_image(found: Curves, anchors: Sequence[str]) -> pd.DataFrame:
    """`statistics.bd_per_image` of every configuration against each anchor that is among the curves."""
    rows = rows_of(found)
    tables = [
        statistics.bd_per_image(rows, anchor, name).assign(anchor=anchor, configuration=name)
        for anchor in anchors
        if anchor in found
        for name in found
        if name not in (anchor, BASE)
    ]
    columns = ["anchor", "configuration", "image", "points", "bd_rate", "bd_psnr"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def deltas(found: Curves, images: pd.DataFrame) -> pd.DataFrame:
    """By anchor and configuration `statistics.bd_summary` of `per_image`, and ``means_…`` of the curves."""
    rows = rows_of(found)
    return pd.DataFrame(
        [
            {"anchor": anchor, "configuration": name, "points": table["points"].min()}
            | statistics.bd_summary(table)
            | {f"means_{key}": value for key, value in statistics.bd_of_means(rows, anchor, name).items()}
            for (anchor, name), table in images.groupby(["anchor", "configuration"], sort=False)
        ]
    )


def show_deltas(lines: pd.DataFrame, csv: str, source: pd.DataFrame) -> None:
    """Display `deltas` of curves of means, and those image by image; ``source`` are the curves' rows."""
    several = "iteration" in lines and len(set(lines["iteration"])) > 1
    group = "against {anchor}" + ", {iteration} iterations" * several
    layout = {"group": group, "row": "configuration", "stub": "method", "source": source}
    tables.show(
        lines,
        "bd",
        name=f"{csv}-bd",
        caption="BD-rate and BD-PSNR of the curves of means over the images.",
        note="By pchip, over the λ that both curves have. Better: a negative BD-rate, a positive BD-PSNR.",
        **layout,
    )
    if lines["images"].max() > 1:
        tables.show(
            lines,
            "bd-images",
            name=f"{csv}-bd-images",
            caption="BD-rate and BD-PSNR image by image.",
            folded="Means and extremes over the images",
            note="Over the images with a BD-rate, which needs four λ and a PSNR that grows with the rate.",
            **layout,
        )


def deltas_figure(images: pd.DataFrame) -> Figure:
    """BD-rate of `per_image`, a panel for each anchor: points, and mean with its interval over images."""
    table = images.dropna(subset=["bd_rate"])
    return figures.panels(
        {f"against {anchor}": part for anchor, part in table.groupby("anchor", sort=False)},
        lambda axes, part: figures.points_with_means(axes, part, "bd_rate"),
        xlabel="BD-rate (%)",
        size=(4.5, 0.8 + 0.42 * table["configuration"].nunique()),
    )


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of every configuration at every λ at which something was refined, on the images that all have
    there, and change, the paired one of the loss from the base in percent, with its interval."""
    found = []
    for lmbda, group in rows.groupby("lmbda"):
        names = palette.in_order(group["configuration"])
        held = group.groupby("image")["configuration"].nunique()
        group = group[group["image"].isin(held.index[held == len(names)])]
        if names[0] == BASE and len(names) > 1 and len(group):
            means = group.groupby("configuration")[["loss", "bpp", "psnr", "psnr_8bit"]].mean()
            changes = statistics.paired_means(group, "loss", BASE).set_index("configuration")
            table = means.join(changes.drop(columns="verdict")).loc[names].reset_index()
            found.append(table.assign(lmbda=lmbda, images=group["image"].nunique()))
    return pd.concat(found, ignore_index=True)


def coverage(found: Curves, dataset: str, study: str) -> str:
    """Which and how many of a data set's images the curves are of, and how to compute the others."""
    names, source = found[BASE]["image"].unique(), SOURCES[dataset]
    side = names[0].partition("@")[2]
    pieces = f"the central {side} × {side} pixels of " if side else ""
    text = f"The curves are of {pieces}{len(names)} of the {source.images} photographs ({source.about})."
    if side or source.images > len(names):
        text += (
            f" For all photographs, whole: `sgaplus data fetch {dataset}` downloads them, and "
            f"`sgaplus study run {study} --profile paper` runs the paper's protocol on them."
        )
    return text


def headline(lines: pd.DataFrame, losses: pd.DataFrame, on: str, iteration: int) -> str:
    """What refinement saves at equal quality by `deltas`, and what moves at equal λ by `losses`, in words."""
    against = lines[lines["anchor"] == BASE].dropna(subset=["means_bd_rate"]).sort_values("means_bd_rate")
    if against.empty:
        return "There is no BD-rate here: it needs four λ, and a PSNR that grows with the rate."
    first, *others = [
        f"{statistics.said(line, 'means_bd_rate', decimals=1)} % with {line['configuration']}"
        for line in against.to_dict("records")
    ]
    wide = losses.pivot_table(index="lmbda", columns="configuration", values=["bpp", "psnr"])
    best = against["configuration"].iloc[0]
    grows, better = ((wide[name][best] > wide[name][BASE]).sum() for name in ("bpp", "psnr"))
    return (
        f"**On {on}, refinement changes the rate at equal PSNR by {first}**{', ' * bool(others)}"
        f"{', '.join(others)} (BD-rate against the base, which is the codec without refinement; {iteration}"
        f" iterations). At equal λ, with {best}, PSNR rises at {better} of {len(wide)} λ, and the files grow"
        f" at {grows}."
    )
