"""A codec of continuous rate beside refinement at another λ than the codec's: two ways to one more rate."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus.errors import UserError

from .. import figures, palette, statistics
from ..configurations import BASE
from .standing import each_against

ANY, REFINED, ONE = "any rate, base", "any rate, refined", "one rate, refined at other λ"


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The last rows of each run by ``curve``, on the photographs that have all three: base at every rate,
    refined at the rate's own λ, and all of the one rate that was refined at other λ too."""
    last = rows[rows["iteration"] == rows["iterations"]]
    refined = last[last["configuration"] != BASE]
    elsewhere = refined[refined["lmbda"] != refined["codec_lmbda"]]
    if elsewhere.empty:
        raise UserError("no rate was refined at another lambda: run the study to its end")
    own = refined["lmbda"] == refined["codec_lmbda"]
    one = refined["codec_lmbda"] == elsewhere["codec_lmbda"].iloc[0]
    curves = {ANY: last[last["configuration"] == BASE], REFINED: refined[own], ONE: refined[one]}
    table = pd.concat([rows.assign(curve=name) for name, rows in curves.items()], ignore_index=True)
    whole = table.groupby("image")["curve"].nunique() == len(curves)
    return table[table["image"].isin(whole.index[whole])].reset_index(drop=True)


def figure(points: pd.DataFrame) -> Figure:
    """PSNR over rate of the three `curves`, means over photographs."""
    means = points.groupby(["curve", "codec_lmbda", "lmbda"], as_index=False)[["bpp", "psnr_8bit"]].mean()
    looks = palette.looks((ANY, REFINED, ONE))

    def draw(axes: Axes, means: pd.DataFrame) -> None:
        for name, look in looks.items():
            line = means[means["curve"] == name].sort_values("bpp")
            axes.plot(line["bpp"], line["psnr_8bit"], **look, lw=1.8, ms=5, label=name)

    return figures.panels(
        {"": means}, draw, rate=True, ylabel="PSNR of the 8-bit image (dB)", size=(7.5, 4.6)
    )


def changes(points: pd.DataFrame) -> pd.DataFrame:
    """BD-rate in percent of both refined curves against the base at any rate, photograph by photograph, and
    lowest and highest, the mean PSNR in dB between which the curve lies."""
    anchor, lines = points[points["curve"] == ANY].rename(columns={"psnr_8bit": "psnr_db"}), []
    for name in (REFINED, ONE):
        own = points[points["curve"] == name]
        values = each_against(own, anchor)
        reach = own.groupby("lmbda")["psnr_8bit"].mean()
        line = {"curve": name, "images": len(values), "lowest": reach.min(), "highest": reach.max()}
        lines.append(line | statistics.with_interval("change", statistics.resampled_means(values)[:, 0]))
    return pd.DataFrame(lines)
