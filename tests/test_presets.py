"""Presets: one knob, all of whose settings are plans that can be stored, and nothing beside them."""

import json

import pytest

from sgaplus import plans, rounding, schedules
from sgaplus.errors import UserError
from sgaplus.plans import PRESETS, Plan, resolve

BUDGETS = (0, 1, 10, 50, 100, 200, 400, 500, 2000, 10_000)


def test_a_method_comes_with_its_published_settings():
    method = rounding.SSL(1.5)
    published = schedules.defaults_for(method)
    assert resolve(500, method) == resolve(500, "ssl:a=1.5") == Plan(method, published, method.label)
    changed = resolve(500, method, lr="0.1")
    assert changed.settings == schedules.Settings(published.temperature, schedules.Constant(0.1))
    changed = resolve(500, method, temperature=schedules.Constant(0.5))
    assert changed.settings == schedules.Settings(schedules.Constant(0.5), published.lr)


def test_a_method_of_ones_own_needs_both_schedules():
    class Own(rounding.MAP):
        pass

    assert resolve(5, Own(), "1", "0.1").settings == schedules.Settings(1.0, 0.1)
    with pytest.raises(UserError, match="no published settings"):
        resolve(5, Own(), temperature="1")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_budget_has_a_plan(name, budget):
    plan = resolve(budget, preset=name)
    assert plan == PRESETS[name](budget)
    assert plan.label == f"{name} ({budget} steps)"
    assert rounding.parse(plan.method.as_dict()) == plan.method
    assert schedules.Settings(**json.loads(json.dumps(plan.settings.as_dict()))) == plan.settings
    steps = range(max(budget, 1))
    temperatures = [plan.settings.temperature(t, max(budget, 1)) for t in steps]
    rates = [plan.settings.lr(t, max(budget, 1)) for t in steps]
    assert all(0 < tau <= 1 for tau in temperatures) and all(lr > 0 for lr in rates)
    assert temperatures == sorted(temperatures, reverse=True) and rates == sorted(rates, reverse=True)


def test_fast_ends_calm_whatever_the_budget():
    for budget in BUDGETS[2:]:
        settings = plans.fast(budget).settings
        assert settings.temperature(0, budget) == 1 > 0.5 > settings.temperature(budget, budget)
        assert settings.lr(budget - 1, budget) < 0.05 * settings.lr(0, budget)


def test_smaller_budgets_take_larger_steps():
    rates = [plans.fast(budget).settings.lr(0, budget) for budget in BUDGETS[2:]]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] <= 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a method, such as 'ssl', or a preset, such as 'fast'"),
        ({"preset": "best"}, "unknown preset 'best': use one of fast"),
        (
            {"preset": "fast", "method": "ssl"},
            "'fast' stands for method, .*: leave out method",
        ),
        ({"preset": "fast", "temperature": "0.5"}, "leave out temperature"),
        ({"preset": "fast", "lr": "0.5"}, "leave out lr"),
        ({"method": "sslx"}, "unknown method"),
        ({"method": "ssl", "lr": "0"}, "greater than 0"),
        ({"method": "ssl", "temperature": "2"}, "first temperature"),
    ],
)
def test_what_excludes_what(arguments, message):
    with pytest.raises(UserError, match=message):
        resolve(100, **arguments)
