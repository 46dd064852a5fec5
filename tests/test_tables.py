"""A table shows what its declaration says: numbers, intervals, groups, and what is best in each."""

import re

import numpy as np
import pandas as pd
import pytest
from great_tables import GT

from companion import palette, tables
from companion.tables import Col


def cells_of(table: GT) -> list[list[str]]:
    """The text of every row of a table; a bold cell begins with a star."""
    rows = re.findall(r"<tr.*?</tr>", table.as_raw_html(), flags=re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [
        [
            "*" * ("bold" in cell) + re.sub("<[^>]*>", "", cell).replace("\N{NO-BREAK SPACE}", " ").strip()
            for cell in row
        ]
        for row in cells
    ]


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "lmbda": [0.01, 0.01, 0.02, 0.02],
            "configuration": ["base", "linear", "base", "linear"],
            "loss": [2.0, 1.5, 3.0, 3.5],
            "gain": [np.nan, -1.234, np.nan, 0.5],
            "gain_low": [np.nan, -2.0, np.nan, np.nan],
            "gain_high": [np.nan, -0.5, np.nan, np.nan],
            "bytes": [1234567, 12, 3, 4],
            "fits": [True, False, True, False],
        }
    )


COLUMNS = {
    "loss": Col("true loss, L", 4, best="min"),
    "gain": Col("change, %", 2, sign=True, best="min"),
    "bytes": "bytes",
    "fits": "fits?",
}


def test_a_declaration_becomes_a_table(frame):
    made = tables.ci_table(
        frame, COLUMNS, group="λ = {lmbda:g}", row="configuration", stub="method", note="Two images."
    )
    assert cells_of(made)[:7] == [
        ["method", "true loss, L", "change, %", "bytes", "fits?"],
        ["λ = 0.01"],
        ["base", "2.0000", "–", "1,234,567", "yes"],
        ["linear", "*1.5000", "−1.23 [−2.00, −0.50]", "12", "no"],
        ["λ = 0.02"],
        ["base", "*3.0000", "–", "3", "yes"],
        ["linear", "3.5000", "+0.50", "4", "no"],
    ]


def test_the_note_says_what_brackets_and_bold_mean(frame):
    html = tables.ci_table(frame, COLUMNS, group="λ = {lmbda:g}", note="Two images.").as_raw_html()
    assert "Two images. In brackets: 95 % percentile bootstrap interval over images." in html
    assert "Bold: lowest true loss of each group." in html
    plain = tables.ci_table(frame, {"bytes": "bytes"}).as_raw_html()
    assert "brackets" not in plain and "Bold" not in plain


def test_intervals_do_not_break_and_numbers_are_right_aligned(frame):
    html = tables.ci_table(frame.assign(word="x"), COLUMNS | {"word": "word"}).as_raw_html()
    (cell,) = re.findall(r">(−1.23[^<]*)<", html)
    assert not re.search("[ \n]", cell)
    assert 'gt_right">2' in html.replace("gt_row ", "") and 'gt_left">x' in html.replace("gt_row ", "")


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.126, {"digits": 2, "sign": True}, "−0.13"),
        (1234.5, {"digits": 1}, "1,234.5"),
        (0.65812, {}, "0.6581"),
        (0.000123, {"digits": 2, "significant": True}, "0.00012"),
        (1234.5, {"digits": 3, "significant": True}, "1,234"),
        (float("nan"), {"digits": 2}, "–"),
        (None, {}, "–"),
        (True, {}, "yes"),
        ("kept as it is", {"digits": 2}, "kept as it is"),
    ],
)
def test_numbers_as_text(value, form, text):
    assert tables.number(value, **form) == text


def test_headings_over_neighbours_and_symbols(frame):
    columns = {"loss": Col("real", under="bpp"), "bytes": Col("estimated", under="bpp")}
    made = tables.ci_table(frame, columns, row="configuration", stub=palette.TAU_MAX)
    rows = cells_of(made)
    assert "bpp" in rows[0] and "τmax" in rows[0] + rows[1] and "$" not in made.as_raw_html()


def test_names_in_a_head_keep_their_hyphens(frame):
    html = tables.ci_table(
        frame.assign(codec="mshyper-s", x=-1.5), COLUMNS, row="{codec} at {x:g}"
    ).as_raw_html()
    assert "mshyper-s\N{NO-BREAK SPACE}at\N{NO-BREAK SPACE}−1.5" in html
