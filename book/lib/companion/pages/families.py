"""The bundled families of codecs in words, tables and commands: what their cards and training logs say."""

import json
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch

from sgaplus.codecs.bundled import Card, cards, stem
from sgaplus.codecs.gains import PREFIX
from sgaplus.errors import UserError

# λ of the paper's first version and of Yang et al. 2020 (paper, section 4).
PAPER_LAMBDAS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)

# The recipe's entries that `sgaplus train` takes by an option of the same name, beside λ.
_OPTIONS = ("name", "N", "M", "steps", "warmup", "cooldown", "lr", "crop", "batch", "per_step", "seed")
_OPTIONS += ("holdout", "average")


def training_log(card: Card) -> pd.DataFrame:
    """The training curve that lies beside a codec's weights, over all stages that led to them, every 100
    steps; step and seconds count from the first stage on. Empty where there is no log."""
    path = card.path.with_suffix(".training.csv")
    columns = ["stage", "step", "seconds", "loss", "bpp", "psnr"]
    if not path.is_file():
        return pd.DataFrame(columns=["family", "lmbda", *columns])
    log = pd.read_csv(path)
    own = np.isclose(log["lmbda"], card.lmbda) if "lmbda" in log else np.full(len(log), True)
    log = log[columns].assign(stage=pd.factorize(log["stage"])[0] + 1)
    for column in ("step", "seconds"):
        ends = log.groupby("stage")[column].max()
        log[column] += log["stage"].map(ends.cumsum() - ends)
    log.insert(0, "lmbda", card.lmbda)
    log.insert(0, "family", card.name)
    return log[own].reset_index(drop=True)


def overview() -> pd.DataFrame:
    """One row per bundled codec: its size, the card's Kodak point, steps and hours of all its training."""
    rows = []
    for card in cards():
        path = card.path
        if not path.is_file():
            raise UserError(f"{path} is missing: restore it")
        data, log = path.read_bytes(), training_log(card)
        tensors = safetensors.torch.load(data)
        rows.append(
            {"family": card.name, "lmbda": card.lmbda, "N": card.N, "M": card.M}
            | {"parameters": sum(v.numel() for name, v in tensors.items() if not name.startswith(PREFIX))}
            | {"bytes": len(data)}
            | {key: card.kodak.get(key, np.nan) for key in ("images", "bpp", "psnr", "loss")}
            | {"steps": log["step"].max(), "hours": log["seconds"].max() / 3600}
        )
    if not rows:
        raise UserError("no codec is bundled: restore data/models")
    return pd.DataFrame(rows)


def _stages(card: Card) -> list[dict[str, Any]]:
    """The stages of training that a card tells, each with its number in the training log, and its λ.

    A card without stages is that of one; earlier ones, which it has in words alone, count in the log.
    """
    training = card.training
    told = training.get("stages", [training] if training else [])
    log = training_log(card)
    first = max(0 if log.empty else int(log["stage"].max()), len(told)) - len(told) + 1
    return [{"data": training.get("data", ""), "number": first + i} | stage for i, stage in enumerate(told)]


def stages() -> pd.DataFrame:
    """The stages of training of all bundled codecs, as their cards tell them.

    A stage that several codecs share stands in one line, and so do stages that differ in λ alone.

    Returns:
        One row per stage, numbered as in `training_log`: lmbda (a list), joint (whether one network was
        trained for all of them), start (file name of the weights; of codecs trained alone with ``{}`` for
        their λ), hours (of all runs together), recipe (without λ), and more.
    """
    rows: dict[str, dict[str, Any]] = {}
    runs: set[str] = set()
    for card in cards():
        for stage in _stages(card):
            recipe = stage.get("recipe", {})
            joint = bool(recipe.get("family"))
            lmbda = f"{recipe.get('lmbda', card.lmbda):g}"
            start = stage.get("start", "")
            row = {
                "family": card.name,
                "stage": stage["number"],
                "joint": joint,
                "start": start if joint else start.replace(f"lambda{lmbda}.", "lambda{}."),
                "steps": stage.get("steps", recipe.get("steps")),
                "hardware": stage.get("hardware", ""),
                "data": stage["data"],
                "recipe": {key: value for key, value in recipe.items() if joint or key != "lmbda"},
            }
            kept = rows.setdefault(json.dumps(row, sort_keys=True), row | {"lmbda": [], "hours": 0.0})
            lmbdas = recipe["family"] if joint else [float(lmbda)]
            kept["lmbda"] += [value for value in lmbdas if value not in kept["lmbda"]]
            run = json.dumps([row, lmbda, stage.get("seconds")], sort_keys=True)
            if run not in runs:
                runs.add(run)
                kept["hours"] += stage.get("seconds", float("nan")) / 3600
    columns = ["family", "stage", "lmbda", "joint", "start", "steps", "hours", "hardware", "data", "recipe"]
    table = pd.DataFrame(rows.values(), columns=columns)
    return table.sort_values(["family", "stage"], kind="stable", ignore_index=True)


def commands(table: pd.DataFrame) -> str:
    """The shell commands of `stages`, a loop where only λ differs; each writes its own folder."""
    lines: list[str] = []
    last: dict[str, Any] = {}
    for row in table.itertuples():
        before, last[row.family] = last.get(row.family), row
        looped = not row.joint and len(row.lmbda) > 1
        lmbdas = ["$lmbda"] if looped else [f"{value:g}" for value in row.lmbda]
        options = [f"--out stage{row.stage}", *(f"--lmbda {lmbda}" for lmbda in lmbdas)]
        if row.start:
            start = row.start.replace("{}", lmbdas[0])
            if before is not None and before.joint:  # of which there is one file today
                start = f"{stem(before.recipe['name'], before.lmbda)}.safetensors"
            options.append(f"--start stage{row.stage - 1}/{start}")
        # Recipes from before there were averages published the last weights.
        recipe = {"average": 0.0, **row.recipe}
        names = [name for name in _OPTIONS if name in recipe and (row.joint or name != "per_step")]
        options += [f"--{name.replace('_', '-')} {recipe[name]}" for name in names]
        command = f"sgaplus train photographs {' '.join(options)}"
        if looped:
            command = f"for lmbda in {' '.join(f'{x:g}' for x in row.lmbda)}; do\n  {command}\ndone"
        planned = row.recipe["steps"]
        stopped = f", stopped after {row.steps} of {planned} steps" if row.steps < planned else ""
        name = row.recipe.get("name", row.family)
        known_as = f" (still {name})" if name != row.family else ""
        width = before.recipe["N"] if before is not None else row.recipe["N"]
        wider = f", widened from N = {width}, as --start no longer does" if width != row.recipe["N"] else ""
        lines += [f"# {row.family}{known_as}, stage {row.stage}{stopped}{wider}", command]
    return "\n".join(lines)
