"""How fast a step of refinement is: stored measurements of `sgaplus bench`.

A *place* is a machine with the networks that run on it; a *way* is how our loop runs there: its number
format, how many pictures it refines together, and whether it is compiled.
"""

import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.bench import instructions, measurement
from sgaplus.bench.measurement import Settings
from sgaplus.errors import UserError

from .. import figures, palette, provenance

_RANDOM = "random weights"


def instruction_sets(folder: Path) -> pd.DataFrame:
    """`bench.instructions.compared` of the measurements in ``folder``, by processor (``processor``).

    A processor of another file counts as another one. Empty where nothing is stored.
    """
    by_processor: dict[str, list[measurement.Measurement]] = {}
    for path in sorted(folder.glob("*.json")):
        found = measurement.read(path)
        s = found.summary
        what = f"{s['device'].rpartition(',')[0]}; N = {s['N']}, M = {s['M']}; {s['width']} × {s['height']}"
        by_processor.setdefault(what, []).append(found)
    if not by_processor:
        return pd.DataFrame()
    tables = [instructions.compared(found).assign(processor=what) for what, found in by_processor.items()]
    order = {known.name: i for i, known in enumerate(instructions.KNOWN)}
    table = pd.concat(tables).assign(order=lambda table: table["instructions"].map(order))
    return table.sort_values(["processor", "order", "threads"], ignore_index=True)


def with_instructions(devices: pd.Series, folder: Path | None = None) -> pd.Series:
    """Devices, such as "Xeon, 1 thread", with the newest instructions of the processor in brackets.

    Args:
        folder: of `instruction_sets`, the checkout's own where None; a processor of none of them stays as it
            is.
    """
    ages = {known.name: age for age, known in enumerate(instructions.KNOWN)}
    found: dict[str, list[str]] = {}
    for path in (folder or provenance.folder(None, "step-speed") / "instructions").glob("*.json"):
        summary = measurement.read(path).summary
        found.setdefault(summary["device"].rpartition(",")[0], []).append(summary["instructions"])
    newest = {name: min(sets, key=ages.__getitem__) for name, sets in found.items()}

    def named(device: str) -> str:
        name, comma, threads = device.rpartition(",")
        return f"{name} ({newest[name]}){comma}{threads}" if name in newest else device

    return devices.map(named)


def load(folder: str | Path, command: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measurements in ``folder``, files that ``sgaplus bench --out ….json`` (``command``) has written.

    Returns:
        One line per file: the summary of `measurement.Measurement`, and what the tables ``step-speed…`` show.
        ``ratio_true_loss`` is the ratio if our loop, too, computed the true loss at every step. And one line
        per pair, with ``file``.
    """
    paths = sorted(path for path in Path(folder).glob("*.json") if not path.name.startswith("."))
    stored = {path.name: measurement.read(path) for path in paths}
    if not stored:
        raise UserError(f"{folder} holds no measurement: run {command}")
    rows = pd.DataFrame([{"file": name} | found.summary for name, found in stored.items()])
    rows = rows.rename(columns={"ratio_min": "ratio_low", "ratio_max": "ratio_high"})
    pairs = pd.concat([found.table.assign(file=name) for name, found in stored.items()], ignore_index=True)
    codec = (rows["codec"] + ", ").where(rows["codec"] != _RANDOM, "")
    processors = with_instructions(rows["device"], Path(folder) / "instructions")
    compiled = rows["compiled"].map({True: ", compiled", False: ""})
    counts = rows["batch_size"].map(lambda count: f", {count} pictures at a time" * (count > 1))
    n, m, width, height = (rows[name].astype(str) for name in ("N", "M", "width", "height"))
    rows = rows.assign(
        place=processors + "; " + codec + "N = " + n + ", M = " + m,
        way=rows["dtype"] + counts + compiled,
        format=rows["dtype"] + compiled,
        pictures=width + " × " + height,
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
    """Seconds of a step per megapixel, a panel for each place. Bars are medians, whiskers reach over all
    pairs; the number beside ours is the median of the ratio and its extremes."""
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
        texts = [f"{r.ratio:.2f}× [{r.ratio_low:.2f}, {r.ratio_high:.2f}]" for r in group.itertuples()]
        ends = own[own["kind"] == "this package"].groupby("label")["seconds"].max()
        for bar, label, text in zip(axes.containers[1], order, texts, strict=True):
            where = ends[label], bar.get_y() + bar.get_height() / 2
            axes.annotate(text, where, (6, 0), textcoords="offset points", va="center", fontsize="small")
        axes.tick_params(axis="y", labelsize="small")
        axes.margins(x=0.15)

    # A processor's name has a line of its own, so that it fits a phone.
    broken = rows["place"].str.replace(r", (?=\d+ thread)|; ", "\n", n=1, regex=True)
    parts = dict(list(rows.groupby(broken, sort=False)))
    heights = [1 + len(part) for part in parts.values()]
    share = {"height_ratios": heights, "size": (7.5, 0.58 * sum(heights) / len(heights)), "columns": 1}
    return figures.panels(parts, draw, xlabel="seconds of a step per megapixel", legend=3, **share)


def both(rows: pd.DataFrame, column: str, first: object, second: object) -> pd.DataFrame:
    """Measurements that are stored with either value of a column, that of ``second`` with ``_other``."""
    keys = sorted({"place", "batch_size", "pictures", "dtype", "compiled"} - {column})
    sides = (rows[rows[column] == value] for value in (first, second))
    return next(sides).merge(next(sides), on=keys, suffixes=("", "_other"))


def compiled(rows: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast a compiled step is (gain), seconds to compile, steps until that pays off."""
    table = both(rows, "compiled", False, True)
    saved = (table["ours_seconds"] - table["ours_seconds_other"]) * table["batch_size"]
    seconds = table["compile_seconds_other"].astype(float)
    gain = table["ours_seconds"] / table["ours_seconds_other"]
    return table.assign(gain=gain, compile=seconds, pays=(seconds / saved).where(saved > 0))


def exponents(rows: pd.DataFrame) -> pd.Series:
    """b of t ∝ pixels^b, least squares of logarithms, for each place and way that has several sizes."""
    found = {
        names: np.polyfit(np.log(group["megapixels"]), np.log(group["ours_seconds"]), 1)[0]
        for names, group in rows.groupby(["place", "way"], sort=False)
        if len(group["megapixels"].unique()) > 1
    }
    return pd.Series(found, dtype=float)


def commands(rows: pd.DataFrame, folder: str | Path) -> str:
    """The shell commands that measure the configurations in `load`'s rows again, each on its own machine."""
    lines = []
    for row in rows.to_dict("records"):
        given = {f.name: row[f.name] for f in fields(Settings)} | {"device": row["device_type"]}
        by_quality, untrained = not pd.isna(row["quality"]), row["codec"] == _RANDOM
        given["quality"] = int(row["quality"]) if by_quality else None
        given["lmbda"] = None if by_quality or untrained else row["lmbda"]
        given["codec"] = None if untrained else row["codec"]
        out = (Path(folder) / row["file"]).as_posix()
        lines.append(shlex.join(["sgaplus", "bench", *Settings(**given).arguments(), "--out", out]))
    return "\n".join(lines)
