"""What the page on the base codecs says of them, from cards and logs."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
import typer

from companion.pages import families
from sgaplus.cli.terminal import app
from sgaplus.codecs import bundled as shipped
from tests.conftest import WIDTHS, untrained, write_codec


def edit_card(folder, lmbda, **training):
    path = folder / f"{shipped.stem('mshyper-s', [lmbda])}.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"training": training}))


def write_log(folder, lmbda, rows, columns):
    path = folder / f"{shipped.stem('mshyper-s', [lmbda])}.training.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def card_of(lmbda):
    return next(card for card in shipped.cards() if card.lmbda == lmbda)


OLD = ["stage", "M", "crop", "batch", "lr", "step", "seconds", "loss", "bpp", "psnr"]
NEW = ["stage", "step", "seconds", "lmbda", "loss", "bpp", "psnr", "lr"]


def test_stages_follow_one_another(bundled):
    rows = [
        [stage, 12, 64, 2, 1e-3, step, step / 10, 1.0, 0.4, 30.0] for stage in "ab" for step in (100, 200)
    ]
    write_log(bundled, 0.01, rows, OLD)
    log = families.training_log(card_of(0.01))
    assert log["stage"].tolist() == [1, 1, 2, 2]
    assert log["step"].tolist() == [100, 200, 300, 400]
    assert log["seconds"].tolist() == [10, 20, 30, 40]
    assert (log["lmbda"] == 0.01).all()


def test_only_the_codecs_own_lambda_is_kept_but_all_steps_count(bundled):
    rows = [
        [1, 500, 50.0, 0.05, 2.0, 0.5, 31.0, 1e-3],
        [2, 100, 10.0, 0.05, 1.9, 0.5, 31.0, 1e-3],
        [2, 100, 10.0, 0.01, 1.1, 0.4, 30.0, 1e-3],
    ]
    write_log(bundled, 0.01, rows, NEW)
    [row] = families.training_log(card_of(0.01)).to_dict("records")
    assert row == {"family": "mshyper-s", "lmbda": 0.01, "stage": 2, "step": 600, "seconds": 60.0} | {
        "loss": 1.1,
        "bpp": 0.4,
        "psnr": 30.0,
    }


def test_overview_counts_parameters_and_hours(bundled):
    write_log(bundled, 0.01, [[1, 7200, 5400.0, 0.01, 1.0, 0.4, 30.0, 0.0]], NEW)
    write_codec(bundled, lmbda=0.02, seed=1)
    table = families.overview()
    assert table["parameters"].tolist() == [sum(p.numel() for p in untrained().parameters())] * 2
    assert table["bytes"].iloc[0] == (bundled / "mshyper-s_lambda0.01.safetensors").stat().st_size
    assert (table.loc[0, "steps"], table.loc[0, "hours"]) == (7200, 1.5)
    assert np.isnan(table.loc[1, "hours"].astype(float))
    assert (table["N"].iloc[0], table["M"].iloc[0]) == WIDTHS
    assert table["psnr"].tolist() == [30.0, 30.0]


# Stages and commands

RECIPE = {"name": "mshyper-s", "N": 8, "M": 12, "crop": 64, "batch": 1, "lr": 1e-3, "seed": 5, "clip": 1.0}


def stage(lmbda, start, steps, warmup, cooldown, hours, data, family=()):
    recipe = {"lmbda": lmbda, "family": list(family), "steps": steps, "warmup": warmup, "cooldown": cooldown}
    told = {"recipe": RECIPE | recipe, "start": f"mshyper-s_lambda{start:g}.safetensors", "steps": steps}
    return told | {"seconds": 3600 * hours, "hardware": "a processor", "data": data}


@pytest.fixture
def two_rounds(bundled):
    """Cards of three λ that shared a stage of 300 steps and were then trained alone for 200."""
    lmbdas = [0.005, 0.01, 0.02]
    shared = stage(0.01, 0.01, 300, 10, 50, 2, "Ten photographs.", lmbdas)
    for lmbda in lmbdas:
        own = stage(lmbda, lmbda, 200, 0, 200, 0.5, "Twenty photographs.")
        write_codec(bundled, lmbda=lmbda)
        edit_card(bundled, lmbda, data="Twenty photographs.", stages=[shared, own])
        row = [100, 10.0, lmbda, 1.0, 0.4, 30.0, 1e-3]
        write_log(bundled, lmbda, [[number, *row] for number in (1, 2, 3)], NEW)
    return bundled


def test_stages_that_codecs_share_are_listed_once(two_rounds):
    shared, own = families.stages().to_dict("records")
    assert (shared["stage"], shared["joint"], shared["lmbda"]) == (2, True, [0.005, 0.01, 0.02])
    assert (shared["steps"], shared["hours"], shared["data"]) == (300, 2.0, "Ten photographs.")
    assert (own["stage"], own["joint"], own["lmbda"]) == (3, False, [0.005, 0.01, 0.02])
    assert (own["steps"], own["hours"], own["start"]) == (200, 1.5, "mshyper-s_lambda{}.safetensors")


def test_commands_lead_from_stage_to_stage(two_rounds):
    table = families.stages()
    heading, shared, second, *loop = families.commands(table).split("\n")
    assert (heading, second) == ("# mshyper-s, stage 2", "# mshyper-s, stage 3")
    assert "--lmbda 0.005 --lmbda 0.01 --lmbda 0.02" in shared
    assert "--start stage1/mshyper-s_lambda0.01.safetensors" in shared
    assert (loop[0], loop[2]) == ("for lmbda in 0.005 0.01 0.02; do", "done")
    assert "--out stage3 --lmbda $lmbda --start stage2/mshyper-s_lambda0.005-0.02.safetensors" in loop[1]
    table["recipe"].iloc[1]["N"] = 16
    assert "stage 3, widened from N = 8" in families.commands(table)


def test_the_command_line_takes_the_commands_as_the_recipes_say(two_rounds):
    train = typer.main.get_command(app).commands["train"]
    table = families.stages()
    commands = [x for x in families.commands(table).split("\n") if "sgaplus train" in x]
    for command, recipe, lmbdas in zip(commands, table["recipe"], ([0.005, 0.01, 0.02], [0.02]), strict=True):
        words = shlex.split(command.replace("$lmbda", "0.02"))
        assert words[:2] == ["sgaplus", "train"]
        given = {key.lower(): value for key, value in train.make_context("train", words[2:]).params.items()}
        assert list(given["lmbda"]) == lmbdas
        assert given["average"] == recipe.get("average", 0.0)
        for key in families._OPTIONS:
            assert key not in recipe or given[key.lower()] == recipe[key], key
