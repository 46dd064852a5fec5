"""Temperature and learning-rate schedules, and each method's published settings.

A schedule is a function of the iteration t = 0, 1, …, iterations − 1 and of the budget:
``schedule(t, iterations)``. The published ones (SGA+, arXiv 2401.17789; SGA, arXiv 2006.04240) do not look
at the budget; those that do end where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import rounding
from .errors import UserError
from .optimizers import OPTIMIZERS
from .parsing import Named, build, number, parse_named
from .rounding import TAU_FLOOR, Method


def _progress(t: int, iterations: int) -> float:
    """The share of the budget that is spent, in [0, 1]."""
    if iterations < 1:
        raise UserError(f"a schedule needs a budget of at least one iteration, not {iterations}")
    return min(max(t / iterations, 0.0), 1.0)


class Schedule(Named):
    """A value for each iteration."""

    kind = "schedule"

    def __call__(self, t: int, iterations: int) -> float:
        """The value at iteration ``t`` of ``iterations``.

        Raises:
            UserError: the schedule depends on the budget, and the budget is less than one iteration.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout.

    Raises:
        UserError: the value is not positive.
    """

    name = "constant"
    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number(self.value, "a constant schedule's value"))

    def __call__(self, t: int, iterations: int) -> float:
        return self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """From a value down to zero along half a period, value · ½(1 + cos(πt / iterations))."""

    name = "cosine"
    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number(self.value, "the cosine schedule's first value"))

    def __call__(self, t: int, iterations: int) -> float:
        return self.value * (1 + math.cos(math.pi * _progress(t, iterations))) / 2


@dataclass(frozen=True)
class ExponentialTo(Schedule):
    """From ``start`` to ``end`` by equal factors, start · (end/start)^(t / iterations).

    Raises:
        UserError: a value is not positive.
    """

    name = "exponential-to"
    end: float
    start: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", number(self.end, "exponential-to's end"))
        object.__setattr__(self, "start", number(self.start, "exponential-to's start"))

    def __call__(self, t: int, iterations: int) -> float:
        return self.start * (self.end / self.start) ** _progress(t, iterations)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A temperature, τ(t) = min(τ_max, scale · exp(−c(t − t₀))), and never below `rounding.TAU_FLOOR`.

    SGA+ and deterministic annealing have scale = 1 and t₀ = 0. Yang's SGA has scale = τ_max, so that τ
    leaves τ_max at t₀.

    Raises:
        UserError: c or scale is not positive, τ_max is not in (0, 1], or t₀ is not finite.
    """

    name = "exponential"
    c: float = 1e-3
    tau_max: float = 1.0
    t0: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", number(self.c, "exponential c"))
        object.__setattr__(self, "tau_max", number(self.tau_max, "exponential tau_max", high=1.0))
        object.__setattr__(self, "t0", number(self.t0, "exponential t0", low=-math.inf))
        object.__setattr__(self, "scale", number(self.scale, "exponential scale"))

    def __call__(self, t: int, iterations: int) -> float:
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
    try:
        float(spec)
    except (TypeError, ValueError):
        return build(*parse_named(spec, Schedule.kind, SCHEDULES))
    return Constant(spec)


@dataclass(frozen=True)
class Settings:
    """How a method is annealed and how fast it learns.

    Attributes:
        temperature: τ(t), handed to `Method.relax`.
        lr: the optimiser's learning rate.
        optimizer: a name of `optimizers.OPTIMIZERS`; every published setting is Adam's.
        The schedules may be given as specifications, so that ``Settings(**settings.as_dict())`` is the inverse of
        `as_dict`.

    Raises:
        UserError: a specification is wrong, the temperature starts above 1, or there is no such optimiser.
    """

    temperature: Schedule
    lr: Schedule
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}: use one of {', '.join(OPTIMIZERS)}")
        object.__setattr__(self, "temperature", parse(self.temperature))
        object.__setattr__(self, "lr", parse(self.lr))
        number(self.temperature(0, 1), "the first temperature", high=1.0)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able and canonical."""
        schedules = {"temperature": self.temperature.as_dict(), "lr": self.lr.as_dict()}
        return {**schedules, "optimizer": self.optimizer}


_SGA_PLUS = Settings(Exponential(c=1e-3, tau_max=1.0), lr=Constant(5e-3))
# A method that does not look at the temperature.
_NO_TEMPERATURE = Settings(Constant(1.0), lr=Constant(5e-3))
# The published settings: SGA+ from its authors' code, all others from Yang's (2020). Those of the expected loss
# are ours.
DEFAULTS: dict[type[Method], Settings] = {
    rounding.StraightThrough: Settings(Constant(1.0), lr=Constant(1e-4)),
    rounding.UniformNoise: _NO_TEMPERATURE,
    rounding.MAP: _NO_TEMPERATURE,
    rounding.DeterministicAnnealing: Settings(Exponential(c=4e-3, tau_max=0.2), lr=Constant(5e-3)),
    rounding.Atanh: Settings(Exponential(c=1e-3, tau_max=0.5, t0=700, scale=0.5), lr=Constant(5e-3)),
    rounding.Linear: _SGA_PLUS,
    rounding.Cosine: _SGA_PLUS,
    rounding.SSL: _SGA_PLUS,
    rounding.ThreeClass: _SGA_PLUS,
    rounding.Expected: Settings(ExponentialTo(0.2), lr=Cosine(0.05), optimizer="soap"),
}


def defaults_for(method: Method) -> Settings:
    """The published settings of ``method``.

    Raises:
        UserError: the method is not one of `rounding.METHODS`.
    """
    if type(method) not in DEFAULTS:
        raise UserError(f"no published settings for {method!r}: give the temperature and the learning rate")
    return DEFAULTS[type(method)]
