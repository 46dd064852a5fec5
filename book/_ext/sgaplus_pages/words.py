"""The words of a page that are prose: for the search, for the lines under a result, for its description."""

import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes

_UNREAD = re.compile(
    r"<(script|style|svg|code|pre)\b.*?</\1>|<details\b[^>]*class=\"(?:provenance|parameters)\".*?</details>"
    r"|<a\b[^>]*class=\"number\".*?</a>",
    re.DOTALL,
)
_INLINE = re.compile(r"</?(?:a|abbr|b|em|i|small|span|strong|su[bp]|m(?:i|o|n|row|su[bp]|over))\b[^>]*>")
_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
_ANSWER = re.compile(r'<div class="answer">(.*?)</div>', re.DOTALL)
_STORE = "prose.js"


def of_markup(markup: str) -> str:
    """The words that a reader sees in HTML, without code, provenance and numbers of figures."""
    apart = re.sub("<[^>]+>", " ", _INLINE.sub("", _UNREAD.sub(" ", markup)))
    return " ".join(html.unescape(apart).split())


def prose(doctree: Any) -> Any:
    """A copy of a page that the search reads: without its code cells, and with words alone of its HTML."""
    page = doctree.deepcopy()
    for node in list(page.findall(nodes.container)):
        if "cell_input" in node["classes"] and node.parent:
            node.parent.remove(node)
    for node in list(page.findall(nodes.raw)):
        markup = node.astext() if "html" in node.get("format", "") else ""
        words = of_markup(_TABLE.sub(" ", markup))
        cells = of_markup(" ".join(_TABLE.findall(markup)))
        inside = isinstance(node.parent, nodes.TextElement)
        node.replace_self(
            nodes.Text(words) if inside else [nodes.paragraph(words, words), nodes.caption(cells, cells)]
        )
    return page


def text(page: Any) -> str:
    """The sentences of `prose`, without titles and tables, on one line."""
    kinds = (nodes.paragraph, nodes.literal_block, nodes.term)
    parts = (node.astext() for node in page.findall(lambda node: isinstance(node, kinds)))
    return " ".join(" ".join(parts).split())


def description(body: str, longest: int = 200) -> str:
    """What a page says first: its answer, or its first paragraph that is a sentence; whole words."""
    answer = _ANSWER.search(body)
    candidates = [answer[1]] if answer else re.findall(r"<p>(.*?)</p>", body, re.DOTALL)
    said = next((words for part in candidates if len(words := of_markup(part)) > 60), "")
    if len(said) <= longest:
        return said
    return said[:longest].rpartition(" ")[0].rstrip(",;:") + " …"


def store(folder: Path, pages: dict[str, str]) -> None:
    """Add the texts of ``pages`` to the script with which the search page shows lines of what it found."""
    path = folder / "_static" / _STORE
    before, start, end = {}, "window.prose = ", ";"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8").removeprefix(start).removesuffix(end))
    content = json.dumps(before | pages, ensure_ascii=False, sort_keys=True)
    path.write_text(f"{start}{content}{end}", encoding="utf-8")
