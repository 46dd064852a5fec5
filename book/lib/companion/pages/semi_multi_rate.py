"""One codec refined at other λ than its own (paper, Figure 3c): how far it moves, and what that costs.

The *family* are the codecs without refinement, each at the λ that it was trained for. What a refined codec
gains over it at the same rate is interpolated as `equal_rate` says. Its *reach* are the rates around
that of its own λ at which it falls short of the family by no more than a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sgaplus.errors import UserError

from .. import equal_rate, figures, palette, statistics
from ..configurations import BASE
from ..tables import Col

# Lines of each arm and codec λ, as `moved` returns them.
Curves = dict[tuple[str, float], pd.DataFrame]


def select(
    rows: pd.DataFrame, others: pd.DataFrame | None = None, iteration: int | None = None
) -> pd.DataFrame:
    """The read-offs of one iteration, on the images that are refined at other λ than their codec's.

    Args:
        rows: of the study, as `configurations.with_arms` returns them.
        others: of another study, which adds codecs at their own λ on the same images.
        iteration: the last one where None.

    Raises:
        UserError: nothing was refined at another λ, or read off there.
    """
    if not ((rows["lmbda"] != rows["codec_lmbda"]) & (rows["arm"] != BASE)).any():
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


def moved(rows: pd.DataFrame) -> Curves:
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


def _means(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.groupby(equal_rate.POINT)[["bpp", "psnr"]].mean().sort_values("bpp").reset_index()


def _panels(curves: Curves, draw: Callable[[Axes, str, dict[float, Any]], None], ylabel: str) -> Figure:
    """A panel for each arm, drawn with each codec's colour."""
    colours = palette.ordered(trained for _, trained in curves)

    def panel(axes: Axes, name: str) -> None:
        draw(axes, name, {trained: colours[trained] for arm, trained in curves if arm == name})
        figures.rate_axis(axes)
        # The curves of one codec span less than a decade.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))

    parts = {name: name for name, _ in curves}
    return figures.panels(parts, panel, ylabel=ylabel, size=(4.4, 4.2), legend=2, sharex=True, sharey=True)


def figure(rows: pd.DataFrame, curves: Curves) -> Figure:
    """PSNR over rate of the family and of each codec refined at several λ; a panel for each arm.

    Args:
        rows: as `select` returns them.
        curves: as `moved` returns them.
    """
    base = _means(family(rows))

    def draw(axes: Axes, name: str, colours: dict[float, Any]) -> None:
        for trained, colour in colours.items():
            line = _means(curves[name, trained])
            own = line[line["lmbda"] == trained]
            label = f"codec of λ = {trained:g}, refined"
            axes.plot(line["bpp"], line["psnr"], "o-", color=colour, markersize=3.5, label=label)
            axes.plot(own["bpp"], own["psnr"], "D", color=colour, markersize=8)
        axes.plot(base["bpp"], base["psnr"], "o--", color="black", markersize=5, label="family, not refined")

    return _panels(curves, draw, "PSNR (dB)")


def gain_figure(rows: pd.DataFrame, curves: Curves, tolerance: float = 0.0) -> Figure:
    """PSNR above the family's at the same rate, with 95 % bootstrap bands over images; a panel for each arm.

    Dotted lines are the rates of the codecs without refinement, the grey line is what the reach tolerates.

    Args:
        tolerance: dB under the family.
    """

    def draw(axes: Axes, name: str, colours: dict[float, Any]) -> None:
        for trained, colour in colours.items():
            line = equal_rate.band(*equal_rate.gains(family(rows), curves[name, trained]))
            label = f"codec of λ = {trained:g}, refined"
            axes.plot(line["bpp"], line["gain"], color=colour, linewidth=1.8, label=label)
            axes.fill_between(line["bpp"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
            axes.axvline(_rate_of(rows, trained), color=colour, linestyle=":", linewidth=1.2)
        axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
        axes.axhline(-tolerance, color="0.5", linewidth=0.8)

    return _panels(curves, draw, "PSNR − family's at the same rate (dB)")


def _rate_of(rows: pd.DataFrame, trained: float) -> float:
    """Mean rate of the codec without refinement."""
    own = family(rows)
    return float(own.loc[own["codec_lmbda"] == trained, "bpp"].mean())


REACHES = {
    "own": Col("bpp, not refined", 3),
    "low": Col("from", 3, under="reach, bpp"),
    "high": Col("to", 3, under="reach, bpp"),
    "open": Col("goes on", under="reach, bpp"),
    "low_factor": Col("from", 2, under="reach / bpp, not refined"),
    "high_factor": Col("to", 2, under="reach / bpp, not refined"),
    "sure_low": Col("from", 3, under="reach of the lower band, bpp"),
    "sure_high": Col("to", 3, under="reach of the lower band, bpp"),
    "lmbdas": Col("λ within reach"),
}


def reaches(rows: pd.DataFrame, curves: Curves, tolerance: float = 0.0) -> pd.DataFrame:
    """How far each codec reaches.

    Args:
        tolerance: dB under the family at the same rate.

    Returns:
        arm, codec_lmbda, images; own, the rate without refinement in bpp; low and high, the reach in bpp, and
        as factors of own; open, at which end the comparison ends and the reach may go on, since the family or
        the refined codec go no further; sure_low and sure_high, the reach of the lower end of the 95 % band
        of the gain; lmbdas, the λ whose mean points lie in the reach. NaN where the point of the codec's own
        λ falls short.
    """
    lines = []
    for (name, trained), refined in curves.items():
        rates, samples = equal_rate.gains(family(rows), refined)
        band = equal_rate.band(rates, samples)
        means, own = _means(refined), _rate_of(rows, trained)
        start = means.loc[means["lmbda"] == trained, "bpp"]
        at = float(start.iloc[0]) if len(start) else own
        low, high = _around(rates, band["gain"].to_numpy() >= -tolerance, at)
        sure_low, sure_high = _around(rates, band["low"].to_numpy() >= -tolerance, at)
        ends = {"below": len(rates) and low == rates[0], "above": len(rates) and high == rates[-1]}
        within = sorted(means.loc[means["bpp"].between(low, high), "lmbda"])
        lines.append(
            {"arm": name, "codec_lmbda": trained, "images": refined["image"].nunique(), "own": own}
            | {"low": low, "high": high, "low_factor": low / own, "high_factor": high / own}
            | {"open": " and ".join(name for name, is_open in ends.items() if is_open) or "–"}
            | {"sure_low": sure_low, "sure_high": sure_high}
            | {"lmbdas": ", ".join(f"{value:g}" for value in within) or "–"}
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


_CHANGE = "change of the loss from the codec trained for that λ, %"
MISMATCHES = {
    "arm": "method",
    "matched": Col("treated likewise", 2, sign=True, under=_CHANGE),
    "unrefined": Col("not refined", 2, sign=True, under=_CHANGE),
}


def mismatches(rows: pd.DataFrame) -> pd.DataFrame:
    """What it costs to use a codec at another λ than the one that it was trained for.

    Returns:
        One line per λ of the codec, other λ for which there is a codec, and arm (the base too): arm,
        codec_lmbda, lmbda, images; matched, the paired change in percent of the loss at that λ from the codec
        trained for it, refined likewise; and unrefined, from that codec without refinement; each with
        ``_low`` and ``_high``; NaN where there is no such codec.
    """
    own = rows[rows["lmbda"] == rows["codec_lmbda"]]
    lines = []
    for (trained, tested), moved_rows in rows[rows["lmbda"] != rows["codec_lmbda"]].groupby(
        ["codec_lmbda", "lmbda"]
    ):
        for name in palette.in_order(moved_rows["arm"]):
            group = moved_rows[moved_rows["arm"] == name]
            line = {"arm": name, "codec_lmbda": trained, "lmbda": tested, "images": group["image"].nunique()}
            for column, arm in (("matched", name), ("unrefined", BASE)):
                target = own[(own["arm"] == arm) & (own["lmbda"] == tested)]
                line |= _change(target, group, column)
            if np.isfinite([line["matched"], line["unrefined"]]).any():
                lines.append(line)
    return pd.DataFrame(lines)


def _change(target: pd.DataFrame, group: pd.DataFrame, column: str) -> dict[str, float]:
    names = (column, f"{column}_low", f"{column}_high")
    if not set(target["image"]) & set(group["image"]):
        return dict.fromkeys(names, float("nan"))
    sides = pd.concat([target.assign(arm="target"), group.assign(arm="moved")])
    # Two codecs are what is compared.
    found = statistics.paired_means(sides, "loss", "target", exempt=["codec_sha256"]).iloc[0]
    return dict(zip(names, map(float, found[["mean", "low", "high"]]), strict=True))


def price_figure(table: pd.DataFrame) -> Figure:
    """`mismatches` of codecs that are treated likewise: a panel for each arm, one scale of colours."""
    table = table.dropna(subset=["matched"])
    scale = {"vmin": table["matched"].min(), "vmax": table["matched"].max()}

    def draw(axes: Axes, lines: pd.DataFrame) -> None:
        figures.heat_map(axes, lines, "codec_lmbda", "lmbda", "matched", 0, sign=True, **scale)
        axes.set(xlabel="λ of the loss", ylabel="λ of the codec")

    parts = {name: table[table["arm"] == name] for name in palette.in_order(table["arm"])}
    return figures.panels(
        parts, draw, size=(4.2, 2.4), columns=2, xlabel="λ of the loss", ylabel="λ of the codec"
    )


RIVALS = {
    "lmbda": Col("λ of the loss"),
    "mean": Col("change of the true loss, %", 2, sign=True, ends=("low", "high")),
    "verdict": "verdict",
}


def rivals(rows: pd.DataFrame, arm: str, reference: str) -> pd.DataFrame:
    """One refined arm against another with the same codec at the same λ, on the same images.

    Returns:
        One row per codec and λ: codec_lmbda, lmbda, images, mean, low, high (percent of the true loss),
        verdict.
    """
    both = rows[rows["arm"].isin([arm, reference])]
    found = statistics.paired_means(both, "loss", reference, by=["codec_lmbda", "lmbda"]).drop(columns="arm")
    return found.assign(
        verdict=[statistics.verdict(*ends) for ends in zip(found["low"], found["high"], strict=True)]
    )


def describe_rivals(table: pd.DataFrame, arm: str, reference: str) -> str:
    """In words, where `rivals` has the one arm above the other, and where below."""
    said = []
    for word, where in (("higher", "higher than"), ("lower", "lower than")):
        lines = table[table["verdict"] == word]
        if len(lines):
            far = lines.loc[lines["mean"].abs().idxmax()]
            below = int((lines["lmbda"] < lines["codec_lmbda"]).sum())
            said.append(
                f"{where} that of {reference} for {len(lines)} of {len(table)} pairs of a codec and a λ,"
                f" {'all' if below == len(lines) else below} of them below the codec's own λ; the most for"
                f" the codec of λ = {far['codec_lmbda']:g} at λ = {far['lmbda']:g}, by"
                f" {statistics.interval(*far[['mean', 'low', 'high']])} %"
            )
    return f"The true loss of {arm} is {'. It is '.join(said)}." if said else ""
