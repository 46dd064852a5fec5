"""One codec refined at other λ than its own (paper, Figure 3c): how far it moves, and what that costs.

The *family* are the codecs without refinement, each at the λ that it was trained for. What a refined codec
gains over it at the same rate is interpolated as `equal_rate` says. Its *reach* are the rates around
that of its own λ at which it falls short of the family by no more than a tolerance.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sgaplus.errors import UserError

from .. import equal_rate, figures, palette, pool, statistics
from ..configurations import BASE

CODEC = ["configuration", "codec_lmbda"]
_PLACE = ("codec_lmbda", "lmbda")  # rows and columns of heat maps
_AXES = {"xlabel": "λ of the loss", "ylabel": "λ of the codec"}


def select(
    rows: pd.DataFrame, others: pd.DataFrame | None = None, iteration: int | None = None
) -> pd.DataFrame:
    """The read-offs of one iteration (the last where None), on images refined at other λ than the codec's;
    ``others``, of another study, add codecs at their own λ on the same images."""
    if not ((rows["lmbda"] != rows["codec_lmbda"]) & (rows["configuration"] != BASE)).any():
        raise UserError("nothing was refined at another lambda than the codec's: run the study to its end")
    if others is not None:
        added = pool.own(others[others["image"].isin(rows["image"])])
        added = added[added["configuration"].isin(rows["configuration"])]
        table = pd.concat([rows, added]).drop_duplicates(["key", "iteration"], ignore_index=True)
    else:
        table = rows
    last = int(rows.loc[rows["read_off"], "iteration"].max())
    return statistics.at(table, last if iteration is None else iteration)


def family(rows: pd.DataFrame) -> pd.DataFrame:
    """The unrefined codecs' lines, each at its own λ."""
    return pool.own(rows[rows["configuration"] == BASE])


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Lines of what was refined at two λ or more, by `CODEC`, on the images that have all of them."""
    whole = [
        lines[lines["image"].isin(equal_rate.whole_images(lines, family(rows)))]
        for _, lines in rows[rows["configuration"] != BASE].groupby(CODEC)
        if len(lines["lmbda"].unique()) > 1
    ]
    found = pd.concat(whole) if whole else rows.iloc[:0]
    if found.empty:
        raise UserError("no codec was refined at two lambda on the same images: run the study to its end")
    return found


def _means(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.groupby(equal_rate.POINT)[["bpp", "psnr"]].mean().sort_values("bpp").reset_index()


def _panels(
    curves: pd.DataFrame,
    line: Callable[[Axes, pd.DataFrame, float, Any], None],
    family: Callable[[Axes], None],
    ylabel: str,
) -> Figure:
    """A panel for each configuration: ``line`` for each codec in its colour, then the ``family``."""
    colours = palette.ordered(curves["codec_lmbda"])

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        for trained, lines in part.groupby("codec_lmbda"):
            line(axes, lines, trained, {"color": colours[trained]})
        family(axes)
        figures.rate_axis(axes)
        # The curves of one codec span less than a decade.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))

    layout = {"ylabel": ylabel, "size": (4.4, 4.2), "legend": 2, "sharex": True, "sharey": True}
    return figures.panels(palette.parts(curves), draw, **layout)


def figure(rows: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """PSNR over rate of the family in `select` and of each codec in `moved`; a panel per configuration."""
    base = _means(family(rows))

    def draw(axes: Axes, lines: pd.DataFrame, trained: float, look: Any) -> None:
        points = _means(lines)
        label = f"codec of λ = {trained:g}, refined"
        own = points[points["lmbda"] == trained]
        axes.plot(points["bpp"], points["psnr"], "o-", **look, markersize=3.5, label=label)
        axes.plot(own["bpp"], own["psnr"], "D", **look, markersize=8)

    def line(axes: Axes) -> None:
        axes.plot(base["bpp"], base["psnr"], "o--", color="black", markersize=5, label="family, not refined")

    return _panels(curves, draw, line, "PSNR (dB)")


def gain_figure(rows: pd.DataFrame, curves: pd.DataFrame, tolerance: float = 0.0) -> Figure:
    """PSNR above the family's at the same rate. Dotted lines are the rates of the codecs without refinement,
    the grey line is what the reach tolerates (dB under the family)."""

    def draw(axes: Axes, lines: pd.DataFrame, trained: float, look: Any) -> None:
        band = equal_rate.band(family(rows), lines)
        label = f"codec of λ = {trained:g}, refined"
        axes.plot(band["bpp"], band["gain"], **look, linewidth=1.8, label=label)
        axes.fill_between(band["bpp"], band["gain_low"], band["gain_high"], **look, alpha=0.15, linewidth=0)
        axes.axvline(_rate_of(rows, trained), **look, linestyle=":", linewidth=1.2)

    def zero(axes: Axes) -> None:
        axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
        axes.axhline(-tolerance, color="0.5", linewidth=0.8)

    return _panels(curves, draw, zero, "PSNR − family's at the same rate (dB)")


def _rate_of(rows: pd.DataFrame, trained: float) -> float:
    """Mean rate of the codec without refinement."""
    own = family(rows)
    return float(own.loc[own["codec_lmbda"] == trained, "bpp"].mean())


def reaches(rows: pd.DataFrame, curves: pd.DataFrame, tolerance: float = 0.0) -> pd.DataFrame:
    """How far each codec reaches, where it is at most ``tolerance`` dB under the family at the
    same rate; NaN where the point of the codec's own λ falls short.

    The reach may go on (open) where the family or the refined codec go no further.
    """
    found = []
    for (name, trained), refined in curves.groupby(CODEC):
        band, means, own = equal_rate.band(family(rows), refined), _means(refined), _rate_of(rows, trained)
        at = means.set_index("lmbda")["bpp"].get(trained, own)
        low, high = _around(band, "gain", -tolerance, at)
        sure_low, sure_high = _around(band, "gain_low", -tolerance, at)
        ends = ["below"] * bool(low == band["bpp"].min()) + ["above"] * bool(high == band["bpp"].max())
        within = [f"{value:g}" for value in sorted(means.loc[means["bpp"].between(low, high), "lmbda"])]
        found.append(
            {"configuration": name, "codec_lmbda": trained, "images": refined["image"].nunique(), "own": own}
            | {"low": low, "high": high, "low_factor": low / own, "high_factor": high / own}
            | {"open": " and ".join(ends) or "–", "sure_low": sure_low, "sure_high": sure_high}
            | {"lmbdas": ", ".join(within) or "–"}
        )
    return pd.DataFrame(found)


def _around(band: pd.DataFrame, column: str, least: float, at: float) -> tuple[float, float]:
    """Ends of the connected rates at which a column is no less, around the rate nearest to ``at``, or NaN."""
    fits = (band[column] >= least).to_numpy()
    position = int(np.abs(np.log(band["bpp"] / at)).argmin()) if len(band) else 0
    if not len(band) or not fits[position]:
        return float("nan"), float("nan")
    runs = np.cumsum(np.diff(fits, prepend=fits[0]))
    rates = band.loc[runs == runs[position], "bpp"]
    return float(rates.iloc[0]), float(rates.iloc[-1])


def mismatches(rows: pd.DataFrame) -> pd.DataFrame:
    """What it costs to use a codec at another λ than the one that it was trained for.

    Returns:
        By λ of the codec, other λ for which there is a codec, and configuration (the base too): the paired
        change in percent of the loss at that λ from the codec trained for it, refined likewise (matched), and
        not refined (unrefined); with intervals; NaN where there is no such codec.
    """
    own, found = pool.own(rows), []
    for (trained, lmbda), moved in rows[rows["lmbda"] != rows["codec_lmbda"]].groupby(equal_rate.POINT):
        for name, group in palette.parts(moved).items():
            line = {"configuration": name, "codec_lmbda": trained, "lmbda": lmbda}
            line["images"] = group["image"].nunique()
            for column, side in (("matched", name), ("unrefined", BASE)):
                target = own[(own["configuration"] == side) & (own["lmbda"] == lmbda)]
                if target["image"].isin(group["image"]).any():
                    sides = [target.assign(configuration="target"), group.assign(configuration="moved")]
                    # Two codecs are what is compared.
                    change = statistics.paired(pd.concat(sides), "loss", "target", exempt=["codec_sha256"])
                    values = change.set_index("image")["change"]
                    line |= statistics.intervals(values.to_frame(column))
            if len(line) > 4:
                found.append(line)
    return pd.DataFrame(found)


def price_figure(table: pd.DataFrame) -> Figure:
    """`mismatches` of codecs that are treated likewise: a panel per configuration, one scale of colours."""
    table = table.dropna(subset=["matched"])
    style = {"vmin": table["matched"].min(), "vmax": table["matched"].max()}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        figures.heat_map(axes, part, *_PLACE, "matched", "+.0f", **style)

    return figures.panels(palette.parts(table), draw, size=(4.2, 2.4), columns=2, **_AXES)


def rivals(rows: pd.DataFrame, name: str, reference: str) -> pd.DataFrame:
    """One refined configuration against another by codec and λ, on the same images."""
    both = rows[rows["configuration"].isin([name, reference])]
    return statistics.paired_means(both, "loss", reference, equal_rate.POINT).drop(columns="configuration")


def rivals_figure(table: pd.DataFrame) -> Figure:
    """`rivals` as a heat map of codec and λ; what is not significant stands in parentheses."""
    most, texts = table["change"].abs().max(), table["change"].map("{:+.1f}".format)
    texts = texts.where(table["verdict"].isin(["lower", "higher"]), "(" + texts + ")")
    style = {"texts": "text", "cmap": "RdBu_r", "vmin": -most, "vmax": most}

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        figures.heat_map(axes, part, *_PLACE, "change", "+.1f", **style)

    return figures.panels({"": table.assign(text=texts)}, draw, size=(7.5, 2.2), **_AXES)
