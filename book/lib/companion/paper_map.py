"""The map of the paper: each figure and table with its page, a thumbnail and how far it is reproduced."""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sgaplus.errors import UserError
from sgaplus.studies.schema import load_study

from . import cells, palette, pool, provenance

# Widest side of a thumbnail, in pixels: twice that of a tile.
_WIDTH = 480
_IMAGE = r'<img[^>]*?src="data:image/(?P<kind>[\w+]+);base64,(?P<data>[^"]+)"'
_FIGURE = rf'<figure[^>]*\bid="(?P<id>fig-[^"]+)"[^>]*>.*?{_IMAGE}'


class Item(BaseModel):
    """A figure or table of the paper, by its number there.

    Attributes:
        page: of this book, by the name in ``pages.yml``.
        at: a pattern of its anchor there, such as ``tab-rd-.*-bd``; the page's top where None.
        study: with its rows; None for what follows from formulas.
        dataset, family: of the rows that count; all where None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str
    shows: str
    page: str
    at: str | None = None
    study: str | None = None
    dataset: str | None = None
    family: str | None = None


def read(text: str) -> list[Item]:
    """The items that YAML lists."""
    return TypeAdapter(list[Item]).validate_python(yaml.safe_load(text))


def notebook(item: Item, root: Path) -> Path:
    """The executed notebook of the item's page."""
    return root / "book" / "executed" / f"{item.page}.ipynb"


def _pictures(path: Path) -> str:
    """The HTML of all outputs of an executed notebook."""
    executed = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)


def anchor(item: Item, markup: str) -> str:
    """The anchor on the item's page, of the HTML of its outputs; empty where the item names none."""
    if item.at is None:
        return ""
    known = re.findall(r'\bid="((?:fig|tab)-[^"]+)"', markup)
    fitting = next((name for name in known if re.fullmatch(item.at, name)), None)
    if fitting is None:
        raise UserError(f"the page {item.page} has no {item.at}, which the map of the paper names")
    return fitting


def thumbnail(wanted: str, markup: str) -> str:
    """A small picture of the figure with that anchor, or of the first, as a data URI; empty without any."""
    found = list(re.finditer(_FIGURE, markup, re.DOTALL))
    match = next((match for match in found if match["id"] == wanted), next(iter(found), None))
    match = match or re.search(_IMAGE, markup)
    if match is None:
        return ""
    if "svg" in match["kind"]:
        return f"data:image/{match['kind']};base64,{match['data']}"
    picture, small = Image.open(io.BytesIO(base64.b64decode(match["data"]))).convert("RGB"), io.BytesIO()
    picture.thumbnail((_WIDTH, _WIDTH))
    picture.save(small, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"


def tiles(items: Sequence[Item], root: Path) -> str:
    """HTML of a tile for each item, which leads to where this book has it."""
    return f'<ul class="tiles">{"".join(_tile(item, root) for item in items)}</ul>'


def _tile(item: Item, root: Path) -> str:
    (state, detail), markup = status(item), _pictures(notebook(item, root))
    place = anchor(item, markup)
    address, picture = f"executed/{item.page}.html{place and '#'}{place}", thumbnail(place, markup)
    image = f'<img src="{picture}" alt="" width="240" height="180">' if picture else ""
    return (
        f'<li><a href="{address}">{image}<strong>{_text(item.item)}</strong>'
        f"{_text(item.shows)}<small><b>{state}</b>: {html.escape(detail)}</small></a></li>"
    )


def _text(words: str) -> str:
    return cells.with_subscripts(html.escape(words))


def status(item: Item) -> tuple[str, str]:
    """How far an item is reproduced, from the stored rows: a word or two, and the scale in words."""
    if item.study is None:
        return "exact", "from the formulas"
    stored, jobs = provenance.coverage(load_study(item.study), "paper")
    if stored == jobs:
        return "reproduced", "the paper’s protocol"
    rows = pool.load("cpu", studies=[item.study])
    rows = rows[rows["iterations"] > 0]
    if item.dataset:
        rows = rows[rows["dataset"].str.startswith(item.dataset)]
    if item.family:
        rows = rows[rows["family"] == item.family]
    if rows.empty:
        return "not run", f"sgaplus study run {item.study}"
    scopes = rows.groupby("scope")["image"].nunique()
    crops = scopes.drop(pool.WHOLE, errors="ignore")
    cropped = crops.size and (pool.WHOLE not in scopes or "crops" in (item.at or ""))
    scope = crops.idxmax() if cropped else pool.WHOLE
    kind = "photograph" if scope == pool.WHOLE else "crop"
    most = rows.loc[rows["scope"] == scope, "iteration"].max()
    names = " and ".join(palette.dataset(name) for name in sorted(rows["dataset"].unique()))
    detail = f"{provenance.count(int(scopes[scope]), kind)} of {names}, {most} iterations"
    photographs = rows["image"].str.partition("@")[0].nunique()
    return ("one photograph" if photographs == 1 else "reduced scale"), detail
