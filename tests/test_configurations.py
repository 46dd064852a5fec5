"""What tells the rows of a study apart, in words and in numbers."""

import json

import pandas as pd

from companion import configurations, palette
from sgaplus import plans, rounding, schedules


def row(image="a", method="ssl", iterations=500, iteration=None, lmbda=0.01, seed=0, read_off=True, **values):
    """A stored line with published settings unless told otherwise."""
    parsed = rounding.parse(method)
    settings = plans.plan(parsed).as_dict() | values.pop("settings", {})
    return {
        "image": image,
        "method": json.dumps(parsed.as_dict()),
        "temperature": json.dumps(settings["temperature"]),
        "lr": json.dumps(settings["lr"]),
        "optimizer": settings["optimizer"],
        "iterations": iterations,
        "iteration": iterations if iteration is None else iteration,
        "lmbda": lmbda,
        "seed": seed,
        "read_off": read_off,
        **values,
    }


def test_arms_are_named_after_what_differs_from_the_published_settings():
    settings = plans.plan("ssl:a=3", temperature=schedules.Exponential(tau_max=0.4), lr=0.02).as_dict()
    plan = plans.fast(100)
    rows = pd.DataFrame(
        [
            row(),
            row(method="ssl:a=3", settings=settings),
            row(method="map", iterations=0),
            row(method=plan.method.spec, settings=plan.as_dict(), iterations=100),
            row(method="three-class:base=ssl,a=1.4"),
        ]
    )
    found = configurations.with_arms(rows)
    named = list(found["arm"])
    assert named[1] == "SSL (a = 3), τ exponential:tau_max=0.4, lr 0.02"
    assert [named[0], *named[2:]] == [
        "SSL (a = 2.3)",
        "base",
        "fast",
        rounding.parse("three-class:base=ssl,a=1.4").label,
    ]
    assert found["a"].tolist()[:2] == [2.3, 3.0] and found["a"].isna().tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert found["tau_max"].iloc[1] == 0.4 and found["rate"].iloc[1] == 0.02
    assert configurations.label("ssl") == found["arm"].iloc[0] and configurations.label("fast") == "fast"


def test_every_arm_has_a_look_of_its_own():
    names = [
        configurations.label(spec)
        for spec in ("ssl", "atanh", "linear", "cosine", "ste", "uniform", "da", "fast")
    ]
    looks = palette.of_arms(["base", *names, "something new"])
    assert len({tuple(look.values()) for look in looks.values()}) == len(looks) == 10
    assert palette.of_arms(["atanh (SGA)"])["atanh (SGA)"] == looks["atanh (SGA)"]
    assert palette.in_order(["x", "atanh (SGA)", "base"]) == ["base", "atanh (SGA)", "x"]
