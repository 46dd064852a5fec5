"""The benchmark of instruction sets: what is measured, what is kept, what the table says."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgaplus import hardware
from sgaplus.bench import instructions
from sgaplus.bench.measurement import Settings
from sgaplus.errors import SystemFault, UserError
from tests.test_speed import write_measurement

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
        given = {"dtype": command[command.index("--dtype") + 1], "instructions": env[instructions._NAME]}
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
