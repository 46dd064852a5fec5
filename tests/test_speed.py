"""The page on the speed of a step: what it reads, what it says of it, and which commands measure."""

import json
import shlex
import subprocess
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import typer

from companion import tables
from companion.pages import speed, speed_words
from sgaplus import hardware
from sgaplus.bench import benchmark
from sgaplus.cli.app import app
from sgaplus.errors import SystemFault, UserError

GPU = {"device": "a GPU", "device_type": "cuda", "batch_size": 24}


def write_measurement(folder, name, ours=(0.2, 0.25, 0.3), **changes):
    """A file as `sgaplus bench` writes it: the plain loop takes 1 s, a true loss 0.25 s, the convolutions 0.1 s."""
    pairs = pd.DataFrame({"pair": range(len(ours)), "reference_seconds": 1.0, "ours_seconds": ours})
    pairs = pairs.assign(true_loss_seconds=0.25, ceiling_seconds=0.1)
    pairs["ratio"] = pairs["reference_seconds"] / pairs["ours_seconds"]
    pairs["share"] = pairs["ceiling_seconds"] / pairs["ours_seconds"]
    summary = (
        benchmark._statistics(pairs, 2e9, 1_000_000)
        | {
            "pairs": len(ours),
            "steps": 5,
            "warmup": 2,
            "seed": 0,
            "width": 1000,
            "height": 1000,
            "batch_size": 1,
        }
        | {
            "codec": "random weights",
            "lmbda": 0.01,
            "quality": None,
            "N": 128,
            "M": 192,
            "method": "ssl:a=2.3",
        }
        | {"dtype": "bfloat16", "device_type": "cpu", "device": "a processor", "threads": 2}
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


def test_the_parts_of_a_step_are_shown_for_each_configuration(tmp_path):
    write_measurement(tmp_path, "a")
    write_measurement(tmp_path, "b", parts={"convolutions": 0.7, "normalisation": 0.2, "rest": 0.1}, **GPU)
    html = tables.parts_table(speed.load(tmp_path, "")[0]).as_raw_html()
    assert all(share in html for share in ("60%", "30%", "70%", "20%", "10%"))
    assert "normalisation" in html and "a GPU; N = 128" in html


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
    assert speed._with_true_loss(pd.DataFrame([pair]))["a"] == 4.0


def test_what_the_benchmark_writes_is_read(tmp_path):
    tiny = {"pairs": 2, "steps": 1, "warmup": 1, "N": 8, "M": 12, "width": 64, "height": 64}
    measurement = benchmark.run(benchmark.Settings(**tiny, device="cpu", dtype="float32"))
    benchmark.write(measurement, tmp_path / "tiny.json")
    rows, pairs = speed.load(tmp_path, "run")
    (row,) = rows.to_dict("records")
    assert {name: row[name] for name in tiny} == tiny
    assert row["share"] == measurement.summary["share"]
    assert pairs["ratio"].tolist() == measurement.table["ratio"].tolist()


def test_nothing_stored_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"missing holds no measurement: run papermill page$"):
        speed.load(tmp_path / "missing", "papermill page")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Invalid JSON"),
        ('{"summary": {}}', "summary.reference_seconds: Field required"),
        ({"ours_seconds": 0.0}, "summary.ours_seconds: Input should be greater than 0"),
        ({"ratio": float("nan")}, "summary.ratio"),
        ({"dtype": "float64"}, "summary.dtype"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = write_measurement(tmp_path, "a", **(content if isinstance(content, dict) else {}))
    if isinstance(content, str):
        path.write_text(content)
    with pytest.raises(UserError, match=rf"a\.json is no measurement of `sgaplus bench` \(.*{message}"):
        speed.load(tmp_path, "run")


def test_one_configuration_in_two_files_is_refused(tmp_path):
    for name in ("a", "b"):
        write_measurement(tmp_path, name)
    with pytest.raises(UserError, match=r"a\.json and b\.json in .* measure the same"):
        speed.load(tmp_path, "run")


# Words


def test_gain_and_ceiling_in_words(tmp_path):
    write_measurement(tmp_path, "a")
    write_measurement(tmp_path, "b", ours=(0.05, 0.05), width=500)
    rows, _ = speed.load(tmp_path, "run")
    start = "- a processor; N = 128, M = 192; bfloat16, 1 picture at a time: "
    assert speed_words.describe_gain(rows) == (
        f"{start}**4.00 to 20.00 times** as fast as the plain loop, for 2 sizes of pictures (medians; all pairs: 3.33 to "
        "20.00); 2.00 to 3.33 times if ours, too, computed the true loss at every step."
    )
    assert speed_words.describe_ceiling(rows) == (
        f"{start}the convolutions by themselves take 40% to 200% of the step, which reaches 8 to 40 GFLOP/s where they "
        "reach 20; a step of nothing else would be 1.00 to 2.50 times as fast."
    )
    assert "for pictures of 1000×1000 (" in speed_words.describe_gain(rows[rows["width"] == 1000])


def test_compiled_is_compared_where_both_are_stored(tmp_path):
    write_measurement(tmp_path, "a", ours=(0.25,))
    write_measurement(tmp_path, "b", ours=(0.2,), compiled=True, compile_seconds=30.0)
    write_measurement(tmp_path, "c", ours=(0.25,), width=500, height=1000)
    write_measurement(
        tmp_path, "d", ours=(0.25,), width=500, height=1000, compiled=True, compile_seconds=30.0
    )
    write_measurement(tmp_path, "e", ours=(0.1,), dtype="float32", compiled=True, compile_seconds=30.0)
    rows = speed.load(tmp_path, "run")[0]
    assert speed_words.describe_compiled(rows).split(" at a time: ") == [
        "- a processor; N = 128, M = 192; bfloat16, 1 picture",
        "a compiled step is 1.00 to 1.25 times as fast. To compile took 30 s, which is saved again after 600 (1000×1000) "
        "steps with 1 of 2 sizes.",
    ]
    assert rows["format"].tolist() == ["float32, compiled", *["bfloat16"] * 2, *["bfloat16, compiled"] * 2]
    assert "No configuration" in speed_words.describe_compiled(rows[~rows["compiled"]])
    assert "is not saved again." in speed_words.describe_compiled(rows[rows["width"] == 500])


def test_formats_are_compared_where_both_are_stored(tmp_path):
    write_measurement(tmp_path, "a", **GPU)
    assert speed_words.describe_formats(speed.load(tmp_path, "run")[0]).startswith(
        "No configuration is stored"
    )
    write_measurement(tmp_path, "b", ours=(0.5,), dtype="float32", **GPU)
    write_measurement(tmp_path, "c", ours=(9.0,), dtype="float32")
    write_measurement(tmp_path, "d", ours=(9.0,), **GPU, width=64)
    rows = speed.load(tmp_path, "run")[0]
    start = "- a GPU; N = 128, M = 192: bfloat16 makes a step"
    bare = "times as fast as float32, and the bare convolutions 1.00 times."
    assert speed_words.describe_formats(rows) == f"{start} 2.00 {bare}"
    slow = rows.assign(ours_seconds=rows["ours_seconds"].mask(rows["file"] == "a.json", 1.0))
    assert (
        speed_words.describe_formats(slow)
        == f"{start} 0.50 {bare} Where it is not above 1, float32 is the format to use."
    )


@pytest.mark.parametrize(
    ("has", "words"), [(True, ("multiplies", "bfloat16")), (False, ("does not multiply", "float32"))]
)
def test_the_processor_and_its_format(monkeypatch, has, words):
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: has)
    text = speed_words.describe_processor()
    assert f") {words[0]} bfloat16 matrices in hardware" in text
    assert f"`--dtype auto` means {words[1]} on it." in text
    assert hardware.describe(torch.device("cpu")) in text


def test_growth_is_the_exponent_of_the_pixels(tmp_path):
    for side, name in ((1000, "b"), (2000, "c"), (500, "a")):
        pixels = (side / 1000) ** 2
        ours = (pixels, pixels**1.5, pixels**1.2)
        peak = round((100 + 300 * pixels) * 2**20)
        write_measurement(tmp_path, name, ours=ours, width=side, height=side, ours_peak_bytes=peak)
    write_measurement(tmp_path, "d", **GPU)
    rows, pairs = speed.load(tmp_path, "run")
    (line,) = speed.growth(rows, pairs).to_dict("records")
    assert (line["sizes"], line["smallest"], line["largest"]) == (3, 0.25, 4.0)
    # Of three runs, in 1/4, 1 and 4 megapixels alike, the one with the exponent 1.2 is the median.
    assert [line[f"exponent{x}"] for x in ("", "_low", "_high")] == pytest.approx([1.2, 1.0, 1.5])
    assert [line["per_smallest"], line["per_largest"]] == pytest.approx([0.25**0.2, 4**0.2])
    assert speed_words.describe_growth(speed.growth(rows, pairs)) == (
        "- a processor; N = 128, M = 192; bfloat16, 1 picture at a time: as the power 1.20 of the pixels (pairs: 1.00 to "
        "1.50) over 3 sizes; 0.758 s per megapixel at 0.25 megapixels, 1.32 s at 4. "
        "Each further megapixel takes 300 MiB of memory."
    )


def test_memory_of_a_batch_counts_per_picture(tmp_path):
    for width, peak in ((1000, 2**30), (2000, 2**30 + 24 * 2**20)):
        write_measurement(tmp_path, f"{width}", width=width, ours_peak_bytes=peak, **GPU)
    rows, pairs = speed.load(tmp_path, "run")
    assert speed.growth(rows, pairs)["bytes"].tolist() == [2**20]
    unknown = speed.growth(rows.assign(ours_peak_bytes=None), pairs)
    assert unknown["bytes"].isna().all() and "memory" not in speed_words.describe_growth(unknown)


def test_one_size_has_no_growth(tmp_path):
    write_measurement(tmp_path, "a")
    assert speed_words.describe_growth(speed.growth(*speed.load(tmp_path, "run"))).startswith("Only one size")


def test_growth_takes_as_many_pairs_as_all_sizes_have(tmp_path):
    write_measurement(tmp_path, "a", ours=(1.0, 1.0, 9.0))
    write_measurement(tmp_path, "b", ours=(2.0, 4.0), width=2000)
    (line,) = speed.growth(*speed.load(tmp_path, "run")).to_dict("records")
    assert [line["exponent_low"], line["exponent_high"]] == pytest.approx([1.0, 2.0])


def test_origin_tells_commits_and_days(tmp_path):
    write_measurement(tmp_path, "a")
    later = {"written": "2025-02-03T00:00:00+00:00", "git_commit": "abcdef0123456789+"}
    write_measurement(tmp_path, "b", ours=(0.2,) * 5, **GPU, **later)
    assert speed_words.describe_origin(speed.load(tmp_path, "run")[0]) == (
        "Measured with ssl:a=2.3 at commit 0123456789, abcdef0123 with changes and PyTorch 2.11, 2025-01-02 to "
        "2025-02-03; 3 to 5 pairs of 5 timed steps."
    )


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
    assert (plain["width"], plain["batch_size"], plain["device"], plain["dtype"]) == (
        640,
        1,
        "cpu",
        "bfloat16",
    )
    assert (bundled["codec"], bundled["lmbda"], bundled["quality"]) == ("mshyper-s", 0.02, None)
    assert (zoo["codec"], zoo["lmbda"], zoo["quality"], zoo["device"]) == ("mbt2018-mean", None, 6, "cuda")
    assert [c["out"] for c in (plain, zoo, bundled)] == [tmp_path / f"{name}.json" for name in "acb"]


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """The command lines that `measure` runs; each writes a file, and nothing is measured."""
    lines = []

    def run(arguments, **_):
        lines.append(shlex.join(["sgaplus", *arguments[3:]]))
        out = context(lines[-1])["out"]
        out.parent.mkdir(exist_ok=True)
        out.touch()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(hardware, "describe", lambda device: "A (TM) processor, 2 threads")
    return lines


def test_what_is_not_stored_is_measured_once(tmp_path, ran):
    folder = tmp_path / "speed"
    sizes = [[128, 64], [64, 64]]
    speed.measure(folder, sizes[:1], ["float32", "auto"], device="cpu", N=8, M=12, pairs=4)
    assert len(ran) == 1, "auto is float32 here"
    name = "A-TM-processor-2-threads_N8_M12_128x64_float32.json"
    options = "--N 8 --M 12 --pairs 4 --width 128 --height 64 --device cpu --dtype float32"
    assert context(ran[0]) == context(f"sgaplus bench {options} --out {folder / name}")
    speed.measure(folder, sizes, ["float32", "bfloat16"], device="cpu", N=8, M=12, batch_size=None)
    assert [(c["width"], c["dtype"]) for c in map(context, ran[1:])] == [
        (64, "float32"),
        (128, "bfloat16"),
        (64, "bfloat16"),
    ]
    speed.measure(folder, sizes, ["auto"], device="cpu", N=8, M=12, batch_size=2)
    assert [c["batch_size"] for c in map(context, ran[4:])] == [2, 2]
    speed.measure(folder, sizes[:1], ["auto"], ["float32"], device="cpu", N=8, M=12)
    assert [c["compiled"] for c in map(context, ran)] == [False] * 6 + [True]


def test_wrong_settings_are_refused_before_anything_runs(tmp_path, ran):
    for sizes, message in (([768, 512], "pairs of width and height"), ([[128, 64], [100, 64]], "not 100")):
        with pytest.raises(UserError, match=message):
            speed.measure(tmp_path, sizes, ["float32"], device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        speed.measure(tmp_path / "file", [[64, 64]], ["float32"], device="cpu")
    assert ran == []


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (1, SystemFault), (-9, SystemFault)])
def test_a_failed_measurement_says_why(tmp_path, monkeypatch, code, kind):
    said = "" if code < 0 else "note: slow\nerror: there is not enough memory: lower --batch-size\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=code, stderr=said))
    reason = "it said nothing" if code < 0 else "there is not enough memory: lower --batch-size"
    with pytest.raises(kind, match=f"^sgaplus bench: {reason}$"):
        speed.measure(tmp_path, [[64, 64]], ["float32"], device="cpu")
