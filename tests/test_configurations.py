"""What tells the rows of a study apart, in words and in numbers."""

import json
from dataclasses import replace

import pandas as pd

from companion import configurations
from sgaplus import plans, schedules


def row(plan: plans.Plan, iterations: int = 500) -> dict:
    """A stored row."""
    specification = {name: json.dumps(value) for name, value in plan.as_dict().items()}
    return {**specification, "label": plan.label, "iterations": iterations, "iteration": iterations}


def test_configurations_in_words_and_numbers():
    changed = plans.plan("ssl:a=3", temperature=schedules.Exponential(tau_max=0.4), lr=0.02)
    three = plans.plan("three-class:base=ssl,a=1.4")
    base = replace(plans.plan("map"), label=plans.BASE)
    chosen = [row(plans.plan("ssl")), row(changed), row(base, 0), row(plans.fast(100), 100), row(three)]
    rows = pd.DataFrame(chosen)
    found = configurations.described(rows)
    assert found["configuration"].tolist() == rows["label"].tolist()
    assert found["family"].tolist() == ["ssl", "ssl", "base", "quadratic", "three-class"]
    assert found["a"].tolist()[:2] == [2.3, 3.0] and found["a"].isna().tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert found["tau_max"].iloc[1] == 0.4 and found["rate"].iloc[1] == 0.02
    assert (
        configurations.label("ssl") == found["configuration"].iloc[0]
        and configurations.label("fast") == "fast"
    )
