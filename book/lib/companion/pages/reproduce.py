"""The page on reproduction: what each study takes, from what its stored jobs took."""

import pandas as pd

from sgaplus.studies import reproduce, stored


def studies(profile: str) -> pd.DataFrame:
    """A line for each study of a profile in the order of its worth. Hours left rest on those of the stored
    rows, or are assumed where nothing is ``measured``."""
    found, lines = reproduce.studies_of(profile), []
    known = stored.tables(stored.results(found[0]))
    for study in found:
        kind = "cuda" if profile == "paper" else "cpu"
        state = stored.status(study, profile, kind=kind, known=known)
        rows = stored.rows_of(stored.store_of(study, profile))
        spent = _hours(rows) if len(rows) else pd.Series(dtype=float)
        lines.append(
            {"study": study.name, "shows": ", ".join(study.shows), "jobs": state.jobs, "rows": len(rows)}
            | {"spent": spent.sum(), "left": state.minutes_left / 60}
            | {"memory": state.memory or float("nan")}  # of no job
            | {"measured": state.measured}
            | {"devices": spent.to_dict()}
            | {"command": f"sgaplus study run {study.name} --profile {profile}"}
        )
    return pd.DataFrame(lines)


def by_device(table: pd.DataFrame) -> str:
    """The hours that the studies of a table took on each device, in words."""
    hours = pd.DataFrame(table["devices"].tolist()).sum()
    return "; ".join(f"{device}: {spent:.1f}" for device, spent in hours.items()) or "none"


def _hours(rows: pd.DataFrame) -> pd.Series:
    """What the jobs of rows took on each device."""
    jobs = rows.groupby("key").agg({"seconds": "max", "device": "first"})
    return jobs.groupby("device")["seconds"].sum() / 3600
