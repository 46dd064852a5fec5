"""The map of the paper: thumbnails from executed pages, anchors that exist, a status that the rows give."""

import base64
import io
import json

import pytest
from PIL import Image

from companion import paper_map
from sgaplus.errors import UserError

SVG = base64.b64encode(b"<svg/>").decode()


def picture(size: tuple[int, int]) -> str:
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture
def root(tmp_path):
    """An executed page with two figures and a table."""
    page = (
        f'<figure class="plot" id="fig-curves"><img src="data:image/svg+xml;base64,{SVG}"></figure>',
        f'<figure id="fig-photo"><img alt="a" src="data:image/png;base64,{picture((960, 640))}"></figure>',
        '<figure class="table" id="tab-numbers"></figure>',
    )
    cells = [{"outputs": [{"data": {"text/html": [markup]}}]} for markup in page]
    (tmp_path / "book" / "executed").mkdir(parents=True)
    (tmp_path / "book" / "executed" / "one.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def item(**more) -> paper_map.Item:
    return paper_map.Item(**{"item": "Figure 9", "shows": "curves & words", "page": "one"} | more)


def test_a_thumbnail_is_that_of_the_named_figure_or_the_first_and_small(root):
    markup = paper_map._pictures(paper_map.notebook(item(), root))
    assert paper_map.thumbnail("", markup) == f"data:image/svg+xml;base64,{SVG}"
    kind, _, data = paper_map.thumbnail("fig-photo", markup).partition(";base64,")
    assert kind == "data:image/webp" and Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 320)


def test_a_tile_leads_to_its_anchor_and_one_that_does_not_exist_is_refused(root):
    items = [item(at="tab-n.*"), item(at="fig-curves"), item(item="Table, τ_max")]
    markup = paper_map.tiles(items, root)
    assert "Table, τ<sub>max</sub>" in markup
    assert 'href="executed/one.html#tab-numbers"' in markup and 'href="executed/one.html"' in markup
    assert 'href="executed/one.html#fig-curves"' in markup
    assert "curves &amp; words" in markup and "from the formulas" in markup
    with pytest.raises(UserError, match="fig-lost"):
        paper_map.tiles([item(at="fig-lost")], root)


def test_a_status_says_how_many_photographs_and_iterations_are_stored():
    state, detail = paper_map.status(item(study="rd", dataset="kodak"))
    assert state == "reduced scale" and "24 photographs of Kodak, 500 iterations" in detail
    _, detail = paper_map.status(item(study="rd", dataset="kodak", family="three-class"))
    assert "8 crops of Kodak" in detail
    assert paper_map.status(item(study="tecnick"))[0] == "one photograph"
    assert paper_map.status(item())[0] == "exact"
    state, detail = paper_map.status(item(study="rd", dataset="clic"))
    assert state == "not run" and "sgaplus study run rd" in detail
