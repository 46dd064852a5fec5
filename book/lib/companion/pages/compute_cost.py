"""The page on what a gain costs: gain against iterations and against seconds, and the seconds of a given gain.

The *gain* is the reduction of the true loss against the codec's own, in percent: the mean over images of each
image's. Seconds are of encoding, per megapixel; the decoder does the same work as before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from great_tables import GT, loc, style
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sgaplus.codecs.weights import cards
from sgaplus.errors import UserError

from .. import palette, statistics
from ..gains import arms_of, curve
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
    """Seconds of a step per megapixel where nothing else ran, from the measurements of `sgaplus bench`, not compiled.

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


def levels(rows: pd.DataFrame, percent: Sequence[float]) -> pd.DataFrame:
    """Iterations after which the mean gain reaches a level, linear between the traced ones.

    Args:
        percent: the levels.

    Returns:
        One row per level and arm: level, arm, iterations with iterations_low and iterations_high (95 % percentile
        bootstrap over images); infinite where the level is not reached.
    """
    lines = []
    for level in percent:
        for arm in arms_of(rows):
            times, means = curve(rows, arm)
            found = np.array([_crossing(times, mean, level) for mean in means])
            lines.append({"level": level, "arm": arm, **statistics.with_interval("iterations", found)})
    return pd.DataFrame(lines)


def _crossing(times: np.ndarray, gains: np.ndarray, level: float) -> float:
    """The first time at which a curve that starts at 0 reaches a level above 0; infinite where it does not."""
    above = np.flatnonzero(gains >= level)
    if not len(above):
        return float("inf")
    after = above[0]
    before = after - 1
    part = (level - gains[before]) / (gains[after] - gains[before])
    return float(times[before] + part * (times[after] - times[before]))


def costs(reached: pd.DataFrame, steps: pd.DataFrame, quiet: pd.DataFrame) -> pd.DataFrame:
    """`levels` with the encoding seconds per megapixel: ``stored``, and a column for each place of `quiet_seconds`.

    Args:
        reached, steps, quiet: as `levels`, `step_seconds` and `quiet_seconds` return them.
    """
    per_step = steps.set_index("arm")["seconds"]
    table = reached.assign(stored=reached["iterations"] * reached["arm"].map(per_step))
    return table.assign(**{row.place: reached["iterations"] * row.seconds for row in quiet.itertuples()})


def curves(rows: pd.DataFrame, steps: pd.DataFrame) -> Figure:
    """Gain over iterations, with its interval, and over encoding seconds per megapixel, a line for each arm.

    Args:
        steps: as `step_seconds` returns it.
    """
    table = descent.changes(rows)
    table = table.assign(gain=-table["change"])
    looks = palette.of_arms(arms_of(rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained", sharey=True)
    descent.lines(left, table, "gain", looks)
    left.set(xlabel="iterations", ylabel="reduction of the true R-D loss (%)")
    for row in steps.itertuples():
        times, gains = curve(rows, row.arm)
        later = times > 0
        right.plot(
            times[later] * row.seconds,
            gains[0, later],
            **looks[row.arm],
            linewidth=1.8,
            markersize=5,
            markevery=4,
        )
    right.set(xscale="log", xlabel="encoding seconds per megapixel (logarithmic)")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_locator(NullLocator())
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def costs_table(table: pd.DataFrame, last: int) -> GT:
    """`costs`: a group for each level; the fewest iterations of a group are in bold.

    Args:
        last: the iterations of the rows, for what was not reached.
    """

    def count(value: float) -> str:
        return f"{value:.0f}" if np.isfinite(value) else f"> {last}"

    places = [column for column in table.columns if column == "stored" or ";" in column]
    shown = pd.DataFrame(
        {
            "level": [f"{value:g} % below the codec's loss" for value in table["level"]],
            "arm": table["arm"],
            "iterations": [
                count(row.iterations)
                + (
                    f" [{count(row.iterations_low)}, {count(row.iterations_high)}]"
                    if np.isfinite(row.iterations_low)
                    else ""
                )
                for row in table.itertuples()
            ],
            **{
                place: [f"{value:.3g}" if np.isfinite(value) else "–" for value in table[place]]
                for place in places
            },
        }
    )
    fewest = [
        int(rows["iterations"].idxmin())
        for _, rows in table.groupby("level")
        if rows["iterations"].min() < np.inf
    ]
    return (
        GT(shown, groupname_col="level", rowname_col="arm")
        .tab_spanner("encoding, seconds per megapixel", places)
        .cols_label(iterations="iterations [95 %]", stored="as stored")
        .cols_align("right", ["iterations", *places])
        .tab_style(style.text(weight="bold"), loc.body("iterations", fewest))
        .tab_source_note(
            "Iterations: linear between the traced ones; interval: percentile bootstrap over images. Seconds: iterations "
            "times the median seconds of a step."
        )
        .tab_options(table_font_size="14px")
    )


def describe_seconds(steps: pd.DataFrame, quiet: pd.DataFrame, rows: pd.DataFrame) -> str:
    """In words, what a step costs, how far single jobs differ, and for which network the quiet machine's times are."""
    seconds = steps["seconds"]
    within, across = (steps["most"] / steps["least"]).max(), seconds.max() / seconds.min()
    codec = rows["codec"].iloc[0]
    card = next(card for card in cards() if card.name == codec)
    text = (
        f"As stored (on {', '.join(rows['device'].unique())}), a step takes {seconds.min():.3g} to "
        f"{seconds.max():.3g} s per megapixel (medians of the methods), "
        f"and single jobs of one method differ by a factor of up to {within:.2f}."
    )
    if across <= within:
        text += (
            f" The medians differ by a factor of {across:.2f}, no more than that: these times do not tell which "
            "method's step is cheaper."
        )
    for row in quiet.itertuples():
        text += f" On {row.place}, with nothing else running, it takes {row.seconds:.3g} s"
        text += (
            f" ({row.least:.3g} to {row.most:.3g} over {row.sizes} sizes of pictures)."
            if row.sizes > 1
            else "."
        )
        if (row.N, row.M) != (card.N, card.M):
            text += (
                f" That is a network with N = {row.N} and M = {row.M}, while `{codec}` has N = {card.N} and M = {card.M}: "
                "those columns say how long as many steps take with that network, not that it would gain as much."
            )
    return text


def describe_costs(table: pd.DataFrame, last: int) -> str:
    """In words, for each level, which arm reaches it in the fewest iterations, and which do not reach it."""
    lines = []
    for level, rows in table.groupby("level"):
        reached = rows[np.isfinite(rows["iterations"])].sort_values("iterations")
        missed = rows.loc[~np.isfinite(rows["iterations"]), "arm"]
        if reached.empty:
            lines.append(f"- {level:g} %: not reached by any method within {last} iterations.")
            continue
        first = reached.iloc[0]
        text = f"- {level:g} %: {first['arm']} needs {first['iterations']:.0f} iterations, {first['stored']:.3g} s per megapixel as stored"
        if len(reached) > 1:
            second = reached.iloc[1]
            text += f"; next is {second['arm']} with {second['iterations']:.0f}"
        text += f"; not reached by {', '.join(missed)}" if len(missed) else ""
        lines.append(f"{text}.")
    return "\n".join(lines)
