"""What of a study is stored: its rows, its files, and how much is missing.

The rows of a profile are a `store.Store` in ``data/results/<study>/<profile>``. The files, which studies
share as they share jobs, are in ``data/results/streams/<codec>_lambda<λ>/<method>``; a job's last line says
where (``stream``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import hardware, io
from ..errors import UserError
from ..store import Store
from . import planning
from .planning import Task
from .schema import Study, load_study

# The folder of the files, beside those of the studies.
STREAMS = "streams"
_SUFFIX = ".sga"


def results() -> Path:
    """Where the rows of all studies are: ``data/results`` of the checkout."""
    return io.CHECKOUT / "data" / "results"


def store_of(study: Study, profile: str, root: Path | None = None) -> Store:
    """Where the rows of a profile are."""
    return Store((root or results()) / study.name / profile)


def stored_rows(study: Study | str, profile: str, root: Path | None = None) -> pd.DataFrame:
    """The stored lines of a profile; neither its data set nor a codec's weights have to be at hand.

    Args:
        root: the folder of results; that of the checkout where None.

    Raises:
        UserError: there is no such study or profile, no line is stored, or one is of weights that are not
            the bundled ones.
    """
    study = load_study(study) if isinstance(study, str) else study
    study.profile(profile)
    table = rows_of(store_of(study, profile, root))
    if table.empty:
        raise UserError(
            f"nothing of study {study.name}, profile {profile}, is stored: "
            f"run `sgaplus study run {study.name} --profile {profile}`"
        )
    return table


def rows_of(store: Store) -> pd.DataFrame:
    """All lines of a store, none of foreign weights; empty where nothing is stored."""
    table = _whole(store.load)
    return table if table.empty else _whole(store.of_bundled_codecs)


def _whole(load: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``load`` returns, also while another process packs the files that it reads."""
    for _ in range(10):
        try:
            return load()
        except UserError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise UserError("the stored rows change all the time: wait until the other runs have ended")


def stream_of(task: Task) -> str:
    """Where the file of a task is, in the folder of results: in words, and told apart by the job's key."""
    job = task.job
    folder = f"{job.codec}_lambda{job.codec_lmbda:g}"
    at = "" if job.lmbda == job.codec_lmbda else f"_at{job.lmbda:g}"
    name = f"{_words(job.image)}_{job.iterations}{at}_{job.key[:8]}{_SUFFIX}"
    return f"{STREAMS}/{folder}/{_words(task.label.lower())}/{name}"


def _words(text: str) -> str:
    """``text`` with hyphens for what a file's name should not have."""
    return re.sub(r"[^\w.@]+", "-", text).strip("-.")


def complete(table: pd.DataFrame, tasks: Iterable[Task], root: Path | None = None) -> set[str]:
    """Keys of those tasks that a table of lines holds, with their files where they have one.

    Args:
        root: the folder of results; that of the checkout where None.
    """
    if table.empty:
        return set()
    named = table[table["stream"].notna()]
    there = {
        key
        for key, path in zip(named["key"], named["stream"], strict=True)
        if ((root or results()) / path).is_file()
    }
    stored = set(table["key"])
    return {task.job.key for task in tasks if task.job.key in (there if task.streams else stored)}


def tables(root: Path | None = None) -> dict[Path, pd.DataFrame]:
    """The lines of every profile of every study, by folder; those of foreign weights too."""
    found = (path for path in (root or results()).glob("*/*") if path.parent.name != STREAMS)
    folders = sorted(path for path in found if path.is_dir())
    return {path: _whole(Store(path).load) for path in folders}


@dataclass(frozen=True, eq=False)
class Status:
    """How far a profile is.

    Attributes:
        jobs, stored: how many there are, how many are stored.
        elsewhere: how many more another study has stored, so that they are copied.
        minutes: of each job, by its key; studies share jobs.
        missing: keys of the jobs that are stored nowhere, or without the file that they should have.
        rate: on which the minutes rest.
        not_bundled: codecs without which some jobs cannot run, family and λ.
        table: as `planning.table` makes it.
    """

    jobs: int
    stored: int
    elsewhere: int
    minutes: dict[str, float]
    missing: set[str]
    rate: planning.Rate
    not_bundled: set[tuple[str, float]]
    table: pd.DataFrame

    @property
    def minutes_left(self) -> float:
        """For the jobs that are stored nowhere."""
        return sum(self.minutes[key] for key in self.missing)


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
        root: the folder of results; that of the checkout where None.
        known: what `tables` returned for it, if that was called.

    Raises:
        UserError: there is no such profile, a data set is not at hand, or lines of other weights are stored.
    """
    chosen = study.profile(profile)
    tasks = planning.plan(study, profile)
    known = tables(root) if known is None else known
    rows = pd.concat(list(known.values()), ignore_index=True) if known else pd.DataFrame()
    device = hardware.resolve_device("auto" if kind is None else kind)
    rate = planning.rate(tasks, chosen.codec, chosen.dtype, kind or chosen.device, rows, device)
    stored = complete(rows_of(store_of(study, profile, root)), tasks, root)
    anywhere = stored | complete(rows, tasks, root)
    return Status(
        jobs=len(tasks),
        stored=sum(task.job.key in stored for task in tasks),
        elsewhere=sum(task.job.key in anywhere - stored for task in tasks),
        minutes={task.job.key: task.cost * rate.seconds / 60 for task in tasks},
        missing={task.job.key for task in tasks} - anywhere,
        rate=rate,
        not_bundled=planning.not_bundled(tasks),
        table=planning.table(tasks, stored, anywhere, rate.seconds),
    )
