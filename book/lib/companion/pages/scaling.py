"""How a study scales over workers: simulations, measurements, and an estimate for the paper's protocol.

`companion.scaling_runs` makes the stored tables.
"""

import heapq
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import figures, palette


def load(folder: Path, name: str) -> pd.DataFrame:
    """A stored table."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"there is no {path}: run `python -m companion.scaling_runs {name} {path}`")
    return pd.read_csv(path)


def shards(protocol: pd.DataFrame, rate: float) -> list[float]:
    """Seconds of every shard in order, for a GPU of so many multiplications per second."""
    return (protocol["operations"] / rate).repeat(protocol["count"]).tolist()


def makespan(seconds: Sequence[float], gpus: int) -> float:
    """Seconds until the last shard is done where each goes to the GPU that is free first."""
    free = [0.0] * gpus
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def estimate(protocol: pd.DataFrame, rate: float, watts: float, counts: Sequence[int]) -> pd.DataFrame:
    """Hours, busy share and energy of the protocol on so many GPUs; an idle GPU counts as a busy one."""
    seconds = shards(protocol, rate)
    table = pd.DataFrame({"gpus": counts, "hours": [makespan(seconds, n) / 3600 for n in counts]})
    table["busy"] = 100 * sum(seconds) / 3600 / (table["gpus"] * table["hours"])
    return table.assign(energy=table["gpus"] * table["hours"] * watts / 1000)


def by_study(protocol: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Jobs, shards and hours of each study."""
    each = protocol.assign(
        jobs=protocol["jobs"] * protocol["count"],
        shards=protocol["count"],
        hours=protocol["operations"] * protocol["count"] / rate / 3600,
    )
    return each.groupby("study", sort=False)[["jobs", "shards", "hours"]].sum().reset_index()


def measured(folder: Path) -> pd.DataFrame:
    """The measurements here, medians over repetitions; ``outside``: seconds without a shard."""
    if not (folder / "measure.csv").is_file():
        return pd.DataFrame()
    rows = load(folder, "measure")
    names = {0: "in one process", 1: "one worker", 2: "two workers"}
    rows = rows.assign(
        way=rows["workers"].map(names),
        per_minute=60 * rows["jobs"] / rows["wall"],
        outside=rows["wall"] - rows["busy"] / rows["workers"].clip(lower=1),
    )
    columns = ["wall", "busy", "outside", "per_minute", "idle", "load", "shards"]
    table = rows.groupby(["workers", "way"])[columns].median()
    return table.reset_index().assign(idle=lambda found: 100 * found["idle"])


def overhead(measurements: pd.DataFrame) -> float:
    """Seconds that a shard costs one worker more than it costs the process that would compute it itself."""
    of = measurements.set_index("workers")
    return float((of.loc[1, "outside"] - of.loc[0, "outside"]) / of.loc[1, "shards"])


def figure(protocol: pd.DataFrame, rate: float) -> Figure:
    """Hours of the protocol over GPUs."""
    hours = estimate(protocol, rate, 0.0, [2**n for n in range(11)])

    def draw(axes: Axes, hours: pd.DataFrame) -> None:
        axes.plot(hours["gpus"], hours["hours"], color=palette.colour(4), marker="o", label="estimate")
        ideal = hours["hours"].iloc[0] / hours["gpus"]
        axes.plot(hours["gpus"], ideal, color="0.5", linestyle="--", label="hours of one GPU, divided")
        axes.set(xscale="log", yscale="log", xlabel="GPUs")

    return figures.panels({"Hours of the paper's protocol": hours}, draw, size=(5.0, 3.2), legend=2)
