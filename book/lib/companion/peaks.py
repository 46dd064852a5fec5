"""Peak memory of a refinement by the photograph's size: ``python -m companion.peaks FILE.csv SIZE …``

Each SIZE, such as 6016x4000, is refined for two iterations in a process of its own, and adds a line.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from sgaplus import hardware
from sgaplus.bench import benchmark
from sgaplus.bench.measurement import Settings
from sgaplus.codecs.weights import load_codec
from sgaplus.jobs import provenance
from sgaplus.refinement import refine


def measure(width: int, height: int) -> dict[str, Any]:
    """The line of a photograph of smooth noise, of the peak of this process so far."""
    hardware.keep_freed_memory()
    codec = load_codec("mshyper-s", 0.01)
    (whole,) = benchmark.pictures(Settings(width=-(-width // 64) * 64, height=-(-height // 64) * 64), 1)
    picture = whole[:, :height, :width].clone()
    del whole
    how = {"iterations": 2, "trace_every": 2}
    _, peak = benchmark.peak(codec.device, lambda: refine(codec, [picture], "fast", **how))
    line = {"width": width, "height": height, "codec": codec.name, "codec_lmbda": codec.lmbda}
    line |= {"dtype": codec.format, "method": "fast", "iterations": how["iterations"], "peak_bytes": peak}
    return line | provenance(codec.device)


def main(path: Path, sizes: list[str]) -> None:
    """Add a line for each size to the file."""
    for size in sizes:
        call = f"print(json.dumps(peaks.measure({size.replace('x', ', ')})))"
        command = [sys.executable, "-c", f"import json; from companion import peaks; {call}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        line = pd.DataFrame([json.loads(done.stdout.splitlines()[-1])])
        line.to_csv(path, mode="a", header=not path.exists(), index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
