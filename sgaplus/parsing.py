"""Specifications: what has a name and numbers, as a string, as a dictionary and as an object.

``"ssl:a=2.3"`` and ``{"method": "ssl", "a": 2.3}`` describe the same rounding method; so with schedules.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from numbers import Integral
from typing import Any, ClassVar, TypeVar

import numpy as np

from .errors import UserError


def number(value: Any, what: str, low: float = 0.0, high: float = math.inf, *, closed: bool = False) -> float:
    """``value`` as a float in (low, high], or in [low, high] where ``closed``.

    Raises:
        UserError: it is no finite number, or not in the range; ``what`` names it in the message.
    """
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not (math.isfinite(result) and low <= result <= high and (closed or result > low)):
        above = f" {'of at least' if closed else 'greater than'} {low:g}" if math.isfinite(low) else ""
        below = f" and at most {high:g}" if math.isfinite(high) else ""
        raise UserError(f"{what} must be a finite number{above}{below}, not {value!r:.80}")
    return result


def whole(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> int:
    """``value`` as a whole number in [low, high]: an integer, or 2.0 or "2" for 2.

    Raises:
        UserError: it is no whole number, or not in the range; ``what`` names it in the message.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise ValueError
        digits = isinstance(value, str) and value.strip().removeprefix("-").isdecimal()
        exact = int(value) if digits or isinstance(value, Integral) else float(value)
        result = int(exact) if exact == int(exact) else None
    except (TypeError, ValueError, OverflowError):
        result = None
    if result is None or not low <= result <= high:
        least = f" of at least {low}" if math.isfinite(low) else ""
        most = f" and at most {high}" if math.isfinite(high) else ""
        raise UserError(f"{what} must be a whole number{least}{most}, not {value!r:.80}")
    return result


def six_digits(lmbda: float) -> float:
    """λ as it tells codecs apart: that of a file's header is a float32, of which six digits count."""
    return float(f"{lmbda:.6g}")


@dataclass(frozen=True)
class Named:
    """What has a plain specification: a name and numbers, as a dictionary or as a string."""

    kind: ClassVar[str]
    name: ClassVar[str]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able and canonical, such as {"method": "ssl", "a": 2.3}."""
        return {self.kind: self.name, **asdict(self)}

    @property
    def spec(self) -> str:
        """The same as one string, e.g. ``"ssl:a=2.3"``."""
        parameters = [f"{key}={value}" for key, value in self.as_dict().items() if key != self.kind]
        return f"{self.name}:{','.join(parameters)}" if parameters else self.name


N = TypeVar("N", bound=Named)


def parse_named(
    spec: str | Mapping[str, Any], kind: str, choices: Mapping[str, type[N]]
) -> tuple[type[N], dict]:
    """Split a specification into the class that it names and its parameters.

    Args:
        spec: ``"name:key=value,key=value"`` or a mapping as `Named.as_dict` returns it.
        kind: the mapping's key for the name.
        choices: the classes by name.

    Raises:
        UserError: there is no such name, or a parameter is given twice.
    """
    if isinstance(spec, str):
        name, _, tail = spec.partition(":")
        pairs = [pair.partition("=")[::2] for pair in tail.split(",") if tail]
        values: dict[str, Any] = {key.strip(): value.strip() for key, value in pairs}
        if len(values) < len(pairs):
            raise UserError(f"'{spec}' gives a parameter twice: give each one once")
        values[kind] = name.strip()
    elif isinstance(spec, Mapping):
        values = dict(spec)
    else:
        raise UserError(f"a {kind} is given as a string or as a dictionary, not as {spec!r}")
    name = values.pop(kind, None)
    if not isinstance(name, str) or name not in choices:
        raise UserError(f"unknown {kind} {name!r}: use one of {', '.join(choices)}")
    return choices[name], values


def build(cls: type[Named], values: Mapping[str, Any]) -> Any:
    """``cls(**values)``.

    Raises:
        UserError: the class has no such parameter, needs one that is not given, or does not take its value.
    """
    known = {field.name: field.default is MISSING for field in fields(cls)}
    for key in values:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"{cls.kind} {cls.name} has no parameter {key!r}: {takes}")
    for key, required in known.items():
        if required and key not in values:
            raise UserError(f"{cls.kind} {cls.name} needs its parameter {key}, as in {cls.name}:{key}=0.1")
    return cls(**values)
