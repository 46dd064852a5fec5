"""The benchmark for each instruction set that this processor can be limited to, as slower ones are.

oneDNN, which computes the convolutions, and PyTorch's own operators look at two environment variables when
they are loaded. So every measurement is a process of its own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from .. import hardware
from ..errors import SystemFault, UserError
from .measurement import Measurement, Settings, read

_ONEDNN, _ATEN = "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"
# The set that a process is limited to, by its name.
LIMIT = "SGAPLUS_BENCH_INSTRUCTIONS"
FORMATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class InstructionSet:
    """Instructions of x86 processors: the newest in /proc/cpuinfo (flag), the limits of the two libraries."""

    name: str
    flag: str
    onednn: str
    aten: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that limit a process to them."""
        return {_ONEDNN: self.onednn, _ATEN: self.aten, LIMIT: self.name}


# From the newest to the oldest.
KNOWN = (
    InstructionSet("AMX", "amx_bf16", "AVX512_CORE_AMX", "avx512"),
    InstructionSet("AVX-512 BF16", "avx512_bf16", "AVX512_CORE_BF16", "avx512"),
    InstructionSet("AVX-512", "avx512bw", "AVX512_CORE", "avx512"),
    InstructionSet("AVX2", "avx2", "AVX2", "avx2"),
)


def available() -> list[InstructionSet]:
    """Those of this processor; none where it is no x86, or the system does not say."""
    return [known for known in KNOWN if known.flag in hardware.cpu_flags()]


def measure(
    folder: str | Path,
    settings: Settings,
    threads: Sequence[int] = (1, 2),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measurement]:
    """Measure every instruction set with every number of threads in both number formats.

    Args:
        folder: gets a file for each; those that are there are read and not measured again.
        settings: of all; their number format is not looked at.
        threads: as many as this process may use at most.

    Raises:
        UserError: the processor's instructions are unknown here, or a file is no measurement.
        SystemFault: a process fails.
    """
    sets = available()
    if not sets:
        raise UserError("this processor's instruction sets are unknown here: leave out --instructions")
    usable = len(os.sched_getaffinity(0))
    cells = [(s, t, f) for s in sets for t in threads if t <= usable for f in FORMATS]
    folder = Path(folder)
    found = []
    for done, (instructions, count, dtype) in enumerate(cells):
        progress(done, len(cells))
        path = folder / _file_name(instructions, count, dtype, settings)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _run(path, replace(settings, device="cpu", dtype=dtype), instructions, count)
        found.append(read(path))
        if others := _differing(settings, found[-1].summary):
            raise UserError(f"{path} has other settings ({', '.join(others)}): use another folder")
    progress(len(cells), len(cells))
    return found


# How the numbers of `compared` are shown in a terminal.
FORMATTED = {"plain loop, s": "{:.3f}", "lost, %": "{:.1f}", **{f"{d}, times": "{:.2f}" for d in FORMATS}}


def compared(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """A line for each instruction set and number of threads.

    It has the seconds of a step of the plain loop, how many times as fast ours is in either number format,
    the format that ``auto`` picks, and by how many percent it is slower than the other one (0 where faster).
    """
    rows = pd.DataFrame([measurement.summary for measurement in measurements])
    lines = []
    for (name, threads), group in rows.groupby(["instructions", "threads"], sort=False):
        one = group.set_index("dtype")
        # The format that more of the processes picked, float32 where they are at odds.
        auto = FORMATS[int((group["auto"] == FORMATS[1]).mean() > 0.5)]
        line = {"instructions": name, "threads": threads, "plain loop, s": group["reference_seconds"].mean()}
        line |= {f"{dtype}, times": one["ratio"].get(dtype) for dtype in FORMATS}
        both = set(FORMATS) <= set(one.index)
        lost = 100 * (one["ratio"].max() / one.loc[auto, "ratio"] - 1) if both else float("nan")
        lines.append(line | {"auto": auto, "lost, %": lost})
    return pd.DataFrame(lines)


def _file_name(instructions: InstructionSet, threads: int, dtype: str, settings: Settings) -> str:
    processor = hardware.processor()
    words = (processor, instructions.name, f"{threads}-thread{'s' * (threads > 1)}")
    networks = settings.codec or f"N{settings.N}_M{settings.M}"
    parts = [re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words]
    return "_".join([*parts, networks, f"{settings.width}x{settings.height}", dtype]) + ".json"


def _differing(settings: Settings, summary: Mapping[str, Any]) -> list[str]:
    """Settings that a measurement does not have, as far as its file's name does not hold them."""
    names = ["pairs", "steps", "warmup", "quality", "seed", "compiled"]
    names += [name for name in ("lmbda", "batch_size") if getattr(settings, name) is not None]
    return [name for name in names if summary.get(name) != getattr(settings, name)]


def _run(path: Path, settings: Settings, instructions: InstructionSet, threads: int) -> None:
    command = [sys.executable, "-m", "sgaplus", "bench", *settings.arguments(), "--out", str(path)]
    environment = os.environ | instructions.environment | {"OMP_NUM_THREADS": str(threads)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip() or "without a word").splitlines()[-1]
        raise SystemFault(f"measuring {instructions.name} failed ({ended.returncode}): {reason}")
