"""The published site: one folder for each edition of the book, side by side, and what leads to them.

    python .github/site.py check BOOK            every link inside the built book leads somewhere
    python .github/site.py place BOOK SITE NAME  put the built book into the site as NAME
    python .github/site.py remove SITE NAME      take an edition out
    python .github/site.py edition NAME          print the folder of an edition
    python .github/site.py colab TEMPLATE FILE   a copy of a page's template that installs this commit first

NAME is latest (the main branch), v0.2.1 (a tag, placed as v0.2) or pr-12 (a preview). Needs no package.
"""

import html
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAMES = re.compile(r"(latest|v\d+\.\d+|pr-\d+)(?:\.\d+)?")


def edition(name: str) -> str:
    """The folder of a name: that of a tag has no last number, so that v0.2.1 takes the place of v0.2.0."""
    found = NAMES.fullmatch(name)
    if not found or (name != found[1] and not name.startswith("v")):
        sys.exit(f"an edition is called latest, v0.2.1 or pr-12, not {name}")
    return found[1]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.anchors.add(value)
            elif value and (key == "src" or (key == "href" and tag != "base")):
                self.links.add(value)


def check(book: Path) -> list[str]:
    """Links of the book's pages that lead to no file, or to no anchor, of the book."""
    pages = {}
    for path in sorted(book.resolve().rglob("*.html")):
        if "_static" in path.parts:
            continue  # the theme's templates
        pages[path] = _Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    lost = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            what = f"{path.relative_to(book.resolve())}: {link} leads to no"
            if not target.exists():
                lost.append(f"{what} file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                lost.append(f"{what} anchor")
    return lost


def place(book: Path, site: Path, name: str) -> None:
    """Put the book in the place of that edition."""
    if not (book / "index.html").is_file():
        sys.exit(f"{book} holds no book: run make book")
    folder = site / edition(name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(book, folder, ignore=shutil.ignore_patterns(".buildinfo", ".doctrees", "*.pickle"))
    _lead(site)


def remove(site: Path, name: str) -> None:
    """Take an edition out of the site, if it is there."""
    shutil.rmtree(site / edition(name), ignore_errors=True)
    _lead(site)


def _lead(site: Path) -> None:
    """The site's first page leads to the newest edition; versions.json lists those that stay."""
    folders = [path.name for path in site.iterdir() if NAMES.fullmatch(path.name)]
    tags = [name for name in folders if name.startswith("v")]
    tags.sort(key=lambda name: [*map(int, name[1:].split("."))], reverse=True)
    lasting = [*(["latest"] if "latest" in folders else []), *tags]
    (site / "versions.json").write_text(json.dumps(lasting) + "\n", encoding="utf-8")
    (site / ".nojekyll").touch()
    items = "".join(f'<li><a href="{html.escape(name)}/">{html.escape(name)}</a></li>' for name in lasting)
    first = f'<meta http-equiv="refresh" content="0; url={lasting[0]}/">' if lasting else ""
    (site / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>SGA+</title>{first}'
        f"<h1>Editions of this book</h1><ul>{items}</ul></html>\n",
        encoding="utf-8",
    )
    (site / "404.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>There is no such page</title>'
        '<h1>There is no such page</h1><p>Begin at the <a id="first" href="/">first page</a>.</p>'
        '<script>first.href = `/${location.pathname.split("/")[1]}/`</script></html>\n',
        encoding="utf-8",
    )


def colab(template: Path, file: Path, repository: str, commit: str) -> None:
    """A notebook for another computer, which first fetches the repository and the pinned packages."""
    notebook = json.loads(template.read_text(encoding="utf-8"))
    install = [
        f"!git clone -q https://github.com/{repository} checkout && git -C checkout checkout -q {commit}\n",
        "%cd checkout\n",
        "!pip install -q -r requirements.lock && pip install -q --no-deps -e .\n",
        'import sys; sys.path[:0] = [".", "book/lib"]  # an editable install needs a new session\n',
        "# If the next cell says that a package is too old or too new: restart the session and go on there.",
    ]
    cell = {"cell_type": "code", "id": "install", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].insert(0, cell | {"source": install})
    file.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["check", book]:
            lost = check(Path(book))
            print("\n".join(lost) or "Every link inside the book leads somewhere.")
            sys.exit(1 if lost else 0)
        case ["place", book, site, name]:
            place(Path(book), Path(site), name)
        case ["remove", site, name]:
            remove(Path(site), name)
        case ["edition", name]:
            print(edition(name))
        case ["colab", template, file]:
            where = (os.environ[name] for name in ("GITHUB_REPOSITORY", "SGAPLUS_BOOK_COMMIT"))
            colab(Path(template), Path(file), *where)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
