"""What a page's cells call: pictures with words, tables with their numbers, and where both come from."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from great_tables import GT
from matplotlib import pyplot as plt

from companion import cells, figures, palette, parameters, tables
from sgaplus import rounding
from sgaplus.errors import UserError

STORED = pd.DataFrame(
    {
        "image": ["a", "a", "b"],
        "loss": [1.0, 1 / 3, 2.0],
        "seconds": [0.0, 3.0, 4.0],
        "key": ["k1", "k1", "k2"],
        "codec": "mshyper-s",
        "codec_lmbda": 0.01,
        "dtype": "bfloat16",
        "device": "a processor",
        "sgaplus_version": "0.2.0",
        "git_commit": "0123456789",
        "torch_version": "2.15.0",
        "written": "2026-11-20T23:59:59+00:00",
        "study": "rd",
        "profile": "cpu",
    }
)


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: bundles.append(data))
    yield bundles
    assert not plt.get_fignums()


@pytest.fixture
def line():
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot([0, 1])
    return figure


def csv_in(markup: str) -> pd.DataFrame:
    encoded = re.search(r'href="data:text/csv;base64,([^"]+)"', markup)[1]
    return pd.read_csv(io.BytesIO(base64.b64decode(encoded)))


def test_a_figure_has_an_anchor_an_alternative_and_a_caption(shown, line):
    cells.show(line, name="x", alt='A "line"', caption="τ < 1 & `falling`", command="sgaplus x > y")
    markup = shown[0]["text/html"]
    assert markup.startswith('<figure class="plot" id="fig-x"><img src="data:image/svg+xml;base64,')
    for part in ('alt="A &quot;line&quot;"', "τ &lt; 1 &amp; <code>falling</code>", "sgaplus x &gt; y"):
        assert part in markup
    assert shown[0]["text/plain"] == 'τ < 1 & `falling` [A "line"]'
    cells.show(plt.figure(figsize=(1, 1)), name="y", alt="a", caption="c", photo=True)
    assert 'class="photo"' in shown[1]["text/html"] and "image/png" in shown[1]["text/html"]


def test_the_drawer_has_the_rows_and_what_computed_them(shown, line):
    cells.show(line, name="x", alt="a", caption="c", rows=pd.DataFrame({"gain": [-1.5]}), source=STORED)
    derived, stored = shown[0]["text/html"].split("3 rows of 2 jobs on 2 images")
    for fact in ("rd, profile cpu", "0123456", "a processor", "7 seconds"):
        assert fact in stored
    assert list(csv_in(derived)["gain"]) == [-1.5]
    found = csv_in(stored)
    assert list(found["loss"]) == pytest.approx([1, 1 / 3, 2]) and "git_commit" not in found
    assert 'download="rows.csv"' in stored


def test_a_large_table_is_compressed(shown, line):
    rows = pd.DataFrame({"loss": np.linspace(0, 1, 120_000)})
    cells.show(line, name="x", alt="a", caption="c", rows=rows)
    (name, encoded) = re.search(
        r'download="([^"]+)" href="data:application/gzip;base64,([^"]+)"', shown[0]["text/html"]
    ).groups()
    assert name == "x.csv.gz"
    found = pd.read_csv(io.BytesIO(base64.b64decode(encoded)), compression="gzip")
    assert list(found["loss"]) == pytest.approx(list(rows["loss"]))


def test_panels_have_a_variant_for_phones(shown):
    figure = figures.panels({"one": 1, "two": 2}, lambda axes, part: axes.plot([0, part]))
    cells.show(figure, name="x", alt="a", caption="c")
    wide, narrow = re.findall(r"<img[^>]*>", shown[0]["text/html"])
    width, height = (int(re.search(f'{side}="([0-9]+)"', narrow)[1]) for side in ("width", "height"))
    assert 'class="narrow" hidden' in narrow and width < 400 < height
    assert int(re.search('width="([0-9]+)"', wide)[1]) > 600


def test_a_table_comes_with_its_numbers(shown):
    data = pd.DataFrame({"method": ["a & b"], "loss": [1 / 3]})
    cells.show_table(
        GT(data, rowname_col="method").fmt_number("loss", decimals=1),
        data,
        name="losses",
        caption="Of *all*",
        command="x > y",
    )
    markup = shown[0]["text/html"]
    assert '<figure class="table" id="tab-losses"><figcaption>' in markup and "<em>all</em>" in markup
    assert 'download="losses.csv"' in markup and "x &gt; y" in markup and "0.3" in markup
    assert csv_in(markup)["loss"][0] == pytest.approx(1 / 3, rel=1e-8)
    assert "<style" not in markup and "headers=" not in markup and not re.search("<th[^>]*></th>", markup)
    assert re.findall('id="([^"]*)"', markup) == ["tab-losses"]
    assert '<div class="scroll" tabindex="0"' in markup
    tables.show(data, {"loss": "loss"}, name="x", note="Over two images.", folded="All 1 <row>")
    table, after = shown[1]["text/html"].split("</table>")
    assert "<details><summary>All 1 &lt;row&gt;</summary>" in table and "two images" not in table
    assert "<p><small>Over two images.</small></p>" in after and 'download="x.csv"' in after
    with pytest.raises(UserError, match="no row"):
        cells.show_table(GT(data), data.iloc[:0], name="losses")


def test_a_page_ends_with_its_parameters(shown, monkeypatch):
    monkeypatch.setattr(parameters, "current", None)
    with pytest.raises(UserError, match=r"parameters\.check"):
        cells.parameters()
    page = parameters.Current("notebooks/x.ipynb", {"study": "rd", "late": None}, "papermill <x>")
    monkeypatch.setattr(parameters, "current", page)
    cells.parameters()
    markup = shown[0]["text/html"]
    assert '<details class="parameters">' in markup and "papermill &lt;x&gt;" in markup
    assert "study = &#x27;rd&#x27;\nlate = None" in markup


def test_probability_space_draws_the_methods_own_probabilities():
    figure = figures.probability_space([rounding.Linear()])
    (axes,) = figure.axes
    lines = {line.get_linestyle(): line for line in axes.lines}
    v = np.linspace(-0.5, 1.5, 1001)
    assert np.allclose(np.nan_to_num(lines["-"].get_ydata()), np.clip(1 - np.abs(v), 0, 1), atol=1e-4)
    assert np.allclose(np.nan_to_num(lines["--"].get_ydata()), np.clip(1 - np.abs(v - 1), 0, 1), atol=1e-4)


def test_three_classes_reach_beyond_the_neighbours():
    method = rounding.ThreeClass(rounding.Linear(), r=0.9, n=1.0)
    figure = figures.probability_space([method])
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]
    zero = next(line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    at_one = zero.get_ydata()[np.argmin(np.abs(zero.get_xdata() - 1))]
    assert at_one == pytest.approx(0.1 / 1.2, abs=0.01)


def test_a_methods_colour_is_its_own_whatever_the_order():
    methods = [rounding.SSL(2.3), rounding.Atanh()]
    for order in (methods, methods[::-1]):
        for figure in (figures.probability_space(order), figures.rounding_slopes(order)):
            colours = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
            assert all(colours[m.label] == palette.METHODS[m.label][0] for m in methods)
