"""The page that refines photographs while it is built: what `sgaplus.refine` returned, before and after."""

from __future__ import annotations

import pandas as pd

from .. import statistics
from ..configurations import BASE

MEASURES = ["loss", "bpp", "psnr", "psnr_8bit", "ms_ssim"]


def images(rows: pd.DataFrame) -> pd.DataFrame:
    """Every image at the last iteration, and at 0 as the base: image, method, `MEASURES`, seconds."""
    ends = rows[rows["iteration"].isin([0, rows["iteration"].max()])]
    ends = ends.assign(method=ends["method"].where(ends["iteration"] > 0, BASE))
    return ends.drop_duplicates(["image", "method"])[["image", "method", *MEASURES, "seconds"]]


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method, the base first: means of `MEASURES` over images, and ``gain``, the paired change of the
    true loss.

    Args:
        rows: `Run.rows` of one or several methods, concatenated; the same images for each.

    Returns:
        method, `MEASURES`, and gain with gain_low and gain_high in percent of the base, NaN for the base
        itself.
    """
    ends = images(rows).rename(columns={"method": "arm"})
    means = ends.groupby("arm", sort=False)[MEASURES].mean()
    changes = statistics.paired_means(ends, "loss", BASE).set_index("arm")[["mean", "low", "high"]]
    changes.columns = ["gain", "gain_low", "gain_high"]
    table = means.join(changes).rename_axis("method").reset_index()
    return table.sort_values("method", key=lambda name: name != BASE, kind="stable", ignore_index=True)
