"""Schedules and plans: published settings, changes to them, presets, and what is refused."""

import json
import math
import pickle
from dataclasses import fields, replace

import pytest

from sgaplus import rounding, schedules
from sgaplus.errors import UserError
from sgaplus.plans import PRESETS, PUBLISHED, Plan, plan
from sgaplus.relaxation import TAU_FLOOR
from sgaplus.schedules import SCHEDULES, Constant, Cosine, Exponential, ExponentialTo, parse


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


BUDGETS = (1, 10, 50, 100, 200, 400, 500, 2000, 10_000)
STEPS = (0, 1, 402, 403, 699, 700, 701, 1000, 1999)


def test_published_temperatures():
    sga_plus, sga, annealing = (plan(name).temperature for name in ("ssl", "atanh", "da"))
    for t in STEPS:
        assert sga_plus(t, 2000) == pytest.approx(min(1, math.exp(-1e-3 * t)))
        assert sga(t, 2000) == pytest.approx(min(0.5, 0.5 * math.exp(-1e-3 * (t - 700))))
        assert annealing(t, 2000) == pytest.approx(max(min(0.2, math.exp(-4e-3 * t)), TAU_FLOOR))
    assert sga(0, 2000) == sga(700, 2000) == 0.5 > sga(701, 2000)
    assert annealing(402, 2000) == 0.2 > annealing(403, 2000)


def test_every_method_has_published_settings():
    assert set(PUBLISHED) == set(rounding.METHODS.values())
    all_plans = {name: plan(name) for name in rounding.METHODS}
    for name, found in all_plans.items():
        assert found.label == found.method.label
        assert Plan(**json.loads(json.dumps(found.as_dict()))) == found
        assert Plan(found.method.spec, found.temperature.spec, found.lr.spec, found.optimizer) == found
        assert all(0 < found.temperature(t, 2000) <= 1 for t in STEPS), name
    all_plans.pop("quadratic")  # not of the papers
    assert {found.optimizer for found in all_plans.values()} == {"adam"}
    assert all(found.lr(1999, 2000) == found.lr(0, 2000) for found in all_plans.values())
    rates = {name: found.lr(0, 2000) for name, found in all_plans.items()}
    assert rates.pop("ste") == 1e-4
    assert set(rates.values()) == {5e-3}


def test_a_plan_is_a_method_with_settings():
    published = plan("ssl:a=1.5")
    assert published == plan(rounding.SSL(1.5)) == plan({"method": "ssl", "a": 1.5}) == plan(published)
    assert published == Plan(rounding.SSL(1.5), Exponential(), Constant(0.005))
    changed = plan(published, lr="0.1")
    assert changed == Plan("ssl:a=1.5", published.temperature, 0.1) != published
    assert plan("ssl:a=1.5", lr=0.1, temperature=Constant(0.5)) == plan(changed, temperature="0.5")


def test_labels_name_what_is_not_published():
    assert plan("linear").label == "linear"
    assert plan("linear", lr=0.02).label == "linear, lr 0.02"
    assert plan("linear", lr=0.005, temperature="exponential:c=0.001").label == "linear"
    changed = plan("linear", temperature="exponential:tau_max=0.2", lr="cosine:value=0.1", optimizer="soap")
    assert changed.label == "linear, τ exponential:tau_max=0.2, lr cosine:value=0.1, soap"
    assert plan(plan("linear", lr=0.02), lr=0.005).label == "linear"
    assert plan("fast", 100) == plan("quadratic", lr="cosine:value=0.05")
    assert plan("fast", 100).label == "fast"
    for old in (plan("linear"), plan("fast", 100), replace(plan("linear"), label="mine")):
        assert replace(old, lr="0.02").label == f"{old.method.label}, lr 0.02"
        assert replace(old, lr=0.02, label="other").label == replace(old, label="other").label == "other"
        assert replace(old, lr=old.lr).label == old.label
    copied = pickle.loads(pickle.dumps(plan("fast", 100)))
    assert copied.label == "fast" and replace(copied, lr=0.02).label != "fast"
    assert [field.name for field in fields(Plan)] == ["method", "temperature", "lr", "optimizer", "label"]


def test_a_method_of_ones_own_needs_both_schedules():
    class Own(rounding.MAP):
        pass

    own = plan(Own(), temperature="1", lr="0.1")
    assert (own.temperature, own.lr, own.optimizer) == (Constant(1.0), Constant(0.1), "adam")
    with pytest.raises(UserError, match=r"no published settings .*give lr"):
        plan(Own(), temperature="1")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("budget", (0, *BUDGETS))
def test_every_number_of_iterations_has_a_plan(name, budget):
    found = plan(name, budget)
    assert found == PRESETS[name](budget) and found.label == name
    assert Plan(**json.loads(json.dumps(found.as_dict()))) == found
    steps = range(max(budget, 1))
    temperatures = [found.temperature(t, max(budget, 1)) for t in steps]
    rates = [found.lr(t, max(budget, 1)) for t in steps]
    assert all(0 < tau <= 1 for tau in temperatures) and all(lr > 0 for lr in rates)
    assert temperatures == sorted(temperatures, reverse=True) and rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "best"}, "unknown method or preset 'best': use one of fast, ste"),
        ({"spec": "fast", "iterations": 10**400}, "iterations must be .* at most 1000000"),
        ({"spec": {"method": "sslx"}}, "unknown method"),
        ({"spec": "fast"}, "'fast' depends on the number of iterations"),
        ({"spec": "fast", "iterations": 9, "temperature": "0.5"}, "leave out temperature"),
        ({"spec": "fast", "iterations": 9, "lr": "0.5", "optimizer": "adam"}, "leave out lr, optimizer"),
        ({"spec": "ssl", "temperature": "2"}, "first temperature"),
        ({"spec": "ssl", "temperature": "exponential-to:end=2"}, "last temperature"),
        ({"spec": "ssl", "optimizer": "sgd"}, "unknown optimizer 'sgd': use one of adam, soap"),
        ({"spec": plan("ssl"), "temperature": schedules.Constant(2.0)}, "first temperature"),
        ({"spec": "ste", "temperature": 0.5}, "STE has no temperature: leave 0.5 out"),
        ({"spec": "uniform", "temperature": "exponential"}, "uniform noise has no temperature"),
        ({"spec": plan("map"), "temperature": "0.2"}, "MAP has no temperature"),
    ],
)
def test_what_is_no_plan(arguments, message):
    with pytest.raises(UserError, match=message):
        plan(**arguments)
