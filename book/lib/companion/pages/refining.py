"""The page that refines photographs while it is built: what `sgaplus.refine` returned, before and after."""

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
    """Of `Run.rows` by method, the base first: means of `MEASURES` over images, and ``change``, the paired
    change of the true loss in percent with its interval, NaN for the base itself."""
    ends = images(rows).rename(columns={"method": "configuration"})
    means = ends.groupby("configuration", sort=False)[MEASURES].mean()
    changes = statistics.paired_means(ends, "loss", BASE).set_index("configuration")
    table = means.join(changes.drop(columns="images")).rename_axis("method").reset_index()
    return table.sort_values("method", key=lambda name: name != BASE, kind="stable", ignore_index=True)
