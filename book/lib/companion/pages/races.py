"""Stored races of the preset against the plain loop (`sgaplus.bench.race`): a table, and what they say in words."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
from great_tables import GT

from sgaplus.bench import race
from sgaplus.codecs.weights import cards
from sgaplus.errors import UserError

from .. import statistics

# Races of one kind, over which a mean is taken.
_KIND = [
    "codec",
    "codec_lmbda",
    "width",
    "height",
    "preset",
    "iterations",
    "reference_iterations",
    "dtype",
    "device",
]


def load(folder: str | Path) -> pd.DataFrame:
    """The races in the tables (.csv) of ``folder``, `race.compared`; a photograph upright counts as one that lies.

    Raises:
        UserError: nothing is stored, or a race was run with weights that are not bundled now.
    """
    paths = sorted(path for path in Path(folder).glob("*.csv") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder} holds no races: run `sgaplus race kodak --out {folder}/races.csv`")
    rows = race.compared(pd.concat([race.read(path) for path in paths], ignore_index=True))
    foreign = rows[~rows["codec_sha256"].isin({card.sha256 for card in cards()})]
    if len(foreign):
        raise UserError(
            f"{folder} holds races of a {foreign['codec'].iloc[0]} with sha256 "
            f"{foreign['codec_sha256'].iloc[0][:8]}…, which is not the bundled one: delete them and run them again"
        )
    sides = rows[["width", "height"]]
    return rows.assign(width=sides.max(axis=1), height=sides.min(axis=1))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each kind of race, the ones with fewer steps first.

    Args:
        rows: as `load` returns them.

    Returns:
        What makes the kind, and: images; reference_seconds and seconds (medians); ratio (median), least, most;
        mean, low, high (of ``change``, with a 95 % interval over images).
    """
    lines = []
    for kind, group in rows.groupby(_KIND, sort=False):
        mean, low, high = statistics.estimate(group.set_index("image")["change"])
        ratios = group["ratio"]
        lines.append(
            dict(zip(_KIND, kind, strict=True))
            | {"images": len(group)}
            | group[["reference_seconds", "seconds"]].median().to_dict()
            | {"ratio": ratios.median(), "least": ratios.min(), "most": ratios.max()}
            | {"mean": mean, "low": low, "high": high}
        )
    return pd.DataFrame(lines).sort_values(["reference_iterations", "iterations"], ignore_index=True)


def table(rows: pd.DataFrame) -> GT:
    """Every race, a line each."""
    shown = rows.sort_values(["reference_iterations", "iterations", "image"])
    shown = shown.assign(
        group=[
            f"{line.iterations} steps of {line.preset} against {line.reference_iterations} of the plain loop"
            for line in shown.itertuples()
        ],
        picture=[
            f"{line.image.partition('@')[0]}, {line.width} × {line.height}" for line in shown.itertuples()
        ],
    )
    times, losses = ["reference_seconds", "seconds"], ["base_loss", "reference_loss", "loss"]
    return (
        GT(
            shown[["group", "picture", *times, "ratio", *losses, "change"]],
            rowname_col="picture",
            groupname_col="group",
        )
        .tab_stubhead("picture")
        .tab_spanner("seconds", times)
        .tab_spanner("true R-D loss", [*losses, "change"])
        .cols_label(
            reference_seconds="plain loop",
            seconds="preset",
            ratio="times as long",
            base_loss="codec",
            reference_loss="plain loop",
            loss="preset",
            change="difference, %",
        )
        .fmt_number([*times, "ratio"], decimals=1)
        .fmt_number(losses, decimals=4)
        .fmt_number(["change"], decimals=2, force_sign=True)
        .tab_options(table_font_size="14px")
    )


def describe(found: pd.DataFrame) -> str:
    """In words, `summary`: a Markdown list; each verdict is that of the interval."""
    lines = []
    for row in found.itertuples():
        spread = f"; {row.least:.1f} to {row.most:.1f}" if row.images > 1 else ""
        change = statistics.interval(row.mean, row.low, row.high)
        verdict = "" if row.images == 1 else f", {statistics.verdict(row.low, row.high)}"
        lines.append(
            f"- {row.images} picture{'s' * (row.images > 1)} of {row.width} × {row.height}, {row.codec} at "
            f"λ = {row.codec_lmbda:g}: {row.iterations} steps of `{row.preset}` take {row.seconds:.1f} s where "
            f"{row.reference_iterations} of the plain loop take {row.reference_seconds:.0f} s, **{row.ratio:.0f} times "
            f"as long** (median{spread}). The true loss at the end differs by {change} %{verdict}. {row.device}, "
            f"{row.dtype}."
        )
    return "\n".join(lines)


def command(rows: pd.DataFrame, out: str) -> str:
    """The commands that race as in `load`'s rows, one for each kind, on all of Kodak; stored lines are kept."""
    lines = []
    kinds = rows.assign(crop=rows["image"].str.partition("@")[2])[[*_KIND, "crop"]].drop_duplicates()
    for kind in kinds.sort_values(["reference_iterations", "iterations"]).itertuples():
        crop = f" --crop {kind.crop}" if kind.crop else ""
        lines.append(
            f"sgaplus race kodak --codec {shlex.quote(kind.codec)} --lmbda {kind.codec_lmbda:g}{crop} "
            f"--iterations {kind.iterations} --reference-iterations {kind.reference_iterations} --out {shlex.quote(out)}"
        )
    return "; ".join(lines)
