"""All stored rows of a profile together: what a claim rests on, whichever study computed it."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sgaplus import plans, rounding, schedules
from sgaplus.codecs.series import Series, families
from sgaplus.codecs.series import series as series_of
from sgaplus.data.sources import registered
from sgaplus.errors import UserError
from sgaplus.studies.schema import Study, load_studies
from sgaplus.studies.stored import of_series, rows_of, store_of

from . import configurations, statistics
from .configurations import described, label

# The data sets of the paper; CLIC 2025 stands for CLIC 2020.
DATASETS = ("kodak", "tecnick", "clic2020", "clic2025")
WHOLE = "whole photographs"
# The λ of the paper's ablations, and the methods of its grid over τ_max.
LMBDA = 0.01
GRID = ("atanh", "linear", "cosine", "ssl")
# What the claims look at.
_COLUMNS = ["image", "iteration", "iterations", "trace_every", "loss", "method_loss", "bpp", "psnr", "mse"]
_COLUMNS += ["ms_ssim", "seconds", "lmbda", "codec_lmbda", "method", "temperature", "tau", "seed", "key"]
_COLUMNS += [*configurations.COLUMNS, "dataset", "scope"]


def load(
    profile: str, root: Path | None = None, studies: Sequence[str] | None = None, codec=None
) -> pd.DataFrame:
    """The rows of all studies in one profile, each job once; empty where nothing is stored.

    Args:
        studies: only these, by name; where None all but those of a codec of variable rate.
        codec: the series whose rows they are, or its name; that of each study's profile where None.

    Returns:
        `described` rows with ``study`` (the first that holds the job), and `with_scope`.
    """
    chosen = None if codec is None else series_of(codec)
    tables = [
        rows.assign(study=study.name, profile=profile)
        for study in load_studies()
        if profile in study.profiles
        and (_compared(study, profile) if studies is None else study.name in studies)
        if len(rows := _rows(study, profile, root, chosen))
    ]
    if not tables:
        return pd.DataFrame(columns=_COLUMNS)
    rows = pd.concat(tables, ignore_index=True).drop_duplicates(["key", "iteration"], ignore_index=True)
    return with_scope(described(rows), "clic2020" if profile == "paper" else None)


def _compared(study: Study, profile: str) -> bool:
    series = study.series(profile)
    return series.at is None or series.name in families()


def _rows(study: Study, profile: str, root: Path | None, codec: Series | None) -> pd.DataFrame:
    rows = rows_of(store_of(study, profile, root))
    return of_series(rows, study.series(profile, codec)) if len(rows) else rows


def with_scope(rows: pd.DataFrame, others: str | None = None) -> pd.DataFrame:
    """The rows with the data set (a key of `DATASETS`; ``others`` for names that are not registered) and the
    scope of their image: whole photographs, or centres of so many pixels a side, which are never mixed."""
    known = {Path(file).stem: name for name in DATASETS for file in registered(name)}

    def dataset(image: str) -> str:
        stem = image.split("@")[0]
        if stem not in known and stem.startswith("RGB_OR_1200x1200_"):
            return "tecnick"  # registered are those that are publicly mirrored
        if stem not in known and others:
            return others
        if stem not in known:
            raise UserError(
                f"{image} is of none of {', '.join(DATASETS)}: move its rows to another folder of results"
            )
        return known[stem]

    images = rows["image"].unique()
    found = {"dataset": map(dataset, images), "scope": map(scope_of, images)}
    return rows.assign(
        **{name: rows["image"].map(dict(zip(images, of, strict=True))) for name, of in found.items()}
    )


def lmbda_of(rows: pd.DataFrame) -> float:
    """The λ of the ablations: of those of the codecs of some rows the one nearest to the paper's."""
    return min(rows["codec_lmbda"].unique(), key=lambda value: abs(math.log(value / LMBDA)), default=LMBDA)


def ablations(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the λ of the ablations."""
    return rows[rows["lmbda"] == lmbda_of(rows)]


def scope_of(image: str) -> str:
    """Whether an image is a whole photograph, or the centre of so many pixels a side."""
    side = image.partition("@")[2]
    return f"centres of {side} × {side} pixels" if side else WHOLE


def own(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of codecs that are refined for the λ they were trained with."""
    return rows[rows["lmbda"] == rows["codec_lmbda"]]


def at(rows: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """`statistics.at`; no row where nothing was refined that far."""
    there = ((rows["iterations"] > 0) & (rows["iteration"] == iteration)).any()
    return statistics.at(rows, iteration) if there else rows.iloc[:0]


def differences(
    rows: pd.DataFrame, name: str, reference: str, column: str = "loss", relative: bool = True
) -> pd.DataFrame | None:
    """`statistics.paired` of one configuration from another, of one iteration, data set and scope: (images,
    λ), those λ at which both were run on at least as many images as at the median λ, and the images that have
    all of them; None where nothing can be paired."""
    chosen = rows[rows["configuration"].isin([name, reference])]
    if not chosen.groupby(["image", "lmbda"])["configuration"].nunique().eq(2).any():
        return None
    table = statistics.paired(chosen, column, reference, ["lmbda"], relative)
    return _complete(table.pivot_table(index="image", columns="lmbda", values="change"))


def _complete(wide: pd.DataFrame) -> pd.DataFrame:
    """The columns with at least as many images as the median one, and the images that have all of these."""
    counts = wide.count()
    return wide.loc[:, counts >= counts.median()].dropna()


def scopes(rows: pd.DataFrame, iteration: int, dataset: str = "kodak") -> Iterator[tuple[str, pd.DataFrame]]:
    """Each scope of a data set, in order, with its rows at one iteration, of codecs at their own λ."""
    yield from at(own(rows[rows["dataset"] == dataset]), iteration).groupby("scope")


def _runs(rows: pd.DataFrame, iteration: int) -> Iterator[pd.DataFrame]:
    """The rows of each scope of Kodak at one iteration, apart for runs of each length: settings are compared
    in runs alike, as on the page of their study."""
    for _, alike in rows.groupby("iterations"):
        yield from (group for _, group in scopes(alike, iteration))


def _widest(tables: Iterable[pd.DataFrame], columns: int) -> pd.DataFrame | None:
    """The table of the most columns among scopes, which are never mixed; None where none has enough."""
    whole = [table for table in tables if len(table.columns) >= columns and len(table)]
    return max(whole, key=lambda table: len(table.columns), default=None)


def temperature_grid(rows: pd.DataFrame, iteration: int) -> pd.DataFrame | None:
    """True losses of `GRID` under τ(t) = min(τ_max, exp(−0.001 t)): (images, (method, τ_max)), the τ_max that
    all four have, the images that have all of them; None where there are not two such τ_max.

    Published settings are no part of the grid where their schedule is another, as atanh's is.
    """
    published = plans.plan(rounding.SSL())
    names = {json.dumps(rounding.parse(spec).as_dict()): label(spec) for spec in GRID}

    def of_grid(row: dict[str, Any]) -> bool:
        schedule = schedules.parse(json.loads(row["temperature"]))
        return schedule == replace(published.temperature, tau_max=row["tau_max"])

    tables = []
    for group in _runs(ablations(rows), iteration):
        group = group[group["method"].isin(names) & (group["rate"] == published.lr.value)]
        group = group.assign(name=group["method"].map(names))
        table = group[np.array([*map(of_grid, group.to_dict("records"))], dtype=bool)]
        table = table.pivot_table(index="image", columns=["tau_max", "name"], values="loss")
        shared = [tau for tau, of_tau in table.T.groupby("tau_max") if len(of_tau) == len(names)]
        tables.append(table.loc[:, shared].dropna().swaplevel(axis=1))
    return _widest(tables, 2 * len(names))


def slopes(rows: pd.DataFrame, iteration: int) -> pd.DataFrame | None:
    """True losses of SSL over a, otherwise as published: (images, a); None for fewer than three a."""
    tables = []
    for group in _runs(ablations(rows[rows["family"] == "ssl"]), iteration):
        published = group["a"].map(lambda a: label(f"ssl:a={a}"))
        group = group[group["configuration"] == published]
        tables.append(_complete(group.pivot_table(index="image", columns="a", values="loss")))
    return _widest(tables, 3)


def smoothness(rows: pd.DataFrame, until: int) -> pd.DataFrame:
    """How much of the way each run's true loss goes upwards until an iteration: ``upward``, the sum of all
    rises in percent of the loss at iteration 0.

    All runs are looked at with one ``spacing``, the widest among them: a finer look finds more movement.
    """
    refined = rows[rows["iterations"] >= max(until, 1)]
    spacing = int(refined["trace_every"].max()) if len(refined) else 1
    seen = refined[(refined["iteration"] % spacing == 0) & (refined["iteration"] <= until)]
    seen = seen.drop_duplicates(["key", "iteration"]).sort_values(["key", "iteration"])
    start = seen[seen["iteration"] == 0].set_index("key")
    rises = seen.groupby("key")["loss"].diff().clip(lower=0)
    upward = 100 * rises.groupby(seen["key"]).sum(min_count=1) / start["loss"]
    found = start.assign(spacing=spacing, upward=upward).dropna(subset=["upward"]).reset_index()
    if found.empty:
        raise UserError("no run has two points of its curve: compute one with a smaller trace_every")
    names = ["configuration", "image", "lmbda", "codec_lmbda", "seed", "key", "spacing", "upward"]
    return found[names]


def with_gap(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``gap``, the method's loss − the true loss, and ``gap_size``, |gap| in % of the latter.

    The method's loss is one sample of its relaxed loss; both are NaN at iteration 0.
    """
    gap = rows["method_loss"] - rows["loss"]
    return rows.assign(gap=gap, gap_size=100 * gap.abs() / rows["loss"])
