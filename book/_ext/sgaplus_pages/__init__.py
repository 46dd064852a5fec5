"""The book's Sphinx extension: every stale page runs before Sphinx reads the sources, and what pages have in
them is made fit for a browser, each in a module of its own."""

import re
from pathlib import Path
from typing import Any

from sphinx.util import logging

from companion.build import execute_all, load_pages
from sgaplus.errors import SystemFault, UserError

from . import files, formulas, numbers, site, words

_log = logging.getLogger(__name__)


def _execute_stale(app: Any) -> None:
    """Sphinx event ``builder-inited``: run every stale page before the sources are looked for.

    A page that fails ends the build with its message alone, not with a traceback of Sphinx around it.
    """
    root = Path(app.srcdir).parent
    try:
        listed = {name for name in app.config.external_site_map if name.startswith("executed/")}
        wanted = {f"executed/{page.name}" for page in load_pages(root)}
        if unmatched := sorted(listed ^ wanted):
            raise UserError(f"book/pages.yml and book/_toc.yml must agree on {', '.join(unmatched)}")
        execute_all(root, log=_log.info)
    except (UserError, SystemFault) as error:
        _log.error(str(error))
        raise SystemExit(2 if isinstance(error, UserError) else 1) from error


def _configure(app: Any, config: Any) -> None:
    """Sphinx event ``config-inited``: what the environment and the checkout say of this edition."""
    config.html_baseurl = site.address()
    config.html_context["book_address"] = site.address()
    config.html_theme_options["extra_footer"] = site.edition(Path(app.srcdir).parent)


def _prepare(app: Any) -> None:
    """Sphinx event ``builder-inited``, after the pages ran: number the figures, and index prose alone."""
    # Sphinx looked for sources before the pages ran.
    app.env.find_files(app.config, app.builder)
    pages = [(name, Path(app.env.doc2path(name))) for name in app.config.external_site_map]
    app.book_numbers, twice = numbers.numbered((name, path) for name, path in pages if path.exists())
    if twice:
        _log.warning(f"more than one figure has the name {', '.join(sorted(set(twice)))}")
    app.book_words = {}
    index = app.builder.index_page

    def index_prose(name: str, doctree: Any, title: str) -> None:
        page = words.prose(doctree)
        app.book_words[name] = words.text(page)
        index(name, page, title)

    app.builder.index_page = index_prose


def _add_prose(app: Any, page: str, *context: Any) -> None:
    """Sphinx event ``html-page-context``, before others choose among the scripts."""
    if page == "search":
        app.add_js_file("prose.js")


def _finish_page(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx event ``html-page-context``: numbers, files instead of data URIs, and a head."""
    body, path_to = context.get("body", ""), context["pathto"]
    body, unknown = numbers.put_in(body, page, app.book_numbers, path_to)
    if unknown:
        _log.warning(f"no figure or table is called {', '.join(unknown)}", location=page)
    body = files.write(body, Path(app.outdir), lambda where: path_to(where, 1))
    # A list must have items: the roles of sphinxcontrib-bibtex do not go together.
    context["body"] = files.lazy(body).replace('role="doc-biblioentry"', 'role="listitem"')
    tags = re.sub(r'<meta [^>]*name="viewport"[^>]*>', "", context.get("metatags", ""))
    context["metatags"] = tags + site.head(context.get("title", ""), body, context.get("pageurl"))


def _finish_book(app: Any, error: Exception | None) -> None:
    """Sphinx event ``build-finished``."""
    if error is None and app.builder.name == "html":
        words.store(Path(app.outdir), app.book_words)
        site.write(app)
        files.lighten(Path(app.outdir), site.address())
        files.sweep(Path(app.outdir))


def setup(app: Any) -> dict[str, Any]:
    """Connect the events; Sphinx calls this because ``_config.yml`` names the module."""
    app.add_html_math_renderer("mathml", (formulas.inline, None), (formulas.block, None))
    app.connect("config-inited", _configure)
    app.connect("builder-inited", _execute_stale)
    app.connect("builder-inited", _prepare, priority=900)
    app.connect("html-page-context", _add_prose, priority=100)
    app.connect("html-page-context", site.scripts)
    app.connect("html-page-context", _finish_page, priority=900)
    app.connect("html-collect-pages", site.not_found)
    app.connect("build-finished", _finish_book)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
