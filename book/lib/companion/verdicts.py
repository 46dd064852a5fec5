"""What a claim's verdict is made of: conditions with numbers, each of which can fail.

A condition about a difference *holds* where its whole 95 % interval is on the claimed side of zero, is
*contradicted* where the whole interval is on the other side, and is *open* otherwise, or where rows are missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from . import statistics


class Outcome(StrEnum):
    """Of one condition."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    OPEN = "open"


class Verdict(StrEnum):
    """Of a claim."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT = "not reproduced"
    UNKNOWN = "cannot be said from these rows"


@dataclass(frozen=True)
class Finding:
    """A number with its interval, and what it says of one condition.

    Attributes:
        what: the quantity in words, with the data and the iteration.
        value, low, high: NaN where there is none; the interval is a 95 % bootstrap over images.
        unit: of the three.
        images: over which the interval is; 0 for what is no mean over images.
        outcome: None where the number is told and is no condition.
        note: why there is no number or no interval.
        form: format specification of the three.
    """

    what: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "%"
    images: int = 0
    outcome: Outcome | None = None
    note: str = ""
    form: str = "+.2f"

    @property
    def numbers(self) -> str:
        """The value with interval and unit in words; a dash where there is none."""
        text = statistics.interval(self.value, self.low, self.high, form=self.form)
        return text if np.isnan(self.value) else f"{text} {self.unit}".strip()


@dataclass(frozen=True)
class Claim:
    """One line of the ledger.

    Attributes:
        number: of the claim.
        says: the claim in our words.
        criterion: what must hold, in words.
        findings: its conditions, and numbers that are told beside them.
        pages: of the book, where the numbers are shown at length.
    """

    number: int
    says: str
    criterion: str
    findings: tuple[Finding, ...]
    pages: tuple[str, ...]

    @property
    def conditions(self) -> tuple[Finding, ...]:
        """The findings that decide."""
        return tuple(finding for finding in self.findings if finding.outcome is not None)

    @property
    def verdict(self) -> Verdict:
        """All conditions hold: reproduced. Some: partly. None, and one is contradicted: not. Else unknown."""
        outcomes = {finding.outcome for finding in self.conditions}
        if outcomes == {Outcome.HOLDS}:
            return Verdict.REPRODUCED
        if Outcome.HOLDS in outcomes:
            return Verdict.PARTLY
        return Verdict.NOT if Outcome.CONTRADICTED in outcomes else Verdict.UNKNOWN


def side(low: float, high: float, below: bool) -> Outcome:
    """Of an interval that should be wholly below zero, or wholly above it."""
    if np.isnan(low) or np.isnan(high):
        return Outcome.OPEN
    if not below:
        low, high = -high, -low
    return Outcome.HOLDS if high < 0 else Outcome.CONTRADICTED if low > 0 else Outcome.OPEN


def of_images(
    what: str, values: pd.Series, below: bool | None = True, unit: str = "%", form: str = "+.2f"
) -> Finding:
    """The finding of one value per image, whose mean should be below zero (or above; None: only told)."""
    mean, low, high = statistics.estimate(values)
    outcome = None if below is None else side(low, high, below)
    note = "one image has no interval" if len(values) == 1 else ""
    return Finding(what, mean, low, high, unit, len(values), outcome, note, form)


def of_resamples(
    what: str,
    values: np.ndarray,
    images: int,
    below: bool | None = True,
    unit: str = "%",
    form: str = "+.2f",
) -> Finding:
    """The finding of a quantity, (1 + resamples,), as `statistics.resampled_means` orders them."""
    low, high = statistics.ends(values)
    outcome = None if below is None else side(low, high, below)
    return Finding(what, float(values[0]), float(low), float(high), unit, images, outcome, form=form)


def check(what: str, value: float, holds: bool, unit: str = "", form: str = "+.2f") -> Finding:
    """The finding of a number that has no sampling error, such as one of a closed form."""
    outcome = Outcome.HOLDS if holds else Outcome.CONTRADICTED
    return Finding(what, value, unit=unit, outcome=outcome, form=form)


def missing(what: str, study: str, profile: str) -> Finding:
    """The finding of a condition without rows, with the command that computes them."""
    return Finding(
        what, outcome=Outcome.OPEN, note=f"no rows: `sgaplus study run {study} --profile {profile}`"
    )
