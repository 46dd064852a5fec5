"""Rate-distortion curves of the bundled codecs without refinement, and how they compare with published ones,
which come as means over images: only the images of our side are resampled.
"""

from collections.abc import Sequence

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
from sgaplus.store import Store

from .. import figures, palette, reference, statistics, unplanned
from .beside_published import against


def measure(store: Store, images: Sequence[ImageFile], name: str) -> None:
    """Store the unrefined point of every bundled codec on every image, packed as ``<name>.parquet``.

    What is stored already is not computed again. Codecs run in float32, whatever the machine prefers.
    """
    for card in cards():
        codec = load_codec(card.name, card.lmbda, dtype="float32")
        unplanned.refine_stored(store, codec, images, MAP(), iterations=0)
    if any((store.root / "jobs").glob("*.parquet")):
        store.pack(name)


def load(store: Store, command: str) -> pd.DataFrame:
    """The unrefined points in ``store``: one line per bundled codec and image, with the codec's name and λ as
    family and lmbda; an error names the ``command`` that computes them."""
    try:
        rows = unplanned.rows(store)
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


def of_families(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The curve of each family in `load`'s rows; all families and points share the images that are drawn.

    A *curve* has bpp, psnr (dB, of the clamped 8-bit images) and mse (of the decoder's raw output) by λ in
    its columns, as means over all images in its first row, and over bootstrap samples of them in the others.
    """
    rows = rows.assign(psnr=rows["psnr_8bit"])
    wide = rows.pivot_table(index="image", columns=["family", "lmbda"], values=["bpp", "psnr", "mse"])
    samples = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    return {name: samples.xs(name, axis=1, level="family") for name in sorted(rows["family"].unique())}


def points(curve: pd.DataFrame) -> pd.DataFrame:
    """One row per λ: lmbda, and the means bpp and psnr (dB) with their intervals."""
    sides = [statistics.with_interval(name, curve[name].to_numpy()) for name in ("bpp", "psnr")]
    return pd.DataFrame({"lmbda": list(curve["bpp"])} | sides[0] | sides[1])


def gaps(curve: pd.DataFrame, published: pd.DataFrame, codec: str) -> dict[str, np.ndarray]:
    """How far each point lies from a published curve, interpolated by pchip over the logarithm of the rate:
    in PSNR at our rate (dB), and in rate at our PSNR (percent), (1 + resamples, points) each; NaN where the
    published curve does not reach."""
    rate, psnr = reference.curve(published, codec)
    bpp, ours = curve["bpp"].to_numpy(), curve["psnr"].to_numpy()
    decibel = ours - interpolate(np.log(rate), psnr, "pchip")(np.log(bpp))
    excess = 100 * (bpp / np.exp(interpolate(psnr, np.log(rate), "pchip")(ours)) - 1)
    within = [(side[0] <= x[0]) & (x[0] <= side[-1]) for side, x in ((rate, bpp), (psnr, ours))]
    return {"decibel": np.where(within[0], decibel, np.nan), "rate": np.where(within[1], excess, np.nan)}


def compare(curve: pd.DataFrame, published: pd.DataFrame, codec: str) -> dict[str, float | str]:
    """A family against one published curve: the PSNR in common, BD-rate (percent), means over λ of `gaps`."""
    theirs, ours = reference.curve(published, codec)[1], curve["psnr"].iloc[0]
    line: dict[str, float | str] = {
        "reference": reference.NAMES[codec],
        "psnr_low": max(ours.min(), theirs[0]),
        "psnr_high": min(ours.max(), theirs[-1]),
    }
    line |= against(codec, published, "bd_rate", curve["bpp"].to_numpy(), curve["psnr"].to_numpy())
    for name, values in gaps(curve, published, codec).items():
        reached = values[:, np.isfinite(values[0])]
        if not reached.size:
            raise UserError(f"{codec} was not published at the rates of this family: compare it with another")
        line |= statistics.with_interval(name, reached.mean(1))
    return line


def slopes(curve: pd.DataFrame) -> pd.DataFrame:
    """What a smaller distortion costs between neighbours on the curve, ΔR / (255²·ΔD), in the unit of λ, and
    whether that lies between their λ.

    A lower slope means that the codec of the larger λ has the smaller loss at the smaller λ too, a higher one
    the reverse.
    """
    steps = {name: np.diff(curve[name].to_numpy(), axis=1) for name in ("bpp", "psnr", "mse")}
    lmbda = curve["bpp"].columns.to_numpy()
    changes = {"delta_bpp": steps["bpp"][0], "delta_psnr": steps["psnr"][0]}
    changes |= statistics.with_interval("slope", steps["bpp"] / (255**2 * -steps["mse"]))
    table = pd.DataFrame({"lower": lmbda[:-1], "upper": lmbda[1:]} | changes)
    return table.assign(between=table["slope"].between(table["lower"], table["upper"]))


def as_they_should(table: pd.DataFrame) -> bool:
    """Whether one family's `slopes` are monotone, convex (D as a function of R), and fit all its λ."""
    rises = (table[["delta_bpp", "delta_psnr"]] > 0).all(axis=None)
    return bool(rises and table["slope"].is_monotonic_increasing and table["between"].all())


def looks(families: Sequence[str]) -> dict[str, dict]:
    """Families in black and greys, which no published curve has."""
    styles = (("black", "o"), ("0.45", "s"), ("0.7", "D"))
    names = zip(sorted(set(families)), styles, strict=False)
    return {name: {"color": colour, "marker": marker} for name, (colour, marker) in names}


def training(log: pd.DataFrame) -> Figure:
    """How far the losses in `families.training_log`, with the network's name, lie above those of the end, as
    means over 2500 steps: a row for each network, over crops and over hours, from the first stage whose crops
    are known; a line for each λ, points for held-out photographs."""
    log = log.dropna(subset=["crops"])
    if log.empty:
        raise UserError(
            "no training curve lies beside the weights of the bundled codecs: restore data/models"
        )
    colours, block = palette.ordered(log["lmbda"]), (log["step"] // 2500).rename("block")
    log = log.groupby(["network", "stage", "lmbda", block], sort=False, as_index=False).mean()
    for loss in ("loss", "held_out_loss"):
        log[loss] = 100 * (log[loss] / log.groupby(["network", "lmbda"])[loss].transform("last") - 1)
    log = log.assign(crops=log["crops"] / 1000, hours=log["seconds"] / 3600)

    def draw(axes: Axes, part: tuple[str, str, pd.DataFrame]) -> None:
        x, label, rows = part
        for lmbda, colour in colours.items():
            axes.plot([], [], color=colour, label=f"λ = {lmbda:g}")
        for (_, lmbda), line in rows.groupby(["stage", "lmbda"]):
            axes.plot(line[x], line["loss"], color=colours[lmbda])
            axes.plot(line[x], line["held_out_loss"], "o", color=colours[lmbda], markersize=4)
        axes.plot([], [], "o", color="0.4", markersize=4, label="held-out photographs")
        axes.set(xlabel=label, ylim=(-2, 35))

    parts = {}
    for name, rows in log.groupby("network", sort=False):
        parts |= {name: ("crops", "crops (thousands)", rows), f"{name} ": ("hours", "hours", rows)}
    return figures.panels(parts, draw, ylabel="above the end, %", size=(3.4, 2.2), columns=2, zero=True)


def last_stages(log: pd.DataFrame) -> dict[str, float]:
    """By how many percent the last stage of training changed the held-out loss, mean over λ, of each network
    in `training`'s log whose stage before has one too."""
    ends = log.dropna(subset=["held_out_loss"]).groupby(["network", "lmbda", "stage"])["held_out_loss"].last()
    changes = 100 * (ends / ends.groupby(["network", "lmbda"]).shift() - 1)
    return (
        changes.groupby(["network", "lmbda"]).last().dropna().groupby("network", sort=False).mean().to_dict()
    )
