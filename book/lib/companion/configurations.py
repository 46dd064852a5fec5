"""The arms of a study: what tells its rows apart beside the image, in words and in numbers."""

from __future__ import annotations

import functools
import json
from typing import Any

import pandas as pd

from sgaplus import plans, rounding, schedules
from sgaplus.plans import BASE
from sgaplus.rounding import ThreeClass


def with_arms(rows: pd.DataFrame) -> pd.DataFrame:
    """Stored rows with what their specifications say.

    Returns:
        The rows with ``arm``, their label: the method in words and its schedules where they are not the
        published ones (``base`` for a codec without refinement); ``family``, the method's name as
        specifications have it; ``a``, SSL's slope; ``tau_max``, the highest temperature of an exponential
        schedule; ``rate``, a constant learning rate; NaN where there is none.
    """
    columns = ["method", "temperature", "lr", "iterations"]
    found = {
        line: _describe(*line) for line in rows[columns].drop_duplicates().itertuples(index=False, name=None)
    }
    described = [found[line] for line in rows[columns].itertuples(index=False, name=None)]
    numbers = {name: [line[name] for line in described] for name in ("family", "a", "tau_max", "rate")}
    return rows.assign(arm=rows["label"], **numbers)


@functools.cache
def _describe(method: str, temperature: str, lr: str, iterations: int) -> dict[str, Any]:
    if iterations == 0:
        return {"family": BASE, **dict.fromkeys(("a", "tau_max", "rate"), float("nan"))}
    parsed = rounding.parse(json.loads(method))
    annealing, learning = (schedules.parse(json.loads(text)) for text in (temperature, lr))
    return {
        "family": parsed.name,
        "a": getattr(parsed.base if isinstance(parsed, ThreeClass) else parsed, "a", float("nan")),
        "tau_max": getattr(annealing, "tau_max", float("nan")),
        "rate": learning.value if isinstance(learning, schedules.Constant) else float("nan"),
    }


def label(spec: str) -> str:
    """The arm's name of a method with its published settings, or of a preset, or ``base``.

    Raises:
        UserError: there is no such method.
    """
    if spec == BASE or spec in plans.PRESETS:
        return spec
    return rounding.parse(spec).label
