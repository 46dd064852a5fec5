"""Speed and scale: what their pages read, what follows from it, and what the benchmarks of both measure."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import typer

from companion.pages import scaling, speed
from sgaplus import hardware
from sgaplus.bench import benchmark, instructions
from sgaplus.bench.measurement import Settings
from sgaplus.cli.terminal import app
from sgaplus.errors import SystemFault, UserError
from sgaplus.studies.execution.journal import Journal
from sgaplus.studies.execution.shards import Done

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
        | {"method": "ssl:a=2.3", "dtype": "bfloat16", "device_type": "cpu", "device": "a processor"}
        | {"threads": 2}
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
    assert rows["way"].tolist()[1:] == ["bfloat16", "bfloat16, 24 pictures at a time"]
    assert rows["megapixels"].tolist() == [1.0] * 3
    assert rows["ratio"].tolist() == [4.0] * 3
    assert rows["ratio_true_loss"].tolist() == [2.0] * 3, "1 s against 0.25 s and as much for the true loss"
    assert pairs.groupby("file")["ours_seconds"].apply(list)["a.json"] == [0.2, 0.25, 0.3]


def test_a_processor_is_named_with_its_newest_instructions(tmp_path):
    limited = tmp_path / "instructions"
    for device, name in (("old, 1 thread", "AVX2"), ("new, 1 thread", "AVX2"), ("new, 2 threads", "AMX")):
        write_measurement(tmp_path, f"{device} {name}", device=device, dtype=name)
        write_measurement(limited, f"{device} {name}", device=device, instructions=name)
    places = speed.load(tmp_path, "run")[0]["place"].str.partition(";")[0]
    assert set(places) == {"old (AVX2), 1 thread", "new (AMX), 1 thread", "new (AMX), 2 threads"}
    assert speed.with_instructions(pd.Series(["newer, 1 thread"]), limited).tolist() == ["newer, 1 thread"]


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


TINY = Settings(N=8, M=12, width=64, height=64)


@pytest.fixture
def processor(monkeypatch):
    """Without matrix tiles, with two cores."""
    monkeypatch.setattr(hardware, "cpu_flags", lambda: {"avx2", "avx512bw", "avx512_bf16"})
    monkeypatch.setattr(hardware, "processor", lambda: "A (R) processor")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)


def test_every_instruction_set_is_a_process_of_its_own(processor, tmp_path, monkeypatch):
    calls = []

    def run(command, env, **_):
        name = Path(command[command.index("--out") + 1]).name
        given = {"dtype": command[command.index("--dtype") + 1], "instructions": env[instructions.LIMIT]}
        given |= {"threads": int(env["OMP_NUM_THREADS"]), "auto": "bfloat16", "pairs": 3, "warmup": 4}
        calls.append((env["ONEDNN_MAX_CPU_ISA"], env["ATEN_CPU_CAPABILITY"], *list(given.values())[:3:2]))
        ours = (0.25,) if given["dtype"] == "bfloat16" else (0.2,)
        write_measurement(tmp_path, name.removesuffix(".json"), ours=ours, **given)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(instructions.subprocess, "run", run)
    found = instructions.measure(tmp_path, TINY)
    sets = [("AVX512_CORE_BF16", "avx512"), ("AVX512_CORE", "avx512"), ("AVX2", "avx2")]
    assert calls == [(*s, f, t) for s in sets for t in (1, 2) for f in ("float32", "bfloat16")]
    table = instructions.compared(found)
    assert table[["instructions", "threads"]].to_records(index=False).tolist() == [
        (name, threads) for name in ("AVX-512 BF16", "AVX-512", "AVX2") for threads in (1, 2)
    ]
    assert table["float32, times"].tolist() == [5.0] * 6 and table["bfloat16, times"].tolist() == [4.0] * 6
    assert table["auto"].tolist() == ["bfloat16"] * 6 and table["lost, %"].tolist() == pytest.approx([25] * 6)
    (tmp_path / "A-R-processor_AVX2_2-threads_N8_M12_64x64_bfloat16.json").unlink()
    instructions.measure(tmp_path, TINY)
    assert len(calls) == 13, "what is there is not measured again"
    with pytest.raises(UserError, match=r"other settings \(steps\): use another folder"):
        instructions.measure(tmp_path, replace(TINY, steps=9))


def test_what_fails_is_said(processor, tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="a word\nerror: no such thing\n")
    monkeypatch.setattr(instructions.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemFault, match=r"AVX-512 BF16 .*no such thing"):
        instructions.measure(tmp_path, TINY)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset())
    with pytest.raises(UserError, match="unknown"):
        instructions.measure(tmp_path, TINY)


@pytest.mark.slow
def test_the_limits_reach_the_libraries(tmp_path, monkeypatch):
    """A real process, of the oldest instructions that there are."""
    if not instructions.available():
        pytest.skip("is tested on Linux")
    monkeypatch.setattr(instructions, "available", lambda: [instructions.KNOWN[-1]])
    monkeypatch.setattr(instructions, "FORMATS", ("float32",))
    settings = Settings(pairs=1, steps=1, warmup=1, N=8, M=12, width=128, height=64)
    [measured] = instructions.measure(tmp_path, settings, threads=(1,))
    assert measured.summary["instructions"] == "AVX2" and measured.summary["ratio"] > 0
    [path] = tmp_path.iterdir()
    assert json.loads(path.read_text())["summary"]["threads"] == 1


COLUMNS = ["study", "jobs", "megapixel_iterations", "operations", "count"]
LINES = [("rd", 24, 10.0, 4e9, 2), ("rd", 6, 5.0, 2e9, 1), ("clic", 1, 1.0, 1e9, 3)]
PROTOCOL = pd.DataFrame(LINES, columns=COLUMNS)


def test_shards_go_to_whichever_gpu_is_free_and_the_estimate_counts_idle_ones():
    seconds = scaling.shards(PROTOCOL, 1e9)
    assert seconds == [4, 4, 2, 1, 1, 1]
    assert [scaling.makespan(seconds, gpus) for gpus in (1, 2, 3, 64)] == [13, 7, 5, 4]
    table = scaling.estimate(PROTOCOL, 1e9 / 3600, 500.0, [1, 2, 64]).set_index("gpus")
    assert table["hours"].tolist() == pytest.approx([13, 7, 4])
    assert table["busy"].tolist() == pytest.approx([100, 100 * 13 / 14, 100 * 13 / 256])
    assert table["energy"].tolist() == pytest.approx([6.5, 7, 128])


def test_the_overhead_of_a_shard_is_what_one_worker_takes_beyond_one_process(tmp_path):
    columns = {"jobs": 12, "shards": 4, "idle": 0.1, "load": 1.0}
    walls = {(0, 20.5, 20.0), (1, 22.0, 19.5), (2, 11.0, 20.0)}
    table = pd.DataFrame([{"workers": n, "wall": wall, "busy": busy} | columns for n, wall, busy in walls])
    table.to_csv(tmp_path / "measure.csv", index=False)
    found = scaling.measured(tmp_path)
    assert found["outside"].tolist() == pytest.approx([0.5, 2.5, 1.0])
    assert scaling.overhead(found) == pytest.approx(0.5)


def test_a_table_that_is_not_stored_names_its_command(tmp_path):
    with pytest.raises(UserError, match=r"python -m companion\.scaling_runs simulate"):
        scaling.load(tmp_path, "simulate")


def test_idle_time_is_what_workers_did_not_compute(monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("sgaplus.studies.execution.journal.time.monotonic", lambda: next(clock))
    journal = Journal()
    journal.look(2)
    journal.done(Done("a", 12.0))
    journal.done(Done("b", 6.0))
    journal.look(1)
    summary = journal.summary()
    assert summary.idle == pytest.approx(1 - 18 / 30)
    assert summary.seconds == {"a": 12.0, "b": 6.0}
