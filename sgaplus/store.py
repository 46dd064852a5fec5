"""The store of results: Parquet, keyed by content, written atomically.

The rows of a job (one per evaluated iteration) are one Parquet file; files can be packed into fewer, larger
ones. A job is stored completely or not at all, so that a run killed at any point resumes where it was.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from . import io, jobs, parquet
from .codecs.series import is_outdated
from .errors import UserError
from .jobs import Job, as_asked, joined

_JOBS = "jobs"  # the folder of single jobs
# Seconds before each look, while another process packs many jobs and removes their files one by one.
_PATIENCE = (0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
_OF_FILES: dict[str, Any] = {"real_bytes": "float64", "real_bpp": "float64", "stream": "str"}


class Store:
    """A folder of Parquet files, each holding whole jobs.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def _files(self) -> list[Path]:
        """Single jobs first: where a packed one was computed again, they are the newer.

        They are also looked for first: while another process packs them, none is in neither list.
        """
        found: list[Path] = []
        for folder in (self.root / _JOBS, self.root):
            try:
                # Unlike glob, it does not pass over a folder that it may not list.
                found += sorted(path for path in folder.iterdir() if path.match("[!.]*.parquet"))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise io.unreadable(folder, error) from error
        return found

    def load(self) -> pd.DataFrame:
        """All rows of all jobs; of a job in two files those of the first.

        Rows of jobs that were stored without their file have no ``real_bytes``, ``real_bpp`` and ``stream``.

        Raises:
            UserError: a file may not be read, or its rows are none of jobs.
            SystemFault: a file is damaged, or the disk fails.
        """
        for pause in _PATIENCE:
            time.sleep(pause)
            try:
                return _rows(self._files())
            except FileNotFoundError:  # another process packs them
                continue
        raise UserError("the stored rows change all the time: wait until the other runs have ended")

    def singles(self, keys: Iterable[str]) -> pd.DataFrame:
        """As `load`, of those of these jobs that are stored and not packed yet."""
        keys = list(keys)
        paths = [path for path in map(self._single, keys) if path.is_file()]
        try:
            return _rows(paths)
        except FileNotFoundError:  # another process packs them
            rows = self.load()
            return rows[rows["key"].isin(keys)].reset_index(drop=True)

    def put(self, job: Job, rows: pd.DataFrame) -> Path:
        """Store one job's rows, as `jobs.rows_of_run` makes them, in place of those that it had."""
        path = self._single(job.key)
        parquet.write(path, rows)
        return path

    def take(self, rows: pd.DataFrame, wanted: Iterable[Job]) -> set[str]:
        """Store those of the wanted jobs of which these rows hold every iteration; their keys."""
        wanted = list(wanted)
        found = holding(rows, wanted, marked=False)
        for job in wanted:
            if job.key in found:
                self.put(job, as_asked(rows[rows["key"] == job.key], job))
        return found

    def _single(self, key: str) -> Path:
        return self.root / _JOBS / f"{key}.parquet"

    def pack(self, name: str) -> None:
        """Merge all single-job files into ``<name>.parquet``, together with what it held; then drop them.

        A job that is in both is kept as the single file has it.
        """
        path = self.root / f"{name}.parquet"
        if singles := [p for p in self._files() if p.parent.name == _JOBS]:
            table = _rows([*singles, *([path] if path.is_file() else [])])
            parquet.write(path, table.sort_values(["key", "iteration"], ignore_index=True))
        for single in singles:
            single.unlink()


def _rows(paths: Sequence[Path]) -> pd.DataFrame:
    """All rows of some Parquet files, each job's once; of a job in two files those of the first."""
    tables: list[pd.DataFrame] = []
    seen: set[str] = set()
    for path in paths:
        table = _read(path)
        tables.append(table[~table["key"].isin(seen)])
        seen.update(table["key"])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _read(path: Path) -> pd.DataFrame:
    table = parquet.read(path)
    needed = {*jobs.IDENTITY, "image", "iteration", "read_off", "trace_every"} - set(jobs.ADDED)
    missing = sorted(name for name in needed if name not in table or table[name].isna().any())
    if missing:
        raise UserError(f"{path} is no table of stored jobs (no {', '.join(missing[:3])}): move it elsewhere")
    table = jobs.with_keys(table)
    for name, kind in _OF_FILES.items():
        table[name] = table[name].astype(kind) if name in table else pd.Series(None, table.index, kind)
    return table


def current(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Of every job the rows of the newest algorithm, after a check that none is of outdated weights.

    Rows of any codec may stand in a store; those under the name of a bundled family, or of a codec of the
    zoo, are of its weights.

    Args:
        root: where they are stored.
    """
    for _, line in table[["codec", "codec_lmbda", "codec_sha256"]].drop_duplicates().iterrows():
        if is_outdated(*line):
            raise UserError(
                f"{root} holds results of a {line['codec']} with sha256 {line['codec_sha256'][:8]}…, which is"
                " not the one of today: rename the folder, which keeps them, and compute them again"
            )
    same = [name for name in jobs.IDENTITY if name != "algorithm"]
    newest = table.groupby(same, sort=False)["algorithm"].transform("max")
    return table[table["algorithm"] == newest].reset_index(drop=True)


def holding(rows: pd.DataFrame, wanted: Collection[Job], marked: bool = True) -> set[str]:
    """Keys of those jobs of which some rows hold every iteration that is asked for.

    Args:
        marked: whether results also have to be marked as such (``read_off``).
    """
    if rows.empty:
        return set()
    rows = rows[rows["key"].isin({job.key for job in wanted})]
    there = rows.groupby("key")["iteration"].agg(set).to_dict()
    results = rows[rows["read_off"]].groupby("key")["iteration"].agg(set).to_dict() if marked else there
    return {
        job.key
        for job in wanted
        if job.evaluated <= there.get(job.key, set()) and job.marks <= results.get(job.key, set())
    }


def extended(job: Job, rows: pd.DataFrame) -> Job:
    """The job that also keeps what these rows hold of it, so that nothing is lost when it runs again."""
    rows = rows[rows["key"] == job.key] if len(rows) else rows
    if rows.empty:
        return job
    return joined(job, rows.loc[rows["read_off"], "iteration"], *rows["trace_every"].unique())
