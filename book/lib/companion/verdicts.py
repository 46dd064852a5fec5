"""What a claim's verdict is made of: conditions with numbers, each of which can fail.

A condition about a difference *holds* where its whole 95 % interval is on the claimed side of zero, is
*contradicted* where the whole interval is on the other side, and is *open* otherwise. Without rows it was
*not run*.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from . import statistics


class Verdict(StrEnum):
    """Of one condition, or of several together."""

    HOLDS = "holds"
    PARTLY = "holds in part"
    MIXED = "mixed"
    CONTRADICTED = "contradicted"
    OPEN = "open"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Finding:
    """A number with its interval, and what it says of one condition.

    Attributes:
        what: the quantity in words, with the data and the iteration.
        value, low, high: with ``unit``, shown by ``form``; NaN where there is none.
        images: over which the interval is; 0 for what is no mean over images.
        outcome: None where the number is reported for context and is no condition.
        iteration: at which it was read off; None for what has none.
        dataset: a key of `pool.DATASETS`; "" for what was computed from formulas or published.
        note: why there is no number or no interval.
    """

    what: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "%"
    images: int = 0
    outcome: Verdict | None = None
    iteration: int | None = None
    dataset: str = ""
    note: str = ""
    form: str = "+.2f"

    @property
    def numbers(self) -> str:
        """The value with interval and unit in words; a dash where there is none."""
        text = statistics.interval(self.value, self.low, self.high, form=self.form)
        return text if np.isnan(self.value) else f"{text} {self.unit}".strip()


@dataclass(frozen=True)
class Claim:
    """One line of the ledger: the claim and what must hold, in our words, its conditions with numbers for
    context, and the pages that show them at length."""

    number: int
    says: str
    criterion: str
    findings: tuple[Finding, ...]
    pages: tuple[str, ...]
    title: str = ""

    @property
    def conditions(self) -> tuple[Finding, ...]:
        """The findings that decide."""
        return tuple(finding for finding in self.findings if finding.outcome is not None)

    @property
    def verdict(self) -> Verdict:
        """Of all conditions that were run."""
        return together(self.conditions)

    @property
    def by_iteration(self) -> dict[int | None, tuple[Finding, ...]]:
        """The conditions of each read-off in ascending order, those without one last."""
        known = {finding.iteration for finding in self.conditions}
        order = sorted(known, key=lambda iteration: (iteration is None, iteration))
        return {t: tuple(f for f in self.conditions if f.iteration == t) for t in order}


def together(findings: Iterable[Finding]) -> Verdict:
    """All that were run hold; some do and the rest is open (in part) or not only open (mixed); none does and
    one is contradicted; nothing is decided; or none was run."""
    outcomes = {finding.outcome for finding in findings} - {Verdict.NOT_RUN, None}
    if not outcomes:
        return Verdict.NOT_RUN
    if outcomes == {Verdict.HOLDS}:
        return Verdict.HOLDS
    if outcomes == {Verdict.HOLDS, Verdict.OPEN}:
        return Verdict.PARTLY
    if outcomes & {Verdict.HOLDS, Verdict.MIXED}:
        return Verdict.MIXED
    return Verdict.CONTRADICTED if Verdict.CONTRADICTED in outcomes else Verdict.OPEN


def side(low: float, high: float, below: bool | None) -> Verdict | None:
    """Of an interval that should be wholly below zero (or above; None: no condition)."""
    if below is None:
        return None
    if not below:
        low, high = -high, -low
    return Verdict.HOLDS if high < 0 else Verdict.CONTRADICTED if low > 0 else Verdict.OPEN


def of_images(
    what: str, table: pd.DataFrame | pd.Series, below: bool | None = True, unit: str = "%", **more: Any
) -> Finding:
    """The finding of a mean over images that should be below zero (or above; None: for context), of one value
    per image or of the mean of a column for each λ. A λ at which the interval alone is on the other side of
    zero makes the outcome mixed, so that no mean hides it."""
    table = pd.DataFrame(table)
    mean, low, high = statistics.estimate(table.mean(axis=1))
    outcome, note = side(low, high, below), "one image has no interval" if len(table) == 1 else ""
    sides = {name: side(*statistics.estimate(table[name])[1:], below) for name in table}
    apart = [name for name, found in sides.items() if found is Verdict.CONTRADICTED]
    if apart and outcome is not Verdict.CONTRADICTED:
        outcome, note = Verdict.MIXED, f"contradicted at λ = {', '.join(f'{name:g}' for name in apart)}"
    more = {"dataset": "kodak", "note": note} | more
    return Finding(what, mean, low, high, unit, len(table), outcome, **more)


def of_resamples(
    what: str, values: np.ndarray, images: int, below: bool | None = True, unit: str = "%", **more: Any
) -> Finding:
    """The finding of a statistic of `statistics.resampled_means`, (1 + resamples,)."""
    low, high = map(float, statistics.ends(values))
    more = {"dataset": "kodak"} | more
    return Finding(what, float(values[0]), low, high, unit, images, side(low, high, below), **more)


def not_run(
    what: str, study: str, profile: str, iteration: int | None = None, dataset: str = "kodak"
) -> Finding:
    """The finding of a condition without rows, with the command that computes them."""
    note = f"`sgaplus study run {study} --profile {profile}`"
    return Finding(what, outcome=Verdict.NOT_RUN, iteration=iteration, dataset=dataset, note=note)
