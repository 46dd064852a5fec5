"""The store of results: Parquet, keyed by content, written atomically.

A *job* is one image refined in one way: its whole specification, hashed, is its key. A job's table (one line
per evaluated iteration) is one Parquet file; files can be packed into fewer, larger ones. A job is stored
completely or not at all, so that a run killed at any point resumes where it was.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from . import hardware, io, plans
from .codecs.codec import Codec
from .codecs.weights import cards
from .data.datasets import ImageFile
from .errors import UserError
from .plans import Plan
from .refinement import Progress, Run, refine
from .rounding import Method

_JOBS = "jobs"  # the folder of single jobs
_OF_FILES = ("real_bytes", "real_bpp", "stream")


@dataclass(frozen=True)
class Job:
    """One image refined in one way: everything that determines the numbers, and nothing else.

    Attributes:
        codec, codec_lmbda, codec_sha256: the base codec and the hash of its weights.
        image, image_sha256: the image's name and the hash of its file.
        method, temperature, lr: specifications of the rounding method and its two schedules.
        lmbda: λ of the refinement.
        iterations: the optimiser's steps.
        read_offs: iterations, beside 0 and the last, that are results and not only points of a curve.
        trace_every: iterations between two true losses.
        dtype: number format of the loop.
        seed: of the rounding noise.
        optimizer: its name. It came after results were stored: the key leaves it out where it is Adam, as
            theirs do.
    """

    codec: str
    codec_lmbda: float
    codec_sha256: str
    image: str
    image_sha256: str
    method: dict[str, Any]
    temperature: dict[str, Any]
    lr: dict[str, Any]
    lmbda: float
    iterations: int
    read_offs: tuple[int, ...]
    trace_every: int
    dtype: str
    seed: int
    optimizer: str = "adam"

    @property
    def key(self) -> str:
        """Hash of the specification; the image's name does not count, its content does."""
        content = {name: value for name, value in vars(self).items() if name != "image"}
        if self.optimizer == "adam":
            del content["optimizer"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def job_of(plan: Plan, image: ImageFile, **others: Any) -> Job:
    """The job of an image that is refined as ``plan`` says.

    Args:
        others: what neither of them says: the codec's three fields, ``lmbda``, ``iterations``, ``read_offs``,
            ``trace_every``, ``dtype`` and ``seed``.
    """
    return Job(
        image=image.name,
        image_sha256=image.sha256,
        **plan.as_dict(),
        **others,
    )


@functools.cache
def git_commit() -> str:
    """The commit of the checkout this package runs from, "+" where it was changed; empty outside one."""
    root = io.CHECKOUT
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "sgaplus"], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed.returncode else "")


def provenance(device: torch.device) -> dict[str, str]:
    """Where a row comes from: package, commit, hardware, library and time."""
    try:
        package = version("sgaplus")
    except PackageNotFoundError:
        package = "uninstalled"
    return {
        "sgaplus_version": package,
        "git_commit": git_commit(),
        "device": hardware.describe(device),
        "torch_version": torch.__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class Store:
    """A folder of Parquet files, each holding whole jobs.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def _files(self) -> list[Path]:
        """Single jobs first: where a packed one was computed again, they are the newer."""
        # Unlike rglob, os.walk tries to list a folder that is missing: the book's pages note that they looked there.
        found = [Path(folder, name) for folder, _, names in os.walk(self.root) for name in names]
        found = [path for path in found if path.suffix == ".parquet" and not path.name.startswith(".")]
        return sorted(found, key=lambda path: (path.parent.name != _JOBS, path))

    def keys(self) -> set[str]:
        """Keys of all stored jobs."""
        return {key for path in self._files() for key in _read(path, ["key"])["key"]}

    def load(self) -> pd.DataFrame:
        """All lines of all jobs; a job stored in two files counts once.

        Lines of jobs that were stored without their file have no ``real_bytes``, ``real_bpp`` and ``stream``.
        """
        return _lines(self._files())

    def singles(self, keys: Iterable[str]) -> pd.DataFrame:
        """As `load`, of those of these jobs that are stored and not packed yet."""
        paths = [self._single(key) for key in keys]
        return _lines([path for path in paths if path.is_file()])

    def of_bundled_codecs(self) -> pd.DataFrame:
        """`load`, after a check that every line was computed with weights that are bundled now.

        Raises:
            UserError: nothing is stored, or a line is of other weights.
        """
        table = self.load()
        if table.empty:
            raise UserError(f"{self.root} holds no results: run the page's command, which computes them")
        foreign = table[~table["codec_sha256"].isin({card.sha256 for card in cards()})]
        if len(foreign):
            line = foreign.iloc[0]
            raise UserError(
                f"{self.root} holds results of a {line['codec']} with sha256 {line['codec_sha256'][:8]}…, "
                "which is not the bundled one: delete them and compute them again"
            )
        return table

    def put(self, job: Job, table: pd.DataFrame) -> Path:
        """Store one job's lines, as `lines_of` makes them."""
        path = self._single(job.key)
        self._write(path, table)
        return path

    def _single(self, key: str) -> Path:
        return self.root / _JOBS / f"{key}.parquet"

    def pack(self, name: str) -> Path:
        """Merge all single-job files into ``<name>.parquet``, together with what it held; then drop them.

        A job that is in both is kept as the single file has it.
        """
        path = self.root / f"{name}.parquet"
        singles = [p for p in self._files() if p.parent.name == _JOBS]
        sources = [*singles, *([path] if path.is_file() else [])]
        if not singles:
            raise UserError(f"there is no job to pack in {self.root / _JOBS}")
        table = pd.concat([_read(p) for p in sources], ignore_index=True)
        table = table.drop_duplicates(["key", "iteration"]).sort_values(["key", "iteration"])
        self._write(path, table.reset_index(drop=True))
        for single in singles:
            single.unlink()
        return path

    @staticmethod
    def _write(path: Path, table: pd.DataFrame) -> None:
        with io.atomic(path) as temporary:
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")


def _lines(paths: Sequence[Path]) -> pd.DataFrame:
    """All lines of some Parquet files, each job's once; of a job in two files those of the first."""
    if not paths:
        return pd.DataFrame()
    table = pd.concat(map(_read, paths), ignore_index=True)
    table = table.drop_duplicates(["key", "iteration"], ignore_index=True)
    return table.assign(**{name: float("nan") for name in _OF_FILES if name not in table})


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        # A file of Python's own: the pages of the book note what is opened.
        with path.open("rb") as file:
            return pq.read_table(file, columns=columns).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is not a whole Parquet file ({error}): delete it, its jobs run again"
        ) from error


def refine_stored(
    store: Store,
    codec: Codec,
    images: Sequence[ImageFile],
    plan: Plan | Method | str,
    *,
    lmbda: float | None = None,
    iterations: int = 500,
    read_offs: Iterable[int] = (500,),
    trace_every: int | None = None,
    seed: int = 0,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Refine what is not stored yet, store it batch by batch, and return all lines of these jobs.

    Arguments are those of `refinement.refine`; ``images`` are files, so that their content can be hashed.
    """
    plan = plans.plan(plan, iterations)
    read_offs = tuple(sorted({t for t in read_offs if t <= iterations}))
    trace_every = trace_every or max(1, iterations // 20)
    lmbda = codec.lmbda if lmbda is None else lmbda
    jobs = [
        job_of(
            plan,
            image,
            codec=codec.name,
            codec_lmbda=codec.lmbda,
            codec_sha256=codec.sha256,
            lmbda=lmbda,
            iterations=iterations,
            read_offs=read_offs,
            trace_every=trace_every,
            dtype=str(codec.dtype).removeprefix("torch."),
            seed=seed,
        )
        for image in images
    ]
    stored = store.keys()
    missing = [(image, job) for image, job in zip(images, jobs, strict=True) if job.key not in stored]
    for start in range(0, len(missing), batch_size):
        group = missing[start : start + batch_size]
        run = refine(
            codec,
            [image.read() for image, _ in group],
            plan,
            lmbda=lmbda,
            iterations=iterations,
            read_offs=read_offs,
            trace_every=trace_every,
            seed=seed,
            names=[image.name for image, _ in group],
            batch_size=batch_size,
            progress=progress,
        )
        for _, job in group:
            store.put(job, lines_of(job, run, codec.device))
    table = store.load()
    return table[table["key"].isin([job.key for job in jobs])].reset_index(drop=True)


def lines_of(
    job: Job, run: Run, device: torch.device, stream: str | None = None, compiled: bool = False
) -> pd.DataFrame:
    """The lines of one job: specification, values at every evaluated iteration, provenance.

    Args:
        stream: where the file of the last iteration is, for its line; `refine` was asked for files then.
        compiled: whether it was; the device's description says so.
    """
    values = run.trace[run.trace["image"] == job.image].drop(columns=["method", "lmbda", "seed"])
    specification = {
        name: json.dumps(value) if isinstance(value, dict | tuple) else value
        for name, value in vars(job).items()
        if name != "image"
    }
    read_off = values["iteration"].isin(run.rows["iteration"])
    if stream is not None:
        rows = run.rows[run.rows["image"] == job.image].set_index("iteration")
        for column in ("real_bytes", "real_bpp"):
            values[column] = values["iteration"].map(rows[column])
        values["stream"] = values["iteration"].map({job.iterations: stream})
    origin = provenance(device)
    origin["device"] += ", compiled" * compiled
    values = values.assign(key=job.key, read_off=read_off, **specification, **origin)
    return values.reset_index(drop=True)
