"""What cells put inside their HTML as data URIs becomes files of the built book."""

import base64
import hashlib
import html
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

_URI = r"data:(image/[a-z+.-]+|text/csv|application/gzip)((?:;[a-z0-9=-]+)*),([^\"'\s)\\]*)"
_LINK = re.compile(r"<a\b[^>]*?\bhref=\\?\"" + _URI + r"\\?\"[^>]*>", re.IGNORECASE)
_DATA = re.compile(_URI)
_NAME = re.compile(r"\bdownload=\\?\"([^\"\\]+)\\?\"")
_ENDINGS = {"svg+xml": "svg", "jpeg": "jpg"}
# What the extension writes is named by its content; the sweep below touches nothing else.
_FOLDERS = {"_images": "[0-9a-f]" * 16 + ".*", "_downloads": "[0-9a-f]" * 12 + "/*"}
# Copied by the theme, used by no page.
_UNUSED = ("scripts/fontawesome.js*", "vendor/**/*.ttf", "**/*.map", "tabs.js", "doctools.js.LICENSE.txt")


def write(markup: str, folder: Path, path_to: Callable[[str], str]) -> str:
    """``markup`` with links to files under ``folder`` where it had data URIs.

    Pictures are named by their content; a file to download keeps its name, in a folder named by its content.
    """

    def linked(tag: re.Match) -> str:
        name = _NAME.search(tag[0])
        return _DATA.sub(lambda uri: stored(uri, html.unescape(name[1]) if name else None), tag[0])

    def stored(uri: re.Match, name: str | None = None) -> str:
        kind, options, text = uri.groups()
        text = urllib.parse.unquote_to_bytes(html.unescape(text))
        content = base64.b64decode(text) if options.endswith(";base64") else text
        digest = hashlib.sha256(content).hexdigest()
        ending = kind.partition("/")[2]
        ending = _ENDINGS.get(ending, ending)
        where = f"_downloads/{digest[:12]}/{name}" if name else f"_images/{digest[:16]}.{ending}"
        path = folder / where
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path_to(urllib.parse.quote(where))

    return _DATA.sub(stored, _LINK.sub(linked, markup))


def lazy(markup: str) -> str:
    """``markup`` whose pictures are loaded when they come into view, and tell the style sheet their width."""
    markup = re.sub(r"<img\b(?![^>]*\bloading=)", '<img loading="lazy"', markup)
    return re.sub(r'<img\b(?![^>]*\bstyle=)([^>]*?\bwidth="(\d+)")', r'<img style="--width: \2px"\1', markup)


def lighten(folder: Path, address: str) -> None:
    """Let the notebooks that readers download link to the files of the book, which hold most of their bytes.

    Args:
        address: of the published book; where it has none, links lead to the book around the notebook.
    """
    for path in (folder / "_sources").rglob("*.ipynb"):
        up = address or "../" * (len(path.relative_to(folder).parts) - 1)
        text = write(path.read_text(encoding="utf-8"), folder, lambda where, up=up: up + where)
        path.write_text(text, encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove what no page of the built book links to: figures of earlier builds, and files of the theme."""
    pages = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.html"))
    for parent, pattern in _FOLDERS.items():
        for path in list((folder / parent).glob(pattern)):
            if urllib.parse.quote(path.relative_to(folder).as_posix()) not in pages:
                path.unlink()
    for pattern in _UNUSED:
        for path in list((folder / "_static").glob(pattern)):
            path.unlink()
