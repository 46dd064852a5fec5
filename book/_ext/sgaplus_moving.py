"""Scripts of figures that move, on the pages that have one alone (`companion.moving`)."""

import re
from pathlib import Path
from typing import Any

_KIND = re.compile(r'class="moving" data-kind="([\w-]+)"')


def _scripts(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx event ``html-page-context``: ``moving.js`` and ``moving-KIND.js`` where they are needed.

    Jupyter Book puts every script and style sheet of ``_static`` on every page.
    """
    kinds = set(_KIND.findall(context.get("body", "")))
    wanted = {"moving", *(f"moving-{kind}" for kind in kinds)} if kinds else set()
    for files in ("script_files", "css_files"):
        context[files] = [
            file
            for file in context[files]
            if not (stem := _stem(file)).startswith("moving") or stem in wanted
        ]


def _stem(file: Any) -> str:
    return Path(str(getattr(file, "filename", file)).split("?")[0]).stem


def setup(app: Any) -> dict[str, Any]:
    """Connect the event; Sphinx calls this because ``_config.yml`` names the module."""
    app.connect("html-page-context", _scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
