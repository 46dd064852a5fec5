"""Pages are listed and run, and only when they are stale; each test makes its own small repository."""

import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import yaml
from nbformat import v4

import sgaplus_pages
from companion import build as pages
from sgaplus.errors import UserError

from .conftest import write_codec, write_photo

REPOSITORY = Path(__file__).parents[1]
# Raised by the kernel's client at its end, not by the code under test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def write_template(
    root: Path, *code: str, name: str = "tiny", declared: str = "amplitude = 1.0\nlabel = 'a'"
):
    """A template with a title, the parameters ``declared`` and one cell for each of ``code``."""
    parameters = v4.new_code_cell(declared, metadata={"tags": ["parameters"]})
    guard = v4.new_code_cell(f"from companion import cells, parameters\n\nparameters.check({name!r})")
    cells = [v4.new_markdown_cell("# Own title\n\nWords."), parameters, guard, *map(v4.new_code_cell, code)]
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def write_pages(root: Path, *entries: dict) -> list[pages.Page]:
    (root / "book" / "pages.yml").write_text(yaml.safe_dump(list(entries)))
    return pages.load_pages(root)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without pages, data and studies: kernels that are started in it import its own copy of the
    code."""
    (tmp_path / "notebooks").mkdir()
    for package in ("sgaplus", "book/lib/companion"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, tmp_path / "book" / "lib"))))
    # A shell of IPython in another test empties this module, and new processes look here.
    main = vars(sys.modules["__main__"])
    monkeypatch.setitem(main, "__spec__", main.get("__spec__"))
    return tmp_path


def executed(page: pages.Page, root: Path) -> dict:
    return json.loads(pages.output_path(page, root).read_text())


def text(notebook: dict) -> str:
    """Everything that the code cells wrote to stdout."""
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    return "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")


@pytest.mark.slow
def test_a_page_runs_with_its_parameters_says_what_it_was_made_from_and_is_fresh_until_that_changes(
    root, monkeypatch
):
    (root / "other").mkdir()  # the environment's own sitecustomize still has its turn
    (root / "other" / "sitecustomize.py").write_text("import builtins\nbuiltins.turn = 'had'\n")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}{os.pathsep}{root / 'other'}")
    (root / "tiny.txt").write_text("1")
    reads = "print(amplitude, label, turn, open('tiny.txt').read(), sys.executable)"
    write_template(root, f"import sys\n{reads}\nprint('odd', file=sys.stderr)")
    entry = {"name": "first", "template": "tiny", "title": "Given", "parameters": {"amplitude": 2.5}}
    [page] = write_pages(root, entry)
    assert pages.stale(page, root)
    lines: list[str] = []
    assert pages.execute_all(root, log=lines.append) == 1
    notebook = executed(page, root)
    assert text(notebook).split() == ["2.5", "a", "had", "1", sys.executable]
    assert "".join(notebook["cells"][0]["source"]) == "# Given\n\nWords."
    (given,) = [c for c in notebook["cells"] if "amplitude = 2.5" in "".join(c["source"])]
    assert "remove-input" in given["metadata"]["tags"]
    assert "first: odd" in lines
    assert '"stderr"' not in json.dumps(notebook)
    assert re.fullmatch(r"\[1/1\] first … \d+ s", lines[-1])
    assert notebook["metadata"]["language_info"]["pygments_lexer"] == "ipython3"
    record = notebook["metadata"]["sgaplus"]
    assert record["parameters"] == {"amplitude": 2.5} and "tiny.txt" in record["files"]
    assert record["seconds"] > 0
    assert record["versions"]["torch"]
    assert not pages.stale(page, root)
    before = pages.output_path(page, root).stat().st_mtime_ns
    assert pages.execute_all(root) == 0
    assert pages.output_path(page, root).stat().st_mtime_ns == before
    assert list((root / "book" / "executed").iterdir()) == [pages.output_path(page, root)]

    template = root / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(template, as_version=4)
    notebook.cells[1].execution_count = 7
    notebook.cells[1].outputs = [v4.new_output("stream", text="old")]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    nbformat.write(notebook, template)
    assert pages.stale(page, root) is None, "outputs of the template are no content of the page"
    for changed in ({"parameters": {"amplitude": 2}}, {"title": "Other"}):
        assert "pages.yml" in pages.stale(write_pages(root, entry | changed)[0], root)
    notebook.cells[3].source = "print(2)"
    nbformat.write(notebook, template)
    assert "tiny.ipynb" in pages.stale(page, root)


# Everything that a page can read: by our own readers, by the libraries, by other processes, and by their
# names.
READS = """
import csv, json, multiprocessing, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

import used
from companion.pages import families
from sgaplus.bitstream import coder
from sgaplus.codecs import weights
from sgaplus.data.images import read_image
from sgaplus.store import Store
from sgaplus.studies.schema import load_study

data = Path("data")
Store(data / "results" / "rows").load()
weights.listing(), families.overview()
load_study("one").profile("cpu").about
coder.gaussian()
read_image(data / "photo.png")
pd.read_csv(data / "pandas.csv")
list(csv.reader((data / "lines.csv").open()))
np.load(data / "array.npz")["x"], np.load(data / "array.npy", mmap_mode="r")
np.memmap(data / "raw.bin", np.uint8, "r")
thread = threading.Thread(target=Path("data/thread.txt").read_bytes)
thread.start()
thread.join()
Store(data / "results" / "later").load()
sorted(Path("data/listed").glob("*.txt")), list(Path("data/iterated").iterdir())
list(Path("data/walked").rglob("*"))
Path("data/optional.txt").exists() and Path("data/optional.txt").read_text()
try:
    Path("data/missing.txt").read_text()
except FileNotFoundError:
    pass
subprocess.run([sys.executable, "-c", "open('data/child.txt').read()"], check=True)
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
    pool.submit(Path("data/spawned.txt").read_text).result()
Path("data/written.txt").write_text("by the page")
"""


def repository_with_data(root: Path) -> pages.Page:
    """A page that runs `READS`, with files of every kind to read, and some that it does not read."""
    data = root / "data"
    for folder in ("listed", "iterated", "walked/deep", "results/rows", "studies"):
        (data / folder).mkdir(parents=True)
    for name in ("thread", "child", "spawned", "unread", "listed/a", "iterated/a", "walked/deep/a"):
        (data / f"{name}.txt").write_text("1")
    for name in ("pandas", "lines"):
        (data / f"{name}.csv").write_text("x\n1\n")
    np.savez(data / "array.npz", x=np.ones(3))
    np.save(data / "array.npy", np.ones(3))
    (data / "raw.bin").write_bytes(bytes(8))
    write_photo(data / "photo.png")
    stored = REPOSITORY / "data" / "results" / "qualitative" / "cpu" / "rows.parquet"
    shutil.copy(stored, data / "results" / "rows" / "rows.parquet")
    write_codec(data / "models")
    study = (REPOSITORY / "data" / "studies" / "convergence.yaml").read_text()
    (data / "studies" / "one.yaml").write_text(study.replace("name: convergence", "name: one"))
    for name in ("used", "unused"):
        (root / f"{name}.py").write_text(f'"""A module that is {name}."""\n')
    py_compile.compile(root / "used.py")  # so that Python opens this file alone
    (root / "requirements.lock").write_text("numpy==1.26.4\n")
    write_template(root, READS)
    return write_pages(root, {"name": "one", "template": "tiny"})[0]


@pytest.mark.slow
def test_a_page_is_stale_when_what_it_read_has_changed_and_only_then(root):
    page = repository_with_data(root)
    pages.execute(page, root)
    assert pages.stale(page, root) is None
    read = [
        *("used.py", "requirements.lock", "sgaplus/rounding.py", "book/lib/companion/pages/families.py"),
        *("sgaplus/bitstream/gaussian.npz", "sgaplus/codecs/zoo.csv", "data/studies/one.yaml"),
        *("data/results/rows/rows.parquet", "data/models/mshyper-s_lambda0.01.safetensors"),
        *("data/models/mshyper-s_lambda0.01.json", "data/photo.png", "data/pandas.csv", "data/lines.csv"),
        *("data/array.npz", "data/array.npy", "data/raw.bin", "data/thread.txt"),
        *("data/child.txt", "data/spawned.txt"),
    ]
    for name in read:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content + b" ")
        assert pages.stale(page, root) == name
        (root / name).write_bytes(content)
        assert pages.stale(page, root) is None, f"{name} is as it was"
    for name in (
        "data/missing.txt",
        "data/listed/b",
        "data/iterated/b",
        "data/walked/deep/b",
        "data/models/b.json",
    ):
        (root / name).write_text("1")
        assert pages.stale(page, root) in (name, f"{Path(name).parent.as_posix()}/")
        (root / name).unlink()
    (root / "data" / "results" / "later").mkdir()
    assert pages.stale(page, root) == "data/results/later/"
    (root / "data" / "results" / "later").rmdir()
    (root / "data" / "child.txt").rename(root / "data" / "moved.txt")
    assert pages.stale(page, root) == "data/child.txt"
    (root / "data" / "moved.txt").rename(root / "data" / "child.txt")

    for name in (
        "unused.py",
        "sgaplus/training/run.py",
        "book/lib/companion/pages/speed.py",
        "data/unread.txt",
    ):
        (root / name).write_text((root / name).read_text() + "\n# A remark.\n")
    (root / "sgaplus" / "new.py").write_text("")
    (root / "data" / "new.txt").write_text("")
    (root / "data" / "walked" / ".hidden").write_text("")
    (root / "data" / "written.txt").write_text("by someone else")
    shutil.rmtree(root / "__pycache__")
    assert pages.stale(page, root) is None

    files = executed(page, root)["metadata"]["sgaplus"]["files"]
    assert not {"data/", "./"} & set(files), "who looks for modules does not read their folders"
    assert not [name for name in files if re.search(r"__pycache__|executed|\.venv|\.ipynb|^/", name)]


@pytest.mark.slow
def test_a_page_is_stale_at_once_when_a_file_changed_after_it_was_read(root):
    """Rows may be stored while a page runs: what it shows is then older than the file."""
    (root / "rows.csv").write_text("1")
    change = "import os\nassert os.system('echo 22 > rows.csv') == 0"
    write_template(root, "print(open('rows.csv').read())", change)
    [page] = write_pages(root, {"name": "one", "template": "tiny"})
    pages.execute(page, root)
    assert text(executed(page, root)) == "1\n"
    assert pages.stale(page, root) == "rows.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- {name: one, template: tiny, titel: X}", "titel: Extra inputs"),
        ("- {name: One, template: tiny}", "name: String should match"),
        ("- {name: one, template: ../tiny}", "template: String should match"),
        ("- {name: one, template: other}", "other.ipynb, which does not exist"),
        ("- {name: one, template: tiny, parameters: {bogus: 1}}", r"sets bogus.*declared: amplitude, label"),
        ("- {name: one, template: tiny}\n- {name: one, template: tiny}", "names a page twice: one"),
        ("- {name: [", "does not describe pages"),
        ("name: one", "does not describe pages"),
        ("- {name: one, template: broken}", "is not a notebook"),
        ("- {name: one, template: untitled}", "must begin with a Markdown cell"),
    ],
)
def test_mistakes_in_the_list_of_pages(root, content, message):
    write_template(root)
    (root / "notebooks" / "broken.ipynb").write_text("{}")
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), root / "notebooks" / "untitled.ipynb")
    (root / "book" / "pages.yml").write_text(content)
    with pytest.raises(UserError, match=message):
        pages.load_pages(root)


@pytest.mark.slow
def test_stale_pages_run_beside_each_other_and_the_first_failure_ends_the_run(root):
    write_template(root, "print(open(f'{label}.txt').read())")
    names = ["one", "two", "three"]
    for name in names:
        (root / f"{name}.txt").write_text(name)
    found = write_pages(root, *({"name": n, "template": "tiny", "parameters": {"label": n}} for n in names))
    lines: list[str] = []
    assert pages.execute_all(root, log=lines.append, at_once=2) == 3
    assert [text(executed(page, root)).strip() for page in found] == names
    assert [line.split()[0] for line in lines[1:]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert pages.execute_all(root, log=lines.append, at_once=2) == 0
    (root / "two.txt").write_text("2")
    lines.clear()
    assert pages.execute_all(root, log=lines.append) == 1
    assert lines[0] == "2 of 3 pages are up to date" and "two" in lines[1] and "two.txt" in lines[1]
    write_template(root, "from sgaplus.errors import UserError\nraise UserError('no lamp')")
    with pytest.raises(UserError, match=r"page '(one|two|three)': no lamp"):
        pages.execute_all(root, log=lines.append, at_once=2)
    assert all(pages.stale(page, root) for page in found)


@pytest.fixture
def book(root):
    """A small book with one page and this repository's own configuration."""
    for folder in ("_ext", "_static", "_templates"):
        shutil.copytree(REPOSITORY / "book" / folder, root / "book" / folder)
    (root / "_config.yml").write_text((REPOSITORY / "_config.yml").read_text())
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "intro.md").write_text("# Intro\n\n$x^2$\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: executed/one\n"
    )
    figure = """'<figure id="fig-x"><a class="number" href="#fig-x">Figure</a></figure>'"""
    write_template(root, "print(amplitude)", f"from IPython.display import HTML\n\nHTML({figure})")
    write_pages(root, {"name": "one", "template": "tiny"})
    return root


def build(root: Path) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going", "book/"]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_building_the_book_runs_the_stale_pages_and_only_them(book):
    first = build(book)
    assert first.returncode == 0, first.stderr
    assert "0 of 1 pages are up to date" in first.stdout
    html = (book / "_build" / "html" / "executed" / "one.html").read_text()
    assert "Own title" in html
    assert 'href="#fig-x">Figure\xa01.1</a>' in html
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in (book / "_build" / "html" / "intro.html").read_text()
    assert re.findall(r'(?:src|href)="https?://[^"]*"', html) == []
    toc = book / "book" / "_toc.yml"
    toc.write_text(toc.read_text() + "  - file: executed/two\n")
    write_template(book, "raise OSError('the lamp went out')", name="other")
    write_pages(book, {"name": "one", "template": "tiny"}, {"name": "two", "template": "other"})
    (book / "book" / "executed" / "two.ipynb").write_text("{}")
    second = build(book)
    assert second.returncode == 1
    assert "1 of 2 pages are up to date" in second.stdout
    assert "ERROR: page 'two' failed with OSError: the lamp went out" in second.stderr
    assert second.stderr.count("OSError: the lamp went out") > 1, "the traceback's end is there"
    assert [path.name for path in (book / "book" / "executed").iterdir()] == ["one.ipynb"]
    assert "jupyter_book/cli" not in second.stderr


def test_the_pages_are_those_of_the_table_of_contents(book):
    write_pages(book, {"name": "one", "template": "tiny"}, {"name": "two", "template": "tiny"})
    config = SimpleNamespace(external_site_map=["intro", "executed/one"])
    with pytest.raises(SystemExit) as stop:
        sgaplus_pages._execute_stale(SimpleNamespace(srcdir=book / "book", config=config))
    assert stop.value.code == 2 and "must agree on executed/two" in str(stop.value.__cause__)


PROFILE_PAGE = """
import os
from sgaplus.errors import UserError

if profile == "paper" and not os.path.exists("rows"):
    raise UserError("nothing of study tiny, profile paper, is stored")
cells.require(profile == "cpu", "the sentence of the page")
print("shown:", profile, amount)
"""


@pytest.mark.slow
def test_a_page_of_a_profile_or_its_own_where_there_are_no_rows(root):
    write_template(root, PROFILE_PAGE, declared="profile = 'cpu'\namount = 1")
    write_pages(root, {"name": "one", "template": "tiny", "profiles": {"paper": {"amount": 2}}})
    [own] = pages.load_pages(root)
    [page] = pages.load_pages(root, "paper")
    assert (own.parameters, page.parameters) == ({}, {"profile": "paper", "amount": 2})
    assert pages.load_pages(root, "cpu") == [own]
    pages.execute(page, root)
    instead = text(executed(page, root))
    assert "shown: cpu 1" in instead
    assert "There is no page of profile `paper` yet: nothing of study tiny" in str(executed(page, root))
    assert not pages.stale(page, root) and pages.stale(own, root)
    (root / "rows").touch()
    pages.execute(page, root)
    assert "shown: paper 2" in text(executed(page, root))
    assert "do not support this sentence:** the sentence of the page" in str(executed(page, root))
    with pytest.raises(UserError, match="does not declare"):
        write_pages(root, {"name": "one", "template": "tiny", "profiles": {"paper": {"amounts": 2}}})
