"""What the page on the base codecs says of them, from cards and logs."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
import typer

from companion.pages import families
from sgaplus.cli.terminal import app
from tests.conftest import WIDTHS, untrained, write_network


def edit_card(path, **training):
    path = path.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": training}))


def write_log(path, *rows):
    columns = ["stage", "step", "seconds", "lmbda", "loss", "bpp", "psnr", "lr"]
    pd.DataFrame(rows, columns=columns).to_csv(path.with_suffix(".training.csv"), index=False)


@pytest.fixture
def alone(bundled):
    """The weights of a bundled network of one λ, 0.01."""
    return bundled / "mshyper-s_lambda0.01.safetensors"


# Stages and commands

RECIPE = {"name": "mshyper-s", "N": 8, "M": 12, "crop": 64, "batch": 2, "lr": 1e-3, "seed": 5, "clip": 1.0}


def stage(steps, warmup, cooldown, hours, lmbda=0.01, **recipe):
    recipe |= {"lmbda": lmbda, "steps": steps, "warmup": warmup, "cooldown": cooldown}
    told = {"recipe": RECIPE | recipe, "start": "mshyper-s_lambda0.01.safetensors", "steps": steps}
    return told | {"seconds": 3600 * hours, "hardware": "a processor"}


@pytest.fixture
def network(bundled):
    """The weights of a network of three λ: a stage in words, 200 steps of one λ, 300 of all."""
    path = write_network(bundled)
    stages = [stage(200, 0, 200, 0.5, family=[]) | {"data": "Ten photographs."}]
    stages.append(stage(300, 10, 50, 2, family=[0.005, 0.01, 0.02], per_step=2, mixed=True, average=0.99))
    edit_card(path, data="Twenty photographs.", stages=stages)
    both = [[3, 300, 30.0, lmbda, 1.0, 0.4, 30.0, 1e-3] for lmbda in (0.005, 0.01, 0.02)]
    write_log(
        path, [1, 500, 50.0, 0.05, 2.0, 0.5, 31.0, 1e-3], [2, 200, 20.0, 0.01, 1.5, 0.4, 30.0, 0.0], *both
    )
    (bundled / "mshyper-s_lambda0.01.json").unlink()
    return path


def test_steps_hours_and_crops_go_on_from_stage_to_stage(network):
    [(name, members)] = families.networks().items()
    assert (name, [card.lmbda for card in members]) == ("mshyper-s, λ 0.005–0.02", [0.005, 0.01, 0.02])
    log = families.training_log(members[0])
    assert log["stage"].tolist() == [1, 2, 3, 3, 3]
    assert log["step"].tolist() == [500, 700, 1000, 1000, 1000]
    assert log["seconds"].tolist() == [50, 70, 100, 100, 100]
    # Two crops per step and λ; two of three λ a step.
    assert log["crops"].dropna().tolist() == [400, 1600, 1600, 1600]
    assert log["held_out_loss"].isna().all()


def test_overview_counts_parameters_and_hours(bundled, alone):
    write_log(alone, [1, 7200, 5400.0, 0.01, 1.0, 0.4, 30.0, 0.0])
    other = write_network(bundled, "other")
    table = families.overview()
    assert table["parameters"].tolist() == [sum(p.numel() for p in untrained().parameters())] * 4
    assert table["bytes"].tolist() == [alone.stat().st_size] + [other.stat().st_size] * 3
    assert (table.loc[0, "network"], table.loc[1, "network"]) == ("mshyper-s, λ 0.01", "other, λ 0.005–0.02")
    assert (table.loc[0, "steps"], table.loc[0, "hours"]) == (7200, 1.5)
    assert np.isnan(table.loc[1, "hours"])
    assert (table["N"].iloc[0], table["M"].iloc[0]) == WIDTHS
    assert (table["psnr"] == 30).all()


def test_stages_of_a_network(network):
    first, second = families.stages().to_dict("records")
    assert (first["stage"], first["lmbda"], first["crops"]) == (2, [0.01], 2)
    assert (first["steps"], first["hours"], first["data"]) == (200, 0.5, "Ten photographs.")
    assert (second["stage"], second["lmbda"], second["crops"]) == (3, [0.005, 0.01, 0.02], 4)
    assert (second["steps"], second["hours"], second["data"]) == (300, 2.0, "Twenty photographs.")


def test_commands_lead_from_stage_to_stage(network):
    table = families.stages()
    heading, first, second, several = families.commands(table).split("\n")
    stem = "mshyper-s_lambda0.005-0.02"
    assert (heading, second) == tuple(f"# mshyper-s, λ 0.005–0.02: stage {number}" for number in (2, 3))
    assert f"--out {stem}/2 --lmbda 0.01 --start {stem}/1/mshyper-s_lambda0.01.safetensors" in first
    assert (
        f"--out {stem}/3 --lmbda 0.005 --lmbda 0.01 --lmbda 0.02 --start {stem}/2/mshyper-s_lambda0.01."
        in several
    )
    table["recipe"].iloc[1]["N"] = 16
    assert "stage 3, widened from N = 8" in families.commands(table)
    table["lmbda"].iloc[0][:] = [0.001, 0.02]  # which wrote a file for each λ once
    assert f"{stem}/2/mshyper-s_lambda0.001-0.02.safetensors" in families.commands(table)


def test_the_command_line_takes_the_commands_as_the_recipes_say(network):
    train = typer.main.get_command(app).commands["train"]
    table = families.stages()
    commands = [x for x in families.commands(table).split("\n") if "sgaplus train" in x]
    for command, recipe, lmbdas in zip(commands, table["recipe"], table["lmbda"], strict=True):
        words = shlex.split(command)
        assert words[:2] == ["sgaplus", "train"]
        given = {key.lower(): value for key, value in train.make_context("train", words[2:]).params.items()}
        assert list(given["lmbda"]) == lmbdas
        assert (given["mixed"], given["average"]) == ((True, 0.99) if len(lmbdas) > 1 else (False, 0.0))
        for key in families._OPTIONS:
            assert key not in recipe or given[key.lower()] == recipe[key], key
