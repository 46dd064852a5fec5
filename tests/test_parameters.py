"""A page's parameters: of the declared type or refused in a sentence; the command gives the same ones
again."""

import ast
import json
import shlex
from pathlib import Path

import click.testing
import papermill.cli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import parameters
from sgaplus.errors import UserError

REPOSITORY = Path(__file__).parents[1]
TEMPLATES = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# Type and value of every kind of parameter that a template declares.
KINDS = {"text": str, "number": float | None, "steps": int, "flag": bool, "names": list[str] | None}
KINDS |= {"levels": list[float], "sizes": list[list[int]]}


def read_by_papermill(command: str) -> dict:
    """The parameters that papermill's own command line makes of a shell command."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papermill.cli, "execute_notebook", lambda **arguments: given.update(arguments))
        program, *arguments = shlex.split(command)
        result = click.testing.CliRunner().invoke(papermill.cli.papermill, arguments, catch_exceptions=False)
    assert program == "papermill" and result.exit_code == 0, result.output
    return given


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 1e1, 10),
        ("steps", "12", 12),
        ("number", "1e-3", 0.001),  # what YAML makes of 1e-3
        ("number", 1, 1.0),
        ("number", None, None),
        ("flag", "false", False),
        ("names", "ssl:a=2.3", ["ssl:a=2.3"]),
        ("names", "[kodim20, 'a b']", ["kodim20", "a b"]),
        ("names", None, None),
        ("levels", 2, [2.0]),
        ("sizes", "[[384, 256]]", [[384, 256]]),
    ],
)
def test_a_value_becomes_one_of_the_declared_type(name, value, expected):
    found = parameters.fitted(name, value, KINDS[name])
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("steps", 4.5, "fraction"),
        ("steps", True, "True"),
        ("number", float("nan"), "finite"),
        ("number", "auto", "number"),
        ("flag", "perhaps", "bool"),
        ("text", 2020, "-r text 2020"),
        ("names", "[kodim20", "-y"),
        ("names", 1, "-y"),
        ("sizes", [384, 256], "-y"),
    ],
)
def test_another_value_is_refused_with_its_name_and_the_remedy(name, value, remedy):
    with pytest.raises(UserError) as refused:
        parameters.fitted(name, value, KINDS[name])
    assert name in str(refused.value) and remedy in str(refused.value) and "\n" not in str(refused.value)


ODD = ["my photos/a.png", "true", "None", "null", "1_0", "1e1", "nan", " 7 ", "-x", "it's", "[a]", "$HOME"]
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(ODD)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "text": TEXT,
    "number": st.none() | NUMBER,
    "steps": st.integers(),
    "flag": st.booleans(),
    "names": st.none() | st.lists(TEXT, max_size=3),
    "levels": st.lists(NUMBER, max_size=3),
    "sizes": st.lists(st.lists(st.integers(), max_size=2), max_size=2),
}


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_papermill_reads_the_command_as_it_was_meant(values):
    command = parameters.papermill_command("notebooks/a b.ipynb", values)
    read = read_by_papermill(command)
    assert read["input_path"] == "notebooks/a b.ipynb" and read["output_path"] == "out.ipynb"
    assert {
        name: parameters.fitted(name, value, KINDS[name]) for name, value in read["parameters"].items()
    } == values


def declared(path: Path) -> dict:
    return parameters.declared(json.loads(path.read_text()))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_declares_types_and_checks_its_own_parameters(path):
    notebook = json.loads(path.read_text())
    first, second, *others = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    tags = set(first["metadata"]["tags"])
    shown = any("cells.parameters(" in "".join(cell["source"]) for cell in others)
    assert "parameters" in tags and ("hide-input" in tags or ("remove-input" in tags and shown))
    assert "remove-input" in second["metadata"]["tags"], "what a page says comes before how it is made"
    assert f'parameters.check("{path.stem}")' in "".join(second["source"])
    for name, (kind, default) in declared(path).items():
        assert kind is not type(None), f"{name} is None by default: what else may it be?"
        assert parameters.fitted(name, default, kind) == default
        assert not (isinstance(default, str) and Path(REPOSITORY, default).exists()), (
            f"{name} is found in the repository's root alone"
        )
    for cell in others:
        source = "".join(cell["source"])
        shows = isinstance(ast.parse(source).body[-1], ast.Expr)
        assert not shows or {"hide-input", "remove-input"} & set(cell["metadata"].get("tags", [])), source


REFINING = """
dataset = "sample"
images: list[str] = None
methods = ["atanh", "ssl"]
iterations = 100
device = "auto"
dtype = "auto"
seed = 0
"""


@pytest.mark.parametrize(
    ("injected", "expected"),
    [
        ({}, {}),
        ({"device": "cpu", "dtype": "float32"}, {"device": "cpu", "dtype": "float32"}),
        ({"dataset": "my photo.png", "methods": "ssl"}, {"dataset": "my photo.png", "methods": ["ssl"]}),
        ({"images": "[kodim20]", "iterations": 4.0}, {"images": ["kodim20"], "iterations": 4}),
        ({"seed": 0, "dtype": "auto"}, {}),
    ],
)
def test_check_fits_the_kernels_values_and_returns_a_command_that_gives_them_again(
    monkeypatch, tmp_path, injected, expected
):
    import IPython

    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": REFINING}
    path = tmp_path / "notebooks" / "refining.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": [cell]}))
    monkeypatch.setattr(parameters, "CHECKOUT", tmp_path)
    known = declared(path)
    assigned = "\n".join(f"{name} = {value!r}" for name, value in injected.items())
    history = ["", "x = 1", f"# Parameters\n{assigned}"]
    values = {name: default for name, (_, default) in known.items()} | injected | {"In": history}
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"user_ns": values})())
    read = read_by_papermill(parameters.check("refining"))
    assert Path(read["input_path"]).resolve() == path
    given = read["parameters"].items()
    assert {name: parameters.fitted(name, value, known[name][0]) for name, value in given} == expected
    assert {name: values[name] for name in expected} == expected
    values["In"] += ["# Parameters\nbogus = float('nan')\nseed = 1"]
    with pytest.raises(UserError, match=r"unknown parameter bogus: this notebook takes .*dataset, device"):
        parameters.check("refining")


def test_a_command_names_a_path_of_the_machine_only_outside_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "link")
    assert parameters.shown(tmp_path / "link" / "a" / "b") == "a/b"
    assert parameters.shown(tmp_path / "real" / "a") == "a"
    assert parameters.shown(tmp_path / "other") == (tmp_path / "other").as_posix()
