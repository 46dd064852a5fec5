"""Where a page's numbers come from: its rows, what they are of, what made them."""

import collections
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sgaplus.codecs.series import Series
from sgaplus.codecs.series import series as series_of
from sgaplus.studies import planning
from sgaplus.studies.schema import Study, load_study
from sgaplus.studies.stored import of_series, rows_of, store_of, stored_rows
from sgaplus.studies.stored import results as results_folder

from . import parameters
from .configurations import described

# The source of what a page computes itself, or takes from no stored row.
NONE = pd.DataFrame()
# What `load` gave this page, for figures that do not say what they are made of.
_loaded: list[pd.DataFrame] = []


def series(study: str, profile: str, codec: str | Series | None = None) -> Series:
    """The codecs that a page shows: ``codec``, or those of the profile."""
    return load_study(study).series(profile) if codec is None else series_of(codec)


def coverage(
    study: Study, profile: str, root: Path | None = None, codec: str | Series | None = None
) -> tuple[int, int]:
    """How many jobs of a profile are stored, and how many there are, with the codecs of one series. Neither
    images nor weights have to be on this computer."""
    series, rows = study.series(profile, codec), rows_of(store_of(study, profile, root))
    wanted = collections.Counter(
        _kind(task.job) for task in planning.plan(study, profile) if task.job.codec == series.name
    )
    if rows.empty:
        return 0, wanted.total()
    found = collections.Counter(map(_kind, of_series(rows, series).drop_duplicates("key").itertuples()))
    return sum(min(count, found[kind]) for kind, count in wanted.items()), wanted.total()


def _kind(job: Any) -> tuple:
    """What tells a job from those of other images alone, and from those of their squares."""
    side = job.image.partition("@")[2]
    return job.codec_lmbda, job.lmbda, job.label, job.iterations, job.seed, job.distortion, side


def load(
    study: str, profile: str, results: str | Path | None = None, codec: str | Series | None = None
) -> pd.DataFrame:
    """The stored rows of a study's profile, `described`, with study and profile: those of the series
    ``codec``, or of the profile's where None, in the folder ``results``, or the checkout's where None."""
    root = Path(results) if results else None
    rows = stored_rows(study, profile, root, series(study, profile, codec))
    _loaded.append(described(rows).assign(study=study, profile=profile))
    return _loaded[-1]


def about(
    study: str, profile: str, results: str | Path | None = None, codec: str | Series | None = None
) -> str:
    """In Markdown: which study and profile a page shows, how that differs from the paper, what is missing."""
    loaded = load_study(study)
    text = f"Study `{study}`, profile `{profile}`: {loaded.profile(profile).about}"
    shown = series(study, profile, codec)
    if shown.name != loaded.series(profile).name:
        text += f" Shown are rows of another codec, `{shown.name}`."
    stored, jobs = coverage(loaded, profile, Path(results) if results else None, shown)
    if stored == jobs:
        return text
    return (
        f"{text} {stored:,} of its {jobs:,} jobs are stored; `sgaplus study run {study} --profile {profile}`"
        " computes the others."
    )


def studies(
    names: Iterable[str], profile: str, results: str | Path | None = None, codec: str | Series | None = None
) -> str:
    """`about` several studies, folded."""
    lines = "\n".join(f"- {about(name, profile, results, codec)}" for name in names)
    return f"<details><summary>Studies behind this page</summary>\n\n{lines}\n\n</details>"


def decode_command(row: pd.Series, codecs: Series, results: str | Path | None = None) -> str:
    """The shell command that decodes the file of a stored row; of ``codecs`` a checkpoint has to be named."""
    stream, member = Path(results or "data/results") / row["stream"], codecs.member(row["codec_lmbda"])
    words = ["sgaplus", "decode", parameters.shown(stream), "-o", f"{row['image']}.png"]
    if member.path:
        words += ["--codec", parameters.shown(member.path), "--lmbda", f"{member.lmbda:g}"]
    return shlex.join(words)


def folder(given: str | Path | None, name: str) -> Path:
    """The folder that a page was ``given`` for results of no study; the checkout's own where None."""
    return results_folder() / name if given is None else Path(given)


def facts(rows: pd.DataFrame | None = None) -> dict[str, str]:
    """What computed rows (those that the page has loaded where None), by heading; nothing of rows that do not
    say their commit. Rows of a store have a ``key``, races and trials have less to say."""
    if rows is None:
        rows = pd.concat(_loaded) if _loaded else pd.DataFrame()
    if rows.empty or "git_commit" not in rows:
        return {}
    found, seconds = {"Rows": count(len(rows), "row")}, 0
    if "key" in rows:
        jobs, images = count(rows["key"].nunique(), "job"), count(rows["image"].nunique(), "image")
        found["Rows"] += f" of {jobs} on {images}"
        seconds = rows.groupby("key")["seconds"].max().sum() if "seconds" in rows else 0
    if "study" in rows:
        studies = rows[["study", "profile"]].drop_duplicates().itertuples(index=False)
        found["Study"] = "; ".join(f"{study}, profile {profile}" for study, profile in studies)
    if "codec_lmbda" in rows:
        codecs = [
            f"{name} (λ = {', '.join(f'{value:g}' for value in sorted(group['codec_lmbda'].unique()))})"
            for name, group in rows.groupby("codec")
        ]
        found["Codec"] = f"{' and '.join(codecs)}; refined in {_few(rows['dtype'])}"
    days = sorted({str(time)[:10] for time in rows["written"]}) if "written" in rows else []
    found["Computed"] = (
        (f"{' to '.join(dict.fromkeys((days[0], days[-1])))} " if days else "")
        + f"on {_few(rows['device'], '; ')}"
        + (f"; {count(round(seconds), 'second')} of refinement" if seconds else "")
    )
    commits = _few(commit[:7] + "+" * commit.endswith("+") for commit in rows["git_commit"] if commit)
    found["Software"] = (
        f"sgaplus{_of(rows, 'sgaplus_version')}"
        + (f" at git commit {commits}" if commits else " outside a checkout")
        + (f", torch{_of(rows, 'torch_version')}" if "torch_version" in rows else "")
    )
    return found


def machines(rows: pd.DataFrame, by: str) -> str:
    """On which machine each group of rows was computed, in words; empty where all were on one.

    Runs on one machine draw and round alike, so that part of their noise cancels in a difference.
    """
    places = rows.groupby(by)["device"].unique().map(" and ".join)
    groups = places.index.to_series().map("{}".format).groupby(places, sort=False).agg("; ".join)
    if len(groups) < 2:
        return ""
    named = " ".join(f"On {place}: {names}." for place, names in groups.items())
    return (
        "These runs are of different machines, which draw or round otherwise: a difference between them has"
        f" more noise than its interval says. {named}"
    )


def count(number: int, noun: str) -> str:
    """A number with its noun, as in ``1 image`` or ``1,016 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _few(values: Sequence[str] | pd.Series, separator: str = ", ") -> str:
    """Each value once, in the order in which they come first."""
    return separator.join(dict.fromkeys(map(str, values)))


def _of(rows: pd.DataFrame, name: str) -> str:
    """The values of a column, where there is one, after a space."""
    return f" {_few(rows[name])}" if name in rows else ""
