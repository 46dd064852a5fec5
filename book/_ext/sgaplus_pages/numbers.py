"""Figures and tables are numbered in the order of the contents: Figure 4.2 is the second of page 4."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_ANCHOR = re.compile(r'\bid="((fig|tab)-[\w.-]+)"')
_REFERENCE = re.compile(r'(<a\b[^>]*?)href="#((?:fig|tab)-[\w.-]+)"([^>]*>)[^<]*</a>')
_KINDS = {"fig": "Figure", "tab": "Table"}


class Numbered(NamedTuple):
    """A figure or table: the page on which it stands, and what it is called."""

    page: str
    label: str


def numbered(sources: Iterable[tuple[str, Path]]) -> tuple[dict[str, Numbered], list[str]]:
    """Each anchor of a figure or table with its number, and the anchors that more than one figure has.

    Args:
        sources: pages and their files, in the order of the table of contents; the first page has no number.
    """
    found: dict[str, Numbered] = {}
    twice = []
    for position, (page, path) in enumerate(sources):
        counts: Counter[str] = Counter()
        for anchor, kind in _ANCHOR.findall(_shown(path)):
            if anchor in found:
                twice.append(anchor)
                continue
            counts[kind] += 1
            number = f"{position}.{counts[kind]}" if position else f"{counts[kind]}"
            found[anchor] = Numbered(page, f"{_KINDS[kind]}\N{NO-BREAK SPACE}{number}")
    return found, twice


def _shown(path: Path) -> str:
    """What a page shows: of a notebook its prose and what its cells put out, not their code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        parts += [kinds.get(kind, "") for kinds in data for kind in ("text/html", "text/markdown")]
        parts += [cell["source"]] if cell["cell_type"] == "markdown" else []
    return "\n".join("".join(part) for part in parts)


def put_in(markup: str, page: str, numbers: Mapping[str, Numbered], path_to) -> tuple[str, list[str]]:
    """``markup`` whose links of class ``number`` say the numbers, wherever the figures stand; and what they
    name that does not exist."""
    unknown = []

    def said(link: re.Match) -> str:
        before, anchor, after = link.groups()
        if 'class="number"' not in before + after:
            return link[0]
        if anchor not in numbers:
            unknown.append(anchor)
            return link[0]
        where, label = numbers[anchor]
        target = "" if where == page else path_to(where)
        return f'{before}href="{target}#{anchor}"{after}{label}</a>'

    return _REFERENCE.sub(said, markup), unknown
