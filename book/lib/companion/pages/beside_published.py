"""Where refined codecs stand beside published ones, whose numbers are means over whole photographs.

PSNR is that of the clamped 8-bit image here, as for conventional codecs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES

from .. import cells, figures, palette, reference, statistics, tables
from ..configurations import BASE
from ..tables import Col

# bpp and PSNR, (1 + resamples, λ) each, by arm.
Curves = dict[str, tuple[pd.DataFrame, pd.DataFrame]]


def place(rows: pd.DataFrame) -> Curves:
    """Each arm's curve of means over the images, and resamples of what refinement changes: the base has none.

    A resample applies the change of its images, the ratio of the rates and the difference of the PSNR, to the
    base's mean over all, since published curves are fixed. Arms and λ that lack an image are left out, and
    arms of one λ.

    Args:
        rows: lines of whole photographs, of the base and of refined arms at one iteration.
    """
    wide = rows.pivot_table(index="image", columns=["arm", "lmbda"], values=["bpp", "psnr_8bit"]).dropna(
        axis=1
    )
    samples = pd.DataFrame(statistics.resampled_means(wide), columns=wide.columns)
    found: Curves = {}
    for arm in palette.in_order(wide["bpp"].columns.get_level_values("arm")):
        shared = samples["bpp", arm].columns.intersection(samples["bpp", BASE].columns)
        (bpp, base_bpp), (psnr, base_psnr) = (
            (samples[name, arm][shared], samples[name, BASE][shared]) for name in ("bpp", "psnr_8bit")
        )
        if len(shared) > 1:
            curve = bpp / base_bpp * base_bpp.iloc[0], psnr - base_psnr + base_psnr.iloc[0]
            found[arm] = (curve[0].iloc[:1], curve[1].iloc[:1]) if arm == BASE else curve
    return found


def figure(placed: Curves, published: pd.DataFrame, drawn: Sequence[str]) -> Figure:
    """Our curves and published ones, in the range of rates of ours and a little beyond.

    Args:
        placed: as `place` returns them.
        published: as `reference.published` returns it.
        drawn: codecs of ``published``.
    """
    ours = [
        pd.DataFrame({"name": name, "bpp": bpp.iloc[0], "psnr": psnr.iloc[0]})
        for name, (bpp, psnr) in placed.items()
    ]
    return figures.rd_curves(pd.concat(ours), published, drawn, palette.of_arms(placed))


def compare(
    placed: Curves, published: pd.DataFrame, drawn: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Col]]:
    """BD-rate in percent of each of our curves, at the λ that all of them have, against each published one.

    Returns:
        A row for each published codec: name, and a column for each arm with ``_low`` and ``_high``, NaN for
        the base and where there is no BD-rate; and how the columns are shown.
    """
    common = sorted(set.intersection(*(set(bpp.columns) for bpp, _ in placed.values())))
    lines = []
    for codec in drawn:
        line = {"name": published.loc[published["codec"] == codec, "name"].iloc[0]}
        anchor = reference.curve(published, codec)
        for arm, sides in placed.items():
            pairs = zip(*(side[common].to_numpy() for side in sides), strict=True)
            values = np.array([statistics.bd_rate(anchor, pair) for pair in pairs])
            line |= statistics.with_interval(arm, values)
        lines.append(line)
    under = f"BD-rate, % ({len(common)} λ), against"
    return pd.DataFrame(lines), {arm: Col(arm, 1, sign=True, under=under) for arm in placed}


def describe_sga(dataset: str | None, lines: pd.DataFrame, arm: str, images: int, iteration: int) -> str:
    """SGA's published BD-rate against its own base, and ours where all photographs of the data set were
    refined.

    Args:
        dataset: on which Yang et al. published; nothing is said where None.
        lines: `rate_distortion.deltas`; may be empty.
        arm: SGA's name.
        images: whole photographs that were refined; 0 for crops.
        iteration: of ours.
    """
    if dataset is None:
        return ""
    theirs, total = reference.sga_gain(reference.published(dataset)), SOURCES[dataset].images
    name, value = palette.dataset(dataset), f"{theirs:.1f}".replace("-", "−")
    text = (
        f"As published, SGA of Yang et al. 2020 has a BD-rate of {value} % against its own base codec on"
        f" {name}: curves of means over {total} photographs, 2000 iterations."
    )
    own = lines[(lines["anchor"] == BASE) & (lines["arm"] == arm)] if len(lines) else lines
    if images < total or own.empty or pd.isna(own["means_bd_rate"].iloc[0]):
        return (
            f"{text} The rows of this page are not of all these photographs and cannot be compared with it."
        )
    line, said = own.iloc[0], []
    for prefix, kind in (("means_", "of the curves of means"), ("", "as the mean over images")):
        found = line[[f"{prefix}bd_rate{end}" for end in ("", "_low", "_high")]]
        inside = "inside" if found.iloc[1] <= theirs <= found.iloc[2] else "outside"
        said.append(
            f"{statistics.interval(*found, decimals=1)} % {kind} (the published value lies {inside} that"
            " interval)"
        )
    return (
        f"{text} Here, after {iteration} iterations and with another base codec, it has {' and '.join(said)}."
    )


def show(rows: pd.DataFrame, dataset: str, drawn: Sequence[str], command: str, name: str) -> None:
    """Display figure, table and what to keep in mind; nothing where not all photographs were refined.

    Published means are over all photographs of the data set, and stand beside nothing else.

    Args:
        rows: the page's, as `rate_distortion.select` returns them.
        drawn: codecs of `reference.published`.
        command: that makes the page.
        name: of the table's CSV file.
    """
    total = SOURCES[dataset].images
    if not len(drawn) or rows["image"].str.contains("@").any() or rows["image"].nunique() < total:
        return
    placed, published, title = place(rows), reference.published(dataset), palette.dataset(dataset)
    cells.show(
        figure(placed, published, drawn),
        alt=(
            f"PSNR over bits per pixel of {', '.join(placed)} and of {len(drawn)} published curves on"
            f" {title}."
        ),
        caption=f"Means over {title}'s {total} photographs; PSNR of 8-bit images.",
        command=command,
    )
    table, columns = compare(placed, published, drawn)
    note = (
        "BD-rate by pchip over the PSNR that both curves cover; negative: fewer bits than the published"
        " codec. Intervals are of what refinement changes; published curves have none."
    )
    tables.show(table, columns, row="name", name=name, note=note, command=command)
