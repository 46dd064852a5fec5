"""What a page's cells call: pictures with words, tables with their numbers."""

import base64
import io
import re

import pandas as pd
import pytest
from great_tables import GT

from companion import cells
from sgaplus.errors import UserError


def test_show_gives_picture_alternative_and_caption(monkeypatch):
    import IPython.display
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot([0, 1])
    cells.show(figure, alt='A "line"', caption="τ < 1 & falling", command="sgaplus figure x > y")
    [data] = shown
    assert not plt.get_fignums()
    assert 'src="data:image/png;base64,iVBOR' in data["text/html"]
    assert 'alt="A &quot;line&quot;"' in data["text/html"]
    assert "<figcaption>τ &lt; 1 &amp; falling<br>" in data["text/html"]
    assert "<code>sgaplus figure x &gt; y</code>" in data["text/html"]
    assert data["text/plain"] == 'τ < 1 & falling [A "line"]'
    with pytest.raises(UserError, match="needs a text alternative"):
        cells.show(figure, alt=" ", caption="c")


def test_a_table_comes_with_its_numbers(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    data = pd.DataFrame({"method": ["a & b"], "loss": [1 / 3]})
    cells.show_table(GT(data).fmt_number("loss", decimals=1), data, name="losses", command="x > y")
    (bundle,) = shown
    encoded = re.search(r'download="losses.csv" href="data:text/csv;base64,([^"]+)"', bundle["text/html"])[1]
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(base64.b64decode(encoded))), data)
    assert "x &gt; y" in bundle["text/html"] and "0.3" in bundle["text/html"]
    with pytest.raises(UserError, match="no row"):
        cells.show_table(GT(data), data.iloc[:0], name="losses")


def test_a_folded_table_stays_behind_its_title(monkeypatch):
    frame, shown = pd.DataFrame({"a": [1.5]}), []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    cells.show_table(GT(frame), frame, name="x", folded="All 1 <row>")
    folded, beside = shown[0]["text/html"].split("</details>")
    assert "<details><summary>All 1 &lt;row&gt;</summary>" in folded and "1.5" in folded
    assert 'download="x.csv"' in beside
