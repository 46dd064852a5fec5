"""The configurations of a study: what tells its rows apart beside the image, in words and in numbers."""

import functools
import json
from typing import Any

import pandas as pd

from sgaplus import plans, rounding, schedules
from sgaplus.plans import BASE
from sgaplus.rounding import ThreeClass

COLUMNS = ("configuration", "family", "a", "tau_max", "rate")


def described(rows: pd.DataFrame) -> pd.DataFrame:
    """Stored rows with what their specifications say, in `COLUMNS`; NaN where there is no such number.

    That is their label (the method in words and its schedules where they are not the published ones, ``base``
    for a codec without refinement), the method's name as specifications have it, SSL's slope, the highest
    temperature of an exponential schedule, a constant learning rate.
    """
    keys = [rows[name] for name in ("method", "temperature", "lr", "iterations")]
    found = pd.DataFrame([*map(_describe, *keys)], index=rows.index, columns=list(COLUMNS[1:]))
    return rows.assign(configuration=rows["label"], **found)


@functools.cache
def _describe(method: str, temperature: str, lr: str, iterations: int) -> dict[str, Any]:
    if iterations == 0:
        return {"family": BASE}
    parsed = rounding.parse(json.loads(method))
    annealing, learning = (schedules.parse(json.loads(text)) for text in (temperature, lr))
    return {
        "family": parsed.name,
        "a": getattr(parsed.base if isinstance(parsed, ThreeClass) else parsed, "a", float("nan")),
        "tau_max": getattr(annealing, "tau_max", float("nan")),
        "rate": learning.value if isinstance(learning, schedules.Constant) else float("nan"),
    }


def label(spec: str) -> str:
    """The name of a method with its published settings, or of a preset, or ``base``."""
    return spec if spec == BASE or spec in plans.PRESETS else rounding.parse(spec).label
