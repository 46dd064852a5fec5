"""Schedules against the published formulas, and each method's published settings."""

import json
import math

import pytest

from sgaplus import rounding
from sgaplus.errors import UserError
from sgaplus.rounding import TAU_FLOOR
from sgaplus.schedules import (
    DEFAULTS,
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    ExponentialTo,
    Settings,
    defaults_for,
    parse,
)

STEPS = (0, 1, 402, 403, 699, 700, 701, 1000, 1999)


def test_published_temperatures():
    sga_plus, sga, annealing = (
        defaults_for(method).temperature
        for method in (rounding.SSL(), rounding.Atanh(), rounding.DeterministicAnnealing())
    )
    for t in STEPS:
        assert sga_plus(t, 2000) == pytest.approx(min(1, math.exp(-1e-3 * t)))
        assert sga(t, 2000) == pytest.approx(min(0.5, 0.5 * math.exp(-1e-3 * (t - 700))))
        assert annealing(t, 2000) == pytest.approx(max(min(0.2, math.exp(-4e-3 * t)), TAU_FLOOR))
    assert sga(0, 2000) == sga(700, 2000) == 0.5 > sga(701, 2000)
    assert annealing(402, 2000) == 0.2 > annealing(403, 2000)


def test_tau_max_cuts_the_start_only():
    low, high = Exponential(tau_max=0.3), Exponential()
    assert [low(t, 1) for t in (0, 1000)] == [0.3, 0.3]
    assert low(1500, 1) == high(1500, 1) < 0.3


@pytest.mark.parametrize("schedule", [Exponential(), Exponential(t0=1e9), Exponential(c=5, scale=1e-9)])
def test_temperatures_stay_between_the_floor_and_one(schedule):
    values = [schedule(t, 10) for t in (0, 1, 10, 10**4, 10**9)]
    assert all(TAU_FLOOR <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)


def test_published_settings_cover_every_method():
    assert set(DEFAULTS) == set(rounding.METHODS.values())
    for cls, settings in DEFAULTS.items():
        assert defaults_for(cls()) is settings
        assert all(0 < settings.temperature(t, 2000) <= 1 for t in STEPS)
    published = {cls: settings for cls, settings in DEFAULTS.items() if cls is not rounding.Expected}
    assert {settings.optimizer for settings in published.values()} == {"adam"}
    assert all(settings.lr(1999, 2000) == settings.lr(0, 2000) for settings in published.values())
    rates = {cls.name: settings.lr(0, 2000) for cls, settings in published.items()}
    assert rates.pop("ste") == 1e-4
    assert set(rates.values()) == {5e-3}


def test_a_method_of_ones_own_has_no_published_settings():
    class Own(rounding.Method):
        name = "own"

    with pytest.raises(UserError, match="no published settings"):
        defaults_for(Own())


def test_schedules_that_know_their_budget():
    for budget in (1, 100, 2000):
        cosine, exponential = Cosine(0.05), ExponentialTo(0.05)
        assert cosine(0, budget) == 0.05 and cosine(budget, budget) == pytest.approx(0, abs=1e-18)
        assert exponential(0, budget) == 1 and exponential(budget, budget) == pytest.approx(0.05)
        assert cosine(2 * budget, budget) == cosine(budget, budget)
        assert exponential(2 * budget, budget) == exponential(budget, budget)
    assert cosine(1000, 2000) == pytest.approx(0.025)
    assert cosine(500, 2000) == pytest.approx(0.05 * math.cos(math.pi / 8) ** 2)
    assert exponential(500, 2000) == pytest.approx(20 ** (-1 / 4))
    assert ExponentialTo(1e-3, start=1e-1)(1000, 2000) == pytest.approx(1e-2)
    for schedule in (cosine, exponential):
        with pytest.raises(UserError, match="at least one iteration"):
            schedule(0, 0)


@pytest.mark.parametrize(
    "schedule",
    [Constant(5e-3), Cosine(0.05), ExponentialTo(0.05), Exponential(1e-3, 0.5, 700, 0.5), Exponential()],
)
def test_specifications_round_trip(schedule):
    assert parse(schedule) is schedule
    assert parse(schedule.spec) == schedule == parse(json.loads(json.dumps(schedule.as_dict())))


def test_specifications():
    assert parse("0.005") == parse(0.005) == parse("constant:value=5e-3") == Constant(0.005)
    assert parse("exponential:c=0.001,tau_max=1") == parse("exponential") == Exponential()
    assert Exponential(t0=700).as_dict() == Exponential(t0=700.0).as_dict()
    assert {cls.kind for cls in SCHEDULES.values()} == {"schedule"}


@pytest.mark.parametrize("settings", DEFAULTS.values())
def test_settings_round_trip(settings):
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings
    specs = settings.temperature.spec, settings.lr.spec
    assert Settings(*specs, optimizer=settings.optimizer) == settings


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linear", "unknown schedule 'linear': use one of constant, cosine, exponential, exponential-to"),
        ("exponential:rate=1", "no parameter 'rate': it takes c, tau_max, t0, scale"),
        ("cosine", "needs its parameter value"),
        ("0", "greater than 0"),
        ("nan", "finite"),
        (True, "not True"),
        (None, "string or as a dictionary"),
        ("exponential:c=0", "exponential c"),
        ("exponential:tau_max=1.5", "exponential tau_max .* at most 1"),
        ("exponential:t0=inf", "exponential t0 must be a finite number,"),
        ("exponential:scale=-1", "exponential scale"),
        ("exponential-to:end=0", "exponential-to's end"),
        ("exponential-to:end=1,start=0", "exponential-to's start"),
        ("cosine:value=-1", "cosine"),
    ],
)
def test_wrong_specifications(spec, message):
    with pytest.raises(UserError, match=message):
        parse(spec)


def test_a_temperature_above_one_is_refused():
    with pytest.raises(UserError, match="first temperature"):
        Settings(temperature=Constant(2), lr=Constant(1e-3))
