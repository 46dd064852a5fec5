"""The gain over the iterations, and which share of it is there early.

The *gain* is the reduction of the true loss against the codec's own, in percent: the mean over images of each
image's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from great_tables import GT, loc, style

from sgaplus.errors import UserError

from . import palette, statistics
from .pages import descent


def curve(rows: pd.DataFrame, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Traced iterations (T,), 0 among them, and the mean gain there, of all images and of samples (1 + R, T)."""
    own = descent.changes(rows[rows["arm"] == arm])
    wide = -own.pivot_table(index="image", columns="iteration", values="change")
    return wide.columns.to_numpy(), statistics.resampled_means(wide)


def over_iterations(rows: pd.DataFrame, iterations: Sequence[int]) -> pd.DataFrame:
    """Gain after so many iterations, and which share it is of the gain after the last of them.

    Args:
        rows: stored lines, as `analysis.arms.with_arms` returns them.

    Returns:
        One row per arm and iteration: arm, iteration, gain (percent) and share (of the mean gain at the end), each
        with ``_low`` and ``_high``, 95 % percentile bootstrap over images.

    Raises:
        UserError: an iteration was not traced for every arm.
    """
    known = descent.iterations_of(rows)
    if missing := [t for t in iterations if t not in known]:
        raise UserError(f"not all rows have iteration {missing[0]}: use some of {', '.join(map(str, known))}")
    lines = []
    for arm in arms_of(rows):
        times, gains = curve(rows, arm)
        last = gains[:, list(times).index(max(iterations))]
        for t in sorted(iterations):
            gain = gains[:, list(times).index(t)]
            lines.append(
                {"arm": arm, "iteration": t, **statistics.with_interval("gain", gain)}
                | statistics.with_interval("share", gain / last)
            )
    return pd.DataFrame(lines)


def arms_of(rows: pd.DataFrame) -> list[str]:
    return palette.in_order(rows.loc[rows["iterations"] > 0, "arm"])


def gains_table(table: pd.DataFrame) -> GT:
    """The gains of `over_iterations`: a line for each arm, the highest of a column in bold."""
    made, columns = _by_iteration(table, "gain", decimals=2)
    for column, rows in table.groupby("iteration"):
        best = rows.reset_index(drop=True)["gain"].idxmax()
        made = made.tab_style(style.text(weight="bold"), loc.body(f"{column}", [int(best)]))
    return made.tab_spanner("gain after so many iterations, % [95 %]", columns)


def shares_table(table: pd.DataFrame) -> GT:
    """The shares of `over_iterations` before the last iteration: a line for each arm."""
    last = table["iteration"].max()
    early = table[table["iteration"] < last]
    percent = early.assign(**{name: 100 * early[name] for name in ("share", "share_low", "share_high")})
    made, columns = _by_iteration(percent, "share", decimals=0)
    return made.tab_spanner(
        f"share of the gain after {last} iterations that is there after, % [95 %]", columns
    )


def _by_iteration(table: pd.DataFrame, column: str, decimals: int) -> tuple[GT, list[str]]:
    """A line for each arm, a column for each iteration with a value and its interval; and those columns."""
    shown = pd.DataFrame({"arm": list(dict.fromkeys(table["arm"]))})
    for iteration, rows in table.groupby("iteration"):
        ends = rows[[column, f"{column}_low", f"{column}_high"]].itertuples(index=False, name=None)
        shown[f"{iteration}"] = [
            # A narrow column breaks between value and interval, not within the interval.
            statistics.interval(*values, decimals, sign=False).replace(", ", ",\N{NO-BREAK SPACE}")
            for values in ends
        ]
    columns = list(shown.columns[1:])
    made = GT(shown, rowname_col="arm").cols_align("right", columns)
    made = made.tab_source_note("Interval: percentile bootstrap over images.")
    return made.tab_options(table_font_size="14px"), columns


def describe_shares(table: pd.DataFrame) -> str:
    """In words, which arm gains the most by the last iteration, and which share of that it has earlier."""
    end = table["iteration"].max()
    last = table[table["iteration"] == end]
    best = last.loc[last["gain"].idxmax()]
    rows = table[(table["arm"] == best["arm"]) & (table["iteration"] < end)]
    said = ", ".join(f"{100 * row.share:.0f} % of that after {row.iteration}" for row in rows.itertuples())
    gain = statistics.interval(best["gain"], best["gain_low"], best["gain_high"], sign=False)
    return f"The most is gained by {best['arm']}: {gain} % after {end} iterations, {said}."
