"""Plans: published settings, changes to them, presets, and what is refused."""

import json
import math

import pytest

from sgaplus import rounding, schedules
from sgaplus.errors import UserError
from sgaplus.plans import PRESETS, PUBLISHED, Plan, plan
from sgaplus.relaxation import TAU_FLOOR
from sgaplus.schedules import Constant, Exponential

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
        ({"spec": {"method": "sslx"}}, "unknown method"),
        ({"spec": "fast"}, "'fast' depends on the number of iterations"),
        ({"spec": "fast", "iterations": 9, "temperature": "0.5"}, "leave out temperature"),
        ({"spec": "fast", "iterations": 9, "lr": "0.5", "optimizer": "adam"}, "leave out lr, optimizer"),
        ({"spec": "ssl", "temperature": "2"}, "first temperature"),
        ({"spec": "ssl", "temperature": "exponential-to:end=2"}, "last temperature"),
        ({"spec": "ssl", "optimizer": "sgd"}, "unknown optimizer 'sgd': use one of adam, soap"),
        ({"spec": plan("ssl"), "temperature": schedules.Constant(2.0)}, "first temperature"),
    ],
)
def test_what_is_no_plan(arguments, message):
    with pytest.raises(UserError, match=message):
        plan(**arguments)
