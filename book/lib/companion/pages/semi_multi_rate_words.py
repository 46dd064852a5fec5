"""Tables and sentences of the page on semi-multi-rate refinement, from what `semi_multi_rate` computes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from great_tables import GT, loc, style

from ..configurations import BASE
from ..statistics import interval


def reaches_table(table: pd.DataFrame, tolerance: float = 0.0) -> GT:
    """`reaches`: a group for each arm; the widest reach of each group is in bold."""
    shown = pd.DataFrame(
        {
            "arm": table["arm"],
            "codec": [f"{value:g}" for value in table["codec_lmbda"]],
            "own": table["own"],
            "reach": [
                _range(line.reach_low, line.reach_high, line.open_low, line.open_high)
                for line in table.itertuples()
            ],
            "factor": [_factors(line) for line in table.itertuples()],
            "sure": [_range(line.sure_low, line.sure_high) for line in table.itertuples()],
            "lmbdas": [", ".join(f"{value:g}" for value in values) or "–" for values in table["lmbdas"]],
        }
    )
    made = (
        GT(shown, groupname_col="arm", rowname_col="codec")
        .tab_stubhead("codec of λ")
        .cols_label(
            own="bpp, not refined",
            reach="reach, bpp",
            factor="reach / bpp, not refined",
            sure="reach of the lower band, bpp",
            lmbdas="λ within reach",
        )
        .fmt_number("own", decimals=3)
        .cols_align("right", ["reach", "factor", "sure"])
        .tab_source_note(
            f"Reach: the connected range of rates around the codec's own λ at which the mean PSNR is at most {tolerance:g} dB "
            "under the family's; – where the point of that λ falls short itself, or no rates can be compared. ≤ and ≥ mark an end "
            "of the comparison, beyond which the reach may go on. Lower band: the "
            "same for the lower end of the 95 % bootstrap interval over images."
        )
        .tab_options(table_font_size="14px")
    )
    widths = np.log(table["reach_high"] / table["reach_low"]).reset_index(drop=True)
    for _, group in widths.groupby(table["arm"].to_numpy()):
        if group.notna().any():
            made = made.tab_style(style.text(weight="bold"), loc.body("reach", [int(group.idxmax())]))
    return made


def _range(low: float, high: float, open_low: bool = False, open_high: bool = False) -> str:
    if np.isnan(low):
        return "–"
    return f"{'≤ ' * open_low}{low:.3f} – {'≥ ' * open_high}{high:.3f}"


def _factors(line: tuple) -> str:
    if np.isnan(line.reach_low):
        return "–"
    return f"{line.reach_low / line.own:.2f} – {line.reach_high / line.own:.2f}"


def mismatches_table(table: pd.DataFrame) -> GT:
    """`mismatches`: a group for each pair of λ; the lowest of each column of a group is in bold."""
    table = table.sort_values(["codec_lmbda", "lmbda"], kind="stable", ignore_index=True)
    columns = ("matched", "unrefined")
    pairs = [f"codec of λ = {line.codec_lmbda:g} at λ = {line.lmbda:g}" for line in table.itertuples()]
    shown = table[["arm"]].assign(
        pair=pairs,
        **{
            name: [
                interval(*line)
                for line in table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
            ]
            for name in columns
        },
    )
    made = (
        GT(shown, groupname_col="pair", rowname_col="arm")
        .tab_spanner("change of the loss in % from the codec trained for that λ", list(columns))
        .cols_label(matched="treated likewise", unrefined="not refined")
        .cols_align("right", list(columns))
        .tab_source_note(
            "Mean of the images' own changes, with 95 % percentile bootstrap intervals over images; negative: a lower loss."
        )
        .tab_options(table_font_size="14px")
    )
    for name in columns:
        for _, group in table[name].groupby(pairs):
            if group.notna().any():
                made = made.tab_style(style.text(weight="bold"), loc.body(name, [int(group.idxmin())]))
    return made


def describe_reach(table: pd.DataFrame, tolerance: float = 0.0) -> str:
    """A list: how far each codec of `semi_multi_rate.reaches` moves along the family's curve."""
    level = f"no more than {tolerance:g} dB under the family" if tolerance else "at or above the family"
    sentences = []
    for line in table.itertuples():
        start = f"- The codec of λ = {line.codec_lmbda:g}, refined with {line.arm}, "
        if np.isnan(line.reach_low):
            sentences.append(f"{start}has no reach that can be told with the codecs there are.")
            continue
        ends = [
            f"{name} {'at ' + word if is_open else ''}{value:.2f} bpp".replace("  ", " ")
            for name, value, is_open, word in (
                ("from", line.reach_low, line.open_low, "most "),
                ("to", line.reach_high, line.open_high, "least "),
            )
        ]
        sentences.append(
            f"{start}is {level} {' '.join(ends)}: {_factors(line)} times its rate without refinement."
        )
    return "\n".join(sentences)


def describe_cost(table: pd.DataFrame) -> str:
    """In words: how often a refined codec at another λ makes up for the codec trained for it.

    Args:
        table: as `semi_multi_rate.mismatches` returns it.
    """
    pairs = ["codec_lmbda", "lmbda"]
    base = table[table["arm"] == BASE].set_index(pairs)["matched"]
    sentences = []
    for name in [name for name in table["arm"].unique() if name != BASE]:
        lines = table[(table["arm"] == name) & table["unrefined"].notna()].set_index(pairs)
        below = int((lines["unrefined_high"] < 0).sum())
        matched = lines["matched"].dropna()
        cheaper = int((matched < base.reindex(matched.index)).sum())
        sentences.append(
            f"- {name}: of {len(lines)} pairs of a codec and another codec's λ, the refined codec has a lower loss than the "
            f"other one without refinement in {below}, by the interval. The price of the wrong codec is smaller when both "
            f"are refined than when neither is in {cheaper} of {len(matched)}."
        )
    return "\n".join(sentences)
