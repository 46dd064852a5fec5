"""The page on what a gain costs: gain against iterations and against seconds, and the seconds of a given
gain.

The *gain* is the reduction of the true loss against the codec's own, in percent: the mean over images of each
image's. Seconds are of encoding, per megapixel; the decoder does the same work as before. All methods take
the same
time for a step: what differs between them is less than what differs between the jobs of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sgaplus.codecs.bundled import cards
from sgaplus.errors import UserError

from .. import figures, palette, statistics
from ..tables import Col
from . import descent

# All 24 photographs of Kodak have this size, upright or not.
_KODAK = 768 * 512


def megapixels(image: str) -> float:
    """Of an image of a study by its name: a centre crop (``…@256``) or a whole photograph of Kodak.

    Raises:
        UserError: it is neither.
    """
    if crop := re.fullmatch(r".+@(\d+)", image):
        return int(crop[1]) ** 2 / 1e6
    if re.fullmatch(r"kodim\d\d", image):
        return _KODAK / 1e6
    raise UserError(f"the size of {image} is not known: use rows of Kodak or of crops")


def arms_of(rows: pd.DataFrame) -> list[str]:
    """The refined arms in the book's order."""
    return palette.in_order(rows.loc[rows["iterations"] > 0, "arm"])


def step_seconds(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a step per megapixel, from the stored rows: median over the jobs of each arm.

    Returns:
        One row per arm: arm, seconds, least, most, jobs.
    """
    last = rows[(rows["iterations"] > 0) & (rows["iteration"] == rows["iterations"])]
    each = last["seconds"] / last["iterations"] / last["image"].map(megapixels)
    table = each.groupby(last["arm"]).agg(seconds="median", least="min", most="max", jobs="size")
    return table.loc[arms_of(rows)].reset_index()


def quiet_seconds(measured: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Seconds of a step per megapixel where nothing else ran, from the measurements of `sgaplus bench`, not
    compiled.

    Args:
        measured: the first table of `speed.load`.
        dtype: the rows' number format.

    Returns:
        One row per place: place, N, M, seconds (median over sizes of pictures), least, most, sizes.

    Raises:
        UserError: nothing was measured in this format.
    """
    here = measured[(measured["dtype"] == dtype) & ~measured["compiled"]]
    if here.empty:
        raise UserError(f"no step was measured in {dtype}: run `sgaplus bench --dtype {dtype}`")
    each = here.assign(seconds=here["ours_seconds"] / here["megapixels"])
    grouped = each.groupby(["place", "N", "M"], sort=False)["seconds"]
    return grouped.agg(seconds="median", least="min", most="max", sizes="size").reset_index()


def curve(rows: pd.DataFrame, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Traced iterations (T,), 0 among them, and the mean gain of all images and of samples (1 + R, T)."""
    own = descent.changes(rows[rows["arm"] == arm])
    wide = -own.pivot_table(index="image", columns="iteration", values="change")
    return wide.columns.to_numpy(), statistics.resampled_means(wide)


def over_iterations(rows: pd.DataFrame, iterations: Sequence[int]) -> tuple[pd.DataFrame, dict[str, Col]]:
    """Gain after so many iterations, and which share it is of the gain after the last of them.

    Args:
        rows: stored lines, as `configurations.with_arms` returns them.

    Returns:
        One row per arm: arm and, for each iteration, ``gain_…`` in percent and ``share_…`` in percent of the
        gain after the last, each with ``_low`` and ``_high``; and how these are shown.

    Raises:
        UserError: an iteration was not traced for every arm.
    """
    known, iterations = descent.iterations_of(rows), sorted(iterations)
    if missing := [t for t in iterations if t not in known]:
        raise UserError(f"not all rows have iteration {missing[0]}: use some of {', '.join(map(str, known))}")
    lines = []
    for arm in arms_of(rows):
        times, gains = curve(rows, arm)
        at = {t: gains[:, list(times).index(t)] for t in iterations}
        line: dict[str, str | float] = {"arm": arm}
        for t in iterations:
            line |= statistics.with_interval(f"gain_{t}", at[t])
            line |= statistics.with_interval(f"share_{t}", 100 * at[t] / at[iterations[-1]])
        lines.append(line)
    gain, share = "gain after so many iterations, %", f"% of the gain after {iterations[-1]} iterations"
    columns = {f"gain_{t}": Col(f"{t}", 2, best="max", under=gain) for t in iterations}
    columns |= {f"share_{t}": Col(f"{t}", 0, under=share) for t in iterations[:-1]}
    return pd.DataFrame(lines), columns


def levels(rows: pd.DataFrame, percent: Sequence[float]) -> pd.DataFrame:
    """Iterations after which the mean gain reaches a level, linear between the traced ones.

    Args:
        percent: the levels.

    Returns:
        One row per level and arm: level, arm, iterations with iterations_low and iterations_high; NaN where
        the level is not reached.
    """
    lines = []
    for level in percent:
        for arm in arms_of(rows):
            times, means = curve(rows, arm)
            found = np.array([_crossing(times, mean, level) for mean in means])
            lines.append({"level": level, "arm": arm} | statistics.with_interval("iterations", found))
    return pd.DataFrame(lines).replace(np.inf, np.nan)


def _crossing(times: np.ndarray, gains: np.ndarray, level: float) -> float:
    """When a curve that starts at 0 first reaches a level above 0; infinite where it does not."""
    above = np.flatnonzero(gains >= level)
    if not len(above):
        return float("inf")
    after = above[0]
    before = after - 1
    part = (level - gains[before]) / (gains[after] - gains[before])
    return float(times[before] + part * (times[after] - times[before]))


def costs(reached: pd.DataFrame, step: float, quiet: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Col]]:
    """`levels` with the encoding seconds per megapixel: ``stored``, and a column for each place of
    `quiet_seconds`.

    Args:
        step: seconds of a step per megapixel, of all methods.
        reached, quiet: as `levels` and `quiet_seconds` return them.

    Returns:
        The table, and how its columns are shown.
    """
    places = {"stored": step} | {row.place: row.seconds for row in quiet.itertuples()}
    table = reached.assign(**{place: reached["iterations"] * seconds for place, seconds in places.items()})
    over = "encoding, seconds per megapixel"
    columns = {"iterations": Col("iterations", 0, best="min")}
    columns |= {
        place: Col("as stored" if place == "stored" else place, 3, significant=True, under=over)
        for place in places
    }
    return table, columns


def curves(rows: pd.DataFrame, step: float) -> Figure:
    """Gain over iterations, and over encoding seconds per megapixel, with its interval: a line for each arm.

    Args:
        step: seconds of a step per megapixel, of all methods.
    """
    table = descent.changes(rows)
    table = table.assign(gain=-table["change"], seconds=step * table["iteration"])

    def draw(axes: Axes, x: str) -> None:
        figures.lines(axes, table[table["iteration"] > 0] if x == "seconds" else table, x, "gain")
        if x == "seconds":
            axes.set(xscale="log", xlabel="encoding seconds per megapixel")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())

    parts = {"over iterations": "iteration", "over seconds (logarithmic)": "seconds"}
    return figures.panels(parts, draw, ylabel="reduction of the true loss (%)", size=(4.2, 4), sharey=True)


def describe_seconds(steps: pd.DataFrame, quiet: pd.DataFrame, rows: pd.DataFrame) -> str:
    """In words: what a step costs, how jobs and methods differ, of which network the quiet times are."""
    within, across = (steps["most"] / steps["least"]).max(), steps["seconds"].max() / steps["seconds"].min()
    card = next(card for card in cards() if card.name == rows["codec"].iloc[0])
    text = (
        f"As stored (on {', '.join(rows['device'].unique())}), a step takes {steps['seconds'].median():.3g} s"
        " per megapixel (median over methods of the median over jobs). Jobs of one method differ by a factor"
        f" of up to {within:.2f}, the medians of the methods by {across:.2f}, "
        + ("so one time stands for all." if across <= within else "so one time for all is a simplification.")
    )
    for row in quiet.itertuples():
        text += (
            f" With nothing else running, it takes {row.seconds:.3g} s ({row.least:.3g} to {row.most:.3g}"
            f" over {row.sizes} sizes of pictures) on {row.place}."
        )
        if (row.N, row.M) != (card.N, card.M):
            text += (
                f" `{card.name}` has N = {card.N} and M = {card.M}, so these are not the seconds of the rows'"
                " own codec."
            )
    return text
