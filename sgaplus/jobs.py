"""Jobs: one image refined in one way, its key, and its rows."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import subprocess
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from . import __version__, hardware, io
from .data.datasets import ImageFile
from .plans import BASE, Plan
from .refinement import ALGORITHM

if TYPE_CHECKING:
    from .refinement import Run


@dataclass(frozen=True)
class Job:
    """One image refined in one way.

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
        optimizer: its name.
        algorithm: that computes the numbers, see `refinement.ALGORITHM`.
        distortion: in the loss, as `distortion.Distortion.spec` says.
        label: the plan in words, for tables and legends.
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
    algorithm: int = 1
    distortion: str = "mse"
    label: str = ""

    @functools.cached_property
    def key(self) -> str:
        """Hash of all that determines the numbers: not of names, nor of the iterations that are kept."""
        content = {name: getattr(self, name) for name in IDENTITY}
        content = {name: value for name, value in content.items() if value != ADDED.get(name)}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def marks(self) -> set[int]:
        """The iterations that are results."""
        return {0, self.iterations, *self.read_offs}

    @property
    def evaluated(self) -> set[int]:
        """The iterations that have a row."""
        return self.marks | set(range(self.trace_every, self.iterations + 1, self.trace_every))


# What makes two jobs the same one, as columns of their rows.
IDENTITY = tuple(f.name for f in fields(Job) if f.name not in ("image", "read_offs", "trace_every", "label"))
# Values of those that came after rows were stored: a key leaves them out, as the stored ones do.
ADDED: dict[str, Any] = {f.name: f.default for f in fields(Job) if f.name in IDENTITY[-3:]}


def job_of(plan: Plan, image: ImageFile, **others: Any) -> Job:
    """The job of an image that is refined as ``plan`` says, by the algorithm of this package.

    Args:
        others: what neither of them says: the codec's three fields, ``lmbda``, ``iterations``, ``read_offs``,
            ``trace_every``, ``dtype`` and ``seed``; ``distortion`` too where it is not the MSE.
    """
    return Job(
        image=image.name,
        image_sha256=image.sha256,
        **plan.as_dict(),
        **others,
        algorithm=ALGORITHM,
        label=_label(plan, others["iterations"], others.get("distortion", "mse")),
    )


def _label(plan: Plan, iterations: int, distortion: str) -> str:
    """A job in words."""
    label = plan.label if iterations else BASE
    return label if distortion == "mse" else f"{label}, {distortion.upper()}"


def joined(job: Job, read_offs: Iterable[int], *spacings: int) -> Job:
    """The job that keeps these iterations too."""
    kept = {*job.read_offs, *map(int, read_offs)} - {0, job.iterations}
    spacing = math.gcd(job.trace_every, *map(int, spacings))
    return replace(job, read_offs=tuple(sorted(kept)), trace_every=spacing)


def as_asked(rows: pd.DataFrame, job: Job) -> pd.DataFrame:
    """Of the rows of a job those that ``job`` asks for, marked as it says."""
    rows = rows[rows["iteration"].isin(job.evaluated)].reset_index(drop=True)
    kept = {name: _text(getattr(job, name)) for name in ("read_offs", "trace_every", "label")}
    return rows.assign(read_off=rows["iteration"].isin(job.marks), **kept)


def rows_of_run(
    job: Job, run: Run, device: torch.device, stream: str | None = None, compiled: bool = False
) -> pd.DataFrame:
    """The rows of one job: values at every evaluated iteration, specification, provenance.

    Args:
        run: of `refinement.refine`.
        stream: where the file of the last iteration is, for its row; `refine` was asked for files then.
        compiled: whether it was; the device's description says so.
    """
    values = run.trace[run.trace["image"] == job.image].drop(
        columns=["method", "lmbda", "seed", "distortion"]
    )
    if stream is not None:
        rows = run.rows[run.rows["image"] == job.image].set_index("iteration")
        for column in ("real_bytes", "real_bpp"):
            values[column] = values["iteration"].map(rows[column])
        values["stream"] = values["iteration"].map({job.iterations: stream})
    specification = {f.name: _text(getattr(job, f.name)) for f in fields(job) if f.name != "image"}
    origin = provenance(device)
    origin["device"] += ", compiled" * compiled
    read_off = values["iteration"].isin(job.marks)
    return values.assign(key=job.key, read_off=read_off, **specification, **origin).reset_index(drop=True)


def _text(value: Any) -> Any:
    """A field as a column has it."""
    return json.dumps(value) if isinstance(value, dict | tuple) else value


def with_keys(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the keys that their jobs have now, and with columns that came after they were stored."""
    for name, value in ADDED.items():
        rows[name] = rows[name].fillna(value).astype(type(value)) if name in rows else value
    number = rows.groupby(list(IDENTITY), sort=False).ngroup()
    different = rows.drop_duplicates(list(IDENTITY)).to_dict("records")
    rows["key"] = number.map({i: _key(*map(line.get, IDENTITY)) for i, line in enumerate(different)})
    if "label" not in rows:
        rows["label"] = number.map({i: _label_of(line) for i, line in enumerate(different)})
    return rows


@functools.cache
def _key(*identity: Any) -> str:
    stored = dict(zip(IDENTITY, identity, strict=True))
    parts = {name: json.loads(stored[name]) for name in ("method", "temperature", "lr")}
    return Job(image="", read_offs=(), trace_every=1, **stored | parts).key


def _label_of(line: Mapping[Hashable, Any]) -> str:
    parts = {name: json.loads(line[name]) for name in ("method", "temperature", "lr")}
    return _label(Plan(**parts, optimizer=line["optimizer"]), line["iterations"], line["distortion"])


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
    return {
        "sgaplus_version": __version__,
        "git_commit": git_commit(),
        "device": hardware.describe(device),
        "torch_version": torch.__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
