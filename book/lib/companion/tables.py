"""The book's tables: a frame and a declaration of its columns become a table with intervals, notes and a CSV link."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from great_tables import GT, html, loc, style

from . import cells, palette, statistics

_SPACE = "\N{NO-BREAK SPACE}"
_NONE = "–"


@dataclass(frozen=True)
class Col:
    """How a column of a frame is shown.

    Attributes:
        label: its heading.
        digits: decimals; None shows text and whole numbers as they are, and other numbers as short as they go.
        significant: whether ``digits`` counts significant digits.
        sign: whether positive numbers have a plus.
        ends: the columns of the interval's ends; where None, ``<name>_low`` and ``<name>_high`` if there are such.
        best: which value of each group is bold.
        under: a heading over neighbouring columns.
    """

    label: str
    digits: int | None = None
    significant: bool = False
    sign: bool = False
    ends: tuple[str, str] | None = None
    best: Literal["min", "max"] | None = None
    under: str = ""


def number(value: Any, digits: int | None = None, sign: bool = False, significant: bool = False) -> str:
    """A value as text: true minus, thousands apart, a dash where there is none; text stays as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or math.isnan(value):
        return _NONE
    if digits is None:
        form = ",.0f" if float(value).is_integer() and abs(value) >= 1 else ".4g"
    elif significant:
        digits = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits
        form = f",.{digits}f"
    else:
        form = f",.{digits}f"
    return f"{value:{'+' if sign else ''}z{form}}".replace("-", "−")


def _texts(frame: pd.DataFrame, name: str, column: Col) -> list[str]:
    ends = column.ends or (f"{name}_low", f"{name}_high")
    form = column.digits, column.sign, column.significant
    if not set(ends) <= set(frame):
        return [number(value, *form) for value in frame[name]]
    texts = []
    for value, *bounds in frame[[name, *ends]].itertuples(index=False):
        text, (low, high) = number(value, *form), (number(bound, *form) for bound in bounds)
        known = _NONE not in (text, low)
        texts.append(f"{text}{_SPACE}[{low},{_SPACE}{high}]" if known else text)
    return texts


def _said(frame: pd.DataFrame, pattern: str) -> list[str]:
    """Of each row a column's text, or ``pattern`` filled in, as in ``λ = {lmbda:g}``."""
    if "{" not in pattern:
        return [number(value) for value in frame[pattern]]
    return [pattern.format_map(row).replace("-", "−") for row in frame.to_dict("records")]


def _label(text: str) -> Any:
    return html(text.replace(palette.TAU_MAX, "τ<sub>max</sub>")) if palette.TAU_MAX in text else text


def ci_table(
    frame: pd.DataFrame,
    columns: Mapping[str, Col | str],
    *,
    group: str | None = None,
    row: str | None = None,
    stub: str = "",
    note: str = "",
) -> GT:
    """A frame as a table: numbers at the right, intervals in brackets, the best of each group in bold.

    Args:
        columns: what is shown, by the frame's columns; text alone is a heading. One without any value is left out.
        group, row: a column, or a pattern such as ``λ = {lmbda:g}``: heads groups of rows, and each row.
        stub: heading over the rows' heads.
        note: what a reader must know beside it; what brackets and bold mean is added.
    """
    frame = frame.reset_index(drop=True)
    columns = {name: Col(column) if isinstance(column, str) else column for name, column in columns.items()}
    columns = {name: column for name, column in columns.items() if frame[name].notna().any()}
    shown = pd.DataFrame({name: _texts(frame, name, column) for name, column in columns.items()})
    groups = pd.Series(_said(frame, group) if group else [""] * len(frame))
    heads = {"_group": groups} if group else {}
    heads |= {"_row": _said(frame, row)} if row else {}
    table = GT(
        shown.assign(**heads), groupname_col="_group" if group else None, rowname_col="_row" if row else None
    )
    table = table.cols_label({name: _label(column.label) for name, column in columns.items()})
    table = table.tab_stubhead(_label(stub)) if row and stub else table
    for over in dict.fromkeys(column.under for column in columns.values() if column.under):
        table = table.tab_spanner(_label(over), [name for name, c in columns.items() if c.under == over])
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(frame[name])]
    table = table.cols_align("left").cols_align("right", [n for n in numeric if frame[n].dtype != bool])
    bold = []
    for name, column in columns.items():
        if column.best is None:
            continue
        values = frame[name].groupby(groups)
        best = frame[name] == values.transform(column.best)
        rows = list(frame.index[best & (values.transform("count") > 1)])
        if rows:
            table = table.tab_style(style.text(weight="bold"), loc.body(name, rows))
            heading = column.label.split(",")[0].split(" (")[0]
            bold.append(f"{'lowest' if column.best == 'min' else 'highest'} {heading}")
    notes = [note] if note else []
    if any("[" in text for text in shown.to_numpy().ravel()):
        notes.append("In brackets: 95 % percentile bootstrap interval over images.")
    if bold:
        notes.append(f"Bold: {', '.join(dict.fromkeys(bold))}{' of each group' if group else ''}.")
    if notes:
        table = table.tab_source_note(_label(" ".join(notes)))
    return table.tab_options(table_font_size="14px")


def show(
    frame: pd.DataFrame,
    columns: Mapping[str, Col | str],
    *,
    name: str,
    command: str | None = None,
    **layout: Any,
) -> None:
    """Display `ci_table` with a link to the whole frame as CSV and the command that makes it.

    Args:
        name: of the CSV file, without its suffix.
        layout: as `ci_table` takes it.

    Raises:
        UserError: the frame has no row.
    """
    cells.show_table(ci_table(frame, columns, **layout), frame, name=name, command=command)


def paired_change_table(rows: pd.DataFrame, column: str, reference: str, changed: str) -> GT:
    """One setting against another on the same images, a line for each iteration: mean, interval, extreme, seconds.

    Args:
        rows: read-offs of both; ``column`` tells them apart by the values ``reference`` and ``changed``.
    """
    sides = rows.assign(arm=rows[column])
    loss, seconds = (
        statistics.paired(sides, name, reference, ["iteration"], exempt=[column])
        for name in ("loss", "seconds")
    )
    lines = []
    for iteration, group in loss.groupby("iteration"):
        mean, low, high = statistics.estimate(group.set_index("image")["change"])
        lines.append(
            {
                "iteration": iteration,
                "images": len(group),
                "mean": mean,
                "low": low,
                "high": high,
                "largest": group["change"].abs().max(),
                "reference": seconds.loc[seconds["iteration"] == iteration, "reference"].mean(),
                "changed": seconds.loc[seconds["iteration"] == iteration, "value"].mean(),
            }
        )
    return (
        GT(pd.DataFrame(lines))
        .cols_merge(["mean", "low", "high"], pattern="{0} [{1}, {2}]")
        .cols_label(
            mean="mean change of the true loss, % [95 %]",
            largest="largest change of an image, %",
            reference=f"{reference}, s",
            changed=f"{changed}, s",
        )
        .fmt_number(["mean", "low", "high", "largest"], decimals=3)
        .fmt_number(["reference", "changed"], decimals=1)
        .tab_source_note("Interval: percentile bootstrap over images.")
        .tab_options(table_font_size="14px")
    )


def parts_table(rows: pd.DataFrame) -> GT:
    """Where the time of our step goes, of `speed.load`'s measurements: a line for each, grouped as in `speed_table`."""
    parts = pd.DataFrame(list(rows["parts"]))
    table = rows[["place", "format", "batch_size"]].assign(
        pictures=[f"{row.width}×{row.height}" for row in rows.itertuples()], **parts
    )
    return (
        GT(table, groupname_col="place", rowname_col="pictures")
        .tab_stubhead("pictures")
        .tab_spanner("share of the time", list(parts))
        .cols_label(batch_size="at a time")
        .cols_align("left", "format")
        .fmt_percent(list(parts), decimals=0)
        .sub_missing(missing_text="–")
        .tab_source_note(
            "Convolutions include copies of their arguments; normalisation is without the convolutions in it; rest: rounding, "
            "the bits of z, the distortion, copies, sums; all that is compiled."
        )
        .tab_options(table_font_size="14px")
    )


def speed_table(rows: pd.DataFrame) -> GT:
    """`speed.load`'s measurements: a group for each machine with its networks, a line for each configuration."""
    table = pd.DataFrame(
        {
            "place": rows["place"],
            "pictures": [f"{row.width}×{row.height}" for row in rows.itertuples()],
            "batch_size": rows["batch_size"],
            "format": rows["format"],
            "plain": 1000 * rows["reference_seconds"],
            "ours": 1000 * rows["ours_seconds"],
            **{name: rows[name] for name in ("ratio", "ratio_min", "ratio_max", "ratio_true_loss")},
            "per_megapixel": rows["ours_seconds"] / rows["megapixels"],
            "share": rows["share"],
            "plain_peak": rows["reference_peak_bytes"].astype(float) / 2**20,
            "ours_peak": rows["ours_peak_bytes"].astype(float) / 2**20,
        }
    )
    return (
        GT(table, groupname_col="place", rowname_col="pictures")
        .tab_stubhead("pictures")
        .tab_spanner("step of a picture, ms", ["plain", "ours"])
        .tab_spanner("times as fast", ["ratio", "ratio_min", "ratio_max", "ratio_true_loss"])
        .tab_spanner("peak memory, MiB", ["plain_peak", "ours_peak"])
        .cols_merge(["ratio", "ratio_min", "ratio_max"], pattern="{0}&nbsp;[{1},&nbsp;{2}]")
        .cols_label(
            batch_size="at a time",
            plain="plain loop",
            ratio="median [all pairs]",
            ratio_true_loss="with true loss",
            per_megapixel="s per Mpixel",
            share="convo\N{SOFT HYPHEN}lutions",
            plain_peak="plain loop",
            ours_peak="ours",
        )
        .cols_align("left", "format")
        .fmt_number(["plain", "ours", "per_megapixel"], n_sigfig=3)
        .fmt_number(["ratio", "ratio_min", "ratio_max", "ratio_true_loss"], decimals=2)
        .fmt_percent("share", decimals=0)
        .fmt_integer(["plain_peak", "ours_peak"])
        .sub_missing(missing_text="–")
        .tab_source_note(
            "Format and pictures at a time are those of our loop; all times are medians over the pairs. With true loss: "
            "were it computed at every step of our loop, too. Convolutions: the time that those of our step take by "
            "themselves, as a share of the step. Memory: on a CPU of the whole process, of the plain loop after ours "
            "and so never below it; on a GPU of PyTorch's tensors, ours of all pictures together."
        )
        .tab_options(table_font_size="14px")
    )
