"""A whole profile: all its studies in the order of their worth, and what they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..codecs.series import Series
from ..data import datasets
from ..errors import UserError
from . import schema, stored
from .schema import Study

# First the curves and tables that the paper rests on, then its ablations, then what goes beyond it.
ORDER = (
    *("rd", "convergence", "qualitative", "tecnick", "clic", "semi-multi-rate"),
    *("stability", "learning-rate", "ssl-a"),
    *("fast", "distortion", "variable-rate"),
)


@dataclass(frozen=True, eq=False)
class Need:
    """What a profile takes.

    Attributes:
        table: one row per study: study, jobs, stored (by any study), hours for the others.
        hours: for all jobs that are not stored; those that studies share count once.
        measured: whether that rests on jobs of this computer.
        series: to be downloaded.
        datasets: to be downloaded, by name.
        gigabytes: to be downloaded, about.
        memory: gigabytes that the largest group of images takes, about; on a GPU those of the GPU.
    """

    table: pd.DataFrame
    hours: float
    measured: bool
    series: list[Series]
    datasets: list[str]
    gigabytes: float
    memory: float


def studies_of(profile: str) -> list[Study]:
    """The studies that have a profile, in the order of their worth; those that `ORDER` lacks come last."""
    found = [study for study in schema.load_studies() if profile in study.profiles]
    if not found:
        raise UserError(f"no study has a profile '{profile}': use paper or cpu")
    rank = {name: position for position, name in enumerate(ORDER)}
    return sorted(found, key=lambda study: rank.get(study.name, len(rank)))


def need(studies: Sequence[Study], profile: str, kind: str, root: Path | None = None) -> Need:
    """What is missing of a profile of some studies, and what it takes.

    Args:
        kind: of the device, ``cpu`` or ``cuda``.
        root: as of `stored.results`.
    """
    rows: list[dict[str, object]] = []
    left: dict[str, float] = {}
    measured, memory = True, 0.0
    series: dict[str, Series] = {}
    names: dict[str, None] = {}
    known = stored.tables(stored.results(studies[0], root))
    for study in studies:
        found = stored.status(study, profile, kind=kind, root=root, known=known)
        jobs = {"study": study.name, "jobs": found.jobs, "stored": found.stored + found.elsewhere}
        rows.append(jobs | {"hours": found.minutes_left / 60})
        left |= {key: found.minutes[key] for key in found.missing}
        measured &= found.measured
        for grid in study.profile(profile).grids:
            one = study.series(profile, grid.codec)
            series |= {one.spec: one} if one.missing() else {}
            images = datasets.list_planned(grid.dataset, grid.images)
            if any(isinstance(image, datasets.AbsentImage) for image in images):
                names[grid.dataset] = None
        memory = max(memory, found.memory)
    downloads = sum(one.size_missing / 1e9 for one in series.values())
    downloads += sum(datasets.megabytes(name) / 1e3 for name in names)
    table = pd.DataFrame(rows)
    return Need(
        table, sum(left.values()) / 60, measured, list(series.values()), list(names), downloads, memory
    )
