"""Where refinement stands: published codecs on Kodak beside refined ones, and what decoding them costs."""

from typing import Any

import pandas as pd
import torch
from compressai.models import Cheng2020Anchor, MeanScaleHyperprior
from torch.utils.flop_counter import FlopCounterMode

from sgaplus.codecs.bundled import cards

from .. import reference, statistics
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
