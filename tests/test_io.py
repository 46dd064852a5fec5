"""Files come whole or not at all, on any system, without a home, on terminals that cannot say λ."""

import ast
import errno
import os
import re
import stat
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


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    with io.atomic(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["rows.csv"]


def test_a_file_is_as_readable_as_the_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        with io.atomic(tmp_path / "rows.csv") as temporary:
            temporary.write_text("whole")
        assert os.umask(0o027) == 0o027, "the umask was not put back"
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "rows.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_the_old_file_survives_an_interruption(tmp_path, interruption):
    path = tmp_path / "rows.csv"
    path.write_text("old")
    with pytest.raises(interruption), io.atomic(path) as temporary:
        temporary.write_text("ha")
        raise interruption
    assert path.read_text() == "old"
    assert names(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize("call", ["tempfile.mkstemp", "os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_is_not_the_users_fault_and_leaves_nothing(tmp_path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(call, full)
    with pytest.raises(SystemFault, match="the disk is full"), io.atomic(tmp_path / "rows.csv"):
        pass
    assert names(tmp_path) == []


def test_two_processes_remove_what_a_killed_one_left(tmp_path, monkeypatch):
    leftover = tmp_path / ".rows.abcdefgh.csv"
    monkeypatch.setattr(Path, "glob", lambda *_: [leftover])  # the other one has removed it since
    with io.atomic(tmp_path / "rows.csv") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["rows.csv"]


def test_targets_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"), io.atomic(tmp_path / "file" / "rows.csv"):
        pass
    with pytest.raises(UserError, match="it is a folder"), io.atomic(tmp_path):
        pass
    assert names(tmp_path) == ["file"]


def test_a_folder_is_checked_without_being_made(tmp_path, monkeypatch):
    io.check_folder(tmp_path)
    io.check_folder(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    io.check_folder("relative")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        io.check_folder(tmp_path / "file" / "below")
    with monkeypatch.context() as patch:  # as on a drive that is missing
        patch.setattr(os.path, "lexists", lambda _: False)
        patch.setattr(Path, "is_dir", lambda _: False)
        with pytest.raises(UserError, match="cannot write to"):
            io.check_folder(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="not yours to write to"):
        io.check_folder(tmp_path / "a")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf<html lang='en'>", "web page"),
        (b"PK\x03\x04", None),
        (b"<?xml version='1.0'?>", None),
    ],
)
def test_what_downloads_leave_behind_is_named(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    found = io.what_it_is(path)
    assert found is None if words is None else words in found


ROOT = Path(__file__).parents[1]


def python(code: str, cwd: Path, *without: str, **variables: str) -> subprocess.CompletedProcess:
    """A process of its own, without some variables and with others."""
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    kept = {"capture_output": True, "text": True, "errors": "replace"}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=cwd, **kept)


COMMAND = "from sgaplus import cli; cli.main({arguments!r})"
UNIX = {"fcntl", "grp", "pwd", "resource", "termios"}


def test_every_module_imports_without_those_of_unix():
    """What a module needs of them it imports in a function, or does without."""
    found = set()
    for path in (ROOT / "sgaplus").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                found |= {(path.name, name) for name in UNIX & names}
    assert found == set()


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


NO_HOME = """
import os, pwd
from sgaplus import cli, io

def none(*_):
    raise KeyError

pwd.getpwuid = none
print(io.cache_folder())
for command in (["codecs"], ["refine", "--help"]):
    try:
        cli.main(command)
    except SystemExit as end:
        assert not end.code
"""


@pytest.mark.slow
def test_a_user_without_a_home_in_the_c_locale(tmp_path):
    """As in a container that runs under any user id."""
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    without = "HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"
    done = python(NO_HOME, tmp_path, *without, TMPDIR=str(tmp_path), **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/sgaplus-{os.getuid()}\n") and done.stdout.isascii()
    assert "mshyper-s" in done.stdout and "--batch-size" in done.stdout
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
    aside = io.set_aside(path)
    assert aside.read_bytes() == b"whole" and aside.name == f"{'é' * 123}.damaged"
    path.write_bytes(b"other")
    assert io.set_aside(path).name == f"{'é' * 122}.damaged-2" and aside.read_bytes() == b"whole"


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
