"""Files come whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from sgaplus import io
from sgaplus.errors import SystemFault, UserError


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
