"""Where refinement stands: published codecs on Kodak beside it, costs of decoding, ways to other rates."""

from typing import Any

import pandas as pd
import torch
from compressai.models import Cheng2020Anchor, MeanScaleHyperprior
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from sgaplus.codecs.bundled import cards
from sgaplus.errors import UserError

from .. import figures, palette, reference, statistics
from ..configurations import BASE
from . import beside_published
from .beside_published import Curves

# What decoding calls of each published model that CompressAI has, and its widths.
_DECODERS = {
    "mbt2018-mean, qualities 1 to 4": (MeanScaleHyperprior, (128, 192)),
    "mbt2018-mean, qualities 5 to 8": (MeanScaleHyperprior, (192, 320)),
    "cheng2020-anchor, qualities 1 to 3": (Cheng2020Anchor, (128,)),
}


def against(anchor: str, placed: Curves, published: pd.DataFrame) -> pd.DataFrame:
    """BD-rate in percent of every codec against a published one, the best first; that of our refined curves
    (``placed``) with an interval of what refinement changes."""
    curve, lines = reference.curve(published, anchor), []
    for codec, name in published.groupby("codec", sort=False)["name"].first().items():
        change = statistics.bd_rate(curve, reference.curve(published, codec))
        lines.append({"name": name, "kind": "published", "change": change})
    for name, sides in placed.items():
        values = beside_published.against(anchor, published, "change", *(side.to_numpy() for side in sides))
        lines.append({"name": name, "kind": "this project"} | values)
    return pd.DataFrame(lines).sort_values("change", ignore_index=True)


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of the longest run of each configuration at each λ on each image."""
    last = rows[rows["iteration"] == rows["iterations"]].sort_values("iterations", kind="stable")
    return last.drop_duplicates(["configuration", "codec_lmbda", "lmbda", "image", "seed"], keep="last")


def each_against(own: pd.DataFrame, theirs: pd.DataFrame) -> pd.Series:
    """BD-rate in percent, by image, of one configuration's curves against others with psnr_db."""
    ours, others = (dict(iter(rows.sort_values("bpp").groupby("image"))) for rows in (own, theirs))
    found = {
        image: statistics.bd_rate(
            others[image][["bpp", "psnr_db"]].to_numpy().T, rows[["bpp", "psnr_8bit"]].to_numpy().T
        )
        for image, rows in ours.items()
        if image in others
    }
    return pd.Series(found).rename_axis("image")


def decoding_costs() -> pd.DataFrame:
    """Multiplications that decoding takes for each pixel, counted, in thousands, the cheapest decoder first.

    Entropy coding is not counted, and a context model's networks as if all positions were found at once.
    """
    ours: dict[tuple[str, int, int], list[str]] = {}
    for card in cards():
        ours.setdefault((card.name, card.N, card.M), []).append(f"{card.lmbda:g}")
    decoders: dict[str, tuple[type, tuple[int, ...]]] = {
        f"{name}, λ = {', '.join(lmbdas)} (this project)": (MeanScaleHyperprior, widths)
        for (name, *widths), lmbdas in ours.items()
    }
    lines = []
    for name, (cls, widths) in (decoders | _DECODERS).items():
        model: Any = cls(*widths).eval().to("meta")
        y = torch.empty(1, model.M, 16, 16, device="meta")
        z = torch.empty(1, model.entropy_bottleneck.channels, 4, 4, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            parameters = model.h_s(z)
            if hasattr(model, "context_prediction"):
                model.entropy_parameters(torch.cat([parameters, model.context_prediction(y)], 1))
            model.g_s(y)
        macs = counter.get_total_flops() / 2 / 256**2
        lines.append({"name": name, "widths": " and ".join(map(str, widths)), "macs": macs / 1000})
    return pd.DataFrame(lines).sort_values("macs", ignore_index=True)


# Two ways to one more rate: a codec of continuous rate, and refinement at another λ than the codec's.
ANY, REFINED, ONE = "any rate, base", "any rate, refined", "one rate, refined at other λ"


def rate_curves(rows: pd.DataFrame) -> pd.DataFrame:
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


def rate_figure(points: pd.DataFrame) -> Figure:
    """PSNR over rate of the three `rate_curves`, means over photographs."""
    means = points.groupby(["curve", "codec_lmbda", "lmbda"], as_index=False)[["bpp", "psnr_8bit"]].mean()
    looks = palette.looks((ANY, REFINED, ONE))

    def draw(axes: Axes, means: pd.DataFrame) -> None:
        for name, look in looks.items():
            line = means[means["curve"] == name].sort_values("bpp")
            axes.plot(line["bpp"], line["psnr_8bit"], **look, lw=1.8, ms=5, label=name)

    return figures.panels({"": means}, draw, rate=True, ylabel="PSNR of the 8-bit image (dB)", size=(7, 4.6))


def rate_changes(points: pd.DataFrame) -> pd.DataFrame:
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
