"""Where refined codecs stand beside published ones, whose numbers are means over whole photographs.

PSNR is that of the clamped 8-bit image here, as for conventional codecs.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from great_tables import GT
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from sgaplus.data.sources import SOURCES

from .. import cells, palette, reference, statistics
from ..configurations import BASE
from ..equal_rate import whole_images
from ..figures import rate_axis
from ..statistics import interval

_YANG = ("yang2020-base", "yang2020-sga")


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
    canvas.legend(loc="outside upper center", ncols=2)
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


def compare_table(lines: pd.DataFrame) -> GT:
    """`compare`: a line for each published codec, a column for each of our arms."""
    words = lines.assign(
        value=[interval(line.bd_rate, line.bd_rate_low, line.bd_rate_high, 1) for line in lines.itertuples()],
        arm=[f"{line.arm}, {line.points} λ" for line in lines.itertuples()],
    )
    columns = list(dict.fromkeys(words["arm"]))
    shown = words.pivot_table(index="name", columns="arm", values="value", aggfunc="first", sort=False)
    return (
        GT(shown[columns].reset_index(), rowname_col="name")
        .tab_stubhead("BD-rate in % against")
        .cols_align("right", columns)
        .tab_source_note(
            "BD-rate by pchip over the PSNR that both curves cover; negative: fewer bits than the published codec. In "
            "brackets: 95 % percentile bootstrap intervals of what refinement changes, over the refined images."
        )
        .tab_options(table_font_size="14px")
    )


def sga_gain(dataset: str) -> dict[str, float]:
    """BD-rate (percent) and BD-PSNR (dB) of Yang et al.'s SGA against their base, from their published points.

    Returns:
        points, bd_rate, bd_psnr.

    Raises:
        UserError: their curves are not published on the data set.
    """
    table = reference.published(dataset)
    anchor, refined = (reference.curve(table, codec) for codec in _YANG)
    rate, decibel = statistics.deltas(anchor, refined)
    return {"points": len(anchor[0]), "bd_rate": rate, "bd_psnr": decibel}


def describe_sga(dataset: str, lines: pd.DataFrame, arm: str) -> str:
    """Ours beside the published: SGA's BD-rate against its own base, both of mean curves.

    Args:
        dataset: on which Yang et al. published.
        lines: `rate_distortion.deltas` against the base; may be empty.
        arm: SGA's name.
    """
    theirs = sga_gain(dataset)
    value = f"{theirs['bd_rate']:.1f}".replace("-", "−")
    text = (
        f"SGA of Yang et al. 2020 has a BD-rate of {value} % against its own base on {dataset} "
        f"({theirs['points']} published points of means over {SOURCES[dataset].images} photographs, pchip)."
    )
    own = lines[(lines["anchor"] == BASE) & (lines["arm"] == arm)] if len(lines) else lines
    if own.empty or pd.isna(own["means_bd_rate"].iloc[0]):
        return text
    line, images = own.iloc[0], int(own["means_images"].iloc[0])
    words = interval(*line[[f"means_bd_rate{end}" for end in ("", "_low", "_high")]], 1)
    text += (
        f" Here the same method has {words} % against the codec's base, over {line['points']} λ and "
        f"{images} image{'s' * (images != 1)}"
    )
    if pd.isna(line["means_bd_rate_low"]):
        return f"{text}."
    inside = line["means_bd_rate_low"] <= theirs["bd_rate"] <= line["means_bd_rate_high"]
    return f"{text}; the published value lies {'inside' if inside else 'outside'} that interval."


def show(rows: pd.DataFrame, dataset: str, drawn: Sequence[str], command: str, name: str) -> None:
    """Display figure, table and what to keep in mind; or one sentence where no published curve is drawn.

    The table needs the base on all photographs of the data set, as the published means are.

    Args:
        rows: lines of whole photographs, as for `place`.
        drawn: codecs of `reference.published`.
        command: that makes the page.
        name: of the table's CSV file.
    """
    if not len(drawn) or rows.empty:
        display(
            Markdown("No published curve is drawn here: published numbers are means over whole photographs.")
        )
        return
    placed, published = place(rows), reference.published(dataset)
    base = int(placed[BASE]["images"].iloc[0])
    parts = sorted({int(table["images"].iloc[0]) for table in placed.values()} - {base})
    total = SOURCES[dataset].images
    caption = f"Mean over {base} of the {total} photographs of {dataset} for our curves, over all for the published ones."
    if parts:
        caption += (
            f" The refined curves are estimates: refined were {' or '.join(map(str, parts))} photographs, and their change of "
            "rate and PSNR is applied to the base's means."
        )
    cells.show(
        figure(placed, published, drawn),
        alt=f"PSNR over bits per pixel of {', '.join(placed)} and of {len(drawn)} published curves on {dataset}.",
        caption=caption,
        command=command,
    )
    if base < total:
        display(
            Markdown(
                f"Ours is a mean over {base} photograph{'s' * (base != 1)}, the published curves are means over "
                f"{total}: their distance says nothing about the codecs."
            )
        )
        return
    lines = compare(placed, published, drawn)
    cells.show_table(compare_table(lines), lines, name=name, command=command)
