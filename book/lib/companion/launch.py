"""Buttons that run a page elsewhere, in the book that a workflow of the forge publishes.

Elsewhere nobody knows where the repository is, and there are no buttons.
"""

import html
import os
from urllib.parse import quote


def buttons(template: str = "your_photograph") -> str:
    """HTML of links that open a page's template in Colab (the copy beside the published book, which installs
    the pinned packages first) and in Binder (as ``binder/`` says); empty outside such a workflow."""
    repository, edition = (
        os.environ.get(name, "").strip("/") for name in ("GITHUB_REPOSITORY", "SGAPLUS_BOOK_URL")
    )
    if not (repository and edition):
        return ""
    folder = edition.rsplit("/", 1)[-1]
    page = f"{folder}/{template.replace('_', '-')}.ipynb"
    commit = os.environ.get("SGAPLUS_BOOK_COMMIT", "HEAD")
    where = {
        "Open in Colab": f"https://colab.research.google.com/github/{repository}/blob/gh-pages/{page}",
        "Open in Binder": f"https://mybinder.org/v2/gh/{repository}/{commit}"
        f"?labpath={quote(f'notebooks/{template}.ipynb', safe='')}",
    }
    links = " ".join(f'<a href="{html.escape(url)}">{name}</a>' for name, url in where.items())
    return f'<p class="launch">{links}</p>'
