"""How fast a step of refinement is: stored measurements of `sgaplus bench`.

A *place* is a machine with the networks that run on it; a *way* is how our loop runs there: its number
format, how many pictures it refines together, and whether it is compiled.
"""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.bench import measurement
from sgaplus.bench.measurement import Settings
from sgaplus.errors import UserError

from .. import figures, palette
from ..tables import Col

_RANDOM = "random weights"
# How the columns of `load`, `compiled`, `formats` and `growth` are shown.
TIMES = {
    "batch_size": "pictures at a time",
    "format": "format",
    "reference_ms": Col("plain loop", 3, significant=True, under="step of a picture, ms"),
    "ours_ms": Col("this package", 3, significant=True, under="step of a picture, ms"),
    "ratio": Col("median [all pairs]", 2, ends=("ratio_min", "ratio_max"), under="times as fast"),
    "ratio_true_loss": Col("with true loss", 2, under="times as fast"),
    "per_megapixel": Col("s per megapixel", 3, significant=True),
    "reference_mib": Col("plain loop", 0, under="peak memory, MiB"),
    "ours_mib": Col("this package", 0, under="peak memory, MiB"),
}
CEILING = {
    "batch_size": "pictures at a time",
    "format": "format",
    "percent": Col("convolutions, % of the step", 0),
    "gflops": Col("step", 0, under="GFLOP/s"),
    "ceiling_gflops": Col("convolutions", 0, under="GFLOP/s"),
    "bound": Col("at most times as fast", 2),
}
COMPILED = {
    "batch_size": "pictures at a time",
    "dtype": "format",
    "gain": Col("times as fast", 2),
    "compile": Col("time to compile, s", 0),
    "pays": Col("pays off after steps", 0),
}
FORMATS = {
    "batch_size": "pictures at a time",
    "compiled": "compiled",
    "step": Col("step", 2, under="bfloat16, times as fast as float32"),
    "bare": Col("convolutions by themselves", 2, under="bfloat16, times as fast as float32"),
}
GROWTH = {
    "sizes": "sizes",
    "exponent": Col("exponent of the pixels [all pairs]", 2),
    "per_smallest": Col("smallest", 3, significant=True, under="s per megapixel of the picture"),
    "per_largest": Col("largest", 3, significant=True, under="s per megapixel of the picture"),
    "mib": Col("MiB for each further megapixel", 0),
}


def load(folder: str | Path, command: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measurements in ``folder``, files that ``sgaplus bench --out ….json`` has written.

    Args:
        command: what measures; named where nothing is stored.

    Returns:
        One line per file: the summary of `measurement.Measurement`, ``file``, ``place``, ``way``, ``format``
        (number format, and whether it is compiled) and ``pictures`` (their size) in words, ``megapixels`` of
        a picture, ``ratio_true_loss``, the ratio if our loop, too, computed the true loss at every step
        (median over pairs), and in other units what `TIMES` and `CEILING` show. One line per pair, with
        ``file``.

    Raises:
        UserError: nothing is stored, a file is no measurement, or two files are of the same configuration.
    """
    paths = sorted(path for path in Path(folder).glob("*.json") if not path.name.startswith("."))
    stored = {path.name: measurement.read(path) for path in paths}
    if not stored:
        raise UserError(f"{folder} holds no measurement: run {command}")
    rows = pd.DataFrame([{"file": name} | found.summary for name, found in stored.items()])
    pairs = pd.concat([found.table.assign(file=name) for name, found in stored.items()], ignore_index=True)
    codec = (rows["codec"] + ", ").where(rows["codec"] != _RANDOM, "")
    compiled = rows["compiled"].map({True: ", compiled", False: ""})
    counts = rows["batch_size"].map(lambda count: f", {count} picture{'s' * (count > 1)} at a time")
    rows = rows.assign(
        place=rows["device"]
        + "; "
        + codec
        + [f"N = {n}, M = {m}" for n, m in zip(rows["N"], rows["M"], strict=True)],
        way=rows["dtype"] + counts + compiled,
        format=rows["dtype"] + compiled,
        pictures=[f"{width} × {height}" for width, height in zip(rows["width"], rows["height"], strict=True)],
        megapixels=rows["width"] * rows["height"] / 1e6,
        ratio_true_loss=rows["file"].map(with_true_loss(pairs)),
        reference_ms=1000 * rows["reference_seconds"],
        ours_ms=1000 * rows["ours_seconds"],
        reference_mib=rows["reference_peak_bytes"].astype(float) / 2**20,
        ours_mib=rows["ours_peak_bytes"].astype(float) / 2**20,
        percent=100 * rows["share"],
        gflops=rows["flops_per_second"] / 1e9,
        ceiling_gflops=rows["ceiling_flops_per_second"] / 1e9,
        bound=(1 / rows["share"]).clip(lower=1),
    )
    rows["per_megapixel"] = rows["ours_seconds"] / rows["megapixels"]
    configuration = ["place", "way", "pictures"]
    for _, same in rows[rows.duplicated(configuration, keep=False)].groupby(configuration):
        raise UserError(
            f"{' and '.join(same['file'])} in {folder} measure the same: move all but one to another folder"
        )
    order = ["device_type", "place", "dtype", "batch_size", "compiled", "megapixels", "width"]
    ascending = [column != "dtype" for column in order]  # float32 first
    return rows.sort_values(order, ascending=ascending, ignore_index=True), pairs


def with_true_loss(pairs: pd.DataFrame) -> pd.Series:
    """By file, the plain loop's step over ours with a true loss, whose time noise can turn below 0."""
    ours = pairs["ours_seconds"] + pairs["true_loss_seconds"].clip(lower=0)
    return (pairs["reference_seconds"] / ours).groupby(pairs["file"]).median()


def span(values: pd.Series, form: str) -> str:
    """The smallest and the largest value, or one where both read the same."""
    return " to ".join(dict.fromkeys(format(value, form) for value in (values.min(), values.max())))


def figure(rows: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Seconds of a step per megapixel: the plain loop, ours, and the convolutions of ours by themselves.

    Bars are medians, whiskers reach over all pairs; the number beside ours is the median of the ratio and its
    extremes.

    Args:
        rows, pairs: as `load` returns them; a panel for each place.
    """
    kinds = {"plain loop": "reference", "this package": "ours", "its convolutions by themselves": "ceiling"}
    sides = ["file", "place", "pictures", "way", "megapixels"]
    table = pairs.drop(columns="pair").merge(rows[sides], on="file")
    long = pd.concat(
        [table.assign(kind=k, seconds=table[f"{v}_seconds"] / table["megapixels"]) for k, v in kinds.items()]
    )
    long["label"] = long["pictures"] + "\n" + long["way"]
    colours = dict(zip(kinds, ("0.72", palette.colour(5), palette.colour(0)), strict=True))

    def draw(axes: Axes, group: pd.DataFrame) -> None:
        order = (group["pictures"] + "\n" + group["way"]).tolist()
        own = long[long["place"] == group["place"].iloc[0]]
        sns.barplot(
            own, y="label", x="seconds", hue="kind", order=order, palette=colours, estimator="median",
            errorbar=("pi", 100), err_kws={"linewidth": 1, "color": "0.2"}, ax=axes,
        )  # fmt: skip
        texts = [f"{r.ratio:.2f}× [{r.ratio_min:.2f}, {r.ratio_max:.2f}]" for r in group.itertuples()]
        axes.bar_label(axes.containers[1], texts, padding=12, fontsize="small")
        axes.tick_params(axis="y", labelsize="small")
        axes.margins(x=0.15)

    parts = {place.replace("; ", "\n", 1): part for place, part in rows.groupby("place", sort=False)}
    size = (7.5, 0.7 + 0.72 * max(map(len, parts.values())))
    return figures.panels(parts, draw, xlabel="seconds of a step per megapixel", columns=1, size=size)


def _both(rows: pd.DataFrame, column: str, first: object, second: object) -> pd.DataFrame:
    """Configurations that are stored with either value of a column, that of ``second`` with ``_other``."""
    keys = {"place", "batch_size", "pictures", "dtype", "compiled"} - {column}
    sides = (rows[rows[column] == value] for value in (first, second))
    return next(sides).merge(next(sides), on=sorted(keys), suffixes=("", "_other"))


def compiled(rows: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast a compiled step is (gain), seconds to compile, steps until that pays off."""
    both = _both(rows, "compiled", False, True)
    saved = (both["ours_seconds"] - both["ours_seconds_other"]) * both["batch_size"]
    return both.assign(
        gain=both["ours_seconds"] / both["ours_seconds_other"],
        compile=both["compile_seconds_other"].astype(float),
        pays=(both["compile_seconds_other"].astype(float) / saved).where(saved > 0),
    )


def formats(rows: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast bfloat16 is as float32: our step, and its convolutions by themselves (bare)."""
    both = _both(rows, "dtype", "float32", "bfloat16")
    step, bare = (both[x] / both[f"{x}_other"] for x in ("ours_seconds", "ceiling_seconds"))
    return both.assign(step=step, bare=bare)


def growth(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """How the time of a step grows with the pixels of a picture, t ∝ pixels^exponent: least squares of
    logarithms.

    Args:
        rows, pairs: as `load` returns them.

    Returns:
        A line for each place and way that has several sizes: place, way, sizes (their number), exponent (of
        the medians), exponent_low and exponent_high (extremes over pairs, the i-th ones of all sizes
        together), per_smallest and per_largest (seconds per megapixel of the smallest and the largest size),
        mib (peak memory that each further megapixel takes, from those two; NaN where the system does not
        say).
    """
    lines = []
    for (place, way), group in rows.groupby(["place", "way"], sort=False):
        if group["megapixels"].nunique() < 2:
            continue
        times = [pairs.loc[pairs["file"] == file, "ours_seconds"].to_numpy() for file in group["file"]]
        shared = min(map(len, times))
        runs = np.stack([group["ours_seconds"], *np.stack([t[:shared] for t in times], 1)])
        exponents = np.polyfit(np.log(group["megapixels"]), np.log(runs).T, 1)[0]
        ends = group.sort_values("megapixels").iloc[[0, -1]]
        per_smallest, per_largest = ends["per_megapixel"]
        memory = ends["ours_mib"].diff() / (ends["megapixels"] * ends["batch_size"]).diff()
        lines.append(
            {"place": place, "way": way, "sizes": len(group), "exponent": exponents[0]}
            | {"exponent_low": exponents[1:].min()}
            | {"exponent_high": exponents[1:].max()}
            | {"per_smallest": per_smallest, "per_largest": per_largest, "mib": memory.iloc[-1]}
        )
    return pd.DataFrame(lines)


def commands(rows: pd.DataFrame, folder: str | Path) -> str:
    """The shell commands that measure the configurations in `load`'s rows again, each on its own machine."""
    lines = []
    for row in rows.to_dict("records"):
        given = {f.name: row[f.name] for f in fields(Settings)} | {"device": row["device_type"]}
        by_quality = not pd.isna(row["quality"])
        given["quality"] = int(row["quality"]) if by_quality else None
        if by_quality or row["codec"] == _RANDOM:
            given["lmbda"] = None
        if row["codec"] == _RANDOM:
            given["codec"] = None
        out = (Path(folder) / row["file"]).as_posix()
        lines.append(shlex.join(["sgaplus", "bench", *Settings(**given).arguments(), "--out", out]))
    return "\n".join(lines)


def origin(rows: pd.DataFrame) -> str:
    """With which source, library and settings the measurements were made."""
    days = rows["written"].str[:10]
    commits = rows["git_commit"].map(lambda commit: commit[:7] + "+" * commit.endswith("+") or "none")
    return (
        f"<small>Measured {' to '.join(dict.fromkeys((days.min(), days.max())))} with"
        f" {', '.join(rows['method'].unique())} at git commit {', '.join(commits.unique())} and torch"
        f" {', '.join(rows['torch_version'].unique())}: {span(rows['pairs'], 'd')} pairs of"
        f" {span(rows['steps'], 'd')} timed steps.</small>"
    )
