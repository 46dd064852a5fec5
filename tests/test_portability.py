"""Where people are: other systems, users without a home, terminals that cannot say λ."""

import ast
import errno
import os
import re
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pandas as pd
import pytest
import typer

from sgaplus import io
from sgaplus.cli import terminal
from sgaplus.errors import SystemFault, UserError
from sgaplus.studies import locks

ROOT = Path(__file__).parents[1]


def python(code: str, cwd: Path, *without: str, **variables: str) -> subprocess.CompletedProcess:
    """A process of its own, without some variables and with others."""
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    kept = {"capture_output": True, "text": True, "errors": "replace"}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=cwd, **kept)


COMMAND = "from sgaplus import cli; cli.main({arguments!r})"
NO_UNIX = "import sys; sys.modules |= dict.fromkeys(['fcntl', 'pwd', 'grp', 'resource', 'termios'], None); "


@pytest.mark.slow
def test_every_module_imports_without_those_of_unix(tmp_path):
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "sgaplus").rglob("*.py")]
    names = sorted(".".join(path.parts).removesuffix(".__init__") for path in modules)
    names = [name for name in names if not name.endswith("__main__")]
    assert "sgaplus.studies.locks" in names
    # What others' packages import is their concern: they see the modules of this system.
    code = f"import compressai, distributed, importlib; {NO_UNIX} "
    code += f"[importlib.import_module(name) for name in {names}]"
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_system_without_byte_locks_lets_one_process_work(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with locks.claims_on(tmp_path / "store") as claims:
        assert claims.claim("0" * 32)
        assert claims.alone()
        with (
            pytest.raises(UserError, match=r"another process works on .*store"),
            locks.claims_on(tmp_path / "store"),
        ):
            pass
    with locks.claims_on(tmp_path / "store") as claims:
        assert claims.alone()


@pytest.mark.slow
def test_a_user_without_a_home(tmp_path):
    """As in a container that runs under any user id."""
    code = "import os, pwd, sys\ndef none(*_): raise KeyError\npwd.getpwuid = none\n"
    code += "from sgaplus import io; print(io.cache_folder()); " + COMMAND.format(arguments=["codecs"])
    done = python(code, tmp_path, "HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/sgaplus-{os.getuid()}\n") and "mshyper-s" in done.stdout
    assert list(tmp_path.rglob("~")) == []


def test_a_home_that_cannot_be_written_to(tmp_path):
    """Nobody can write below /proc; also that standard input is no photograph."""
    without = "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"
    done = python(COMMAND.format(arguments=["refine", "-"]), tmp_path, *without, HOME="/proc/nobody")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: '-' is neither")


def test_paths_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert io.user_path("~/photo.png") == Path("/home/me/photo.png")
    assert io.user_path("~nobody-of-this-name.png") == Path("~nobody-of-this-name.png")
    (tmp_path / "~").write_text("a file that is called so")
    assert io.user_path("~") == Path("~")


def test_text_files_have_an_encoding_of_their_own():
    """Windows has another one than Linux and macOS."""
    left_out = []
    for path in (ROOT / "sgaplus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = (
                node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            )
            if name not in ("read_text", "write_text", "open") or ast.unparse(node.func.value) == "Image":
                continue
            binary = [arg for arg in node.args if isinstance(arg, ast.Constant) and "b" in str(arg.value)]
            if not binary and "encoding" not in {keyword.arg for keyword in node.keywords}:
                left_out.append(f"{path.name}:{node.lineno}")
    assert left_out == []


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, UserError, "Permission denied"),
        (errno.EIO, SystemFault, "the disk or the connection to it fails"),
        (errno.ENOMEM, SystemFault, "not enough memory"),
        (errno.EMFILE, SystemFault, "too many files are open.*ulimit"),
        (errno.ENOSPC, SystemFault, "the disk is full"),
    ],
)
def test_what_the_system_refuses_is_not_called_damaged(number, kind, words):
    fault = io.unreadable("rows.parquet", OSError(number, os.strerror(number)))
    assert type(fault) is kind
    with pytest.raises(kind, match=f"rows.parquet cannot be read: .*{words}"):
        raise fault
    assert "damaged" not in str(fault)
    assert "delete" not in str(fault)


def test_a_damaged_file_is_set_aside_and_kept(tmp_path):
    path = tmp_path / "rows.parquet"
    for content, name in [("first", "rows.parquet.damaged"), ("second", "rows.parquet.damaged-2")]:
        path.write_text(content)
        assert io.set_aside(path) == tmp_path / name
        assert not path.exists()
        assert (tmp_path / name).read_text() == content


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / f"{'é' * 125}.png"  # 254 bytes
    with io.atomic(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path):
    path = tmp_path / "rows[1].csv"
    old, young, other = (
        tmp_path / f".{name}.csv" for name in ("rows[1].aaaaaaaa", "rows[1].bbbbbbbb", "rows1.aaaaaaaa")
    )
    for leftover in (old, young, other):
        leftover.write_text("ha")
        if leftover != young:
            os.utime(leftover, (1, 1))
    with io.atomic(path) as temporary:
        assert len(temporary.name) == len(old.name)
    assert {p.name for p in tmp_path.iterdir()} == {other.name, young.name, path.name}


# What is printed


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-8", "λ = 0.01, 768×512 – ü \\xe9"),
        ("latin-1", "lambda = 0.01, 768×512 - ü \\xe9"),
        ("ascii", "lambda = 0.01, 768x512 - \\xfc \\xe9"),
    ],
)
def test_any_output_can_say_everything(monkeypatch, encoding, words):
    app, written = typer.Typer(), BytesIO()
    app.command()(lambda: terminal.show("λ = 0.01, 768×512 – ü \udce9"))
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding))
    assert terminal.run(app, []) == 0
    sys.stdout.flush()
    assert written.getvalue().decode(encoding) == words + "\n"


def test_the_command_line_in_the_c_locale(tmp_path):
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = python(COMMAND.format(arguments=["refine", "--help"]), tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "--batch-size" in done.stdout


def test_a_table_in_a_log_is_not_folded(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    frame = pd.DataFrame({"a_long_heading": ["words " * 20], "another_long_heading": ["more " * 20]})
    terminal.show(terminal.table(frame))
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["a_long_heading", "another_long_heading"]
    assert row.count("words") == row.count("more") == 20


def test_ctrl_c_while_the_command_line_is_imported(tmp_path):
    code = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == interrupted:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
"""
    for interrupted in ("typer", "torch"):  # before a command is known, and in one
        command = COMMAND.format(arguments=["codecs"])
        done = python(f"interrupted = {interrupted!r}{code}{command}", tmp_path)
        assert done.returncode == 2, interrupted
        assert done.stdout == "" and re.fullmatch("error: stopped: .*\n", done.stderr), interrupted
