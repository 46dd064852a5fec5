"""Every page of the built book in a headless Chromium, read from the disk as a reader without network does,
on a laptop and on a phone, in light and in dark.

Skipped where the book is not built or there is no Chromium; SGAPLUS_REQUIRE_BOOK=1 makes that a failure.
"""

import contextlib
import os
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import BROWSER, chromium, wanted

pytestmark = pytest.mark.slow

HTML = Path(__file__).parents[1] / "_build" / "html"
REDIRECT = re.compile(r'http-equiv="Refresh" content="0; url=([^"]+)"')
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and not REDIRECT.search(path.read_text(encoding="utf-8"))
)
INDEX = HTML / "index.html"
# The page to which the index leads.
FIRST = next(
    iter(REDIRECT.findall(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else []), "index.html"
)
VIEWS = [(width, scheme) for width in (1440, 390) for scheme in ("light", "dark")]
SCREEN = 900
# A page is at most so many screens long; those that list every claim and every question may be longer.
SCREENS, LONG = 8, {"executed/claims.html": 12, "executed/questions.html": 12}

# Figures are checked before they come into view.
SETTLE = """
async () => {
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => {});
  }
}
"""
# Colours change at once, and have changed with the next frame.
AT_ONCE = "*, *::before, *::after { transition: none !important; animation: none !important }"
STILL = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
INSPECT = """
() => {
  const article = document.querySelector("article, main");
  const shown = (element) => element.checkVisibility();
  const drawings = [...article.querySelectorAll("figure.plot > img")].filter(shown);
  return {
    text: article.innerText.trim().length,
    wide: document.documentElement.scrollWidth - innerWidth,
    height: article.getBoundingClientRect().height,
    // A picture in a link that has words needs none of its own.
    broken: [...document.images].filter(shown)
      .filter(i => !(i.naturalWidth && (i.alt.trim() || i.closest("a")))).map(i => i.src),
    bare: [...article.querySelectorAll("img")].filter(i => !i.closest("figure, a, .tiles")).map(i => i.src),
    empty: [...article.querySelectorAll("figure")].filter(f => {
      const caption = f.querySelector("figcaption");
      return !(caption && caption.textContent.trim()) || (shown(f) && f.getBoundingClientRect().height < 40);
    }).map(f => f.id),
    unnumbered: [...article.querySelectorAll("a.number")].map(a => a.textContent)
      .filter(t => !/\\d$/.test(t)),
    formulas: article.querySelectorAll("merror, span.math, div.math:not(:has(math))").length,
    // A drawing is made for its own width, where the smallest labels have 10 px.
    small: [
      ...drawings.filter(i => i.clientWidth < 0.78 * i.getAttribute("width"))
        .map(i => i.closest("figure").id),
      ...[...article.querySelectorAll("svg text")].filter(shown).filter(t => {
        const matrix = t.getScreenCTM();
        return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(matrix.a, matrix.b) < 8;
      }).map(t => t.textContent),
    ],
    tops: [".answer", "figure"].map(s => article.querySelector(s)).filter(Boolean)
      .map(e => e.getBoundingClientRect().top + scrollY),
  };
}
"""
ON_PAPER = """
() => ({
  dark: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector("article, main")).color,
  bars: [...document.querySelectorAll(
    "summary, .bd-sidebar, .bd-header-article, .copybtn, .prev-next-footer, .controls, button"
  )].filter(e => e.checkVisibility() && !e.closest("details:not(.hide)")).map(e => e.outerHTML.slice(0, 99)),
  folded: [...document.querySelectorAll("details:not([open]) > *")]
    .filter(e => e.localName !== "summary" && e.checkVisibility()).length,
})
"""


@dataclass
class Visit:
    """What a browser met on one page: in all views, by width and colours, and on paper."""

    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seen: dict[tuple[int, str], dict] = field(default_factory=dict)
    paper: dict = field(default_factory=dict)

    def all(self, name: str) -> dict:
        """What the views that found something of this name have."""
        return {view: seen[name] for view, seen in self.seen.items() if seen[name]}


@pytest.fixture(scope="module", autouse=True)
def book():
    """The book is built and can be looked at; elsewhere the tests are skipped, or fail where it must be."""
    if not PAGES or not BROWSER:
        wanted("there is no Chromium on the PATH" if PAGES else "the book is not built: run make book")


@pytest.fixture(scope="module")
def visit(book, request):
    """`look` at a page of the book, once; as many browsers as there are processors look ahead at the pages
    that the chosen tests ask for."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    asked = dict.fromkeys(spec.params["page"] for spec in chosen if spec and "page" in spec.params)
    visits, todo = {page: Future() for page in asked}, deque(asked)

    def work():
        with chromium() as opened:
            while todo:
                with contextlib.suppress(IndexError):
                    seen(todo.popleft(), opened)

    def seen(page, opened):
        try:
            visits[page].set_result(look(opened, (HTML / page).as_uri()))
        except Exception as error:  # The test of this page raises it.
            visits[page].set_exception(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(os.cpu_count() or 1):
            pool.submit(work)
        yield lambda page: visits[page].result()
        todo.clear()


def look(browser, address: str) -> Visit:
    """Open a page once and see it in all `VIEWS`, and as it is printed out of the last one, which is dark."""
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit()
    context = browser.new_context(viewport={"width": VIEWS[0][0], "height": SCREEN})
    tab = context.new_page()
    tab.on("console", lambda m: visit.complaints.append(m.text) if m.type in ("error", "assert") else None)
    tab.on("pageerror", lambda error: visit.complaints.append(str(error)))
    tab.on("request", lambda request: visit.asked.append(request.url))
    tab.on("requestfailed", lambda request: visit.complaints.append(f"{request.url} {request.failure}"))
    tab.on("websocket", lambda socket: visit.asked.append(socket.url))
    tab.goto(address)
    tab.add_style_tag(content=AT_ONCE)
    tab.evaluate(SETTLE)
    for width, scheme in VIEWS:
        tab.set_viewport_size({"width": width, "height": SCREEN})
        tab.emulate_media(color_scheme=scheme)
        tab.evaluate(STILL)
        seen = visit.seen[width, scheme] = tab.evaluate(INSPECT)
        # What only a phone shows is the same on all pages, half of which are looked at in the dark.
        contrast = width > 390 or scheme == ("light", "dark")[len(address) % 2]
        options = {"preload": False, "resultTypes": ["violations"]}
        options["rules"] = {"color-contrast": {"enabled": contrast}}
        found = Axe().run(tab, options=options).response["violations"]
        seen["axe"] = [
            f"{rule['id']}: {node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
    tab.emulate_media(media="print")
    visit.paper = tab.evaluate(ON_PAPER)
    context.close()
    return visit


@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_page_is_whole_in_each_view(visit, page):
    seen = visit(page)
    assert seen.asked, "the browser asked for nothing: not even the page"
    assert [a for a in seen.asked if not a.startswith((HTML.as_uri(), "data:", "blob:"))] == []
    assert seen.complaints == []
    assert all(view["text"] > 0 for view in seen.seen.values())
    for fault in ("broken", "bare", "empty", "unnumbered", "formulas", "axe"):
        assert seen.all(fault) == {}, fault
    assert {view: wide for view, wide in seen.all("wide").items() if wide > 0} == {}, (
        "the page scrolls sideways"
    )
    assert {view: small for view, small in seen.all("small").items() if view[0] == 390} == {}


@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_paper_is_white_and_has_no_bars(visit, page):
    paper = visit(page).paper
    assert paper["dark"] in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert max(map(int, re.findall(r"\d+", paper["ink"])[:3])) < 100
    assert (paper["bars"], paper["folded"]) == ([], 0)


@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_page_is_not_longer_than_some_screens(visit, page):
    height = visit(page).seen[1440, "light"]["height"]
    assert height <= LONG.get(page, SCREENS) * SCREEN


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("executed/")] or ["index.html"])
def test_page_answers_and_shows_on_the_first_screen(visit, page):
    tops = visit(page).seen[1440, "light"]["tops"]
    assert len(tops) == 2 and max(tops) < SCREEN


@pytest.mark.parametrize("words", ["install", "cite", "SSL", "Figure 3b"])
def test_search_finds_and_shows_a_sentence(browser, words):
    tab = browser.new_page()
    tab.goto(f"{(HTML / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    first = tab.locator("#search-results li").first
    first.locator(".found").wait_for(timeout=5000)
    assert len(first.locator(".found").inner_text()) > 40
    tab.close()


@pytest.mark.parametrize("page", [FIRST])
def test_first_page_and_whole_book_are_light(visit, page):
    asked = {unquote(urlsplit(a).path) for a in visit(page).asked}
    assert sum(Path(path).stat().st_size for path in asked if Path(path).is_file()) <= 1_500_000
    sizes = [path.stat().st_size for path in HTML.rglob("*.*") if path.suffix != ".pdf"]
    assert sum(sizes) <= 40_000_000
