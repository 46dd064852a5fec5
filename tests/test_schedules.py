"""Schedules against the published formulas, and their specifications."""

import json
import math

import pytest

from sgaplus.errors import UserError
from sgaplus.relaxation import TAU_FLOOR
from sgaplus.schedules import SCHEDULES, Constant, Cosine, Exponential, ExponentialTo, parse


def test_tau_max_cuts_the_start_only():
    low, high = Exponential(tau_max=0.3), Exponential()
    assert [low(t, 1) for t in (0, 1000)] == [0.3, 0.3]
    assert low(1500, 1) == high(1500, 1) < 0.3


@pytest.mark.parametrize("schedule", [Exponential(), Exponential(t0=1e9), Exponential(c=5, scale=1e-9)])
def test_temperatures_stay_between_the_floor_and_one(schedule):
    values = [schedule(t, 10) for t in (0, 1, 10, 10**4, 10**9)]
    assert all(TAU_FLOOR <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)


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


def test_labels_leave_out_defaults():
    assert parse("0.005").short == "0.005" and parse("exponential").short == "exponential"
    assert parse("exponential:c=0.001,tau_max=0.2").short == "exponential:tau_max=0.2"
    assert ExponentialTo(0.05).short == "exponential-to:end=0.05"


def test_specifications():
    assert parse("0.005") == parse(0.005) == parse("constant:value=5e-3") == Constant(0.005)
    assert parse("exponential:c=0.001,tau_max=1") == parse("exponential") == Exponential()
    assert Exponential(t0=700).as_dict() == Exponential(t0=700.0).as_dict()
    assert {cls.kind for cls in SCHEDULES.values()} == {"schedule"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linear", "unknown schedule 'linear': use one of constant, cosine, exponential, exponential-to"),
        ("exponential:rate=1", "no parameter 'rate': it takes c, tau_max, t0, scale"),
        ("cosine", "needs its parameter value"),
        ("0", "greater than 0"),
        (None, "string or as a dictionary"),
        ("exponential:c=0", "exponential schedule's c"),
        ("exponential:tau_max=1.5", "exponential schedule's tau_max .* at most 1"),
        ("exponential:t0=inf", "exponential schedule's t0 must be a finite number,"),
        ("exponential:scale=-1", "exponential schedule's scale"),
        ("exponential-to:end=0", "exponential-to schedule's end"),
        ("exponential-to:end=1,start=0", "exponential-to schedule's start"),
    ],
)
def test_wrong_specifications(spec, message):
    with pytest.raises(UserError, match=message):
        parse(spec)
