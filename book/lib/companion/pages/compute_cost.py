"""The page on what a gain costs: gain over iterations and over seconds, and the seconds of a given gain.

The *gain* is the reduction of the true loss against the codec's own, in percent: the mean over images of each
image's. Seconds are of encoding, per megapixel, by the median time of a step over all methods.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.codecs.bundled import cards
from sgaplus.errors import UserError

from .. import figures, palette, statistics
from ..tables import Col
from . import descent


def megapixels(image: str) -> float:
    """Of an image of a study by its name: a centre crop (``…@256``) or a whole photograph of Kodak."""
    if crop := re.fullmatch(r".+@(\d+)", image):
        return int(crop[1]) ** 2 / 1e6
    if re.fullmatch(r"kodim\d\d", image):
        return 768 * 512 / 1e6  # upright or not
    raise UserError(f"the size of {image} is not known: use rows of Kodak or of crops")


def step_seconds(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a step per megapixel over the jobs of each configuration, in the book's order, on the
    processor on which they took least: configuration, device, seconds (median), least, most, jobs."""
    last = rows[(rows["iterations"] > 0) & (rows["iteration"] == rows["iterations"])]
    each = last["seconds"] / last["iterations"] / last["image"].map(megapixels)
    device = each.groupby(last["device"]).median().idxmin()
    last, each = last[last["device"] == device], each[last["device"] == device]
    table = each.groupby(last["configuration"]).agg(seconds="median", least="min", most="max", jobs="size")
    return table.loc[palette.in_order(table.index)].reset_index().assign(device=device)


def widths(rows: pd.DataFrame) -> dict[str, str]:
    """N and M of the bundled codecs that rows are of; empty where they are of others."""
    used = set(rows[["codec", "codec_lmbda"]].drop_duplicates().itertuples(index=False, name=None))
    own = [card for card in cards() if (card.name, card.lmbda) in used]
    found = {name: sorted({getattr(card, name) for card in own}) for name in "NM"}
    return {name: " and ".join(map(str, values)) for name, values in found.items()}


def quiet_seconds(measured: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Seconds of a step per megapixel where nothing else ran, by place, from `speed.load`, not compiled: the
    median, least and most over sizes of pictures."""
    here = measured[(measured["dtype"] == dtype) & ~measured["compiled"]]
    if here.empty:
        raise UserError(f"no step was measured in {dtype}: run `sgaplus bench --dtype {dtype}`")
    grouped = here.groupby(["place", "N", "M"], sort=False)["per_megapixel"]
    return grouped.agg(seconds="median", least="min", most="max", sizes="size").reset_index()


def curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By configuration, in the book's order: the mean gain over traced iterations (the columns, 0 among
    them) of all images and of samples of them (the rows)."""
    found = {}
    for name, own in palette.parts(descent.changes(rows)).items():
        wide = -own.pivot_table(index="image", columns="iteration", values="change")
        found[name] = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    return found


def over_iterations(rows: pd.DataFrame, iterations: Sequence[int]) -> tuple[pd.DataFrame, dict[str, Col]]:
    """By configuration the gain in percent after so many iterations (``gain_…``), and which share it is of
    the gain after the last of them (``share_…``, percent), with intervals; and how these are shown."""
    known, iterations = descent.iterations_of(rows), sorted(iterations)
    if missing := [t for t in iterations if t not in known]:
        raise UserError(f"not all rows have iteration {missing[0]}: use some of {', '.join(map(str, known))}")
    lines = []
    for name, gains in curves(rows).items():
        line: dict[str, Any] = {"configuration": name}
        for t in iterations:
            line |= statistics.with_interval(f"gain_{t}", gains[t])
            line |= statistics.with_interval(f"share_{t}", 100 * gains[t] / gains[iterations[-1]])
        lines.append(line)
    gain, share = "gain after so many iterations, %", f"% of the gain after {iterations[-1]} iterations"
    columns = {f"gain_{t}": Col(f"{t}", 1, best="max", under=gain) for t in iterations}
    columns |= {f"share_{t}": Col(f"{t}", 0, under=share) for t in iterations[:-1]}
    return pd.DataFrame(lines), columns


def levels(rows: pd.DataFrame, percent: Sequence[float]) -> pd.DataFrame:
    """Iterations after which the mean gain reaches a level, by level and configuration, linear between the
    traced ones, with intervals; NaN where the level is not reached."""
    found = curves(rows)
    lines = [
        {"level": level, "configuration": name}
        | statistics.with_interval("iterations", gains.apply(_crossing, axis=1, level=level).to_numpy())
        for level in percent
        for name, gains in found.items()
    ]
    return pd.DataFrame(lines).replace(np.inf, np.nan)


def _crossing(gains: pd.Series, level: float) -> float:
    """When a curve that starts at 0 first reaches a level above 0; infinite where it does not."""
    if not (gains >= level).any():
        return float("inf")
    # Up to there the curve is below the level, so that it has one point at it.
    until = gains.loc[: (gains >= level).idxmax()].iloc[-2:]
    return float(np.interp(level, until, until.index))


def costs(reached: pd.DataFrame, step: float, quiet: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Col]]:
    """`levels` with the encoding seconds per megapixel: ``stored``, by the seconds of a ``step`` per
    megapixel of all methods, and a column for each place of `quiet_seconds`; and how these are shown."""
    places = {"stored": step} | {row.place: row.seconds for row in quiet.itertuples()}
    table = reached.assign(**{place: reached["iterations"] * seconds for place, seconds in places.items()})
    columns = {"iterations": Col("iterations", 0, best="min")}
    for place in places:
        heading = "as stored" if place == "stored" else place
        columns[place] = Col(heading, 3, significant=True, under="encoding, seconds per megapixel")
    return table, columns


def figure(rows: pd.DataFrame, step: float) -> Figure:
    """Gain over iterations, and over encoding seconds per megapixel by the seconds of a ``step`` per
    megapixel, with its interval: a line for each configuration."""
    table = descent.changes(rows)
    table = table.assign(gain=-table["change"], seconds=step * table["iteration"])

    def draw(axes: Axes, x: str) -> None:
        figures.lines(axes, table[table["iteration"] > 0] if x == "seconds" else table, x, "gain")
        if x == "seconds":
            axes.set(xscale="log", xlabel="encoding seconds per megapixel")
            figures.plain_numbers(axes.xaxis)

    parts = {"over iterations": "iteration", "over seconds (logarithmic)": "seconds"}
    return figures.panels(parts, draw, ylabel="reduction of the true loss (%)", size=(4.2, 4), sharey=True)
