"""Every page of the built book in a headless Chromium, read from the disk as a reader without network does.

Skipped where the book is not built or there is no Chromium; SGAPLUS_REQUIRE_BOOK=1 makes that a failure.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HTML = Path(__file__).parents[1] / "_build" / "html"
REDIRECT = re.compile(r'http-equiv="Refresh" content="0; url=([^"]+)"')
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and not REDIRECT.search(path.read_text(encoding="utf-8"))
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]

# Lazy pictures are loaded only when they are scrolled to.
SETTLE = """
(async () => {
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => {});
  }
})()
"""
INSPECT = """
({
  text: document.body.innerText.trim().length,
  images: [...document.images].map(i => ({
    source: i.src.slice(0, 80), alt: i.alt.trim(), width: i.naturalWidth,
    figure: !i.closest("article") || i.closest("figure") !== null,
  })),
  captions: [...document.querySelectorAll("figure")].map(f => {
    const caption = f.querySelector("figcaption");
    return caption ? caption.innerText.trim() : "";
  }),
  formulas: document.querySelectorAll("math").length,
  unset: document.querySelectorAll("span.math, div.math:not(:has(math))").length,
  wrong: [...document.querySelectorAll("merror")].map(e => e.textContent),
})
"""


class Tab:
    """One tab of a browser, driven over the Chrome DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket

        self.socket = websocket.create_connection(address, suppress_origin=True, timeout=30)
        self.events: list[dict] = []
        self.number = 0

    def call(self, method: str, **parameters):
        """The result of one command; events that arrive meanwhile are kept."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (message := self.receive()).get("id") != self.number:
            pass
        assert "error" not in message, message
        return message["result"]

    def receive(self) -> dict:
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def evaluate(self, script: str):
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, address: str) -> list[dict]:
        """Load a page, wait until it has settled, and return the events of doing so."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.receive()
        self.evaluate(SETTLE)
        return list(self.events)


@pytest.fixture(scope="module", autouse=True)
def book():
    """The book is built and can be looked at; elsewhere the tests are skipped, or fail where it must be."""
    if not PAGES or not BROWSER:
        reason = "there is no Chromium on the PATH" if PAGES else "the book is not built: run make book"
        (pytest.fail if os.environ.get("SGAPLUS_REQUIRE_BOOK") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser(book, tmp_path_factory):
    """The browser's own tab, and the address at which it serves others."""
    profile = tmp_path_factory.mktemp("profile")
    with (profile / "log").open("w") as log:
        process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port_file.exists() and len(port_file.read_text().split()) == 2):
            assert process.poll() is None, (profile / "log").read_text()
            assert time.monotonic() < deadline, "Chromium did not start within a minute"
            time.sleep(0.1)
        port, path = port_file.read_text().split()
        root = Tab(f"ws://127.0.0.1:{port}{path}")
        yield root, f"ws://127.0.0.1:{port}/devtools/page/"
        root.socket.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def tab(browser):
    """A tab of a reader who has never seen the book: nothing stored, nothing cached."""
    root, address = browser
    context = root.call("Target.createBrowserContext")["browserContextId"]
    target = root.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    page = Tab(address + target)
    for domain in ("Page", "Runtime", "Network", "Log"):
        page.call(f"{domain}.enable")
    yield page
    page.socket.close()
    root.call("Target.disposeBrowserContext", browserContextId=context)


def complaints(events: list[dict]) -> list[str]:
    """Errors of the console, uncaught exceptions and failed loads among ``events``."""
    found = []
    for event in events:
        details = event["params"]
        match event["method"]:
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "assert"):
                found.append(" ".join(str(a.get("value", a.get("description"))) for a in details["args"]))
            case "Runtime.exceptionThrown":
                found.append(details["exceptionDetails"].get("exception", {}).get("description", "exception"))
            case "Log.entryAdded" if details["entry"]["level"] == "error":
                found.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
            case "Network.loadingFailed" if not details.get("canceled"):
                found.append(f"could not load: {details['errorText']}")
    return found


def requests(events: list[dict]) -> list[str]:
    """Addresses that were asked for, by the page and by its web sockets."""
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return sent + [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]


@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_page_is_whole_and_asks_for_nothing_outside_the_book(tab, page):
    events = tab.open((HTML / page).as_uri())
    seen = tab.evaluate(INSPECT)
    asked = requests(events)
    assert asked, "the browser asked for nothing: not even the page"
    assert [a for a in asked if not a.startswith((HTML.as_uri(), "data:", "blob:"))] == []
    assert complaints(events) == []
    assert seen["text"] > 0
    assert [image for image in seen["images"] if not (image["alt"] and image["width"])] == []
    assert [image for image in seen["images"] if not image["figure"]] == [], "a picture without a caption"
    assert "" not in seen["captions"], "a figure without a caption"
    assert seen["wrong"] == []
    assert seen["formulas"] >= seen["unset"]


def test_index_is_not_empty():
    """Jupyter Book 2 reads no _config.yml, publishes nothing and exits with 0."""
    index = (HTML / "index.html").read_text(encoding="utf-8")
    redirect = REDIRECT.search(index)
    assert (redirect.group(1) if redirect else "index.html") in PAGES


def test_checks_see_a_broken_page(tab, tmp_path):
    """The checks above can fail: each kind of fault is found on a page that has it."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        '<article><figure><img src="gone.png"></figure><img src="also-gone.png" alt="x"></article>'
        '<script src="http://127.0.0.1:9/outside.js"></script><script>console.error("wrong")</script>'
    )
    events = tab.open(broken.as_uri())
    seen = tab.evaluate(INSPECT)
    assert "http://127.0.0.1:9/outside.js" in requests(events)
    assert "wrong" in complaints(events)
    assert any("ERR_FILE_NOT_FOUND" in complaint for complaint in complaints(events))
    assert [image["width"] for image in seen["images"]] == [0, 0]
    assert [image["figure"] for image in seen["images"]] == [True, False]
    assert seen["captions"] == [""]
