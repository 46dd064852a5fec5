"""The bundled networks in words, tables and commands: what their cards and training logs say."""

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
# What recipes were before they had these entries.
_BEFORE = {"average": 0.0, "mixed": False}


def networks() -> dict[str, list[Card]]:
    """The cards of each bundled network by rising λ, under its name in words: its family and its λ."""
    found: dict[str, list[Card]] = {}
    for card in cards():
        ends = sorted({card.lmbdas[0], card.lmbdas[-1]})
        found.setdefault(f"{card.name}, λ {'–'.join(f'{end:g}' for end in ends)}", []).append(card)
    return found


def training_log(card: Card) -> pd.DataFrame:
    """The training curve beside the weights of a card's network, over all stages that led to them.

    Step and seconds count from the first stage on, crops (of all λ) from the first of which the card has the
    recipe, and are NaN before. Held-out losses are NaN where there are none. Empty where there is no log.
    """
    path = card.path.with_suffix(".training.csv")
    columns = ["stage", "step", "seconds", "crops", "lmbda", "loss", "held_out_loss"]
    if not path.is_file():
        return pd.DataFrame(columns=columns, dtype=float)
    log = pd.read_csv(path)
    log["stage"] = pd.factorize(log["stage"])[0] + 1
    told = {stage["number"]: stage["crops"] for stage in _stages(card, log["stage"].max())}
    log["crops"] = log["step"] * log["stage"].map(told)
    for column in ("step", "seconds", "crops"):
        ends = log.groupby("stage")[column].max().fillna(0)
        log[column] += log["stage"].map(ends.cumsum() - ends)
    return log.reindex(columns=columns)


def overview() -> pd.DataFrame:
    """One row per bundled codec: its network and that one's size, the card's Kodak point, steps, hours and
    crops of all training of the network, as in `training_log`."""
    rows = []
    for network, members in networks().items():
        path = members[0].path
        if not path.is_file():
            raise UserError(f"{path} is missing: restore it")
        data, log = path.read_bytes(), training_log(members[0])
        tensors = safetensors.torch.load(data)
        size = sum(v.numel() for name, v in tensors.items() if not name.startswith(PREFIX))
        rows += [
            {"network": network, "family": card.name, "lmbda": card.lmbda, "N": card.N, "M": card.M}
            | {"parameters": size, "bytes": len(data)}
            | {key: card.kodak.get(key, np.nan) for key in ("images", "bpp", "psnr", "loss")}
            | {"steps": log["step"].max(), "hours": log["seconds"].max() / 3600, "crops": log["crops"].max()}
            for card in members
        ]
    if not rows:
        raise UserError("no codec is bundled: restore data/models")
    return pd.DataFrame(rows)


def _stages(card: Card, last: int) -> list[dict[str, Any]]:
    """The stages of training that a card tells, each with its number in the log, the last with
    the number ``last``; its λ and its crops per step."""
    told = card.training.get("stages", [])
    found = []
    for number, stage in enumerate(told, last - len(told) + 1):
        recipe = _BEFORE | stage["recipe"]
        lmbdas = recipe.get("family") or [recipe["lmbda"]]
        crops = recipe["batch"] * (recipe["per_step"] if len(lmbdas) > 1 else 1)
        found.append(
            {"data": card.training["data"], "number": number, "lmbda": lmbdas, "crops": crops}
            | stage
            | {"recipe": recipe}
        )
    return found


def stages() -> pd.DataFrame:
    """The stages of training of all bundled networks, as their cards tell them.

    Returns:
        One row per network and stage, numbered as in `training_log`: file (of the network, without suffix),
        lmbda (a list), crops (per step, of all λ), start (file name of the weights), hours, recipe, and more.
    """
    rows = []
    for network, (card, *_) in networks().items():
        log = training_log(card)
        told = len(card.training.get("stages", []))
        for stage in _stages(card, told if log.empty else int(log["stage"].max())):
            hours = {"hours": stage["seconds"] / 3600}
            rows.append(
                {"network": network, "file": card.path.stem, "stage": stage["number"]} | stage | hours
            )
    columns = ["network", "file", "stage", "lmbda", "crops", "start", "steps", "hours", "hardware", "data"]
    return pd.DataFrame(rows, columns=[*columns, "recipe"])


def commands(table: pd.DataFrame) -> str:
    """The shell commands of `stages`; each writes its own folder."""
    lines: list[str] = []
    last: dict[str, Any] = {}
    for row in table.itertuples():
        before, last[row.file] = last.get(row.file), row
        several = len(row.lmbda) > 1
        options = [f"--out {row.file}/{row.stage}", *(f"--lmbda {lmbda:g}" for lmbda in row.lmbda)]
        if row.start:
            # A stage of several λ wrote a file for each once, and writes one of all today.
            start = stem(before.recipe["name"], before.lmbda) if before is not None else row.start
            options.append(
                f"--start {row.file}/{row.stage - 1}/{start.removesuffix('.safetensors')}.safetensors"
            )
        names = [name for name in _OPTIONS if name in row.recipe and (several or name != "per_step")]
        options += [f"--{name.replace('_', '-')} {row.recipe[name]}" for name in names]
        options += [] if row.recipe["mixed"] else ["--no-mixed"]
        planned = row.recipe["steps"]
        stopped = f", stopped after {row.steps} of {planned} steps" if row.steps < planned else ""
        width = before.recipe["N"] if before is not None else row.recipe["N"]
        wider = f", widened from N = {width}, as --start no longer does" if width != row.recipe["N"] else ""
        lines += [f"# {row.network}: stage {row.stage}{stopped}{wider}"]
        lines += [f"sgaplus train photographs {' '.join(options)}"]
    return "\n".join(lines)
