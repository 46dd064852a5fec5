"""What the pages on rate and distortion show of one kind of pictures, with a switch between iterations."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .. import cells, moving, provenance, tables
from ..configurations import BASE
from ..verdict_rules import READ_OFFS
from . import rate_distortion as rd
from .rate_distortion import CROPS, WHOLE, Curves, select


@dataclass(frozen=True)
class Part:
    """What a page shows of pictures of one kind (``on``, in words) by the number of iterations, the one to be
    shown first before the others."""

    pictures: str
    on: str
    rows: dict[int, pd.DataFrame]
    curves: dict[int, Curves]
    by_image: dict[int, pd.DataFrame]
    deltas: dict[int, pd.DataFrame]
    losses: dict[int, pd.DataFrame]

    @property
    def iteration(self) -> int:
        """The number of iterations that is shown first."""
        return next(iter(self.rows))

    @property
    def images(self) -> int:
        return self.curves[self.iteration][BASE]["image"].nunique()

    @property
    def drawn(self) -> pd.DataFrame:
        """The rows of all curves."""
        return pd.concat(map(rd.rows_of, self.curves.values()), ignore_index=True)

    @property
    def said(self) -> str:
        """`headline` at the iteration that is shown first."""
        return rd.headline(self.deltas[self.iteration], self.losses[self.iteration], self.on, self.iteration)


def part(
    rows: pd.DataFrame, title: str, anchors: Sequence[str], pictures=WHOLE, iteration: int | None = None
) -> Part:
    """The pictures of a kind of a data set (``title``, in words) at an iteration; where None at the paper's
    read-offs at which a method has a curve, the one with the most methods first, of these the last."""
    chosen = select(rows, pictures, iteration)
    found = {int(chosen["iteration"].max()): chosen}
    if iteration is None:
        read = rows[rows["read_off"] & (rows["image"].str.contains("@") == (pictures == CROPS))]
        counts = read.groupby(["iteration", "configuration"])["lmbda"].nunique().groupby("iteration").max()
        further = {*READ_OFFS} & {*counts.index[counts > 1]} - {*found}
        found |= {t: select(rows, pictures, t) for t in further}
    drawn = {t: rd.curves(table) for t, table in found.items()}
    drawn = dict(sorted(drawn.items(), key=lambda item: (-len(item[1]), -item[0])))
    count = next(iter(drawn.values()))[BASE]["image"].nunique()
    on = f"{title} ({provenance.count(count, 'crop' if pictures == CROPS else 'photograph')})"
    by_image = {t: rd.per_image(curves, anchors) for t, curves in drawn.items()}
    deltas = {t: rd.deltas(curves, by_image[t]).assign(iteration=t) for t, curves in drawn.items()}
    losses = {t: rd.losses(found[t]).assign(iteration=t) for t in drawn}
    return Part(pictures, on, {t: found[t] for t in drawn}, drawn, by_image, deltas, losses)


def on_crops(rows: pd.DataFrame, title: str, anchors: Sequence[str], beside: Part) -> Part | None:
    """`part` of the crops where they have curves of more methods than the photographs ``beside`` them."""
    crops = rows["image"].str.contains("@")
    if beside.pictures == CROPS or not (rows.loc[crops, "iterations"] > 0).any():
        return None
    found = part(rows, title, anchors, CROPS)
    more = set(found.curves[found.iteration]) - set(beside.curves[beside.iteration])
    return found if more else None


def show_curves(shown: Part, name: str) -> None:
    """Display `figure`, whose moving twin has a switch where there are several numbers of iterations."""
    bands = {t: rd.gains(found) for t, found in shown.curves.items()}
    several = len(bands) > 1
    first = shown.curves[shown.iteration]
    at = " and ".join(map(str, sorted(bands)))
    moved = [rd.lines(shown.curves[t], band).assign(choice=f"{t} iterations") for t, band in bands.items()]
    ends = {f", {t} iterations" if several else "": (shown.curves[t], bands[t]) for t in bands}
    moving.lines(
        pd.concat(moved, ignore_index=True),
        x="bpp",
        y="value",
        low="value_low",
        high="value_high",
        panel="part",
        image="image" if shown.images > 1 else None,
        choice="choice" if several else None,
        xlabel="bits per pixel (logarithmic)",
        logarithmic=True,
        twin=lambda: cells.show(
            rd.figure(ends),
            name=f"{name}-curves",
            alt=(
                f"PSNR over bits per pixel of {', '.join(first)}, and the PSNR that each gains over the base"
                f" at the same rate, after {at} iterations. The table below has the means."
            ),
            caption=(
                f"{shown.on}, after {at} iterations. One panel: curves of means. The other: gain over the"
                " base at equal rate, both curves interpolated by pchip over the logarithm of the rate"
                f"{', with 95 % bootstrap bands over images' * (shown.images > 1)}."
            ),
            rows=shown.drawn,
        ),
    )


def show_bd(shown: Part, name: str, csv: str) -> None:
    """Display Bjøntegaard deltas as tables, and those image by image as a figure."""
    rd.show_deltas(pd.concat(shown.deltas.values(), ignore_index=True), csv, shown.drawn)
    images = shown.by_image[shown.iteration]
    if images["bd_rate"].notna().any() and shown.images > 1:
        cells.show(
            rd.deltas_figure(images),
            name=f"{name}-bd",
            alt=(
                "BD-rate of each image, a row for each method, a panel for each of"
                f" {', '.join(images['anchor'].unique())}; the table above has mean and extremes."
            ),
            caption=(
                f"BD-rate by pchip after {shown.iteration} iterations. Points: images. Bars: means with 95 %"
                " bootstrap intervals over images."
            ),
            rows=images,
            source=shown.drawn,
        )


def show_losses(shown: Part, csv: str) -> None:
    """Display `losses`, folded."""
    table = pd.concat(shown.losses.values(), ignore_index=True)
    at = ", {iteration} iterations" * (len(shown.losses) > 1)
    tables.show(
        table,
        "losses",
        group=f"λ = {{lmbda:g}}{at}, images: {{images}}",
        row="configuration",
        stub="method",
        name=f"{csv}-losses",
        caption="Loss, rate and PSNR at each λ.",
        folded=f"Show the {len(table)} rows",
        note="Change of the loss: mean of the images' own changes.",
        source=pd.concat(shown.rows.values()),
    )
