"""What the tests share: an untrained codec in place of the bundled ones, photographs, a disk that fills up.

Where the variable ``CI`` is ``true``, a test that is skipped fails, unless `EXPECTED_SKIPS` has its reason.
"""

import collections
import contextlib
import functools
import gc
import os
import re
import shutil
import sys
from pathlib import Path

# Tests run side by side, each with one thread; so do the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from compressai.models import MeanScaleHyperprior
from PIL import Image

from sgaplus import cli
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.data import datasets
from sgaplus.errors import UserError
from sgaplus.training import publishing
from sgaplus.training.gains import Gains

from .moods import limit_files
from .served import Server

# Garbage in cycles is rare, and to look for it as often as usual takes time.
gc.set_threshold(100_000, 20, 20)

WIDTHS = 8, 12

# Data sets are not in the repository, and the book is built after the tests.
EXPECTED_SKIPS = re.compile(
    r"the data set \w+ is not here|the book is not built"
    + ("" if sys.platform == "linux" else "|is tested on Linux")
    + ("" if sys.platform != "win32" else "|Windows")
)

NEEDS_COMPILER = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None,
    reason="torch.compile is tested on Linux, with g++",
)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals, limits or programs")


def pytest_collection_modifyitems(items):
    """Files with the most slow tests begin, so that none of them keeps the others waiting at the end."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and os.environ.get("CI") == "true":
        reason = str(call.excinfo.value)
        if not EXPECTED_SKIPS.search(reason):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped: {reason}"
    return report


def untrained(n: int = WIDTHS[0], m: int = WIDTHS[1], seed: int = 0) -> MeanScaleHyperprior:
    """A mean-scale hyperprior whose latents are a few units wide, as a trained one's are."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = MeanScaleHyperprior(n, m)
        model.g_a[-1].weight *= 40
    return model


def write_codec(folder: Path, name: str = "mshyper-s", lmbda: float = 0.01, **changes) -> Path:
    """An untrained codec with its card, as `publishing.publish` would write them."""
    return _write(publishing.publishable(untrained(**changes)), folder, name, [lmbda])


def write_network(folder: Path, name: str = "mshyper-s", lmbdas=(0.005, 0.01, 0.02), seed: int = 0) -> Path:
    """An untrained network with random gains at several λ, and its card."""
    model, gains = untrained(seed=seed), Gains(lmbdas, lmbdas[len(lmbdas) // 2], *WIDTHS)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gain in gains.parameters():
            gain += 0.2 * torch.randn(gain.shape, generator=generator)
    return _write(publishing.publishable(model) | gains.published(lmbdas), folder, name, lmbdas)


def _write(weights, folder: Path, name: str, lmbdas) -> Path:
    points = [{"images": 24, "bpp": 0.5, "psnr": 30.0, "loss": 1.0} for _ in lmbdas]
    N, M = WIDTHS
    return shipped.save_network(
        weights, folder, name=name, lmbdas=lmbdas, N=N, M=M, training={}, kodak=points
    )


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("untrained", 0.01, freeze(untrained()), sha256="0" * 64)


@pytest.fixture
def linear_codec() -> Codec:
    """A codec whose synthesis is linear, each position by itself: the second order is all there is."""
    model = untrained()
    torch.manual_seed(1)
    model.g_s = torch.nn.ConvTranspose2d(12, 3, 16, stride=16)
    return Codec("linear", 0.01, freeze(model), sha256="")


@pytest.fixture
def bundled(tmp_path, monkeypatch) -> Path:
    """A folder of bundled codecs with one untrained member, ``mshyper-s`` at λ = 0.01."""
    folder = tmp_path / "bundled"
    write_codec(folder)
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder)
    return folder


@pytest.fixture
def no_zoo(tmp_path, monkeypatch) -> Path:
    """An empty cache of downloaded codecs."""
    folder = tmp_path / "zoo"
    monkeypatch.setattr("sgaplus.codecs.zoo.zoo_folder", lambda: folder)
    return folder


def write_photo(path: Path, size: tuple[int, int] = (70, 66), mode: str = "RGB", seed: int = 0) -> Path:
    """A photograph (width, height) of smooth noise in any of Pillow's modes; ``I;16`` is 16-bit greyscale."""
    width, height = size
    noise = np.random.default_rng(seed).random((height // 8 + 2, width // 8 + 2, 3))
    image = Image.fromarray((255 * noise).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path) if mode == "I;16" else image.convert(mode).save(path)
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    return write_photo(tmp_path / "photo.png")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


def wanted(reason: str) -> None:
    """Skip what the book or a browser would be needed for; fail where SGAPLUS_REQUIRE_BOOK is 1."""
    (pytest.fail if os.environ.get("SGAPLUS_REQUIRE_BOOK") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    if not BROWSER:
        wanted("a browser is tested on Linux, with Chromium on the PATH")
    with chromium() as opened:
        yield opened


@pytest.fixture
def command(capsys):
    """Run a command line; gives its exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def call(command, monkeypatch, bundled, no_zoo, tmp_path):
    """`command` in an empty folder, with one bundled codec and without data sets."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("SGAPLUS_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("SGAPLUS_TRACEBACK", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return command


def assert_refused(result, message, code=2):
    """One sentence on standard error, nothing on standard output, nothing written in the working folder."""
    found, out, err = result
    assert (found, out) == (code, "")
    chatter = ("refining ", "no photograph is held out", "0 of 1 are done")
    (line,) = [line for line in err.splitlines() if not line.startswith(chatter)]
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert "Traceback" not in err
    assert [path for path in Path().rglob("*") if path.is_file()] == []


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served on this computer, which notes what is asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "www").mkdir()
    running = Server(tmp_path / "www")
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def closed_figures():
    """The figures of a test are closed after it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def data_set():
    """`datasets.list_images`, for data sets that the test needs and this computer may lack."""

    def images(name: str, **which):
        try:
            return datasets.list_images(name, **which)
        except UserError as error:
            pytest.skip(f"the data set {name} is not here: {error}")

    return images


@pytest.fixture
def traced_alone(monkeypatch):
    """`torch.compile` traces programs and writes no code for them, which takes most of the time."""
    compiled = functools.cache(
        lambda function, device: torch.compile(function, fullgraph=True, dynamic=False, backend="eager")
    )
    monkeypatch.setattr("sgaplus.refinement.objective._program", compiled)


@pytest.fixture
def file_size_limit():
    """A context in which no file can grow beyond so many bytes, for every library in this process."""
    pytest.importorskip("resource", reason="Windows has no such limits")

    @contextlib.contextmanager
    def limited(size: int):
        limit_files(size)
        try:
            yield
        finally:
            limit_files(None)

    return limited
