"""Rate-distortion curves of the bundled codecs without refinement, and how they compare with published ones.

Intervals are 95 % percentile bootstrap intervals over the images of our side; published curves come as means
over images and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bjontegaard.interpolation import interpolate
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.codecs.bundled import cards
from sgaplus.codecs.weights import load_codec
from sgaplus.data.datasets import ImageFile
from sgaplus.errors import UserError
from sgaplus.rounding import MAP
from sgaplus.store import Store, refine_stored

from .. import figures, palette, reference, statistics


def measure(store: Store, images: Sequence[ImageFile], name: str) -> None:
    """Store the unrefined point of every bundled codec on every image, packed as ``<name>.parquet``.

    What is stored already is not computed again. Codecs run in float32, whatever the machine prefers.
    """
    for card in cards():
        codec = load_codec(card.name, card.lmbda, dtype="float32")
        refine_stored(store, codec, images, MAP(), iterations=0, read_offs=())
    if any((store.root / "jobs").glob("*.parquet")):
        store.pack(name)


def load(store: Store, command: str) -> pd.DataFrame:
    """The unrefined points in ``store``: one line per bundled codec and image.

    Args:
        command: what computes them; named where they are missing.

    Returns:
        The rows of `store.Store`, with the codec's name and λ as family and lmbda.

    Raises:
        UserError: nothing is stored, a line is of other weights, or a bundled codec lacks an image that
            another one has.
    """
    try:
        rows = store.of_bundled_codecs()
    except UserError as error:
        raise UserError(f"{error} ({command})") from error
    rows = rows[rows["iteration"] == 0].drop_duplicates(["codec_sha256", "image_sha256"])
    images, counts = rows["image_sha256"].nunique(), rows["codec_sha256"].value_counts()
    for card in cards():
        if counts.get(card.sha256, 0) < images:
            raise UserError(
                f"{store.root} lacks images of {card.name} with lambda {card.lmbda:g}: compute them"
                f" ({command})"
            )
    rows = rows.drop(columns="lmbda").rename(columns={"codec": "family", "codec_lmbda": "lmbda"})
    return rows.sort_values(["family", "lmbda", "image"], ignore_index=True)


@dataclass(frozen=True, eq=False)
class Curve:
    """One family's points, each as means over images: of all images, and of bootstrap samples of them.

    Attributes:
        family: its name.
        lmbda: λ in ascending order, (points,).
        bpp: estimated bits per pixel of the hard latents, (points, 1 + resamples), all images first.
        psnr: PSNR in dB of the clamped 8-bit images, likewise.
        mse: mean squared error of the decoder's raw output, likewise.
    """

    family: str
    lmbda: np.ndarray
    bpp: np.ndarray
    psnr: np.ndarray
    mse: np.ndarray


def of_families(rows: pd.DataFrame) -> list[Curve]:
    """The curve of each family in `load`'s rows; all families and points share the images that are drawn."""
    names = ["bpp", "psnr_8bit", "mse"]
    wide = rows.pivot_table(index="image", columns=["family", "lmbda"], values=names)
    samples = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    return [
        Curve(
            str(family),
            np.array(sorted(group["lmbda"].unique())),
            *(samples[name, family].sort_index(axis=1).to_numpy().T for name in names),
        )
        for family, group in rows.groupby("family")
    ]


def _with_interval(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Value and ends of its interval, each under its name, from (…, 1 + resamples)."""
    low, high = statistics.ends(np.moveaxis(values, -1, 0))
    return {name: values[..., 0], f"{name}_low": low, f"{name}_high": high}


def points(curve: Curve) -> pd.DataFrame:
    """One row per λ: family, lmbda, and the means bpp and psnr (dB), each with ``_low`` and ``_high``."""
    table = pd.DataFrame({"lmbda": curve.lmbda})
    table.insert(0, "family", curve.family)
    return table.assign(**_with_interval("bpp", curve.bpp), **_with_interval("psnr", curve.psnr))


def _distances(curve: Curve, published: pd.DataFrame, codec: str) -> dict[str, np.ndarray]:
    """Distances of each point from a published curve, (points, 1 + resamples); NaN beyond its ends."""
    rate, psnr = reference.curve(published, codec)
    decibel = curve.psnr - interpolate(np.log(rate), psnr, "pchip")(np.log(curve.bpp))
    excess = 100 * (curve.bpp / np.exp(interpolate(psnr, np.log(rate), "pchip")(curve.psnr)) - 1)
    within = [
        (theirs[0] <= ours) & (ours <= theirs[-1])
        for ours, theirs in ((curve.bpp[:, 0], rate), (curve.psnr[:, 0], psnr))
    ]
    return {
        name: np.where(there[:, None], values, np.nan)
        for name, values, there in zip(("decibel", "rate"), (decibel, excess), within, strict=True)
    }


def gaps(curve: Curve, published: pd.DataFrame, codec: str) -> pd.DataFrame:
    """How far each point lies from a published curve, which pchip interpolates over the logarithm of the
    rate.

    Args:
        published: as `reference.published` returns it.
        codec: one of its codecs.

    Returns:
        The rows of `points` with decibel, our PSNR minus the published one at our rate; and rate, by how
        many percent our rate exceeds the published one at our PSNR; each with its interval. NaN where the
        published curve does not reach.
    """
    distances = _distances(curve, published, codec)
    ends = {
        key: value
        for name, values in distances.items()
        for key, value in _with_interval(name, values).items()
    }
    return points(curve).assign(**ends)


def compare(curve: Curve, published: pd.DataFrame, codec: str) -> dict[str, float | str]:
    """A family against one published curve.

    Returns:
        family; reference, the readable name; psnr_low and psnr_high, the range in dB that both curves cover;
        bd_rate in percent (pchip), NaN for fewer than four λ and where PSNR does not grow with the rate;
        decibel and rate, the means over λ of `gaps`; each of the three with its interval.

    Raises:
        UserError: the published curve does not reach the family's.
    """
    anchor, ours = reference.curve(published, codec), curve.psnr[:, 0]
    bd_rates = [statistics.bd_rate(anchor, pair) for pair in zip(curve.bpp.T, curve.psnr.T, strict=True)]
    line: dict[str, float | str] = {
        "family": curve.family,
        "reference": reference.NAMES[codec],
        "psnr_low": max(ours.min(), anchor[1][0]),
        "psnr_high": min(ours.max(), anchor[1][-1]),
        **_with_interval("bd_rate", np.array(bd_rates)),
    }
    for name, values in _distances(curve, published, codec).items():
        reached = values[np.isfinite(values[:, 0])]
        if not len(reached):
            raise UserError(
                f"{codec} was not published at the rates of {curve.family}: compare it with another"
            )
        line |= _with_interval(name, reached.mean(0))
    return line


def slopes(curve: Curve) -> pd.DataFrame:
    """What a smaller distortion costs between neighbours on the curve, ΔR / (255²·ΔD), in the unit of λ.

    Were each codec the best of the family for its own λ, the slope would lie between the two λ: a lower one
    means that the codec of the larger λ has the smaller loss at the smaller λ too, a higher one the reverse.

    Returns:
        One row per pair of neighbours: family, lower and upper (their λ), delta_bpp, delta_psnr (dB), slope
        with slope_low and slope_high, and between, whether it lies between the λ.
    """
    steps = np.diff(curve.bpp, axis=0) / (255**2 * -np.diff(curve.mse, axis=0))
    lower, upper = curve.lmbda[:-1], curve.lmbda[1:]
    table = pd.DataFrame(
        {
            "lower": lower,
            "upper": upper,
            "delta_bpp": np.diff(curve.bpp[:, 0]),
            "delta_psnr": np.diff(curve.psnr[:, 0]),
            **_with_interval("slope", steps),
            "between": (lower <= steps[:, 0]) & (steps[:, 0] <= upper),
        }
    )
    table.insert(0, "family", curve.family)
    return table


def shape(table: pd.DataFrame) -> dict[str, bool]:
    """Whether one family's `slopes` are monotone, convex (D as a function of R), and fit all its λ."""
    return {
        "monotone": bool((table[["delta_bpp", "delta_psnr"]] > 0).all(axis=None)),
        "convex": bool((table["slope"].diff().dropna() > 0).all()),
        "fits": bool(table["between"].all()),
    }


def looks(families: Sequence[str]) -> dict[str, dict]:
    """Families in black and greys, which no published curve has."""
    styles = (("black", "o"), ("0.45", "s"), ("0.7", "D"))
    return {
        str(name): {"color": colour, "marker": marker}
        for name, (colour, marker) in zip(sorted(set(families)), styles, strict=False)
    }


def gaps_figure(table: pd.DataFrame) -> Figure:
    """`gaps` with the published codec's name as ``reference``: a panel for each, a line per family."""

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        for name, look in looks(table["family"]).items():
            rows = part[part["family"] == name]
            axes.plot(rows["bpp"], rows["decibel"], **look, label=name, zorder=4 - len(rows) / 100)

    parts = {name.replace(" (", "\n("): part for name, part in table.groupby("reference", sort=False)}
    return figures.panels(parts, draw, rate=True, zero=True, ylabel="PSNR − published (dB)", sharey=True)


def training(log: pd.DataFrame, window: int = 25) -> Figure:
    """Training loss over all stages, a panel for each family and a line for each λ.

    Args:
        log: `families.training_log` of all codecs, concatenated.
        window: entries of the log that the running mean spans, within a stage.

    Raises:
        UserError: there is no log.
    """
    if log.empty:
        raise UserError(
            "no training curve lies beside the weights of the bundled codecs: restore data/models"
        )
    colours = palette.ordered(log["lmbda"])

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for lmbda, colour in colours.items():
            axes.plot([], [], color=colour, label=f"λ = {lmbda:g}")
        for (lmbda, _), stage in rows.groupby(["lmbda", "stage"]):
            mean = stage["loss"].rolling(window, min_periods=1, center=True).mean()
            axes.plot(stage["step"] / 1000, mean, color=colours[lmbda], linewidth=1.6)
        starts = rows.groupby("stage")["step"].min() / 1000
        for start in starts:
            axes.axvline(start, color="0.6", linewidth=0.8, zorder=0)
        # Stages that begin within the width of a label share it.
        near = (starts.diff() > 0.03 * rows["step"].max() / 1000).cumsum()
        for _, group in starts.groupby(near):
            text, at = ", ".join(map(str, group.index)), (group.iloc[0], 1)
            axes.annotate(text, at, (3, -3), ("data", "axes fraction"), "offset points", va="top")
        axes.set(yscale="log")
        figures.plain_numbers(axes.yaxis)

    parts = dict(iter(log.groupby("family")))
    names = {"xlabel": "optimiser steps (thousands)", "ylabel": "training loss"}
    return figures.panels(parts, draw, **names, size=(7.5, 3.4), columns=1)
