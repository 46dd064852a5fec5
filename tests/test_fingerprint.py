"""Stored rows are of one algorithm: whatever moves its numbers is noticed, every constant of it for one."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from types import CodeType, FunctionType, ModuleType

import pytest

from sgaplus import distortion, metrics, optimizers, plans, relaxation, rounding, schedules
from sgaplus.codecs import bits, choice, layers
from sgaplus.refinement import ALGORITHM, curvature, objective
from tests import fingerprint

STORED = json.loads(fingerprint.TABLE.read_text(encoding="utf-8"))


def test_the_table_is_of_this_algorithm():
    assert STORED["algorithm"] == ALGORITHM, (
        "write the table of the new algorithm: python -m tests.fingerprint"
    )


def test_another_table_needs_another_algorithm(tmp_path, monkeypatch):
    """Writing the table again is no way around the number."""
    table = tmp_path / "fingerprint.json"
    table.write_text(fingerprint.TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(fingerprint, "TABLE", table)
    lines = {part: dict(STORED[part]) for part in (*fingerprint.PARTS, "float32", "bfloat16")}
    monkeypatch.setattr(fingerprint, "compute", lines.__getitem__)
    fingerprint.write()
    assert json.loads(table.read_text(encoding="utf-8")) == STORED
    lines["norm"]["forward"] = [1.01 * value for value in lines["norm"]["forward"]]
    with pytest.raises(SystemExit, match=r"norm changed: raise refinement\.ALGORITHM"):
        fingerprint.write()
    monkeypatch.setattr(fingerprint, "ALGORITHM", ALGORITHM + 1)
    fingerprint.write()
    assert json.loads(table.read_text(encoding="utf-8"))["algorithm"] == ALGORITHM + 1


@pytest.mark.parametrize(
    "part",
    [*fingerprint.PARTS, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("float32", "bfloat16"))],
)
def test_the_algorithm_computes_what_it_did(part):
    different = fingerprint.differences(part, STORED[part], fingerprint.compute(part))
    assert not different, (
        f"{part} differs from what algorithm {ALGORITHM} computes, which stored rows rest on: undo the"
        " change, or raise refinement.ALGORITHM and run `python -m tests.fingerprint`:"
        f" {'; '.join(different)}"
    )


# A test of the test

# Where a part shows a change of a module's constants.
MODULES = {
    relaxation: "rounding",
    rounding: "rounding",
    choice: "bits",
    schedules: "schedules",
    plans: "schedules",
    bits: "bits",
    layers: "norm",
    optimizers: "optimizers",
    curvature: "curvature",
    metrics: "distortion",
    distortion: "distortion",
    objective: "float32",
}
# Constants that determine no number of a refinement, and why.
EXEMPT = {
    "rounding._SHARPEST": "a limit of what is accepted",
    "relaxation.temperature": "a limit of what is accepted",
    "relaxation._CLIP": "TwoClass.clip has it",
    "rounding._COSINE_CLIP": "Cosine.clip has it",
    "relaxation.Method.weight": "of methods without choices, where it has no part in the loss",
    "rounding.ThreeClass.relax 1": "uniform numbers are below 1 anyway",
    "schedules.Exponential.__call__ 700.0": "beyond it τ is τ_max anyway",
    "bits._FAR": "likelihoods there are below their bound",
    "objective._MOST_PROGRAMS": "of the compiler",
    "objective._whole": "compiled; test_objective compares it",
    "objective._total": "compiled; test_quadratic compares it",
    "objective.loss default": "always given",
    "curvature.Curvature.__call__ 1e-30": "of channels that change nothing",
    "metrics.MS_SSIM_SIDE": "a limit of what is accepted",
    "distortion.each_of": "indices of a shape",
    "distortion._weighted": "indices of a shape, digits of a name",
    "distortion.Distortion.__init__ default": "of functions, which bring their own scale",
    "metrics._mean 1": "one channel after the other",
    "metrics._curve": "no part of the loss",
    "metrics._delta": "no part of the loss",
    "metrics.bd_rate": "no part of the loss",
}


def moved(value: float) -> float:
    """One percent more; of a larger whole number at least one more."""
    return value + max(1, round(value / 100)) if isinstance(value, int) and value > 2 else 1.01 * value


def counts(value: object) -> bool:
    """Whether it is a number to be moved."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value != 0 and math.isfinite(value)


def in_code(code: CodeType) -> Iterator[tuple[float, CodeType]]:
    """Every constant in a function's code, and the code with that constant moved."""
    for index, value in enumerate(code.co_consts):
        found: Iterator[tuple[float, object]] = iter(())
        if counts(value):
            found = iter([(value, moved(value))])
        elif isinstance(value, tuple):
            found = ((v, (*value[:i], moved(v), *value[i + 1 :])) for i, v in enumerate(value) if counts(v))
        elif isinstance(value, CodeType):
            found = in_code(value)
        for old, new in found:
            yield old, code.replace(co_consts=(*code.co_consts[:index], new, *code.co_consts[index + 1 :]))


def functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """The functions and methods that a module defines."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            members = {f"{name}.{key}": member for key, member in vars(value).items()}
        else:
            members = {name: value}
        for key, member in members.items():
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            member = inspect.unwrap(member) if callable(member) else member
            if isinstance(member, FunctionType):
                yield key, member


def swap(owner: object, name: str, new: object) -> Callable[[], contextlib.AbstractContextManager]:
    @contextlib.contextmanager
    def swapped() -> Iterator[None]:
        old = owner[name] if isinstance(owner, dict) else vars(owner).get(name, getattr(owner, name))
        put = owner.__setitem__ if isinstance(owner, dict) else lambda key, value: setattr(owner, key, value)
        put(name, new)
        try:
            yield
        finally:
            put(name, old)

    return swapped


def constants() -> Iterator[tuple[str, str, Callable]]:
    """Name, part and context of every constant of the algorithm."""
    for module, part in MODULES.items():
        short = module.__name__.rpartition(".")[2]
        for key, function in functions(module):
            if key.endswith("__post_init__"):
                continue  # limits of what is accepted
            for value, code in in_code(function.__code__):
                yield f"{short}.{key} {value}", part, swap(function, "__code__", code)
            code = function.__code__
            named = code.co_varnames[code.co_argcount - len(function.__defaults__ or ()) : code.co_argcount]
            for i, value in enumerate(function.__defaults__ or ()):
                if named[i] == "tau":
                    continue  # the loop gives it
                defaults = [*function.__defaults__]
                for j, v in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
                    if counts(v):
                        new = moved(v) if j is None else (*value[:j], moved(v), *value[j + 1 :])
                        changed = (*defaults[:i], new, *defaults[i + 1 :])
                        yield f"{short}.{key} default {v}", part, swap(function, "__defaults__", changed)
        owners = [(short, module)] + [
            (f"{short}.{n}", c)
            for n, c in vars(module).items()
            if isinstance(c, type) and c.__module__ == module.__name__
        ]
        for where, owner in owners:
            data = {field.name for field in fields(owner)} if is_dataclass(owner) else set()
            for name, value in list(vars(owner).items()):
                if counts(value) and name not in data and not name.startswith("__"):
                    yield f"{where}.{name}", part, swap(owner, name, moved(value))
                if isinstance(value, tuple) and value and all(map(counts, value)):
                    for i, v in enumerate(value):
                        yield (
                            f"{where}.{name}[{i}]",
                            part,
                            swap(owner, name, (*value[:i], moved(v), *value[i + 1 :])),
                        )
    for base, pair in rounding._BEST_STRETCH.items():
        for i, value in enumerate(pair):
            changed = (*pair[:i], value / 1.01, *pair[i + 1 :])
            yield (
                f"rounding._BEST_STRETCH {base.name} {value}",
                "rounding",
                swap(rounding._BEST_STRETCH, base, changed),
            )
    for cls, settings in plans.PUBLISHED.items():
        for name in ("temperature", "lr"):
            for field in fields(settings[name]):
                value = getattr(settings[name], field.name)
                if counts(value):
                    changed = settings | {name: replace(settings[name], **{field.name: value / 1.01})}
                    what = f"plans.PUBLISHED {cls.name} {name} {field.name}"
                    yield what, "schedules", swap(plans.PUBLISHED, cls, changed)
    bound = bits.bound_of
    yield (
        "bounds of likelihoods and scales",
        "bits",
        swap(bits, "bound_of", lambda lower: 1.01 * bound(lower)),
    )
    norm = layers._DivisiveNorm
    forward, backward = norm.forward, norm.backward
    yield "GDN", "norm", swap(norm, "forward", staticmethod(lambda *a: 1.01 * forward(*a)))
    scaled = staticmethod(lambda *a: tuple(g if g is None else 1.01 * g for g in backward(*a)))
    yield "GDN's gradient", "norm", swap(norm, "backward", scaled)


def exempt(name: str) -> bool:
    return any(name == known or name.startswith((f"{known} ", f"{known}.", f"{known}[")) for known in EXEMPT)


@pytest.mark.slow
def test_one_percent_of_any_constant_is_noticed():
    missed, seen = [], []
    for name, part, changed in constants():
        seen.append(name)
        if part == "float32" and exempt(name):
            continue  # whole refinements take their time
        with changed():
            try:
                different = fingerprint.differences(part, STORED[part], fingerprint.compute(part))
            except (ValueError, RuntimeError, TypeError, IndexError):
                different = ["it fails"]
        if bool(different) == exempt(name):
            missed.append(name)
    assert not missed
    assert len(seen) > 100 and all(
        any(exempt(name) and name.startswith(known) for name in seen) for known in EXEMPT
    )
    assert not fingerprint.differences("rounding", STORED["rounding"], fingerprint.compute("rounding")), (
        "all is undone"
    )
