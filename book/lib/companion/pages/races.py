"""Stored races of presets against the plain loop (`sgaplus.bench.race`): each of them, and their means."""

import shlex
from pathlib import Path

import pandas as pd

from sgaplus.bench import race, race_table
from sgaplus.codecs.bundled import cards
from sgaplus.codecs.series import Series, families
from sgaplus.errors import UserError

from .. import statistics
from . import speed

# Races of one kind, over which a mean is taken.
_KIND = ["codec", "codec_lmbda", "width", "height", "preset", "iterations", "reference_iterations"]
_KIND += ["dtype", "device"]
KIND = "{iterations} iterations of {preset} against {reference_iterations} steps"


def load(folder: str | Path) -> pd.DataFrame:
    """All races in the tables (.csv) of ``folder``; an upright photograph counts as a lying one, and devices
    are named as by `speed.with_instructions`."""
    paths = sorted(path for path in Path(folder).glob("*.csv") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder} holds no races: run `sgaplus race kodak --out {folder}/races.csv`")
    rows = race_table.compared(pd.concat([race_table.read(path) for path in paths], ignore_index=True))
    foreign = rows[~rows["codec_sha256"].isin({card.sha256 for card in cards()})]
    if len(foreign):
        raise UserError(
            f"{folder} holds races of a {foreign['codec'].iloc[0]} with sha256"
            f" {foreign['codec_sha256'].iloc[0][:8]}…, which is not the bundled one: move them to another"
            " folder and run `sgaplus race` again"
        )
    for one in rows.drop_duplicates(["preset", "iterations", "plan"]).itertuples():
        if one.plan != race.plan_text(one.preset, one.iterations):
            raise UserError(
                f"{folder} holds races of an earlier {one.preset}, with {one.iterations} iterations: remove"
                " these lines and run `sgaplus race` again"
            )
    sides = rows[["width", "height"]]
    rows = rows.assign(width=sides.max(axis=1), height=sides.min(axis=1))
    rows["device"] = speed.with_instructions(rows["device"])
    return rows.sort_values(["reference_iterations", "iterations", "image"], ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each kind of race in `load`, in order: what makes the kind, and the table ``race-means``."""
    groups = rows.groupby(_KIND, sort=False)
    found = groups.agg(
        reference_seconds=("reference_seconds", "median"),
        seconds=("seconds", "median"),
        ratio=("ratio", "median"),
        ratio_low=("ratio", "min"),
        ratio_high=("ratio", "max"),
    )
    changes = statistics.with_verdicts(statistics.means(rows, "change", _KIND)).set_index(_KIND)
    changes["verdict"] = changes["verdict"].where(changes["images"] > 1)
    return found.join(changes).reset_index()


def largest(kinds: pd.DataFrame, codecs: Series) -> pd.DataFrame:
    """Of `summary` the largest pictures on each processor, with the codecs, or any where they are bundled."""
    bundled = families()
    own = kinds[kinds["codec"].isin(bundled if codecs.name in bundled else [codecs.name])]
    pixels = own["width"] * own["height"]
    return own.loc[pixels.groupby(own["device"]).idxmax()].sort_values("ratio")


def command(rows: pd.DataFrame, out: str) -> str:
    """The commands of `load`'s races, one for each kind, on all of its data sets; stored lines are kept."""
    lines = []
    sets = rows["image"].str.startswith("kodim").map({True: "kodak", False: "clic2025"})
    known = rows.assign(crop=rows["image"].str.partition("@")[2], sets=sets)
    for kind, group in known.groupby([*_KIND, "crop"], sort=False):
        one = dict(zip([*_KIND, "crop"], kind, strict=True))
        crop = f" --crop {one['crop']}" if one["crop"] else ""
        lines.append(
            f"sgaplus race {' '.join(sorted(set(group['sets']), reverse=True))} --codec"
            f" {shlex.quote(one['codec'])} --lmbda {one['codec_lmbda']:g}{crop} --preset {one['preset']}"
            f" --iterations {one['iterations']} --reference-iterations {one['reference_iterations']} --out"
            f" {shlex.quote(out)}"
        )
    return "; ".join(dict.fromkeys(lines))
