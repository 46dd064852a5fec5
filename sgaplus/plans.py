"""What a refinement's arguments amount to: a rounding method with its schedules.

A *preset* stands for all of them and has one knob, the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from .errors import UserError
from .rounding import Expected, Method, parse
from .schedules import DEFAULTS, Cosine, Schedule, Settings, defaults_for


@dataclass(frozen=True)
class Plan:
    """How latents are refined: everything that determines the numbers beside λ, the budget and the seed.

    Attributes:
        method: stands for rounding while optimising.
        settings: its annealing, and how fast it learns.
        label: for tables and legends.
    """

    method: Method
    settings: Settings
    label: str


def fast(iterations: int) -> Plan:
    """The expected loss in place of sampled ones, annealed over the budget, from 10 iterations on.

    The published schedules do not look at the budget: after 500 of their steps τ is still 0.6. Here τ falls
    from 1 to 0.2 and the learning rate to zero whatever the budget, and fewer than 64 steps are larger ones.
    SOAP over channels (`optimizers.ChannelSOAP`) takes the place of Adam.

    The numbers were found by trying, mostly at budgets of 50, 100 and 400, on crops of photographs that neither
    trained the codecs nor are among the data sets of the results, with the codec of λ = 0.01.
    """
    method = Expected()
    lr = Cosine(min(max(0.05, 0.4 / math.sqrt(max(iterations, 1))), 0.1))
    return Plan(method, replace(defaults_for(method), lr=lr), f"fast ({iterations} steps)")


# Every preset by its name: of a budget, its plan.
PRESETS: dict[str, Callable[[int], Plan]] = {"fast": fast}


def resolve(
    iterations: int,
    method: Method | str | None = None,
    temperature: Schedule | str | None = None,
    lr: Schedule | str | None = None,
    preset: str | None = None,
    optimizer: str | None = None,
) -> Plan:
    """The plan of a budget of ``iterations``: a preset's, or a method's with its published settings.

    Args:
        method: a rounding method, or its specification as `rounding.parse` takes it.
        temperature, lr: schedules or their specifications, in place of the published ones.
        preset: a name of `PRESETS`, in place of all the others.
        optimizer: a name of `optimizers.OPTIMIZERS`, in place of the method's.

    Raises:
        UserError: there is not exactly one of a method and a preset, the preset is unknown or has company,
            or a specification is wrong.
    """
    if preset is None:
        if method is None:
            raise UserError("refinement needs a method, such as 'ssl', or a preset, such as 'fast'")
        method = parse(method)
        if temperature is None or lr is None or type(method) in DEFAULTS:
            usual = defaults_for(method)
            temperature, lr = temperature or usual.temperature, lr or usual.lr
            optimizer = optimizer or usual.optimizer
        return Plan(method, Settings(temperature, lr, optimizer or "adam"), method.label)
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}")
    given = {"method": method, "temperature": temperature, "lr": lr, "optimizer": optimizer}
    for what, value in given.items():
        if value is not None:
            raise UserError(f"preset {preset!r} stands for {', '.join(given)}: leave out {what}")
    return PRESETS[preset](iterations)
