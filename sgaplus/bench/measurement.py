"""What a benchmark measures, what it gives, and the file that keeps it."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from .. import io
from ..errors import UserError
from ..parsing import whole

# Of a measurement's table, and of its summary as medians.
_MEASURED = ("reference_seconds", "ours_seconds", "true_loss_seconds", "ceiling_seconds", "ratio", "share")
# What a summary has beside these and the settings, as far as it is shown.
_REPORTED = {"ratio_min", "ratio_max", "flops_per_second", "ceiling_flops_per_second", "parts"}
_REPORTED |= {"compile_seconds", "ours_peak_bytes", "reference_peak_bytes", "method", "device_type"}
_REPORTED |= {"git_commit", "torch_version", "written"}


@dataclass(frozen=True)
class Settings:
    """What is measured, as the options of ``sgaplus bench`` say.

    The first steps also wait for the system's memory: those of ``warmup`` are not timed. ``N`` and ``M`` are
    of random weights, without a ``codec``. Our loop alone refines ``batch_size`` pictures together, in
    ``dtype`` and perhaps ``compiled``; all times are per picture.

    Raises:
        UserError: a number is out of range.
    """

    pairs: int = 3
    steps: int = 5
    warmup: int = 4
    N: int = 128
    M: int = 192
    width: int = 768
    height: int = 512
    batch_size: int | None = None
    codec: str | None = None
    lmbda: float | None = None
    quality: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pairs", "steps", "warmup", "N", "M", "width", "height", "batch_size"):
            if (value := getattr(self, name)) is not None or name != "batch_size":
                object.__setattr__(self, name, whole(value, name, 1))
        if self.codec is None and (self.lmbda, self.quality) != (None, None):
            raise UserError("lmbda and quality describe a codec: give its name too, or leave them out")
        for name in ("width", "height"):
            if getattr(self, name) % 64:
                raise UserError(
                    f"the plain loop does not pad: {name} must be a multiple of 64, not {getattr(self, name)}"
                )

    def arguments(self) -> list[str]:
        """Those of ``sgaplus bench`` that measure this; settings that are None are left out."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for width in ("N", "M") if self.codec is not None else ():
            del given[width]
        flags = ["--compile"] if given.pop("compiled") else []
        options = [(f"--{k.replace('_', '-')}", f"{v}") for k, v in given.items() if v is not None]
        return [word for option in options for word in option] + flags


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a benchmark gives.

    Attributes:
        table: a line per pair. ``reference_seconds``, ``ours_seconds``: one step on one picture; ``ratio`` of
            the two; ``true_loss_seconds``: one true loss of ours, with all metrics; ``ceiling_seconds``: the
            bare convolutions of one step of ours on one picture; ``share``: of them in ours_seconds.
        summary: medians over the pairs under the same names, quartiles and extremes of the ratio,
            ``seconds_per_megapixel_iteration`` of ours, convolution FLOPs of its step on one picture and
            FLOPs per second reached, ``parts`` (see `parts`), peak memory in bytes, ``compile_seconds`` where
            the loop was compiled (see `time_to_compile`), whether the device has bfloat16
            (``bfloat16_hardware``), settings and provenance; JSON-able.
    """

    table: pd.DataFrame
    summary: dict[str, Any]


def text(measurement: Measurement) -> str:
    """The summary in words, some lines without a last line break."""
    s = measurement.summary
    lines = [
        (
            f"{s['codec']}, N = {s['N']}, M = {s['M']}; pictures of {s['width']}×{s['height']} pixels;"
            f" {s['method']}; {s['device']}"
        ),
        f"plain loop, float32, one picture at a time: {s['reference_seconds']:.4f} s per step",
        (
            f"this package, {s['dtype']}, {s['batch_size']} at a time{', compiled' * s['compiled']}:"
            f" {s['ours_seconds']:.4f} s per step and picture, {s['seconds_per_megapixel_iteration']:.4f} s"
            f" per megapixel; a true loss takes {s['true_loss_seconds']:.4f} s"
        ),
        (
            f"{s['ratio']:.2f} times as fast: median of {s['pairs']} pairs, quartiles"
            f" {s['ratio_lower_quartile']:.2f} to {s['ratio_upper_quartile']:.2f}, all within"
            f" {s['ratio_min']:.2f} to {s['ratio_max']:.2f}"
        ),
        (
            f"its convolutions by themselves take {s['ceiling_seconds']:.4f} s, {s['share']:.0%} of the step:"
            f" {s['flops_per_second'] / 1e9:.0f} of {s['ceiling_flops_per_second'] / 1e9:.0f} GFLOP/s"
        ),
    ]
    where = ", ".join(f"{part} {share:.0%}" for part, share in s["parts"].items())
    lines.append(f"where a step's time goes, as the profiler sees it: {where}")
    if s["compiled"]:
        lines.append(f"compiling takes {s['compile_seconds']:.1f} s without PyTorch's cache on disk")
    if not s["bfloat16_hardware"]:
        lines.append("this device does not multiply bfloat16 in hardware: float32 is the faster format on it")
    if "auto" in s:
        measured = s["device_type"] == "cpu" and s["bfloat16_hardware"]
        why = ": a convolution by itself takes less time in it" * measured
        lines.append(f"--dtype auto takes {s['auto']} here{why}")
    if s["ours_peak_bytes"] is not None:
        ours, both = s["ours_peak_bytes"] / 2**20, s["reference_peak_bytes"] / 2**20
        where = "GPU memory" if s["device_type"] == "cuda" else "the process"
        lines.append(f"peak of {where}: {ours:.0f} MiB, with the plain loop {both:.0f} MiB")
    return "\n".join(lines)


def write(measurement: Measurement, path: str | Path) -> None:
    """Write a measurement as JSON; errors are those of `io.atomic`."""
    content = {"summary": measurement.summary, "pairs": measurement.table.to_dict("records")}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    io.write(path, text)


def read(path: str | Path) -> Measurement:
    """The measurement in a .json file that `write` has written.

    Raises:
        UserError: it is no such file, or may not be read.
        SystemFault: the disk fails, or too many files are open.
    """
    needed = {field.name for field in fields(Settings)} | _REPORTED | set(_MEASURED)
    positive = [name for name in _MEASURED if name != "true_loss_seconds"]  # a difference of two times
    try:
        content = json.loads(Path(path).read_bytes())
        table, summary = pd.DataFrame(content["pairs"]), content["summary"]
        if missing := [*sorted(needed - set(summary)), *sorted(set(_MEASURED) - set(table))]:
            raise ValueError(f"no {', '.join(missing)}")
        values = [*(summary[name] for name in positive), *table[positive].to_numpy().ravel()]
        if not all(value > 0 for value in values):
            raise ValueError("a time is not above 0")
    except OSError as error:
        raise io.unreadable(path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no measurement of `sgaplus bench` ({error}): rename it and measure again"
        ) from error
    return Measurement(table, summary)
