"""Where our curves stand beside published ones, whose numbers are means over whole photographs.

PSNR is that of the clamped 8-bit image here, as for conventional codecs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES

from .. import cells, figures, palette, reference, statistics, tables
from ..configurations import BASE
from ..tables import Col

# bpp and PSNR, (1 + resamples, λ) each, by configuration.
Curves = dict[str, tuple[pd.DataFrame, pd.DataFrame]]


def place(rows: pd.DataFrame) -> Curves:
    """Each configuration's curve of means over whole photographs, and resamples of what refinement changes:
    the ratio of the rates and the difference of the PSNR of their images, applied to the base's mean over
    all, since published curves are fixed. What lacks an image is left out, and configurations of one λ."""
    values = ["bpp", "psnr_8bit"]
    wide = rows.pivot_table(index="image", columns=["configuration", "lmbda"], values=values).dropna(axis=1)
    samples = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    bpp, psnr = samples["bpp"], samples["psnr_8bit"]
    found: Curves = {BASE: (bpp[BASE].iloc[:1], psnr[BASE].iloc[:1])}
    for name in palette.in_order(set(bpp.columns.get_level_values("configuration")) - {BASE}):
        shared = bpp[name].columns.intersection(bpp[BASE].columns)
        if len(shared) > 1:
            rate = (bpp[name] / bpp[BASE] * bpp[BASE].iloc[0])[shared]
            found[name] = rate, (psnr[name] - psnr[BASE] + psnr[BASE].iloc[0])[shared]
    return found


def figure(placed: Curves, published: pd.DataFrame, drawn: Sequence[str]) -> Figure:
    """Our curves and published ones, in the range of rates of ours and a little beyond."""
    ours = {name: {"bpp": bpp.iloc[0], "psnr": psnr.iloc[0]} for name, (bpp, psnr) in placed.items()}
    parts = [pd.DataFrame(curve).assign(name=name) for name, curve in ours.items()]
    return figures.rd_curves(pd.concat(parts), published, drawn, palette.looks(placed))


def compare(placed: Curves, published: pd.DataFrame, drawn: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """BD-rate in percent of each of our curves (the columns), at the λ that all of them have, against each
    published one (the rows), with intervals; and the number of λ."""
    common = sorted(set.intersection(*(set(bpp.columns) for bpp, _ in placed.values())))
    lines = []
    for codec in drawn:
        line = {"name": published.loc[published["codec"] == codec, "name"].iloc[0]}
        for name, sides in placed.items():
            line |= against(codec, published, name, *(side[common].to_numpy() for side in sides))
        lines.append(line)
    return pd.DataFrame(lines), len(common)


def against(
    codec: str, published: pd.DataFrame, name: str, bpp: np.ndarray, psnr: np.ndarray
) -> dict[str, float]:
    """BD-rate of a curve, bpp and PSNR (1 + resamples, λ), against a published one, as ``name``."""
    anchor = reference.curve(published, codec)
    values = [statistics.bd_rate(anchor, pair) for pair in zip(bpp, psnr, strict=True)]
    return statistics.with_interval(name, np.array(values))


def sga(dataset: str, lines: pd.DataFrame, name: str, images: int, iteration: int) -> pd.DataFrame:
    """The published BD-rate against its own base, and that of ``name`` in `rate_distortion.deltas`
    where ``images``, refined to an iteration, are all whole photographs of the data set."""
    total = SOURCES[dataset].images
    found = [{"curve": "published, of means", "iterations": 2000, "photographs": total}]
    found[0]["bd_rate"] = reference.sga_gain(reference.published(dataset))
    own = lines[(lines["anchor"] == BASE) & (lines["configuration"] == name)] if len(lines) else lines
    for row in own.to_dict("records") if images == total else []:
        for column, kind in (("means_bd_rate", "of means"), ("bd_rate", "mean over photographs")):
            ends = {f"bd_rate{end}": row[f"{column}{end}"] for end in ("", "_low", "_high")}
            found.append({"curve": f"here, {kind}", "iterations": iteration, "photographs": images} | ends)
    return pd.DataFrame(found)


def show(rows: pd.DataFrame, dataset: str, drawn: Sequence[str], name: str) -> None:
    """Display figure and table where all photographs of the data set were refined, as of published means."""
    total = SOURCES[dataset].images
    if not len(drawn) or rows["image"].str.contains("@").any() or rows["image"].nunique() < total:
        return
    placed, published, title = place(rows), reference.published(dataset), palette.dataset(dataset)
    cells.show(
        figure(placed, published, drawn),
        name=name,
        alt=(
            f"PSNR over bits per pixel of {', '.join(placed)} and of {len(drawn)} published curves on"
            f" {title}."
        ),
        caption=f"Means over {title}'s {total} photographs; PSNR of 8-bit images.",
        rows=rows,
    )
    table, lmbdas = compare(placed, published, drawn)
    under = f"BD-rate, % ({lmbdas} λ), against"
    tables.show(
        table,
        {side: Col(side, 1, sign=True, under=under) for side in placed},
        row="name",
        stub="our curve against",
        name=name,
        caption="Our curves against published codecs.",
        note=(
            "BD-rate by pchip over the PSNR that both curves cover; negative: fewer bits than the published"
            " codec. Intervals are of what refinement changes; published curves have none."
        ),
        source=rows,
    )
