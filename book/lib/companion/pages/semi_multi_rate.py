"""One codec refined at other λ than its own (paper, Figure 3c): how far it moves, and what that costs.

The *family* are the codecs without refinement, each at the λ that it was trained for. What a refined codec
gains over it at the same rate is interpolated as `analysis.equal_rate` says. Its *reach* are the rates around
that of its own λ at which it falls short of the family by no more than a tolerance.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sgaplus.errors import UserError

from .. import equal_rate, palette, statistics
from ..configurations import BASE
from ..figures import rate_axis

# Colours of the codecs, none of which is that of an arm on these pages.
_COLOURS = (2, 3, 4, 5, 7)


def select(
    rows: pd.DataFrame, others: pd.DataFrame | None = None, iteration: int | None = None
) -> pd.DataFrame:
    """The read-offs of one iteration, on the images that are refined at other λ than their codec's.

    Args:
        rows: of the study, as `analysis.arms.with_arms` returns them.
        others: of another study, which adds codecs at their own λ on the same images.
        iteration: the last one where None.

    Raises:
        UserError: nothing was refined at another λ, or read off there.
    """
    moved = rows[(rows["lmbda"] != rows["codec_lmbda"]) & (rows["arm"] != BASE)]
    if moved.empty:
        raise UserError("nothing was refined at another lambda than the codec's: run the study to its end")
    table = rows
    if others is not None:
        added = others[(others["lmbda"] == others["codec_lmbda"]) & others["image"].isin(rows["image"])]
        table = pd.concat([rows, added[added["arm"].isin(rows["arm"])]], ignore_index=True)
        table = table.drop_duplicates(["key", "iteration"], ignore_index=True)
    last = int(rows.loc[rows["read_off"], "iteration"].max())
    return statistics.at(table, last if iteration is None else iteration)


def family(rows: pd.DataFrame) -> pd.DataFrame:
    """The unrefined codecs' lines, each at its own λ."""
    return rows[(rows["arm"] == BASE) & (rows["lmbda"] == rows["codec_lmbda"])]


def moved(rows: pd.DataFrame) -> dict[tuple[str, float], pd.DataFrame]:
    """Lines of each arm and codec λ that was refined at two λ or more, on the images that have all of them.

    Raises:
        UserError: there is none.
    """
    found = {}
    refined = rows[rows["arm"] != BASE]
    for name in palette.in_order(refined["arm"]):
        for trained, lines in refined[refined["arm"] == name].groupby("codec_lmbda"):
            images = equal_rate.whole_images(lines, family(rows))
            if len(lines["lmbda"].unique()) > 1 and images:
                found[name, float(trained)] = lines[lines["image"].isin(images)]
    if not found:
        raise UserError("no codec was refined at two lambda on the same images: run the study to its end")
    return found


def _panels(
    curves: dict[tuple[str, float], pd.DataFrame],
) -> tuple[Figure, dict[str, Axes], dict[float, str]]:
    """A panel for each arm, and each codec's colour."""
    names = list(dict.fromkeys(name for name, _ in curves))
    trained = sorted({value for _, value in curves})
    colours = {value: palette.colour(_COLOURS[i % len(_COLOURS)]) for i, value in enumerate(trained)}
    canvas, grid = plt.subplots(
        1,
        len(names),
        figsize=(5 * len(names), 4.6),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    panels = dict(zip(names, grid[0], strict=True))
    for name, axes in panels.items():
        axes.set_title(name)
        rate_axis(axes)
        # The curves of one codec span less than a decade.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    return canvas, panels, colours


def _means(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.groupby(equal_rate.POINT)[["bpp", "psnr"]].mean().sort_values("bpp").reset_index()


def figure(rows: pd.DataFrame, curves: dict[tuple[str, float], pd.DataFrame]) -> Figure:
    """PSNR over rate of the family and of each codec refined at several λ; a panel for each arm.

    Args:
        rows: as `select` returns them.
        curves: as `moved` returns them.
    """
    canvas, panels, colours = _panels(curves)
    for (name, trained), lines in curves.items():
        line = _means(lines)
        own = line[line["lmbda"] == trained]
        axes, look = panels[name], {"color": colours[trained]}
        axes.plot(
            line["bpp"],
            line["psnr"],
            "o-",
            **look,
            markersize=3.5,
            label=f"codec of λ = {trained:g}, refined",
        )
        axes.plot(own["bpp"], own["psnr"], "D", **look, markersize=8)
    line = _means(family(rows))
    for axes in panels.values():
        axes.plot(line["bpp"], line["psnr"], "o--", color="black", markersize=5, label="family, not refined")
    first = next(iter(panels.values()))
    first.set_ylabel("PSNR (dB)")
    canvas.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return canvas


def gain_figure(
    rows: pd.DataFrame, curves: dict[tuple[str, float], pd.DataFrame], tolerance: float = 0.0
) -> Figure:
    """PSNR above the family's at the same rate, with 95 % bootstrap bands over images; a panel for each arm.

    Dotted lines are the rates of the codecs without refinement, the grey line is what the reach tolerates.

    Args:
        tolerance: dB under the family.
    """
    canvas, panels, colours = _panels(curves)
    for (name, trained), lines in curves.items():
        line = equal_rate.band(*equal_rate.gains(family(rows), lines))
        axes, colour = panels[name], colours[trained]
        axes.plot(
            line["bpp"], line["gain"], color=colour, linewidth=1.8, label=f"codec of λ = {trained:g}, refined"
        )
        axes.fill_between(line["bpp"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        axes.axvline(_rate_of(rows, trained), color=colour, linestyle=":", linewidth=1.2)
    for axes in panels.values():
        axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
        axes.axhline(-tolerance, color="0.5", linewidth=0.8)
    first = next(iter(panels.values()))
    first.set_ylabel("PSNR − family's at the same rate (dB)")
    canvas.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return canvas


def _rate_of(rows: pd.DataFrame, trained: float) -> float:
    """Mean rate of the codec without refinement."""
    own = family(rows)
    return float(own.loc[own["codec_lmbda"] == trained, "bpp"].mean())


def reaches(
    rows: pd.DataFrame, curves: dict[tuple[str, float], pd.DataFrame], tolerance: float = 0.0
) -> pd.DataFrame:
    """How far each codec reaches.

    Args:
        tolerance: dB under the family at the same rate.

    Returns:
        arm, codec_lmbda, images; own, the rate without refinement in bpp; reach_low and reach_high in bpp;
        open_low and open_high, whether that end is only where the comparison ends, since the family or the
        refined codec go no further; sure_low and sure_high, the same for the lower end of the 95 % band of the
        gain; lmbdas, the λ whose mean points lie in the reach. NaN where the point of the codec's own λ falls
        short.
    """
    lines = []
    for (name, trained), refined in curves.items():
        rates, samples = equal_rate.gains(family(rows), refined)
        band = equal_rate.band(rates, samples)
        means = _means(refined)
        start = means.loc[means["lmbda"] == trained, "bpp"]
        at = float(start.iloc[0]) if len(start) else _rate_of(rows, trained)
        low, high = _around(rates, band["gain"].to_numpy() >= -tolerance, at)
        sure_low, sure_high = _around(rates, band["low"].to_numpy() >= -tolerance, at)
        lines.append(
            {"arm": name, "codec_lmbda": trained, "images": refined["image"].nunique()}
            | {"own": _rate_of(rows, trained), "reach_low": low, "reach_high": high}
            | {"open_low": bool(len(rates) and low == rates[0])}
            | {"open_high": bool(len(rates) and high == rates[-1])}
            | {"sure_low": sure_low, "sure_high": sure_high}
            | {"lmbdas": sorted(means.loc[means["bpp"].between(low, high), "lmbda"])}
        )
    return pd.DataFrame(lines)


def _around(rates: np.ndarray, fits: np.ndarray, at: float) -> tuple[float, float]:
    """Ends of the connected rates that fit, around the one nearest to ``at``; NaN where that does not fit."""
    if not len(rates):
        return float("nan"), float("nan")
    position = int(np.abs(np.log(rates / at)).argmin())
    if not fits[position]:
        return float("nan"), float("nan")
    gaps = np.flatnonzero(~fits)
    low = gaps[gaps < position].max(initial=-1) + 1
    high = gaps[gaps > position].min(initial=len(rates)) - 1
    return float(rates[low]), float(rates[high])


def mismatches(rows: pd.DataFrame) -> pd.DataFrame:
    """What it costs to use a codec at another λ than the one that it was trained for.

    Returns:
        One line per arm (the base too), λ of the codec and other λ for which there is a codec: arm,
        codec_lmbda, lmbda, images; matched, the paired change in percent of the loss at that λ from the codec
        trained for it, refined likewise; and unrefined, from that codec without refinement; each with ``_low``
        and ``_high``; NaN where there is no such codec.
    """
    own = rows[rows["lmbda"] == rows["codec_lmbda"]]
    lines = []
    for name in palette.in_order(rows["arm"]):
        table = rows[(rows["arm"] == name) & (rows["lmbda"] != rows["codec_lmbda"])]
        for (trained, tested), group in table.groupby(["codec_lmbda", "lmbda"]):
            line = {"arm": name, "codec_lmbda": trained, "lmbda": tested, "images": group["image"].nunique()}
            for column, arm in (("matched", name), ("unrefined", BASE)):
                target = own[(own["arm"] == arm) & (own["lmbda"] == tested)]
                line |= _change(target, group, column)
            if np.isfinite([line["matched"], line["unrefined"]]).any():
                lines.append(line)
    return pd.DataFrame(lines)


def _change(target: pd.DataFrame, group: pd.DataFrame, column: str) -> dict[str, float]:
    sides = pd.concat([target.assign(arm="target"), group.assign(arm="moved")])
    if not set(target["image"]) & set(group["image"]):
        return {f"{column}{end}": float("nan") for end in ("", "_low", "_high")}
    found = statistics.paired_means(sides, "loss", "target").iloc[0]
    return {
        f"{column}{end}": float(found[name])
        for end, name in (("", "mean"), ("_low", "low"), ("_high", "high"))
    }
