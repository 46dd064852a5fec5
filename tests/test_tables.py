"""Tables show what they declare; methods have looks that readers with any colour vision tell apart."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from great_tables import GT
from matplotlib.colors import to_rgb
from skimage import color

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
    nan = np.nan
    table = {"lmbda": [0.01, 0.01, 0.02, 0.02], "configuration": ["base", "linear", "base", "linear"]}
    table |= {"loss": [2.0, 1.5, 3.0, 3.5], "gain": [nan, -1.234, nan, 0.5]}
    table |= {"gain_low": [nan, -2.0, nan, nan], "gain_high": [nan, -0.5, nan, nan]}
    return pd.DataFrame(table | {"bytes": [1234567, 12, 3, 4], "fits": [True, False] * 2})


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


# Linear RGB as protanopes and deuteranopes see it (Machado et al. 2009, severity 1).
VISIONS = {
    "trichromat": np.eye(3),
    "protanope": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranope": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def lab(colour: str, vision) -> np.ndarray:
    """CIELAB of a colour as it is seen."""
    linear = color.rgb2xyz(to_rgb(colour)) @ color.colorconv.rgb_from_xyz.T
    return color.xyz2lab(np.clip(np.array(vision) @ linear, 0, 1) @ color.colorconv.xyz_from_rgb.T)


@pytest.mark.parametrize("vision", VISIONS)
def test_methods_of_different_colours_are_told_apart(vision):
    colours = {look[0] for look in palette.METHODS.values()}
    for one, other in combinations(sorted(colours), 2):
        distance = np.linalg.norm(lab(one, VISIONS[vision]) - lab(other, VISIONS[vision]))
        assert distance > 15, (one, other)


def test_no_two_methods_share_a_look_and_marker():
    looks = list(palette.METHODS.values())
    assert len({look[:2] for look in looks}) == len({look[2] for look in looks}) == len(looks)
    two_class = [look[0] for name, look in palette.METHODS.items() if "three-class" not in name]
    assert len(set(two_class)) == len(two_class)


def test_a_method_looks_the_same_whatever_stands_beside_it():
    alone = palette.looks(["STE"])["STE"]
    assert palette.looks(["something", "fast (100 steps)", "STE"])["STE"] == alone
    assert palette.for_seaborn(["STE", "base"])["palette"]["STE"] == alone["color"]
    assert palette.looks(["fast (100 steps)"])["fast (100 steps)"] == palette.looks(["fast"])["fast"]


def test_what_is_no_method_has_no_methods_colour():
    methods = {look[0] for look in palette.METHODS.values()}
    names = [f"codec {position}" for position in range(12)]
    looks = palette.looks(["base", *names])
    others = {palette.colour(position) for position in range(12)} | {looks[n]["color"] for n in names}
    others |= {look[0] for look in palette.PUBLISHED.values()}
    assert not methods & others
    assert len({tuple(map(str, looks[name].values())) for name in names}) > 8
    assert len({look[:2] for look in palette.PUBLISHED.values()}) == len(palette.PUBLISHED)


def test_legends_have_the_books_order_and_numbers_go_from_dark_to_light():
    assert palette.in_order(["x", "atanh (SGA)", "base"]) == ["base", "atanh (SGA)", "x"]
    assert palette.in_order(["t 500", "t 2000", "t 100²"]) == ["t 100²", "t 500", "t 2000"]
    assert palette.for_seaborn(["x", "atanh (SGA)", "base"])["hue_order"] == ["base", "atanh (SGA)", "x"]
    brightness = [sum(colour) for colour in palette.ordered([500, 25, 100]).values()]
    assert list(palette.ordered([500, 25])) == [25, 500] and brightness == sorted(brightness)


def test_brackets_are_explained_where_they_hold_an_interval():
    rows = pd.DataFrame(
        [{"page": "[1. a claim](#claim-1)", "change": -1.0, "change_low": -2.0, "change_high": 0.5}]
    )
    assert "In brackets" in tables.ci_table(rows, {"page": "page", "change": "change"}).as_raw_html()
    assert "In brackets" not in tables.ci_table(rows, {"page": "page"}).as_raw_html()
