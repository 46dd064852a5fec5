"""Photographs refined into a folder: nothing is lost, mixed or replaced, whenever a run ends."""

import collections
import contextlib
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import sgaplus
from sgaplus import refinement
from sgaplus.data import images
from tests import forked
from tests.conftest import POSIX, write_photo

# How often the run is killed at a random moment; SGAPLUS_KILLS=50 is the thorough test.
KILLS = int(os.environ.get("SGAPLUS_KILLS", "2"))


@pytest.fixture
def refine(command, monkeypatch, bundled, tmp_path):
    """Run ``sgaplus refine`` in a folder with three photographs; gives exit code, output and error."""
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        write_photo(Path(f"photographs/{index}.png"), (70, 66), seed=index)

    return lambda *arguments: command("refine", "--dtype", "float32", *arguments, "--iterations", 2)


def snapshot(folder="refined"):
    """Content and age of every file."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(folder).rglob("*") if p.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def table(path):
    """A table in CSV, exactly."""
    return pd.read_csv(path, dtype={"image": str}, float_precision="round_trip")


def asked(monkeypatch) -> list[list[str]]:
    """The names of every batch that is refined from now on."""
    batches, original = [], refinement.refine
    monkeypatch.setattr(
        refinement, "refine", lambda *a, names, **k: batches.append(names) or original(*a, names=names, **k)
    )
    return batches


def failing(monkeypatch, error: Exception) -> None:
    """Refinements of the photograph 0 end with an error."""
    original = refinement.refine

    def refine(*arguments, names, **settings):
        if "0" in names:
            raise error
        return original(*arguments, names=names, **settings)

    monkeypatch.setattr(refinement, "refine", refine)


@pytest.mark.slow
def test_what_is_done_is_skipped(refine, monkeypatch):
    assert refine("photographs/0.png")[0] == 0
    first = snapshot()
    batches = asked(monkeypatch)
    code, out, err = refine("photographs")
    assert code == 0, err
    assert batches == [["1", "2"]], "small ones together"
    assert "1 are done already" in err or "1 is done already" in err
    assert snapshot()["0.png"] == first["0.png"]
    rows = table("refined/rows.csv")
    assert rows["image"].tolist() == ["0", "0", "1", "1", "2", "2"]
    assert len(re.findall(r"^ *[012] ", out, re.MULTILINE)) == 6, "the table shows all of them"
    # Once more, with nothing left to do, and with another name for the table.
    code, _, err = refine("photographs", "--rows", "again.parquet")
    assert (code, batches) == (0, [["1", "2"]]), err
    again = pd.read_parquet("refined/again.parquet")
    pd.testing.assert_frame_equal(again.drop(columns="image"), rows.drop(columns="image"), check_exact=True)


def test_the_table_keeps_the_rows_of_other_photographs(refine):
    assert refine("photographs/1.png")[0] == 0
    before = pd.read_csv("refined/rows.csv", dtype=str)
    Path("refined/1.png").unlink()
    assert refine("photographs/0.png")[0] == 0
    rows = pd.read_csv("refined/rows.csv", dtype=str)
    assert rows["image"].tolist() == ["0", "0", "1", "1"]
    pd.testing.assert_frame_equal(rows[2:].reset_index(drop=True), before)


def test_the_same_command_goes_on_in_its_number_format(refine, monkeypatch):
    """Which format is the faster one is a measurement, and may turn round."""
    write_photo(Path("refined/other.png"))
    for photograph, faster in (("0.png", True), ("0.png", False), ("1.png", False)):
        monkeypatch.setattr("sgaplus.hardware.cpu_is_faster_in_bfloat16", lambda now=faster: now)
        code, _, said = refine(f"photographs/{photograph}", "--dtype", "auto")
        assert code == 0, said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--seed", 3], r"other settings \(.*seed 0, not 3"),
        (["--method", "ssl"], r"other settings \(.*method"),
        (["--refine-lmbda", 0.02], r"other settings \(.*lmbda 0\.01, not 0\.02"),
        ([], "another photograph"),
    ],
)
def test_other_settings_and_photographs_are_kept_apart(refine, settings, words):
    assert refine("photographs/0.png")[0] == 0
    before = snapshot()
    if not settings:
        write_photo(Path("photographs/0.png"), (70, 66), seed=9)
    code, out, err = refine("photographs", *settings)
    assert (code, out) == (2, "")
    assert re.search(rf"error: refined/0\.png was made (with|from) {words}.*--out", err)
    if settings:  # of other photographs the table alone says it
        code, out, err = refine("photographs/1.png", *settings)
        assert (code, out) == (2, "")
        assert re.search(r"error: refined/rows\.csv was made with other settings: .*--out", err)
    assert snapshot() == before


def test_a_damaged_picture_is_kept_aside_and_made_again(refine):
    assert refine("photographs")[0] == 0
    before = snapshot()
    half = before["1.png"][0][:-1000]
    Path("refined/1.png").write_bytes(half)
    code, _, err = refine("photographs")
    assert code == 0, err
    assert "note: refined/1.png is damaged: it is kept as 1.png.damaged" in err
    assert Path("refined/1.png.damaged").read_bytes() == half
    assert snapshot()["0.png"] == before["0.png"]
    with Image.open("refined/1.png") as picture:
        picture.load()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("1.png", content) for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None)),
        *(("rows.csv", content) for content in (b"", b"name,value\na,1\n", b"no table \0")),
        *(("rows.parquet", content) for content in (b"", b"no table \0")),
    ],
)
def test_what_lies_in_the_place_of_a_file_stays(refine, name, content):
    """Also beside the photographs, where a JPEG and a PNG of one name lie."""
    content = Path("photographs/2.png").read_bytes() if content is None else content
    Path("refined").mkdir()
    Path("refined", name).write_bytes(content)
    picture = name.endswith(".png")
    code, out, err = refine("photographs", *([] if picture else ["--rows", name]))
    assert (code, out) == (2, "")
    what, remedy = ("picture", "--out") if picture else ("table", "--rows")
    assert re.search(rf"error: refined/{name} is there and not a {what} of this command.*{remedy}", err)
    assert snapshot().keys() == {name}
    assert Path("refined", name).read_bytes() == content
    if picture:
        with Image.open("photographs/0.png") as photograph:
            photograph.save("photographs/other.jpg")
        Path("photographs/other.png").write_bytes(content)
        code, _, err = refine("photographs/other.jpg", "--out", "photographs")
        assert (code, Path("photographs/other.png").read_bytes()) == (2, content)


def test_photographs_that_fail_do_not_stop_the_others(refine, monkeypatch):
    good = Path("photographs/1.png").read_bytes()
    Path("photographs/1.png").write_bytes(good[: len(good) // 2])
    with monkeypatch.context() as patch:
        failing(patch, sgaplus.SystemFault("the loss of 0 is no longer finite: lower the learning rate"))
        code, out, err = refine("photographs", "--batch-size", 3)
    assert code == 1
    assert re.search(r"^error: the loss of 0 is no longer finite", err, re.MULTILINE)
    assert re.search(r"^error: photographs/1\.png is damaged", err, re.MULTILINE)
    assert re.search(r"2 of 3 photographs failed: (0, 1|1, 0)$", err.splitlines()[-1])
    assert set(snapshot()) == {"2.png", "rows.csv"}
    assert pd.read_csv("refined/rows.csv")["image"].tolist() == [2, 2]
    assert re.search(r"^ *2 +2 ", out, re.MULTILINE)

    # Mended, the rerun does what is missing.
    Path("photographs/1.png").write_bytes(good)
    code, _, err = refine("photographs")
    assert code == 0, err
    assert set(snapshot()) == {"0.png", "1.png", "2.png", "rows.csv"}


def test_memory_that_one_photograph_fills(refine, monkeypatch):
    failing(monkeypatch, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    code, _, err = refine("photographs", "--batch-size", 2)
    assert code == 1
    assert re.search(r"^error: photographs/0\.png: there is not enough memory", err, re.MULTILINE)
    assert set(snapshot()) == {"1.png", "2.png", "rows.csv"}


def test_a_disk_that_fills_up_stops_the_run(refine, monkeypatch):
    written = []

    def write(path, *arguments):
        written.append(path)
        raise sgaplus.SystemFault("the disk is full")

    monkeypatch.setattr(images, "write_image", write)
    code, out, err = refine("photographs")
    assert (code, out, len(written)) == (1, "", 1)
    assert err.splitlines()[-1] == "error: the disk is full"


@pytest.mark.slow
def test_photographs_are_read_when_their_turn_comes(refine, monkeypatch):
    """And each one's picture is there before the next one is read."""
    there = []
    original = images.read_image
    monkeypatch.setattr(
        "sgaplus.data.datasets.read_image", lambda path: there.append(sorted(snapshot())) or original(path)
    )
    assert refine("photographs", "--batch-size", 1)[0] == 0
    assert there == [[], ["0.png", "rows.csv"], ["0.png", "1.png", "rows.csv"]]


def test_a_batch_holds_photographs_of_one_shape(refine, monkeypatch):
    write_photo(Path("photographs/0b.png"), (64, 64))
    batches = asked(monkeypatch)
    assert refine("photographs", "--batch-size", 2)[0] == 0
    assert batches == [["0", "1"], ["2"], ["0b"]]
    rows = table("refined/rows.csv")
    assert rows["image"].drop_duplicates().tolist() == ["0", "0b", "1", "2"]


def test_names_that_no_table_can_encode(refine):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Path("photographs/0.png").rename(name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    code, out, err = refine(name)
    assert code == 0, err
    assert Path("refined", name).is_file()
    assert set(pd.read_csv("refined/rows.csv")["image"]) == {"caf\\xe9"}
    assert "caf\\xe9" in out
    assert "0 photographs; 1" in refine(name)[2]


def test_paths_with_spaces_and_other_letters(refine):
    photo = Path("Bilder von mir/Grüße λ 1.png")
    write_photo(photo, (64, 64))
    code, out, err = refine(photo, "--out", "мой out/新", "--rows", "Zeilen ä.csv")
    assert code == 0, err
    assert set(snapshot("мой out/新")) == {photo.name, "Zeilen ä.csv"}
    assert "Grüße λ 1" in out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1", "1" * 251])  # of 255 bytes with .png
def test_ctrl_c_keeps_the_best_so_far(refine, monkeypatch, name):
    ordinary = refinement.refine
    photographs = "photographs/0.png", f"photographs/{name}.png"
    write_photo(Path(photographs[1]), (70, 66), seed=1)
    partial, older = f"{name[:239]}.interrupted.png", f"{name[:239]}.interrupted.png"[:249] + ".older"

    def interrupted(codec, contents, plan, *, progress, names, **settings):
        def follow(done, total):
            progress(done, total)
            if names == [name] and done == 1:
                raise KeyboardInterrupt

        return ordinary(codec, contents, plan, progress=follow, names=names, **settings)

    monkeypatch.setattr(refinement, "refine", interrupted)
    photographs += "--batch-size", 1
    code, _, said = refine(*photographs)
    assert code == 2 and f"{name} was interrupted after 1 iterations" in said and "1 of 2 are done" in said
    assert names(Path("refined")) == ["0.png", partial, "rows.csv"]
    rows = table("refined/rows.csv").groupby("image")["iteration"].apply(list)
    assert rows.to_dict() == {"0": [0, 2], name: [0, 1]}
    before = snapshot()
    assert refine(*photographs)[0] == 2, "another one is interrupted, too"
    aside = snapshot()[older]
    assert aside == before[partial]

    monkeypatch.setattr(refinement, "refine", ordinary)
    assert refine(*photographs)[0] == 0
    assert names(Path("refined")) == sorted(["0.png", older, f"{name}.png", "rows.csv"])
    assert snapshot()["0.png"] == before["0.png"]
    rows = table("refined/rows.csv").groupby("image")["iteration"].apply(list)
    assert rows.to_dict() == {"0": [0, 2], name: [0, 2]}


def pictures(folder):
    files = folder.glob("[!.]*.png")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@POSIX
@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(tmp_path, bundled):
    """Also that ``python -m sgaplus`` is the command line, and that Ctrl-C ends it with a sentence."""
    for index in range(4):
        write_photo(tmp_path / "photographs" / f"{index}.png", (64, 64 + 6 * (index % 2)), seed=index)
    weights = bundled / "mshyper-s_lambda0.01.safetensors"
    arguments = ["refine", "photographs", "--codec", weights, "--lmbda", 0.01, "--iterations", 6]
    # One at a time: what is left after a kill makes other batches, which round in another way.
    arguments += ["--dtype", "float32", "--batch-size", 1]

    def start(folder):
        """A run that has begun."""
        log = folder.with_suffix(".log")
        log.unlink(missing_ok=True)
        process = forked.start("sgaplus", *arguments, "--out", folder, log=log, folder=tmp_path)
        while process.is_alive() and not (log.exists() and log.read_text()):
            time.sleep(0.005)
        return process, log

    def completed(folder):
        process, log = start(folder)
        began = time.monotonic()
        process.join()
        assert process.exitcode == 0, log.read_text()
        return log.read_text(), time.monotonic() - began

    undisturbed, moments = tmp_path / "undisturbed", random.Random(0)
    _, took = completed(undisturbed)
    expected = table(undisturbed / "rows.csv").drop(columns="seconds")
    assert len(expected) == 8
    for number in range(KILLS):
        folder, kind = tmp_path / f"killed-{number}", (signal.SIGKILL, signal.SIGINT)[number % 2]
        process, log = start(folder)
        time.sleep(moments.uniform(0, took))
        with contextlib.suppress(ProcessLookupError):  # it may be done
            os.kill(process.pid, kind)
        process.join()
        said = log.read_text()
        if process.exitcode == 2:
            assert kind == signal.SIGINT and said.endswith("error: stopped: no file was left half-written\n")
        else:
            assert process.exitcode in (0, -signal.SIGKILL), said
        done = pictures(folder)
        for leftover in folder.glob(".*"):
            os.utime(leftover, (1, 1))  # as if it were older
        said += completed(folder)[0]
        after = pictures(folder)
        # An interrupted picture is taken up again.
        assert all(after[name] == value for name, value in done.items() if ".interrupted." not in name)
        assert names(folder) == names(undisturbed)
        for path in undisturbed.glob("*.png"):
            with Image.open(path) as one, Image.open(folder / path.name) as other:
                assert np.array_equal(np.asarray(one), np.asarray(other)), path.name
        found = table(folder / "rows.csv").drop(columns="seconds")
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        times = collections.Counter(re.findall(r"^\d of \d: (\d)$", said, re.MULTILINE))
        assert "Traceback" not in said and set(times.values()) <= {1}, "refined twice"
