"""Peak memory of a refinement by the photograph's size: ``python -m sgaplus.bench.memory FILE.csv SIZE …``

Each SIZE, such as 6016x4000, is refined for a few iterations in a process of its own, and adds a line.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from .. import hardware, io
from ..errors import UserError
from ..jobs import provenance
from .measurement import Settings

CODEC, LMBDA, ITERATIONS = "mshyper-s", 0.01, 2
COLUMNS = ["width", "height", "codec", "codec_lmbda", "dtype", "method", "iterations", "peak_bytes"]


def measure(width: int, height: int) -> dict[str, Any]:
    """The line of a photograph of smooth noise, of the peak of this process so far."""
    import resource  # not on Windows

    from ..codecs.weights import load_codec
    from ..refinement import refine
    from .benchmark import pictures

    hardware.keep_freed_memory()
    codec = load_codec(CODEC, LMBDA)
    larger = replace(Settings(), width=-(-width // 64) * 64, height=-(-height // 64) * 64)
    (whole,) = pictures(larger, 1)
    picture = whole[:, :height, :width].clone()
    del whole
    refine(codec, [picture], "ssl", iterations=ITERATIONS, trace_every=ITERATIONS)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    values = (width, height, codec.name, codec.lmbda, codec.format, "ssl", ITERATIONS, peak)
    return dict(zip(COLUMNS, values, strict=True)) | provenance(codec.device)


def read(path: str | Path) -> pd.DataFrame:
    """The lines of a file, with ``megapixels``.

    Raises:
        UserError: it is no table of this module.
    """
    try:
        table = pd.read_csv(path)
        megapixels = table["width"] * table["height"] / 1e6
        return table.assign(megapixels=megapixels, peak_mb=table["peak_bytes"] / 1e6)
    except OSError as error:
        raise io.unreadable(path, error) from error
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no table of peak memory ({error}): name another file") from error


def main(path: Path, sizes: list[str]) -> None:
    """Add a line for each size to the file."""
    for size in sizes:
        width, height = map(int, size.split("x"))
        call = f"print(json.dumps(memory.measure({width}, {height})))"
        command = [sys.executable, "-c", f"import json; from sgaplus.bench import memory; {call}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        line = pd.DataFrame([json.loads(done.stdout.splitlines()[-1])])
        table = pd.concat([pd.read_csv(path), line], ignore_index=True) if path.exists() else line
        with io.atomic(path) as temporary:
            table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
