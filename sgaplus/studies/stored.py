"""What of a study is stored: its rows, its files, and how much is missing.

The rows of a profile are a `store.Store` in ``<study>/<profile>`` of a folder of results. The files, which
studies share as they share jobs, are in ``streams/<codec>_lambda<λ>/<method>`` of that folder; a job's last
row says where (``stream``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from .. import hardware, io
from ..codecs.series import Series, Spec
from ..errors import UserError
from ..store import Store, current, holding
from . import planning, schema
from .planning import Task
from .schema import ProfileName, Study, load_study

# The folder of the files, beside those of the studies.
STREAMS = "streams"
_SUFFIX = ".sga"


def results(study: Study | None = None, root: Path | None = None) -> Path:
    """The folder of results.

    That of the checkout's own studies is its ``data/results``; that of a study from elsewhere is ``results``
    beside its file, so that it never meddles with theirs.

    Args:
        study: whose; where None, the checkout's, or without a checkout ``results`` in the working folder.
        root: the folder, where it was chosen.

    Raises:
        UserError: the study is from elsewhere, and ``root`` holds the rows of the checkout's study of its
            name.
    """
    tracked = io.CHECKOUT / "data" / "results"
    if root is not None:
        namesake = study and not study.ours and (schema.folder() / study.path.name).is_file()
        if study and namesake and Path(root).resolve() == tracked.resolve():
            raise UserError(
                f"{root} holds the results of this repository's study {study.name}: give {study.path} another"
                " name, or another --results"
            )
        return Path(root)
    if study is not None and not study.ours:
        return study.path.parent / "results"
    return tracked if schema.folder().is_dir() else Path("results")


def store_of(study: Study, profile: str, root: Path | None = None) -> Store:
    """Where the rows of a profile are; ``root`` as of `results`."""
    return Store(results(study, root) / study.name / profile)


def stored_rows(
    study: Study | str, profile: str, root: Path | None = None, codec: Spec | Series | None = None
) -> pd.DataFrame:
    """The stored rows of a profile; its data set and the codecs' weights are not needed.

    Args:
        root: as of `results`.
        codec: the series whose rows they are; that of the profile where None.

    Raises:
        UserError: there is no such study, profile or series, no row of it is stored, or one is of outdated
            weights.
    """
    study = load_study(study) if isinstance(study, str) else study
    series, grids = study.series(profile, codec), study.profile(profile).grids
    table = rows_of(store_of(study, profile, root))
    if len(table):
        table = of_series(table, series)
    if table.empty and series.name not in {study.series(profile, g.codec).name for g in grids}:
        raise UserError(
            f"study {study.name}, profile {profile}, has no grid with {series.spec} and no row of it: leave"
            " it out, or add a grid that names it (codec)"
        )
    if table.empty:
        raise UserError(
            f"nothing of study {study.name}, profile {profile}, is stored for {series.spec}: "
            f"run `sgaplus study run {study.name if study.ours else study.path} --profile {profile}`"
        )
    return table


def of_series(rows: pd.DataFrame, series: Series) -> pd.DataFrame:
    """The rows of the codecs of a series."""
    rows = rows[(rows["codec"] == series.name) & (rows["codec_lmbda"].isin(series.lmbdas) | bool(series.at))]
    hashes = rows.groupby("codec_lmbda")["codec_sha256"].unique()
    for lmbda, found in hashes[hashes.map(len) > 1].items():
        raise UserError(
            f"rows of two codecs are stored as {series.name} at lambda {lmbda:g} ({found[0][:8]}… and"
            f" {found[1][:8]}…): move those of one of them to another folder of results"
        )
    return rows.reset_index(drop=True)


def rows_of(store: Store) -> pd.DataFrame:
    """All rows of a store, as `store.current` gives them; empty where nothing is stored."""
    table = store.load()
    return table if table.empty else current(table, store.root)


def stream_of(task: Task) -> str:
    """Where the file of a task is, in the folder of results: words, and the beginning of the job's key."""
    job = task.job
    folder = f"{job.codec}_lambda{job.codec_lmbda:g}"
    at = "" if job.lmbda == job.codec_lmbda else f"_at{job.lmbda:g}"
    name = f"{_words(job.image)}_{job.iterations}{at}_{job.key[:8]}{_SUFFIX}"
    return f"{STREAMS}/{folder}/{_words(job.label.lower())}/{name}"


def _words(text: str) -> str:
    """``text`` with hyphens for what a file's name should not have."""
    return re.sub(r"[^\w.@]+", "-", text).strip("-.")


def complete(table: pd.DataFrame, tasks: Iterable[Task], root: Path, marked: bool = True) -> set[str]:
    """Keys of those tasks that a table of rows holds, with their files where they have one.

    Args:
        root: the folder of results.
        marked: as of `store.holding`.
    """
    tasks = list(tasks)
    found = holding(table, [task.job for task in tasks], marked)
    streams = [task.job for task in tasks if task.streams and task.job.key in found]
    if streams:
        rows = table[table["key"].isin({job.key for job in streams})]
        named = rows[rows["stream"].notna()]
        there = {k for k, path in zip(named["key"], named["stream"], strict=True) if (root / path).is_file()}
        sized = rows[rows["real_bytes"].notna()].groupby("key")["iteration"].agg(set).to_dict()
        found -= {
            job.key for job in streams if job.key not in there or not job.marks <= sized.get(job.key, set())
        }
    return found


def folders(root: Path) -> list[Path]:
    """Of every profile of every study in a folder of results the one with its rows."""
    found = (root.glob(f"*/{profile}") for profile in get_args(ProfileName))
    return sorted(path for paths in found for path in paths if path.is_dir())


def tables(root: Path) -> dict[Path, pd.DataFrame]:
    """The rows of every profile of every study, by folder; those of foreign weights too."""
    return {path: Store(path).load() for path in folders(root)}


@dataclass(frozen=True, eq=False)
class Status:
    """How far a profile is.

    Attributes:
        jobs, stored: how many there are, how many are stored.
        elsewhere: how many more another study has stored, so that they are copied.
        minutes: of each job, by its key; studies share jobs.
        missing: keys of the jobs that are stored nowhere, or without the file that they should have.
        rates: on which the minutes rest.
        memory: gigabytes that the largest group of images takes, about.
        needs: what has to be fetched before all jobs can run, a sentence each.
        table: as `planning.table` makes it.
    """

    jobs: int
    stored: int
    elsewhere: int
    minutes: dict[str, float]
    missing: set[str]
    rates: list[planning.Rate]
    memory: float
    needs: list[str]
    table: pd.DataFrame

    @property
    def minutes_left(self) -> float:
        """For the jobs that are stored nowhere."""
        return sum(self.minutes[key] for key in self.missing)

    @property
    def measured(self) -> bool:
        """Whether all rates were measured on this device."""
        return all(rate.measured for rate in self.rates)


def status(
    study: Study,
    profile: str,
    *,
    kind: str | None = None,
    root: Path | None = None,
    known: Mapping[Path, pd.DataFrame] | None = None,
) -> Status:
    """What of a profile is stored, and how long the rest takes.

    Args:
        kind: of the device, ``cpu`` or ``cuda``; the one that the profile is meant for where None.
        root: as of `results`.
        known: what `tables` returned for it, if that was called.

    Raises:
        UserError: there is no such profile, or lines of outdated weights are stored.
    """
    chosen = study.profile(profile)
    root = results(study, root)
    known = tables(root) if known is None else known
    rows = pd.concat(list(known.values()), ignore_index=True) if known else pd.DataFrame()
    device = hardware.resolve_device("cpu" if kind == "cpu" else "auto")
    held = rows_of(store_of(study, profile, root))
    named = (held[["codec", "codec_lmbda", "codec_sha256"]] if len(held) else held).itertuples(index=False)
    tasks = planning.plan(study, profile, {(codec, lmbda): sha256 for codec, lmbda, sha256 in named})
    rates = planning.rates(tasks, kind or chosen.device, rows, device)
    minutes = {task.job.key: task.cost * rates[task.codec].seconds / 60 for task in tasks}
    stored = complete(held, tasks, root)
    anywhere = stored | complete(rows, tasks, root, marked=False)
    return Status(
        jobs=len(tasks),
        stored=sum(task.job.key in stored for task in tasks),
        elsewhere=sum(task.job.key in anywhere - stored for task in tasks),
        minutes=minutes,
        missing={task.job.key for task in tasks} - anywhere,
        rates=list(rates.values()),
        memory=planning.memory(
            (task for task in tasks if task.job.key not in anywhere), torch.device(kind or chosen.device)
        ),
        needs=planning.needs(study, profile),
        table=planning.table(tasks, stored, anywhere, minutes),
    )
