"""How to cite this software: a BibTeX entry from what CITATION.cff says."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def bibtex(cff: Mapping[str, Any], root: Path) -> str:
    """A ``@software`` entry of the content of CITATION.cff, with the last commit's date where it has none."""
    authors = [
        # In braces what is no person's name.
        f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
        for author in cff["authors"]
    ]
    date = str(cff.get("date-released") or committed(root, "%cs"))
    fields = {
        "title": "{" + cff["title"] + "}",
        "author": " and ".join(authors),
        "version": cff["version"],
        "date": date,
        "year": date[:4],
        "license": cff["license"],
        "doi": cff.get("doi"),
        "url": cff.get("repository-code") or cff.get("url"),
    }
    width = max(map(len, fields))
    lines = [f"  {name:<{width}} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@software{sgaplus,", *lines, "}"])


def committed(root: Path, form: str) -> str:
    """The last commit in a format of git's, whose %cs is its day, YYYY-MM-DD; nothing outside a checkout."""
    command = ["git", "-C", str(root), "log", "-1", f"--format={form}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
