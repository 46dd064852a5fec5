"""Temperature and learning-rate schedules.

A schedule is a function of the iteration t = 0, 1, …, iterations − 1 and of the number of iterations:
``schedule(t, iterations)``. The published ones (SGA+, arXiv 2401.17789; SGA, arXiv 2006.04240) do not depend
on that number; those that do end with the last iteration.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .errors import UserError
from .parsing import Named, build, number, parse_named
from .relaxation import TAU_FLOOR


def _progress(t: float, iterations: int) -> float:
    """The share of the budget that is spent, in [0, 1]."""
    if iterations < 1:
        raise UserError(f"a schedule needs a budget of at least one iteration, not {iterations}")
    return min(max(t / iterations, 0.0), 1.0)


class Schedule(Named):
    """A value for each iteration.

    Raises:
        UserError: a number is not positive, or not in its own range.
    """

    kind = "schedule"
    # Of numbers that may be other than positive: above what they must be, and how large at most.
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = self.ranges.get(field.name, (0.0, math.inf))
            what = f"the {self.name} schedule's {field.name}"
            object.__setattr__(self, field.name, number(getattr(self, field.name), what, low, high))

    @property
    def short(self) -> str:
        """For labels: as `spec`, without what is the default, e.g. ``"exponential:tau_max=0.2"``."""
        values = [(field.name, getattr(self, field.name), field.default) for field in fields(self)]
        changed = [f"{name}={value:g}" for name, value, default in values if value != default]
        return f"{self.name}:{','.join(changed)}" if changed else self.name

    def __call__(self, t: float, iterations: int) -> float:
        """The value at iteration ``t`` of ``iterations``; between two of them too.

        Raises:
            UserError: the schedule depends on the budget, and the budget is less than one iteration.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    name = "constant"
    value: float

    @property
    def short(self) -> str:
        return f"{self.value:g}"

    def __call__(self, t: float, iterations: int) -> float:
        return self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """From a value down to zero along half a period, value · ½(1 + cos(πt / iterations))."""

    name = "cosine"
    value: float

    def __call__(self, t: float, iterations: int) -> float:
        return self.value * (1 + math.cos(math.pi * _progress(t, iterations))) / 2


@dataclass(frozen=True)
class ExponentialTo(Schedule):
    """From ``start`` to ``end`` by equal factors, start · (end/start)^(t / iterations)."""

    name = "exponential-to"
    end: float
    start: float = 1.0

    def __call__(self, t: float, iterations: int) -> float:
        return self.start * (self.end / self.start) ** _progress(t, iterations)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A temperature, τ(t) = min(τ_max, scale · exp(−c(t − t₀))), and never below `relaxation.TAU_FLOOR`.

    SGA+ and deterministic annealing have scale = 1 and t₀ = 0. Yang's SGA has scale = τ_max, so that τ
    leaves τ_max at t₀.
    """

    name = "exponential"
    ranges: ClassVar = {"tau_max": (0.0, 1.0), "t0": (-math.inf, math.inf)}
    c: float = 1e-3
    tau_max: float = 1.0
    t0: float = 0.0
    scale: float = 1.0

    def __call__(self, t: float, iterations: int) -> float:
        exponent = min(self.c * (self.t0 - t), 700.0)  # beyond it exp overflows, and τ is τ_max anyway
        return max(min(self.tau_max, self.scale * math.exp(exponent)), TAU_FLOOR)


# Every schedule by its name in specifications.
SCHEDULES: dict[str, type[Schedule]] = {
    cls.name: cls for cls in (Constant, Cosine, Exponential, ExponentialTo)
}


def parse(spec: str | float | Mapping[str, Any] | Schedule) -> Schedule:
    """The schedule that a specification describes; the inverse of `Schedule.as_dict` and of `Schedule.spec`.

    ``"exponential:c=0.001,tau_max=1"``, ``{"schedule": "constant", "value": 0.005}``; a bare number, also as
    a string, is a constant.

    Raises:
        UserError: an unknown schedule or parameter, one that is missing, or a value out of range.
    """
    if isinstance(spec, Schedule):
        return spec
    value: Any = spec
    try:
        float(value)
    except (TypeError, ValueError):
        return build(*parse_named(value, Schedule.kind, SCHEDULES))
    return Constant(value)
