"""The book's Sphinx extension: every stale page runs before Sphinx reads the sources; MathJax travels with
the book."""

from importlib import util
from pathlib import Path
from typing import Any

from companion.build import execute_all, load_pages
from sgaplus.errors import SystemFault, UserError

# MathJax as one file without fonts; `mathjax_path` of _config.yml names it.
_MATHJAX_PACKAGE, _MATHJAX_FILE = "sphinx-mathjax-offline", "static/mathjax/tex-svg-full.js"


def _ship_mathjax(app: Any, config: Any) -> None:
    """Sphinx event ``config-inited``: copy MathJax into the book, so that formulas need no network."""
    package = util.find_spec(_MATHJAX_PACKAGE)
    locations = package.submodule_search_locations if package else None
    if not locations:
        from sphinx.errors import ExtensionError

        raise ExtensionError(f"MathJax is missing: install the package {_MATHJAX_PACKAGE}")
    config.html_static_path.append(str(Path(locations[0]) / _MATHJAX_FILE))


def _execute_stale(app: Any) -> None:
    """Sphinx event ``builder-inited``: run every stale page before the sources are looked for.

    A page that fails ends the build with its message alone, not with a traceback of Sphinx around it.
    """
    from sphinx.util import logging

    root, logger = Path(app.srcdir).parent, logging.getLogger(__name__)
    try:
        listed = {name for name in app.config.external_site_map if name.startswith("executed/")}
        wanted = {f"executed/{page.name}" for page in load_pages(root)}
        if unmatched := sorted(listed ^ wanted):
            raise UserError(f"book/pages.yml and book/_toc.yml must agree on {', '.join(unmatched)}")
        execute_all(root, log=logger.info)
    except (UserError, SystemFault) as error:
        logger.error(str(error))
        raise SystemExit(2 if isinstance(error, UserError) else 1) from error


def setup(app: Any) -> dict[str, Any]:
    """Connect the events; Sphinx calls this because ``_config.yml`` names the module."""
    app.connect("config-inited", _ship_mathjax)
    app.connect("builder-inited", _execute_stale)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
