"""Stored files against the rows that name them: what verifies, and everything that must not."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sgaplus import parquet
from sgaplus.codecs import zoo
from sgaplus.errors import SystemFault, UserError
from sgaplus.store import Store
from sgaplus.studies import stored, verify
from sgaplus.studies.running import run
from tests.conftest import untrained, write_codec
from tests.test_studies import GRID, TINY, load_study, tiny, write_study
from tests.test_weights import downloaded


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Results of a study that keeps files, with the bundled codecs' folder that it used."""
    folder = tmp_path_factory.mktemp("verify")
    write_codec(folder / "bundled")
    study = tiny(folder, methods=["base", "ssl"], images=["astronaut", "coffee"], streams=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder / "bundled")
        run(study, "cpu", device="cpu", root=folder / "results")
    return folder


@pytest.fixture
def root(computed, tmp_path, monkeypatch) -> Path:
    """A copy of these results that a test may spoil."""
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: computed / "bundled")
    monkeypatch.setenv("SGAPLUS_DATA", str(tmp_path / "data"))
    return Path(shutil.copytree(computed / "results", tmp_path / "results"))


def streams(root: Path) -> list[Path]:
    return sorted((root / stored.STREAMS).rglob("*.sga"))


def problems(root: Path, **settings) -> dict[str, str]:
    """Of each file that does not verify its problem."""
    table = verify.verify(root, **settings)
    wrong = table[table["problem"] != ""]
    return dict(zip((root / stream for stream in wrong["stream"]), wrong["problem"], strict=True))


def change_rows(root: Path, **columns) -> None:
    """Write other values into the rows that name a file."""
    (path,) = root.rglob("rows.parquet")
    table = Store(path.parent).load()
    table.loc[table["stream"].notna(), list(columns)] = list(columns.values())
    parquet.write(path, table)


@pytest.mark.slow
def test_what_was_stored_verifies(root):
    calls = []
    table = verify.verify(root, progress=lambda *counts: calls.append(counts))
    assert len(table) == 4 and (table["problem"] == "").all() and table["decoded"].all()
    assert table["bytes"].tolist() == [(root / stream).stat().st_size for stream in table["stream"]]
    for name in ("psnr", "psnr_8bit"):
        assert (table[f"{name}_difference"].abs() < verify.TOLERANCE_DB / 10).all()
    assert calls == [(n, 4) for n in range(1, 5)]
    verify.require(table)
    summary = verify.summary(table).set_index("label")
    assert list(summary.index) == ["base", "SSL (a = 2.3)"]
    for column in ("files", "verified", "decoded", "compared"):
        assert summary[column].tolist() == [2, 2]
    of_base = table[table["label"] == "base"]
    assert summary.loc["base", "bytes"] == of_base["bytes"].mean()
    largest = of_base[["psnr_difference", "psnr_8bit_difference"]].abs().max(axis=None)
    assert summary.loc["base", "difference"] == largest


def test_a_sample_is_decoded_and_all_are_checked(root):
    shutil.copytree(root / "tiny", root / "twin")  # which names the same files
    table = verify.verify(root, decode=2)
    assert table["decoded"].tolist() == [True, False, True, False]
    assert verify.verify(root, decode=0)["decoded"].sum() == 0
    assert verify.verify(root, decode=9)["decoded"].sum() == 4
    last = streams(root)[-1]
    last.write_bytes(last.read_bytes()[:-4])
    assert set(problems(root, decode=2)) == {last}


def test_damaged_missing_and_stray_files_do_not_verify(root):
    flipped, gone, short, fine = streams(root)
    data = bytearray(flipped.read_bytes())
    data[60] ^= 1
    flipped.write_bytes(data)
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-4])
    stray = root / stored.STREAMS / "old" / "x.sga"
    stray.parent.mkdir()
    shutil.copy(fine, stray)
    (stray.parent / ".x.half-written.sga").touch()
    found = problems(root)
    assert set(found) == {flipped, gone, short, stray}
    assert "checksum" in found[flipped]
    assert found[gone] == "the file is missing"
    assert re.search(r"has \d+ bytes, where the row says \d+", found[short])
    assert found[stray] == "no row names it"
    table = verify.verify(root)
    with pytest.raises(SystemFault, match=f"4 of 5 stored files do not verify; the first, .*{flipped.name}"):
        verify.require(table)
    assert verify.summary(table)["verified"].sum() == 1


def test_a_file_that_cannot_be_read_does_not_end_the_check(root, monkeypatch):
    first, *_ = streams(root)
    ordinary = Path.read_bytes

    def read(path):
        if path == first:
            raise OSError(errno.EIO, "Input/output error")
        return ordinary(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    found = problems(root)
    assert set(found) == {first} and "cannot be read" in found[first]


def test_a_whole_file_in_the_place_of_another_does_not_verify(root):
    """With a right checksum, for the same codec, and of the right length: the picture gives it away."""
    astronaut, coffee = streams(root)[:2]
    coffee.write_bytes(astronaut.read_bytes())
    change_rows(root, real_bytes=astronaut.stat().st_size)
    change_rows(root, real_bpp=8 * astronaut.stat().st_size / 64**2)
    found = problems(root)
    assert astronaut not in found
    assert re.match(r"the decoded picture's PSNR differs from the row's by [+-][\d.]+ dB", found[coffee])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"psnr_8bit": 10.0}, "PSNR differs"),
        ({"psnr": 10.0}, "PSNR differs"),
        ({"real_bytes": 5.0}, "the row says 5"),
        ({"real_bpp": 0.5}, "64×64 pixels"),
        ({"codec_sha256": "ab" * 32}, "was written with mshyper-s, .*, where the row has weights abab"),
    ],
)
def test_rows_that_say_something_else_do_not_verify(root, columns, message):
    change_rows(root, **columns)
    found = problems(root)
    assert set(found) == set(streams(root))
    assert all(re.search(message, problem) for problem in found.values())


@pytest.mark.parametrize("photograph", ["none", "another"])
def test_without_the_photograph_the_rest_is_checked(root, monkeypatch, photograph):
    if photograph == "none":
        monkeypatch.setattr(verify.sources, "NAMES", ())
    else:
        change_rows(root, image_sha256="0" * 64)
    table = verify.verify(root)
    assert table["decoded"].all() and (table["problem"] == "").all()
    assert table[["psnr_difference", "psnr_8bit_difference"]].isna().all(axis=None)
    assert verify.summary(table)["compared"].tolist() == [0, 0]


def test_one_folder_of_files(root):
    folder = root / stored.STREAMS / "mshyper-s_lambda0.01" / "base"
    table = verify.verify(root, folder)
    assert table["label"].tolist() == ["base", "base"]
    for wrong in (root / "tiny", root / "nowhere"):
        with pytest.raises(UserError, match="is no folder of stored files"):
            verify.verify(root, wrong)


@pytest.mark.slow
def test_the_files_of_one_series_alone(root, computed, tmp_path, command):
    """Beside those of the bundled codecs; a checkpoint's are decoded where it is named."""
    (tmp_path / "own").mkdir()
    torch.save(untrained(seed=3).state_dict(), tmp_path / "own" / "x_lambda0.01.pth")
    grid = GRID | {"methods": ["base"], "images": ["coffee"], "streams": True}
    profile = TINY["profiles"]["cpu"] | {"codec": "./own", "grids": [grid]}
    run(load_study(write_study(tmp_path, TINY | {"profiles": {"cpu": profile}}, "o")), "cpu", root=root)
    (stray := root / stored.STREAMS / "own_lambda0.01" / "x.sga").touch()
    for kept in streams(root):
        if "mshyper" in str(kept):
            kept.unlink()
    table = verify.verify(root, codec=tmp_path / "own")
    assert table["decoded"].tolist() == [True, False] and table["codec"][0] == "own"
    assert table["problem"].tolist() == ["", "no row names it"]
    stray.unlink()
    assert not verify.verify(root, root / stored.STREAMS / "own_lambda0.01")["decoded"].any()
    code, out, _ = command("verify", "--codec", tmp_path / "own", "--results", root)
    assert code == 0 and "all 1 files are verified" in out
    assert len(problems(root, codec="mshyper-s")) == 4
    torch.save(untrained(seed=4).state_dict(), tmp_path / "own" / "x_lambda0.01.pth")
    assert "here are" in next(iter(problems(root, codec=tmp_path / "own").values()))
    with pytest.raises(UserError, match="names a file of mbt2018-mean in streams"):
        verify.verify(root, codec="mbt2018-mean")


def test_no_file_is_a_mistake(root, tmp_path):
    change_rows(root, stream=np.nan)
    for folder in (root, tmp_path / "nothing" / "results"):
        message = r"no row in .*results names a file in streams: run a study that keeps files"
        with pytest.raises(UserError, match=message):
            verify.verify(folder)


def test_the_command(root, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = command("verify", "--results", root)
    assert (code, err) == (0, "") and "all 4 files are verified" in out
    assert re.search(r"mshyper-s +0.01 +base +2 +\d+ +2 +2 +\d", out)
    streams(root)[0].unlink()
    code, out, err = command("verify", root / stored.STREAMS, "--results", root)
    assert code == 1
    assert err.splitlines()[0].endswith(": the file is missing")
    assert err.splitlines()[-1].startswith("error: 1 of 4 stored files do not verify; the first, streams/")


@pytest.mark.slow
def test_the_stored_files_of_the_repository_verify():
    """Bytes, checksum and header of all; `make verify` decodes all of them."""
    table = verify.verify(decode=0)
    verify.require(table)
    assert len(table) == len(streams(stored.results()))


def test_files_of_codecs_that_are_not_here_are_not_decoded(bundled, no_zoo):
    for name in ("mbt2018-mean", "a-folder-of-checkpoints"):
        assert verify._codec(name, 0.0018, "0" * 64) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cheng2020-anchor", "mbt2018-vbr"])
def test_files_of_context_models_and_variable_rates_verify(tmp_path, no_zoo, monkeypatch, name):
    """With another λ than the zoo's where the rate is variable."""
    downloaded(name, no_zoo, monkeypatch)
    lmbda = 0.007 if name in zoo.VARIABLE else 0.0018
    methods = {"methods": ["base", "ssl"], "images": ["coffee"], "iterations": 2, "read_offs": []}
    grid = GRID | methods | {"train_lmbdas": [lmbda], "streams": True}
    profile = TINY["profiles"]["cpu"] | {"codec": name, "grids": [grid]}
    study = load_study(write_study(tmp_path, TINY | {"profiles": {"cpu": profile}}))
    assert run(study, "cpu", device="cpu", root=tmp_path / "results") == 0
    table = verify.verify(tmp_path / "results")
    assert len(table) == 2 and table["decoded"].all() and not problems(tmp_path / "results")
    assert (table["psnr_8bit_difference"].abs() < verify.TOLERANCE_DB).all()
