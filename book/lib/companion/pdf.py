"""The built book as one PDF, for ``make pdf``: Chromium prints all pages as one document, twice, since its
contents name the sheets that the first printing gave to the pages."""

import html
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag, urljoin

from sgaplus.errors import SystemFault, UserError

_BUILT = Path("_build") / "html"
_ARTICLE = re.compile(r'<article class="bd-article">(.*?)</article>', re.DOTALL)
_SHEETS = re.compile(r'<link[^>]*rel="stylesheet"[^>]*>')
_ADDRESS = re.compile(r'\b(href|src|id|aria-labelledby|aria-describedby)="([^"]*)"')
# Folded details, buttons and code that made the figures have no use on paper.
_LEFT_OUT = re.compile(
    r'<a class="headerlink".*?</a>|<script\b.*?</script>'
    r'|<details class="(?:provenance|parameters)".*?</details>',
    re.DOTALL,
)


@dataclass(frozen=True)
class Page:
    """A page of the built book: its file under ``_build/html``, its part of the book, its title and words."""

    file: str
    part: str
    title: str
    article: str

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.file.removesuffix(".html"))


def pages(root: Path) -> list[Page]:
    """The book's pages in the order of ``book/_toc.yml``."""
    import yaml

    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    listed = [("", toc["root"])]
    for part in toc.get("parts", [toc]):
        listed += [(part.get("caption", ""), name) for name in _files(part["chapters"])]
    found = []
    for part, name in listed:
        if name == "genindex":  # its numbers of pages would be those of the screen
            continue
        file = f"{name.removesuffix('.md')}.html"
        path = root / _BUILT / file
        if not path.exists():
            raise UserError(f"there is no {path}: build the book with make book first")
        article = _ARTICLE.search(path.read_text(encoding="utf-8"))
        markup = _LEFT_OUT.sub("", article[1]) if article else ""
        heading = re.search(r"<h1[^>]*>(.*?)</h1>", markup, re.DOTALL)
        title = html.unescape(re.sub(r"<[^>]+>", "", heading[1])) if heading else file
        found.append(Page(file, part, title.strip(), markup))
    return found


def _files(entries: list[dict]) -> Iterator[str]:
    for entry in entries:
        yield entry["file"]
        yield from _files(entry.get("sections", []))


def style_sheets(file: str, markup: str) -> str:
    """The links of a page to style sheets, for a document at the top of the book."""
    links = "".join(_SHEETS.findall(markup))
    return re.sub(r'href="([^"]*)"', lambda link: f'href="{urljoin(file, link[1])}"', links)


def merged(page: Page, anchors: dict[str, str]) -> str:
    """A page's article, with ids that are unique in the document and links to other pages inside it."""

    def inside(match: re.Match) -> str:
        name, value = match[1], html.unescape(match[2])
        if name in ("id", "aria-labelledby", "aria-describedby"):
            return f'{name}="{page.anchor}.{match[2]}"'
        target, fragment = urldefrag(urljoin(page.file, value))
        if name == "href" and target in anchors:
            value = f"#{anchors[target]}" + (f".{fragment}" if fragment else "")
        elif not re.match(r"[a-z]+:", value):
            value = urljoin(page.file, value)
        return f'{name}="{html.escape(value)}"'

    article = _ADDRESS.sub(inside, page.article).replace('loading="lazy"', "")
    return f'<article class="bd-article page" id="{page.anchor}">{article}</article>'


def document(found: list[Page], head: str, edition: str, numbers: dict[str, int]) -> str:
    """The whole book as one HTML page; ``numbers`` are those that the contents give."""
    style = Path(__file__).with_name("pdf.css").read_text(encoding="utf-8")
    anchors = {page.file: page.anchor for page in found}
    lines, part = [], ""
    for page in found:
        if page.part != part:
            part = page.part
            lines.append(f"<strong>{html.escape(part)}</strong>")
        number = numbers.get(page.anchor, "")
        lines.append(f'<li><a href="#{page.anchor}">{html.escape(page.title)}</a><span>{number}</span></li>')
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">{head}'
        f"<title>{html.escape(found[0].title)}</title><style>{style}</style></head><body>"
        f'<div class="bd-content"><div class="bd-article-container"><div class="cover">'
        f'<p class="title">{html.escape(found[0].title)}</p><p>{edition}</p></div>'
        f'<nav class="sheets"><p class="title">Contents</p><ul>{"".join(lines)}</ul></nav>'
        f"{''.join(merged(page, anchors) for page in found)}</div></div></body></html>"
    )


def starts(pdf: Path, found: list[Page]) -> dict[str, int]:
    """The number of the sheet on which each page begins, by its anchor, from the outline of the PDF."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    tops = [entry for entry in reader.outline if not isinstance(entry, list)]
    if len(tops) != len(found):
        raise SystemFault(f"the outline has {len(tops)} titles for {len(found)} pages")
    sheets = (reader.get_destination_page_number(entry) for entry in tops)
    return {page.anchor: sheet + 1 for page, sheet in zip(found, sheets, strict=True) if sheet is not None}


def write(root: Path, target: Path) -> int:
    """Print the built book to ``target``; the number of its sheets."""
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise UserError("a PDF needs Chromium on the PATH (Debian: apt-get install chromium)")
    found = pages(root)
    first = (root / _BUILT / found[0].file).read_text(encoding="utf-8")
    footer = re.search(r'<div class="extra_footer">(.*?)</div>', first, re.DOTALL)
    edition = footer[1] if footer else ""
    head = style_sheets(found[0].file, first)
    source = root / _BUILT / ".book.html"
    numbers: dict[str, int] = {}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            tab = browser.new_page()
            for _ in range(2):
                source.write_text(document(found, head, edition, numbers), encoding="utf-8")
                tab.goto(source.resolve().as_uri(), timeout=120_000)
                tab.pdf(path=target, prefer_css_page_size=True, outline=True, tagged=True)
                numbers = starts(target, found)
            browser.close()
    finally:
        source.unlink(missing_ok=True)
    return len(PdfReader(target).pages)


def main() -> None:
    root = Path()
    target = root / _BUILT / "sgaplus-book.pdf"
    try:
        sheets = write(root, target)
    except (UserError, SystemFault) as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    print(f"{target}: {sheets} sheets, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
