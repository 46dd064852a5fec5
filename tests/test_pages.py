"""Pages are listed, run and told from stale ones; each test makes its own small repository."""

import base64
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from great_tables import GT
from nbformat import v4
from tqdm import tqdm

from companion import build as pages
from companion import cells
from sgaplus import io as files
from sgaplus.errors import SystemFault, UserError

REPOSITORY = Path(__file__).parents[1]
# Raised by the kernel's client when a session ends, not by the code under test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def write_template(
    root: Path, *code: str, name: str = "tiny", declared: str = "amplitude = 1.0\nlabel = 'a'"
):
    """A template with a title, the parameters ``declared`` and one cell for each of ``code``."""
    parameters = v4.new_code_cell(declared, metadata={"tags": ["parameters"]})
    guard = v4.new_code_cell("from companion import cells\n\ncells.check_parameters()")
    cells = [v4.new_markdown_cell("# Own title\n\nWords."), parameters, guard, *map(v4.new_code_cell, code)]
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def write_pages(root: Path, *entries: dict) -> list[pages.Page]:
    (root / "book" / "pages.yml").write_text(yaml.safe_dump(list(entries)))
    return pages.load_pages(root)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository; kernels started in it import the package under test."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path


def executed(page: pages.Page, root: Path) -> dict:
    return json.loads(pages.output_path(page, root).read_text())


def text(notebook: dict) -> str:
    """Everything that the code cells wrote to stdout."""
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    return "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")


def test_a_page_runs_with_its_parameters_and_says_what_it_was_made_from(root, capfd):
    write_template(
        root,
        "import sys\nprint(amplitude, label, sys.executable)\nprint('odd', file=sys.stderr)",
        "print('drawn', file=cells.terminal())",
    )
    [page] = write_pages(
        root, {"name": "first", "template": "tiny", "title": "Given", "parameters": {"amplitude": 2.5}}
    )
    assert pages.stale(page, root)
    lines: list[str] = []
    assert pages.execute_all(root, log=lines.append) == 1
    notebook = executed(page, root)
    assert text(notebook).split() == ["2.5", "a", sys.executable]
    assert "".join(notebook["cells"][0]["source"]) == "# Given\n\nWords."
    assert "first: odd" in lines
    assert "drawn" in capfd.readouterr().err
    assert '"stderr"' not in json.dumps(notebook)
    assert re.fullmatch(r"\[1/1\] first … \d+ s", lines[-1])
    assert notebook["metadata"]["language_info"]["pygments_lexer"] == "ipython3"
    record = notebook["metadata"]["sgaplus"]
    assert record["key"] == pages.key(page, root)
    assert record["parameters"] == {"amplitude": 2.5}
    assert record["seconds"] > 0
    assert record["versions"]["torch"]
    assert not pages.stale(page, root)
    before = pages.output_path(page, root).stat().st_mtime_ns
    assert pages.execute(page, root) == 0
    assert pages.output_path(page, root).stat().st_mtime_ns == before
    assert list((root / "book" / "executed").iterdir()) == [pages.output_path(page, root)]


def test_key_follows_everything_a_page_depends_on(root, monkeypatch):
    (root / "data").mkdir()
    (root / "data" / "rows.csv").write_text("1")
    entry = {"name": "one", "template": "tiny", "parameters": {"amplitude": 1}, "reads": ["data/*.csv"]}
    write_template(root, "print(1)")
    [page] = write_pages(root, entry)
    keys = [pages.key(page, root)]

    template = root / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(template, as_version=4)
    notebook.cells[1].execution_count = 7
    notebook.cells[1].outputs = [v4.new_output("stream", text="old")]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    nbformat.write(notebook, template)
    assert pages.key(page, root) == keys[0], "outputs of the template are no content of the page"

    notebook.cells[3].source = "print(2)"
    nbformat.write(notebook, template)
    keys.append(pages.key(page, root))
    keys.append(pages.key(write_pages(root, {**entry, "parameters": {"amplitude": 2}})[0], root))
    keys.append(pages.key(write_pages(root, {**entry, "title": "Other"})[0], root))
    (root / "data" / "rows.csv").write_text("2")
    keys.append(pages.key(page, root))
    (root / "data" / "more.csv").write_text("3")
    keys.append(pages.key(page, root))
    package = root / "package"
    package.mkdir()
    (package / "pages.py").write_text("changed")
    monkeypatch.setattr(files, "PACKAGE", package)
    keys.append(pages.key(page, root))
    assert len(set(keys)) == len(keys)


def test_a_failing_page_is_not_published(root):
    write_template(root, "raise OSError('the lamp went out')")
    [page] = write_pages(root, {"name": "one", "template": "tiny"})
    pages.output_path(page, root).parent.mkdir()
    pages.output_path(page, root).write_text("{}")
    with pytest.raises(SystemFault, match=r"(?s)page 'one' failed with OSError.*OSError: the lamp went out$"):
        pages.execute(page, root)
    assert list((root / "book" / "executed").iterdir()) == []


def test_a_users_mistake_in_a_notebook_stays_one(root):
    write_template(root, "from sgaplus.errors import UserError\nraise UserError('no such image')")
    [page] = write_pages(root, {"name": "one", "template": "tiny"})
    with pytest.raises(UserError, match="page 'one': no such image"):
        pages.execute(page, root)


def test_unknown_parameters_are_refused_by_plain_papermill_too(root):
    write_template(root, "print(amplitude)")
    arguments = [root / "notebooks" / "tiny.ipynb", root / "out.ipynb", "-p", "bogus", "1"]
    command = [sys.executable, "-m", "papermill", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "UserError: unknown parameter bogus: this notebook takes amplitude, label" in result.stderr


@pytest.mark.parametrize(
    ("history", "refused"),
    [
        (["", "x = 1", "check()"], False),
        (["", "x = 1", "# Parameters\nx = 2", "check()"], False),
        (["", "# Parameters\nx = 1", "check()"], False),
        (["", "x = 1", "# Parameters\ny = 2", "check()"], True),
        (["", "x: int = 1", "not python", "# Parameters\nx = 2\ny = 2", "check()"], True),
    ],
)
def test_check_parameters_reads_the_history(monkeypatch, history, refused):
    import IPython

    shell = type("Shell", (), {"user_ns": {"In": history}})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    if refused:
        with pytest.raises(UserError, match=r"unknown parameter y: this notebook takes x"):
            cells.check_parameters()
    else:
        cells.check_parameters()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- {name: one, template: tiny, titel: X}", "titel: Extra inputs"),
        ("- {name: One, template: tiny}", "name: String should match"),
        ("- {name: one, template: ../tiny}", "template: String should match"),
        ("- {name: one, template: other}", "other.ipynb, which does not exist"),
        ("- {name: one, template: tiny, parameters: {bogus: 1}}", r"sets bogus.*declared: amplitude, label"),
        ("- {name: one, template: tiny}\n- {name: one, template: tiny}", "names a page twice: one"),
        ("- {name: [", "not valid YAML"),
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


@pytest.mark.parametrize("pattern", ["data/none-*.parquet", "../outside", "/etc/hostname"])
def test_reads_must_match_files_of_the_repository(root, pattern):
    write_template(root)
    [page] = write_pages(root, {"name": "one", "template": "tiny", "reads": [pattern]})
    with pytest.raises(UserError, match=re.escape(pattern)):
        pages.key(page, root)


def test_show_gives_picture_alternative_and_caption(monkeypatch):
    import IPython.display
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot([0, 1])
    cells.show(figure, alt='A "line"', caption="τ < 1 & falling", command="sgaplus figure x > y")
    [data] = shown
    assert not plt.get_fignums()
    assert 'src="data:image/png;base64,iVBOR' in data["text/html"]
    assert 'alt="A &quot;line&quot;"' in data["text/html"]
    assert "<figcaption>τ &lt; 1 &amp; falling<br>" in data["text/html"]
    assert "<code>sgaplus figure x &gt; y</code>" in data["text/html"]
    assert data["text/plain"] == 'τ < 1 & falling [A "line"]'
    with pytest.raises(UserError, match="needs a text alternative"):
        cells.show(figure, alt=" ", caption="c")


def test_a_table_comes_with_its_numbers(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    data = pd.DataFrame({"method": ["a & b"], "loss": [1 / 3]})
    cells.show_table(GT(data).fmt_number("loss", decimals=1), data, name="losses", command="x > y")
    (bundle,) = shown
    encoded = re.search(r'download="losses.csv" href="data:text/csv;base64,([^"]+)"', bundle["text/html"])[1]
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(base64.b64decode(encoded))), data)
    assert "x &gt; y" in bundle["text/html"] and "0.3" in bundle["text/html"]
    with pytest.raises(UserError, match="no row"):
        cells.show_table(GT(data), data.iloc[:0], name="losses")


def test_progress_goes_past_the_page_to_the_terminal(root, capfd, monkeypatch):
    # A kernel that finds itself under pytest leaves the descriptors alone; outside it captures them.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    write_template(root, "print('drawn', file=cells.terminal())\nprint('kept')")
    [page] = write_pages(root, {"name": "one", "template": "tiny"})
    pages.execute(page, root)
    assert text(executed(page, root)) == "kept\n"
    assert "drawn" in capfd.readouterr().err


def test_one_bar_counts_several_refinements(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(cells, "terminal", lambda: terminal)
    monkeypatch.setattr(cells, "tqdm", functools.partial(tqdm, mininterval=0))
    with cells.progress(20) as advance:
        for _ in range(2):
            update = advance()
            update(4, 10)
            update(10, 10)
    assert re.findall(r"(\d+)/20", terminal.getvalue())[-1] == "20"


def test_pages_run_beside_each_other_and_the_first_failure_ends_the_run(root):
    write_template(root, "import os\nprint(os.environ['SGAPLUS_PAGE'])")
    found = write_pages(root, *({"name": name, "template": "tiny"} for name in ("one", "two", "three")))
    lines: list[str] = []
    assert pages.execute_all(root, log=lines.append, at_once=2) == 3
    assert [text(executed(page, root)).strip() for page in found] == ["one", "two", "three"]
    assert [line.split()[0] for line in lines[1:]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert pages.execute_all(root, log=lines.append, at_once=2) == 0
    write_template(root, "from sgaplus.errors import UserError\nraise UserError('no lamp')")
    with pytest.raises(UserError, match=r"page '(one|two|three)': no lamp"):
        pages.execute_all(root, log=lines.append, at_once=2)
    assert all(pages.stale(page, root) for page in found)


@pytest.fixture
def book(root, monkeypatch):
    """A small book with one page, this repository's own configuration and a copy of the package."""
    shutil.copytree(REPOSITORY / "sgaplus", root / "sgaplus", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(root))
    (root / "_config.yml").write_text((REPOSITORY / "_config.yml").read_text())
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "intro.md").write_text("# Intro\n\n$x^2$\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: executed/one\n"
    )
    write_template(root, "print(amplitude)")
    write_pages(root, {"name": "one", "template": "tiny"})
    return root


def build(root: Path) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going", "book/"]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)  # four builds
def test_building_the_book_runs_the_stale_pages_and_only_them(book):
    first = build(book)
    assert first.returncode == 0, first.stderr
    assert "0 of 1 pages are up to date" in first.stdout
    html = (book / "_build" / "html" / "executed" / "one.html").read_text()
    assert "Own title" in html
    assert (book / "_build" / "html" / "_static" / "tex-svg-full.js").stat().st_size > 1_000_000
    assert re.findall(r'(?:src|href)="https?://[^"]*"', html) == []
    second = build(book)
    assert second.returncode == 0, second.stderr
    assert "1 of 1 pages are up to date" in second.stdout
    write_template(book, "raise OSError('the lamp went out')")
    third = build(book)
    assert third.returncode == 1
    assert "ERROR: page 'one' failed with OSError: the lamp went out" in third.stderr
    assert "jupyter_book/cli" not in third.stderr
    write_pages(book, {"name": "one", "template": "tiny"}, {"name": "two", "template": "tiny"})
    fourth = build(book)
    assert fourth.returncode == 2
    assert "book/pages.yml and book/_toc.yml must agree on executed/two" in fourth.stderr
