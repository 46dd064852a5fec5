"""The book's tables: a frame and a declaration of its columns become one with intervals, notes, a CSV."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from great_tables import GT, html, loc, style

from . import cells, palette, statistics

_SPACE = "\N{NO-BREAK SPACE}"
_NONE = "–"
# Heads of rows of fewer characters do not break across lines.
_SHORT = 20


@dataclass(frozen=True)
class Col:
    """How a column of a frame is shown; where ``<name>_low`` and ``<name>_high`` stand beside it, with these.

    Attributes:
        digits: decimals, or ``significant`` digits; None shows text and whole numbers as they are, other
            numbers as short as they go.
        best: which value of each group is bold.
        under: a heading over neighbouring columns.
    """

    label: str
    digits: int | None = None
    significant: bool = False
    sign: bool = False
    best: Literal["min", "max"] | None = None
    under: str = ""


_FORM = re.compile(r"(?:(\+?)\.(\d)([fg]) )?(?:(min|max) )?(.+)")


@functools.cache
def columns_of(name: str) -> dict[str, Col]:
    """The columns of a table of the book, as columns.yaml says."""
    declared = yaml.safe_load(Path(__file__).with_name("columns.yaml").read_text(encoding="utf-8"))[name]
    found = {}
    for key, about in declared.items():
        for column, text in (about if isinstance(about, dict) else {key: about}).items():
            sign, digits, kind, best, label = _FORM.fullmatch(text).groups()
            under = key if isinstance(about, dict) else ""
            found[column] = Col(label, digits and int(digits), kind == "g", bool(sign), best, under)
    return found


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
    # The sign of what rounds to zero says on which side of it an interval ends.
    return f"{value + 0.0:{'+' if sign else 'z'}{form}}".replace("-", "−")


def _texts(frame: pd.DataFrame, name: str, column: Col) -> list[str]:
    form = column.digits, column.sign, column.significant
    sides = [x for x in (name, f"{name}_low", f"{name}_high") if x in frame]
    texts = []
    for values in frame[sides].itertuples(index=False):
        text, *ends = (number(value, *form) for value in values)
        known = len(ends) == 2 and _NONE not in (text, ends[0])
        texts.append(f"{text} [{ends[0]}, {ends[1]}]".replace(" ", _SPACE) if known else text)
    return texts


def _heads(frame: pd.DataFrame, pattern: str) -> list[str]:
    """A column's text of each row, or ``pattern`` filled in, as in ``λ = {lmbda:g}``."""
    if "{" not in pattern:
        texts = [number(value) for value in frame[pattern]]
    else:
        texts = [statistics.minus(pattern.format_map(row)) for row in frame.to_dict("records")]
    return [text.replace(" ", _SPACE) if len(text) < _SHORT else text for text in texts]


def _label(text: str) -> Any:
    return html(cells.with_subscripts(text)) if palette.TAU_MAX in text else text


def ci_table(
    frame: pd.DataFrame,
    columns: Mapping[str, Col | str] | str,
    *,
    group: str | None = None,
    row: str | None = None,
    stub: str = "",
    note: str = "",
    brackets: str = "95 % percentile bootstrap interval over images",
) -> GT:
    """A frame as a table: numbers at the right, intervals in brackets, the best of each group in bold.

    Args:
        columns: what is shown, or a name in columns.yaml; text alone is a heading. A column without any
            value is left out.
        group, row: a column, or a pattern such as ``λ = {lmbda:g}``: heads groups of rows, and each row.
        stub: heading over the rows' heads.
        note: what a reader must know beside it; what brackets and bold mean is added.
    """
    frame = frame.reset_index(drop=True)
    declared = columns_of(columns) if isinstance(columns, str) else columns
    columns = {name: Col(column) if isinstance(column, str) else column for name, column in declared.items()}
    columns = {name: column for name, column in columns.items() if frame[name].notna().any()}
    shown = pd.DataFrame({name: _texts(frame, name, column) for name, column in columns.items()})
    groups = pd.Series(_heads(frame, group) if group else [""] * len(frame))
    heads = {"_group": groups} if group else {}
    heads |= {"_row": _heads(frame, row)} if row else {}
    stubs = {"groupname_col": "_group" if group else None, "rowname_col": "_row" if row else None}
    table = GT(shown.assign(**heads), **stubs)
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
            said = column.under if column.label.isdigit() else column.label
            heading = said.split(",")[0].split(" (")[0]
            bold.append(f"{'lowest' if column.best == 'min' else 'highest'} {heading}")
    notes = [note] if note else []
    if any(re.search(r"[\d%]\s\[", text) for text in shown.to_numpy().ravel()):  # not a link
        notes.append(f"In brackets: {brackets}.")
    if bold:
        notes.append(f"Bold: {', '.join(dict.fromkeys(bold))}{' of each group' if group else ''}.")
    if notes:
        table = table.tab_source_note(_label(" ".join(notes)))
    return table.tab_options(table_font_size="14px")


def show(frame: pd.DataFrame, columns: Mapping[str, Col | str] | str, *, name: str, **how: Any) -> None:
    """Display `ci_table` with the whole frame as CSV; ``how`` is for it or `cells.show_table`."""
    page = {key: how.pop(key) for key in ("caption", "source", "command", "folded") if key in how}
    cells.show_table(ci_table(frame, columns, **how), frame, name=name, **page)
