"""How fast a step of refinement is: measurements of `sgaplus bench`, stored and made.

A *place* is a machine with the networks that run on it; a *way* is how our loop runs there: its number format,
how many pictures it refines together, and whether it is compiled.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from tqdm import tqdm

from sgaplus import hardware, io
from sgaplus.bench.benchmark import Settings
from sgaplus.errors import SystemFault, UserError

from .. import cells

_RANDOM = "random weights"


class _Pair(BaseModel):
    """A line of `benchmark.Measurement.table`; seconds are of one step on one picture."""

    model_config = ConfigDict(allow_inf_nan=False)

    reference_seconds: PositiveFloat
    ours_seconds: PositiveFloat
    ratio: PositiveFloat
    true_loss_seconds: float
    ceiling_seconds: PositiveFloat
    share: PositiveFloat


class _Summary(_Pair):
    """What the page takes from `benchmark.Measurement.summary`."""

    ratio_min: PositiveFloat
    ratio_max: PositiveFloat
    flops: PositiveFloat
    flops_per_second: PositiveFloat
    ceiling_flops_per_second: PositiveFloat
    parts: dict[str, NonNegativeFloat]
    ours_peak_bytes: PositiveInt | None
    reference_peak_bytes: PositiveInt | None
    pairs: PositiveInt
    steps: PositiveInt
    warmup: PositiveInt
    seed: int
    width: PositiveInt
    height: PositiveInt
    batch_size: PositiveInt
    codec: str
    lmbda: PositiveFloat
    quality: NonNegativeInt | None
    N: PositiveInt
    M: PositiveInt
    method: str
    dtype: Literal["float32", "bfloat16"]
    compiled: bool
    compile_seconds: PositiveFloat | None
    device_type: Literal["cpu", "cuda"]
    device: str
    git_commit: str
    torch_version: str
    written: str


class _Measurement(BaseModel):
    summary: _Summary
    pairs: list[_Pair] = Field(min_length=1)


def _read(path: Path) -> _Measurement:
    try:
        return _Measurement.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is no measurement of `sgaplus bench` ({where}: {first['msg']}): delete it and measure again"
        ) from error


def load(folder: str | Path, command: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measurements in ``folder``, files that ``sgaplus bench --out ….json`` has written.

    Args:
        command: what measures; named where nothing is stored.

    Returns:
        One line per file, with the summary of `benchmark.Measurement`, ``file``, ``place``, ``way`` and ``format``
        (number format, and whether it is compiled) in words, ``megapixels`` of a picture, and ``ratio_true_loss``: the ratio if our loop, too, computed the true loss at
        every step (median over pairs). One line per pair, with ``file``.

    Raises:
        UserError: nothing is stored, a file is no measurement, or two files are of the same configuration.
    """
    found = sorted(path for path in Path(folder).glob("*.json") if not path.name.startswith("."))
    stored = {path.name: _read(path) for path in found}
    if not stored:
        raise UserError(f"{folder} holds no measurement: run {command}")
    rows = pd.DataFrame([{"file": name} | m.summary.model_dump() for name, m in stored.items()])
    pairs = pd.DataFrame([{"file": name} | p.model_dump() for name, m in stored.items() for p in m.pairs])
    rows = rows.assign(
        place=rows.apply(_place, axis=1),
        way=rows.apply(_way, axis=1),
        format=rows["dtype"] + rows["compiled"].map({True: ", compiled", False: ""}),
        megapixels=rows["width"] * rows["height"] / 1e6,
        ratio_true_loss=rows["file"].map(_with_true_loss(pairs)),
    )
    configuration = ["place", "way", "width", "height"]
    for _, same in rows[rows.duplicated(configuration, keep=False)].groupby(configuration):
        raise UserError(f"{' and '.join(same['file'])} in {folder} measure the same: delete all but one")
    order = [
        "device_type",
        "device",
        "codec",
        "N",
        "M",
        "dtype",
        "batch_size",
        "compiled",
        "megapixels",
        "width",
    ]
    ascending = [column != "dtype" for column in order]  # float32 first
    return rows.sort_values(order, ascending=ascending, ignore_index=True), pairs


def _with_true_loss(pairs: pd.DataFrame) -> pd.Series:
    """The ratio by file if our step had a true loss, whose time is a difference and may come out below 0."""
    ours = pairs["ours_seconds"] + pairs["true_loss_seconds"].clip(lower=0)
    return (pairs["reference_seconds"] / ours).groupby(pairs["file"]).median()


def _place(row: pd.Series) -> str:
    codec = "" if row["codec"] == _RANDOM else f"{row['codec']}, "
    return f"{row['device']}; {codec}N = {row['N']}, M = {row['M']}"


def _way(row: pd.Series) -> str:
    count = row["batch_size"]
    return f"{row['dtype']}, {count} picture{'s' * (count > 1)} at a time{', compiled' * row['compiled']}"


def _arguments(settings: Settings, out: Path) -> list[str]:
    """The arguments of ``sgaplus`` that measure ``settings``; those that are None are left out."""
    names = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if settings.codec is not None:
        del names["N"], names["M"]
    flags = ["--compile"] * names.pop("compiled")
    given = [
        (f"--{name.replace('_', '-')}", f"{value}") for name, value in names.items() if value is not None
    ]
    return ["bench", *itertools.chain(*given), *flags, "--out", out.as_posix()]


def measure(
    folder: str | Path,
    sizes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    compiled: Sequence[str] = (),
    *,
    device: str = "auto",
    **settings: int | None,
) -> None:
    """Run ``sgaplus bench`` for every size and number format that ``folder`` lacks, each in its own process.

    A process of its own has the peak of memory to itself.

    Args:
        sizes: of the pictures, (width, height) in pixels.
        dtypes: as `benchmark.Settings` takes them; where two mean the same, one is measured.
        compiled: likewise, those in which a compiled loop is measured.
        settings: of `benchmark.Settings`, others.

    Raises:
        UserError: a setting is out of range or not available here, or the memory does not suffice.
        SystemFault: the measurement failed otherwise.
    """
    if not all(isinstance(size, Sequence) and len(size) == 2 for size in sizes):
        raise UserError(f"sizes must be pairs of width and height, not {sizes}")
    resolved = hardware.resolve_device(device)
    ways = dict.fromkeys(
        (f"{hardware.resolve_dtype(dtype, resolved)}".removeprefix("torch."), flag)
        for flag, chosen in ((False, dtypes), (True, compiled))
        for dtype in chosen
    )
    wanted: dict[Path, Settings] = {}
    for dtype, flag in ways:
        for width, height in sizes:
            one = Settings(
                width=width, height=height, device=f"{resolved}", dtype=dtype, compiled=flag, **settings
            )
            name = f"{hardware.describe(resolved)}_N{one.N}_M{one.M}_{width}x{height}_{dtype}"
            name += ("" if one.batch_size is None else f"_{one.batch_size}") + "_compiled" * flag
            path = Path(folder) / f"{re.sub(r'[^A-Za-z0-9_]+', '-', name)}.json"
            if not path.exists():
                wanted[path] = one
    io.check_folder(folder)
    for path, one in tqdm(wanted.items(), "bench", leave=False, file=cells.terminal(), disable=None):
        run = subprocess.run(
            [sys.executable, "-m", "sgaplus", *_arguments(one, path)], capture_output=True, text=True
        )
        if run.returncode:
            said = run.stderr.strip().rsplit("error: ", 1)[-1] or "it said nothing"
            raise (UserError if run.returncode == 2 else SystemFault)(f"sgaplus bench: {said}")


def growth(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """How the time of a step grows with the pixels of a picture, t ∝ pixels^exponent: least squares of logarithms.

    Args:
        rows, pairs: as `load` returns them.

    Returns:
        A line for each place and way that has several sizes: place, way, sizes (their number), smallest and largest
        (megapixels), exponent (of the medians), exponent_low and exponent_high (extremes over pairs, the i-th
        ones of all sizes together), per_smallest and per_largest (seconds per megapixel of those two), bytes (peak
        memory that each further megapixel takes, from those two; NaN where the system does not say).
    """
    lines = []
    for (place, way), group in rows.groupby(["place", "way"], sort=False):
        if group["megapixels"].nunique() < 2:
            continue
        times = [pairs.loc[pairs["file"] == file, "ours_seconds"].to_numpy() for file in group["file"]]
        shared = min(map(len, times))
        runs = np.stack([group["ours_seconds"], *np.stack([t[:shared] for t in times], 1)])
        exponents = np.polyfit(np.log(group["megapixels"]), np.log(runs).T, 1)[0]
        ends = group.sort_values("megapixels").iloc[[0, -1]]
        smallest, largest = ends["megapixels"]
        per_smallest, per_largest = ends["ours_seconds"] / ends["megapixels"]
        peak, pixels = (ends["ours_peak_bytes"].astype(float), ends["megapixels"] * ends["batch_size"])
        lines.append(
            {"place": place, "way": way, "sizes": len(group), "smallest": smallest, "largest": largest}
            | {"exponent": exponents[0], "exponent_low": exponents[1:].min()}
            | {"exponent_high": exponents[1:].max()}
            | {"per_smallest": per_smallest, "per_largest": per_largest}
            | {"bytes": peak.diff().iloc[-1] / pixels.diff().iloc[-1]}
        )
    return pd.DataFrame(lines)


def commands(rows: pd.DataFrame, folder: str | Path) -> str:
    """The shell commands that measure the configurations in `load`'s rows again, each on its own machine."""
    lines = []
    for row in rows.to_dict("records"):
        given = {f.name: row[f.name] for f in fields(Settings)} | {"device": row["device_type"]}
        by_quality = not pd.isna(row["quality"])
        given["quality"] = int(row["quality"]) if by_quality else None
        if by_quality or row["codec"] == _RANDOM:
            given["lmbda"] = None
        if row["codec"] == _RANDOM:
            given["codec"] = None
        lines.append(shlex.join(["sgaplus", *_arguments(Settings(**given), Path(folder) / row["file"])]))
    return "\n".join(lines)
