"""What belongs to the book as a site: its address, version and licence, a page for what is not found, and
what search engines and previews read."""

import html
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sgaplus
from companion.citation import committed

from . import words

# Where the book will be published, such as https://example.org/book/; unset, it claims no address.
ADDRESS_VARIABLE = "SGAPLUS_BOOK_URL"
_CARD = "_static/card.png"
_MOVING = re.compile(r'class="moving" data-kind="([\w-]+)"')


def address() -> str:
    """The address that `ADDRESS_VARIABLE` gives, with a slash at its end; empty where there is none."""
    given = os.environ.get(ADDRESS_VARIABLE, "").strip()
    return f"{given.rstrip('/')}/" if given else ""


def edition(root: Path) -> str:
    """Version, date and commit of the checkout, and its licence, as HTML; the PDF where one is published."""
    parts = [f"sgaplus {sgaplus.__version__}"]
    parts += committed(root, "%cs commit %h").split(maxsplit=1)
    said = html.escape(" · ".join(part.strip() for part in (*parts, "BSD 3-Clause licence")))
    return f'{said} · <a href="{address()}sgaplus-book.pdf">PDF</a>' if address() else said


def head(title: str, body: str, page_address: str | None) -> str:
    """Elements of the head for search engines and for previews of links."""
    said = words.description(body)
    tags = {"og:type": "article", "og:title": words.of_markup(title)}
    if said:
        tags["og:description"] = said
    if page_address:
        tags |= {"og:url": page_address, "og:image": address() + _CARD}
    markup = [f'<meta name="description" content="{html.escape(said)}" />'] if said else []
    markup += [f'<meta property="{key}" content="{html.escape(value)}" />' for key, value in tags.items()]
    return "\n    ".join(("", *markup))


def scripts(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx event ``html-page-context``: ``moving.js`` and ``moving-KIND.js`` where a figure moves alone
    (`companion.moving`); Jupyter Book puts every script and style sheet of ``_static`` on every page."""
    kinds = set(_MOVING.findall(context.get("body", "")))
    wanted = {"moving", *(f"moving-{kind}" for kind in kinds)} if kinds else set()

    def here(file: Any) -> bool:
        stem = Path(str(getattr(file, "filename", file)).split("?")[0]).stem
        return not stem.startswith("moving") or stem in wanted

    for files in ("script_files", "css_files"):
        context[files] = list(filter(here, context[files]))


def not_found(app: Any) -> Iterable[tuple[str, dict[str, Any], str]]:
    """Sphinx event ``html-collect-pages``: the page that a server shows for an address that has none."""
    first = app.builder.get_target_uri(app.config.root_doc)
    body = (
        "<h1>There is no such page</h1><p>The address may be of an earlier edition of this book. "
        f'Begin at its <a href="{first}">first page</a>, or <a href="search.html">search</a> it.</p>'
    )
    yield "404", {"title": "There is no such page", "body": body}, "page.html"


def write(app: Any) -> None:
    """The files that search engines read, at the top of the built book."""
    folder, base = Path(app.outdir), address()
    lines = ["User-agent: *", "Allow: /", *([f"Sitemap: {base}sitemap.xml"] if base else [])]
    (folder / "robots.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if base:
        shutil.copyfile(Path(app.srcdir) / "images" / "result.png", folder / _CARD)
        places = [html.escape(base + app.builder.get_target_uri(name)) for name in sorted(app.env.all_docs)]
        entries = "".join(f"<url><loc>{place}</loc></url>" for place in places)
        scheme = "http://www.sitemaps.org/schemas/sitemap/0.9"
        (folder / "sitemap.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{scheme}">{entries}</urlset>\n',
            encoding="utf-8",
        )
