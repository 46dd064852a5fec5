"""Tables and sentences of the rate-distortion pages, from what `rate_distortion` computes."""

from __future__ import annotations

import pandas as pd
from great_tables import GT, loc, style

from sgaplus.data.sources import SOURCES

from ..configurations import BASE
from ..statistics import interval

_DELTAS = {"bd_rate": 1, "bd_psnr": 2, "means_bd_rate": 1, "means_bd_psnr": 2}


def _words(line: pd.Series, name: str, decimals: int) -> str:
    return interval(line[name], line[f"{name}_low"], line[f"{name}_high"], decimals)


def deltas_table(lines: pd.DataFrame) -> GT:
    """`rate_distortion.deltas`: a group for each anchor, whose best values are in bold."""
    shown = lines[["arm", "points", "images"]].assign(
        anchor="against " + lines["anchor"],
        **{name: lines.apply(_words, axis=1, name=name, decimals=n) for name, n in _DELTAS.items()},
        spread=[
            "–" if pd.isna(least) else f"{least:+.1f} … {most:+.1f}".replace("-", "−")
            for least, most in zip(lines["bd_rate_least"], lines["bd_rate_most"], strict=True)
        ],
    )
    made = (
        GT(shown, groupname_col="anchor", rowname_col="arm")
        .cols_move(["spread"], after="bd_rate")
        .tab_spanner("image by image", ["images", "bd_rate", "spread", "bd_psnr"])
        .tab_spanner("of the mean curves", ["means_bd_rate", "means_bd_psnr"])
        .cols_label(
            points="λ",
            bd_rate="BD-rate, %",
            spread="least … greatest",
            bd_psnr="BD-PSNR, dB",
            means_bd_rate="BD-rate, %",
            means_bd_psnr="BD-PSNR, dB",
        )
        .cols_align("right", [*_DELTAS, "spread"])
        .tab_source_note(
            "BD by pchip, over the λ that both curves have. A negative BD-rate and a positive BD-PSNR are better. In "
            "brackets: 95 % percentile bootstrap intervals over images. Images: those with a BD-rate, which needs four "
            "λ and a PSNR that grows with the rate."
        )
        .tab_options(table_font_size="14px")
    )
    for _, group in lines.reset_index(drop=True).groupby("anchor", sort=False):
        for name in _DELTAS:
            values = group[name].dropna()
            if len(values) > 1:
                best = values.idxmin() if name.endswith("rate") else values.idxmax()
                made = made.tab_style(style.text(weight="bold"), loc.body(name, [int(best)]))
    return made


def losses_table(table: pd.DataFrame) -> GT:
    """`rate_distortion.losses`: a group for each λ, whose lowest loss is in bold."""
    shown = table[["arm", "loss", "bpp", "psnr", "psnr_8bit"]].assign(
        about=[
            f"λ = {line.lmbda:g}, {line.images} image{'s' * (line.images != 1)}"
            for line in table.itertuples()
        ],
        change=[interval(line.change, line.low, line.high) for line in table.itertuples()],
    )
    made = (
        GT(shown, groupname_col="about", rowname_col="arm")
        .cols_label(
            loss="true R-D loss",
            psnr="PSNR (dB)",
            psnr_8bit="PSNR, 8 bit (dB)",
            change=f"change from the {BASE}, %",
        )
        .fmt_number(["loss", "bpp"], decimals=4)
        .fmt_number(["psnr", "psnr_8bit"], decimals=2)
        .cols_align("right", "change")
        .tab_source_note(
            "Change of the loss: mean of the images' own changes, with a 95 % percentile bootstrap interval over images."
        )
        .tab_options(table_font_size="14px")
    )
    for _, group in table.reset_index(drop=True).groupby("lmbda"):
        made = made.tab_style(style.text(weight="bold"), loc.body("loss", [int(group["loss"].idxmin())]))
    return made


def describe_pictures(rows: pd.DataFrame) -> str:
    """Which pictures of its study a page shows, and at which iteration.

    Args:
        rows: as `rate_distortion.select` returns them.
    """
    kind = "crops" if rows["image"].str.contains("@").any() else "whole photographs"
    return f"This page has its {kind}, read off at iteration {int(rows['iteration'].max())}."


def describe_coverage(found: dict[str, pd.DataFrame], dataset: str, study: str) -> str:
    """Which and how many of a data set's images the curves are of, and how to come by the others.

    Args:
        found: as `rate_distortion.curves` returns them.
        dataset: a name in `data.sources.SOURCES`.
        study: what computes them.
    """
    names, source = found[BASE]["image"].unique(), SOURCES[dataset]
    sides = sorted({name.split("@")[1] for name in names if "@" in name})
    whole = source.images == len(names) and not sides
    pieces = f"the central {sides[0]} × {sides[0]} pixels of " if len(sides) == 1 else ""
    text = f"The curves are {'means over' if len(names) > 1 else 'of'} {pieces}{len(names)} of the {source.images} photographs ({source.about})."
    if len(names) == 1:
        text += " With one image there is no interval over images."
    if dataset == "clic2025":
        text += (
            f" These are not the {SOURCES['clic2020'].images} photographs of CLIC 2020 that the paper has."
        )
    if not whole:
        text += (
            f" What is missing are the others, whole: `sgaplus data fetch {dataset}` fetches the photographs, and "
            f"`sgaplus study run {study} --profile paper` runs the paper's protocol on them."
        )
    return text


def headline(deltas: pd.DataFrame, losses: pd.DataFrame, images: int, iteration: int) -> str:
    """What refinement saves at equal quality, and what moves at equal λ, in one paragraph.

    Args:
        deltas: `rate_distortion.deltas`.
        losses: `rate_distortion.losses`.
        images: behind the curves.
        iteration: of the refined arms.
    """
    against = deltas[deltas["anchor"] == BASE].dropna(subset=["means_bd_rate"]).sort_values("means_bd_rate")
    if against.empty:
        return "There is no BD-rate here: it needs four λ, and a PSNR that grows with the rate."
    saved = [f"{line['arm']} {_words(line, 'means_bd_rate', 1)} %" for _, line in against.iterrows()]
    wide = losses.pivot_table(index="lmbda", columns="arm", values=["bpp", "psnr"])
    best = against["arm"].iloc[0]
    grows, better = ((wide[name][best] > wide[name][BASE]).sum() for name in ("bpp", "psnr"))
    of = f"curves of means over {images} images" if images > 1 else "one image"
    return (
        f"**At equal PSNR the rate changes by: {', '.join(saved)}** (BD-rate against the codec without refinement, {of}, "
        f"{iteration} iterations). At equal λ the gain is mostly in quality: with {best}, PSNR rises at {better} of {len(wide)} λ, "
        f"and the files grow at {grows}."
    )
