"""Plans: how latents are refined, with the published settings of every method, and presets.

A *preset* is a plan that depends on the number of iterations alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import rounding, schedules
from .errors import UserError
from .optimizers import OPTIMIZERS
from .parsing import number, whole
from .rounding import Method
from .schedules import Constant, Cosine, Exponential, ExponentialTo, Schedule

# Of a refinement. Those that have a row are listed before it begins.
MOST_ITERATIONS = 10**6
# The label of a codec without refinement.
BASE = "base"
# The methods that do not look at the temperature, and what stands in its place.
WITHOUT_TEMPERATURE = (rounding.StraightThrough, rounding.UniformNoise, rounding.MAP)
_NONE = Constant(1.0)


class _Label(str):
    """A plan's label, with the settings that it is of."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How latents are refined: everything that determines the numbers beside λ, the iterations and the seed.

    Attributes:
        method: stands for rounding while optimising.
        temperature: τ(t), handed to `Method.relax`.
        lr: the optimiser's learning rate.
        optimizer: a name of `optimizers.OPTIMIZERS`; every published plan has Adam.
        label: for tables and legends; by default the method in words, and what is not as published. Plans
            that differ in it alone are equal, and one with other settings does not take it from another
            (`dataclasses.replace`).
        Method and schedules may be specifications, so that ``Plan(**plan.as_dict())`` equals the plan.

    Raises:
        UserError: a specification is wrong, the temperature is above 1 or given although the method does not
            look at it, or there is no such optimiser.
    """

    method: Method
    temperature: Schedule
    lr: Schedule
    optimizer: str = "adam"
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}: use one of {', '.join(OPTIMIZERS)}")
        object.__setattr__(self, "method", rounding.parse(self.method))
        object.__setattr__(self, "temperature", schedules.parse(self.temperature))
        object.__setattr__(self, "lr", schedules.parse(self.lr))
        if isinstance(self.method, WITHOUT_TEMPERATURE) and self.temperature != _NONE:
            raise UserError(f"{self.method.label} has no temperature: leave {self.temperature.short} out")
        for t, which in enumerate(("first", "last")):  # in between it only rises or only falls
            number(self.temperature(t, 1), f"the {which} temperature", high=1.0, closed=True)
        settings = self.as_dict()
        fits = self.label and getattr(self.label, "settings", settings) == settings
        label = _Label(self.label if fits else _label(self))
        label.settings = settings
        object.__setattr__(self, "label", label)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able and canonical, without the label."""
        parts = {name: getattr(self, name).as_dict() for name in ("method", "temperature", "lr")}
        return {**parts, "optimizer": self.optimizer}


_SGA_PLUS = {"temperature": Exponential(c=1e-3, tau_max=1.0), "lr": Constant(5e-3)}
_NO_TEMPERATURE = {"temperature": _NONE, "lr": Constant(5e-3)}
# The published settings of every method: SGA+ from its authors' code, all others from Yang's (2020). Those of
# the quadratic one are ours.
PUBLISHED: dict[type[Method], dict[str, Any]] = {
    rounding.StraightThrough: {"temperature": _NONE, "lr": Constant(1e-4)},
    rounding.UniformNoise: _NO_TEMPERATURE,
    rounding.MAP: _NO_TEMPERATURE,
    rounding.DeterministicAnnealing: {"temperature": Exponential(c=4e-3, tau_max=0.2), "lr": Constant(5e-3)},
    rounding.Atanh: {
        "temperature": Exponential(c=1e-3, tau_max=0.5, t0=700, scale=0.5),
        "lr": Constant(5e-3),
    },
    **dict.fromkeys((rounding.Linear, rounding.Cosine, rounding.SSL, rounding.ThreeClass), _SGA_PLUS),
    rounding.Quadratic: {"temperature": ExponentialTo(0.2), "lr": Cosine(0.05), "optimizer": "soap"},
}


def fast(iterations: int) -> Plan:
    """The expected loss with cheap steps between syntheses (`rounding.Quadratic`), annealed to the end.

    Iterations count the syntheses, from 10 on. The published schedules do not depend on their number: after
    500 of their steps τ is still 0.6. Here τ falls from 1 to 0.2 and the learning rate to zero, however many
    there are, and fewer than 64 steps in all are larger ones. SOAP over channels (`optimizers.ChannelSOAP`)
    takes the place of Adam.

    The numbers were found by trying, mostly with 50, 100 and 400 iterations, on crops of photographs that are
    in no data set of the results, with the codec of λ = 0.01.
    """
    method = rounding.Quadratic()
    steps = max(iterations, 1) * (1 + method.inner)
    lr = Cosine(min(max(0.05, 0.4 / math.sqrt(steps)), 0.1))
    return replace(plan(method, lr=lr), label="fast")


# Every preset by its name: a function of the number of iterations.
PRESETS: dict[str, Callable[[int], Plan]] = {"fast": fast}


def plan(
    spec: Plan | Method | str | Mapping[str, Any],
    iterations: int | None = None,
    *,
    temperature: Schedule | str | float | None = None,
    lr: Schedule | str | float | None = None,
    optimizer: str | None = None,
) -> Plan:
    """The plan that a specification stands for: a method's with its published settings, or a preset's.

    Args:
        spec: a rounding method, its specification as `rounding.parse` takes it, the name of a preset
            (`PRESETS`), or a plan.
        iterations: of the refinement; only a preset needs it.
        temperature, lr: schedules or their specifications, in place of the published ones.
        optimizer: a name of `optimizers.OPTIMIZERS`, in place of the published one.

    Raises:
        UserError: a specification is wrong, a preset comes without its number of iterations or with settings
            in place of its own, or a method of one's own without its schedules.
    """
    settings = {"temperature": temperature, "lr": lr, "optimizer": optimizer}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if isinstance(spec, Plan):
        return replace(spec, **given)
    if isinstance(spec, str) and spec in PRESETS:
        if given:
            raise UserError(
                f"the preset '{spec}' has settings of its own: leave out {', '.join(given)}, or name a method"
            )
        if iterations is None:
            raise UserError(f"the preset '{spec}' depends on the number of iterations: give it too")
        return PRESETS[spec](whole(iterations, "iterations", 0, MOST_ITERATIONS))
    if isinstance(spec, str) and spec.partition(":")[0].strip() not in rounding.METHODS:
        known = ", ".join((*PRESETS, *rounding.METHODS))
        raise UserError(f"unknown method or preset {spec!r}: use one of {known}")
    method = rounding.parse(spec)
    published = PUBLISHED.get(type(method), {})
    missing = [name for name in ("temperature", "lr") if name not in published | given]
    if missing:
        raise UserError(f"there are no published settings for {method!r}: give {' and '.join(missing)}")
    return Plan(method, **{**published, **given})


def _label(plan: Plan) -> str:
    """The method in words, and every setting that is not the published one."""
    published = PUBLISHED.get(type(plan.method), {})
    parts = [plan.method.label]
    if plan.temperature != published.get("temperature"):
        parts.append(f"τ {plan.temperature.short}")
    if plan.lr != published.get("lr"):
        parts.append(f"lr {plan.lr.short}")
    if plan.optimizer != published.get("optimizer", "adam"):
        parts.append(plan.optimizer)
    return ", ".join(parts)
