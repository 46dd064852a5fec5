"""Where refined codecs stand beside published ones, whose numbers are means over whole photographs.

PSNR is that of the clamped 8-bit image here, as for conventional codecs.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES

from .. import cells, palette, reference, statistics, tables
from ..configurations import BASE
from ..equal_rate import whole_images
from ..figures import legend_above, rate_axis
from ..tables import Col


def rows_for(stored: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The lines that can stand beside published means: those of a page, or else the base on whole photographs.

    Args:
        stored: all lines of the profile, as `provenance.load` returns them.
        rows: the page's, as `rate_distortion.select` returns them.
    """
    whole = rows[~rows["image"].str.contains("@")]
    if len(whole):
        return whole
    base = (stored["arm"] == BASE) & (stored["lmbda"] == stored["codec_lmbda"])
    return stored[base & ~stored["image"].str.contains("@")]


def place(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each arm's curve of means over all images of the base.

    An arm that was run on some of these images only, is placed by what it changes there: the base's mean rate
    over all images times the ratio of the two mean rates over the arm's, and the base's mean PSNR plus the
    difference of the two mean PSNR. Where the arm has all images, that is its own mean.

    Args:
        rows: lines of whole photographs, of the base and of refined arms at one iteration.

    Returns:
        By arm, one line per λ and resample: lmbda, sample (0: of all images), images (of the arm), bpp, psnr.
        Arms of one λ are left out.
    """
    anchor = rows[rows["arm"] == BASE]
    everywhere = (
        anchor[anchor["image"].isin(whole_images(anchor))].groupby("lmbda")[["bpp", "psnr_8bit"]].mean()
    )
    images = len(whole_images(anchor))
    found = {
        BASE: everywhere.rename(columns={"psnr_8bit": "psnr"}).reset_index().assign(images=images, sample=0)
    }
    for name in palette.in_order(rows.loc[rows["arm"] != BASE, "arm"]):
        arm = rows[rows["arm"] == name]
        own = anchor[anchor["lmbda"].isin(arm["lmbda"])]
        images = whole_images(own, arm)
        if arm["lmbda"].nunique() < 2 or not images:
            continue
        blocks = [
            table.pivot_table(index="image", columns="lmbda", values=value).loc[images]
            for value in ("bpp", "psnr_8bit")
            for table in (own, arm)
        ]
        means = statistics.resampled_means(pd.concat(blocks, axis=1))
        base_bpp, bpp, base_psnr, psnr = np.split(means, 4, axis=1)
        at = everywhere.loc[blocks[0].columns]
        found[name] = pd.DataFrame(
            {
                "lmbda": np.tile(at.index, len(means)),
                "sample": np.repeat(np.arange(len(means)), len(at)),
                "images": len(images),
                "bpp": (at["bpp"].to_numpy() * bpp / base_bpp).ravel(),
                "psnr": (at["psnr_8bit"].to_numpy() + psnr - base_psnr).ravel(),
            }
        )
    return found


def figure(placed: dict[str, pd.DataFrame], published: pd.DataFrame, drawn: Sequence[str]) -> Figure:
    """Our curves and published ones, in the range of rates of ours and a little beyond.

    Args:
        placed: as `place` returns them.
        published: as `reference.published` returns it.
        drawn: codecs of ``published``.
    """
    ours = {name: table[table["sample"] == 0].sort_values("bpp") for name, table in placed.items()}
    names = dict(published[published["codec"].isin(drawn)][["codec", "name"]].itertuples(index=False))
    looks = palette.of_arms([*ours, *(names[codec] for codec in drawn)])
    canvas, axes = plt.subplots(figsize=(7.5, 5.6), layout="constrained")
    for name, line in ours.items():
        axes.plot(line["bpp"], line["psnr"], **looks[name], markersize=4, linewidth=1.8, label=name, zorder=3)
    for codec in drawn:
        look = looks[names[codec]] | {"marker": None}
        axes.plot(*reference.curve(published, codec), **look, linewidth=1.2, label=names[codec])
    rate_axis(axes)
    whole = pd.concat(ours.values())
    low, high = whole["bpp"].min() / 1.3, whole["bpp"].max() * 1.3
    shown = published[published["codec"].isin(drawn) & published["bpp"].between(low, high)]["psnr_db"]
    levels = [*whole["psnr"], *shown]
    axes.set(xlim=(low, high), ylim=(min(levels) - 0.5, max(levels) + 0.5))
    axes.set_ylabel("PSNR of the 8-bit image (dB)")
    legend_above(canvas, 2)
    return canvas


def compare(placed: dict[str, pd.DataFrame], published: pd.DataFrame, drawn: Sequence[str]) -> pd.DataFrame:
    """BD-rate in percent of each of our curves, at the λ that all of them have, against each published one.

    Returns:
        codec, name, arm, images, points, bd_rate with bd_rate_low and bd_rate_high: 95 % intervals over
        resamples of what the arm changes, none for the base; NaN where there is no BD-rate (`statistics.deltas`).
    """
    common = set.intersection(*(set(table["lmbda"]) for table in placed.values()))
    lines = []
    for codec in drawn:
        anchor = reference.curve(published, codec)
        name = published.loc[published["codec"] == codec, "name"].iloc[0]
        for arm, table in placed.items():
            table = table[table["lmbda"].isin(common)]
            values = [
                statistics.bd_rate(anchor, (group["bpp"].to_numpy(), group["psnr"].to_numpy()))
                for _, group in table.groupby("sample")
            ]
            lines.append(
                {
                    "codec": codec,
                    "name": name,
                    "arm": arm,
                    "images": table["images"].iloc[0],
                    "points": table["lmbda"].nunique(),
                    **statistics.with_interval("bd_rate", np.array(values)),
                }
            )
    return pd.DataFrame(lines)


def wide(lines: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Col]]:
    """`compare` as a table: a row for each published codec, a column for each of our arms; and those columns."""
    columns = {
        line.arm: Col(f"{line.arm}, {line.points} λ", 1, sign=True, under="BD-rate, % against")
        for line in lines.itertuples()
    }
    table = [
        {"name": name}
        | {
            f"{line.arm}{end}": getattr(line, f"bd_rate{end}")
            for line in group.itertuples()
            for end in ("", "_low", "_high")
        }
        for name, group in lines.groupby("name", sort=False)
    ]
    return pd.DataFrame(table), columns


def describe_sga(dataset: str | None, lines: pd.DataFrame, arm: str, images: int, iteration: int) -> str:
    """SGA's published BD-rate against its own base, and ours where all photographs of the data set were refined.

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
        f"As published, SGA of Yang et al. 2020 has a BD-rate of {value} % against its own base codec on {name}: curves of means "
        f"over {total} photographs, 2000 iterations."
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
            f"{statistics.interval(*found, decimals=1)} % {kind} (the published value lies {inside} that interval)"
        )
    return (
        f"{text} Here, after {iteration} iterations and with another base codec, it has {' and '.join(said)}."
    )


def show(rows: pd.DataFrame, dataset: str, drawn: Sequence[str], command: str, name: str) -> None:
    """Display figure, table and what to keep in mind; nothing where the base is not on all photographs.

    Published means are over all photographs of the data set, and stand beside nothing else.

    Args:
        rows: lines of whole photographs, as for `place`.
        drawn: codecs of `reference.published`.
        command: that makes the page.
        name: of the table's CSV file.
    """
    total = SOURCES[dataset].images
    placed = place(rows) if len(drawn) and len(rows) else {}
    if not placed or int(placed[BASE]["images"].iloc[0]) < total:
        return
    published, title = reference.published(dataset), palette.dataset(dataset)
    parts = sorted({int(table["images"].iloc[0]) for table in placed.values()} - {total})
    caption = f"Means over {title}'s {total} photographs; PSNR of 8-bit images."
    if parts:
        caption += (
            f" The refined curves are estimates: refined were {' or '.join(map(str, parts))} photographs, and their change of "
            "rate and PSNR is applied to the base's means."
        )
    cells.show(
        figure(placed, published, drawn),
        alt=f"PSNR over bits per pixel of {', '.join(placed)} and of {len(drawn)} published curves on {title}.",
        caption=caption,
        command=command,
    )
    table, columns = wide(compare(placed, published, drawn))
    note = (
        "BD-rate by pchip over the PSNR that both curves cover; negative: fewer bits than the published codec. "
        "Intervals are of what refinement changes, over the refined images; published curves have none."
    )
    tables.show(table, columns, row="name", name=name, note=note, command=command)
