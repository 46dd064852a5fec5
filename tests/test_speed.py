"""The page on the speed of a step: what it reads, what follows from it, and which commands measure."""

import json
import shlex

import pandas as pd
import pytest
import typer

from companion.pages import speed
from sgaplus.bench import benchmark
from sgaplus.cli.app import app
from sgaplus.errors import UserError

GPU = {"device": "a GPU", "device_type": "cuda", "batch_size": 24}


def write_measurement(folder, name, ours=(0.2, 0.25, 0.3), **changes):
    """A file as `sgaplus bench` writes it: the plain loop takes 1 s, a true loss 0.25 s, the convolutions 0.1
    s."""
    pairs = pd.DataFrame({"pair": range(len(ours)), "reference_seconds": 1.0, "ours_seconds": ours})
    pairs = pairs.assign(true_loss_seconds=0.25, ceiling_seconds=0.1)
    pairs["ratio"] = pairs["reference_seconds"] / pairs["ours_seconds"]
    pairs["share"] = pairs["ceiling_seconds"] / pairs["ours_seconds"]
    summary = (
        benchmark._statistics(pairs, 2e9, 1_000_000)
        | {"pairs": len(ours), "steps": 5, "warmup": 2, "seed": 0}
        | {"width": 1000, "height": 1000, "batch_size": 1}
        | {"codec": "random weights", "lmbda": 0.01, "quality": None, "N": 128, "M": 192}
        | {
            "method": "ssl:a=2.3",
            "dtype": "bfloat16",
            "device_type": "cpu",
            "device": "a processor",
            "threads": 2,
        }
        | {"parts": {"convolutions": 0.6, "normalisation": 0.3, "rest": 0.1}}
        | {"compiled": False, "compile_seconds": None}
        | {"ours_peak_bytes": 2**30, "reference_peak_bytes": 2**31, "sgaplus_version": "0.1.0"}
        | {"git_commit": "0123456789abcdef", "torch_version": "2.11", "written": "2025-01-02T03:04:05+00:00"}
        | changes
    )
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"summary": summary, "pairs": pairs.to_dict("records")}))
    return path


def test_a_line_per_file_and_per_pair(tmp_path):
    write_measurement(tmp_path, "b")
    write_measurement(tmp_path, "a", **GPU)
    write_measurement(tmp_path, "c", dtype="float32")
    write_measurement(tmp_path, ".c.half-written").write_text("{")
    rows, pairs = speed.load(tmp_path, "run")
    assert rows["file"].tolist() == ["c.json", "b.json", "a.json"], "processors first, float32 first"
    assert rows["place"].tolist() == ["a processor; N = 128, M = 192"] * 2 + ["a GPU; N = 128, M = 192"]
    assert rows["way"].tolist()[1:] == ["bfloat16, 1 picture at a time", "bfloat16, 24 pictures at a time"]
    assert rows["megapixels"].tolist() == [1.0] * 3
    assert rows["ratio"].tolist() == [4.0] * 3
    assert rows["ratio_true_loss"].tolist() == [2.0] * 3, "1 s against 0.25 s and as much for the true loss"
    assert pairs.groupby("file")["ours_seconds"].apply(list)["a.json"] == [0.2, 0.25, 0.3]


def test_a_true_loss_does_not_save_time():
    """Its time is a difference of two, which noise can turn below 0."""
    pair = {"file": "a", "reference_seconds": 1.0, "ours_seconds": 0.25, "true_loss_seconds": -0.1}
    assert speed.with_true_loss(pd.DataFrame([pair]))["a"] == 4.0


def test_no_file_and_one_configuration_in_two_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing holds no measurement: run papermill page$"):
        speed.load(tmp_path / "missing", "papermill page")
    for name in ("a", "b"):
        write_measurement(tmp_path, name)
    with pytest.raises(UserError, match=r"a\.json and b\.json in .* measure the same"):
        speed.load(tmp_path, "run")


def test_compiled_is_compared_where_both_are_stored(tmp_path):
    write_measurement(tmp_path, "a", ours=(0.25,))
    write_measurement(tmp_path, "b", ours=(0.2,), compiled=True, compile_seconds=30.0)
    write_measurement(tmp_path, "c", ours=(0.25,), width=500)
    write_measurement(tmp_path, "d", ours=(0.25,), width=500, compiled=True, compile_seconds=30.0)
    write_measurement(tmp_path, "e", ours=(0.1,), dtype="float32", compiled=True, compile_seconds=30.0)
    table = speed.compiled(speed.load(tmp_path, "run")[0]).set_index("pictures")
    assert table["gain"].to_dict() == pytest.approx({"1000 × 1000": 1.25, "500 × 1000": 1.0})
    assert table.loc["1000 × 1000", "pays"] == pytest.approx(600)
    assert pd.isna(table.loc["500 × 1000", "pays"]), "what saves nothing never pays off"


def test_formats_are_compared_where_both_are_stored(tmp_path):
    write_measurement(tmp_path, "a", **GPU)
    kinds = ("dtype", "float32", "bfloat16")
    assert speed.both(speed.load(tmp_path, "run")[0], *kinds).empty
    write_measurement(tmp_path, "b", ours=(0.5,), dtype="float32", **GPU)
    write_measurement(tmp_path, "c", ours=(9.0,), dtype="float32")
    (line,) = speed.both(speed.load(tmp_path, "run")[0], *kinds).to_dict("records")
    assert line["place"] == "a GPU; N = 128, M = 192"
    assert (line["ours_seconds"], line["ours_seconds_other"]) == (0.5, 0.25)


def test_the_exponent_of_the_pixels(tmp_path):
    for side in (500, 1000, 2000):
        ours = ((side / 1000) ** (2 * 1.2),)
        write_measurement(tmp_path, f"{side}", ours=ours, width=side, height=side)
    write_measurement(tmp_path, "d", **GPU)
    assert speed.exponents(speed.load(tmp_path, "run")[0]).tolist() == pytest.approx([1.2])


# Commands


def context(command):
    words = shlex.split(command)
    assert words[:2] == ["sgaplus", "bench"]
    return typer.main.get_command(app).commands["bench"].make_context("bench", words[2:]).params


def test_the_command_line_takes_the_commands(tmp_path):
    size = {"width": 640, "height": 512}
    write_measurement(tmp_path, "a", **size)
    write_measurement(tmp_path, "b", codec="mshyper-s", lmbda=0.02, **size, **GPU)
    write_measurement(tmp_path, "c", codec="mbt2018-mean", lmbda=0.0483, quality=6, **size, **GPU)
    commands = speed.commands(speed.load(tmp_path, "run")[0], tmp_path).split("\n")
    plain, zoo, bundled = map(context, commands)
    assert (plain["codec"], plain["lmbda"], plain["n"], plain["m"]) == (None, None, 128, 192)
    assert (plain["width"], plain["device"], plain["dtype"]) == (640, "cpu", "bfloat16")
    assert (bundled["codec"], bundled["lmbda"], bundled["quality"]) == ("mshyper-s", 0.02, None)
    assert (zoo["codec"], zoo["lmbda"], zoo["quality"], zoo["device"]) == ("mbt2018-mean", None, 6, "cuda")
    assert [c["out"] for c in (plain, zoo, bundled)] == [tmp_path / f"{name}.json" for name in "acb"]
