"""Published rate-distortion curves, each number with its source (``data/reference`` of a checkout)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sgaplus import io, metrics
from sgaplus.errors import UserError

from . import statistics

COLUMNS = ("dataset", "codec", "quality_or_lambda", "bpp", "psnr_db", "ms_ssim", "source")

# Readable names of all codecs in the file.
NAMES = {
    "zoo-mbt2018-mean_mse": "mbt2018-mean (CompressAI zoo)",
    "zoo-bmshj2018-hyperprior_mse": "bmshj2018-hyperprior (CompressAI zoo)",
    "zoo-cheng2020-anchor_mse": "cheng2020-anchor (CompressAI zoo)",
    "zoo-mbt2018_mse": "mbt2018 (CompressAI zoo)",
    "paper-mbt2018-mean": "mean-scale hyperprior (Minnen et al. 2018)",
    "paper-elic2022_mse": "ELIC (He et al. 2022)",
    "yang2020-base": "base of Yang et al. 2020",
    "yang2020-sga": "SGA of Yang et al. 2020",
    "yang2020-sga-bitsback": "SGA with bits-back coding of Yang et al. 2020",
    "vtm": "VTM",
    "hm": "HM",
    "bpg_444_x265_ycbcr": "BPG 4:4:4",
    "av1": "AV1",
    "webp": "WebP",
    "jpeg": "JPEG",
    "jpeg2000": "JPEG 2000",
}


def folder() -> Path:
    """Where the published numbers lie; they belong to a checkout, not to an installed package."""
    return io.CHECKOUT / "data" / "reference"


def published(dataset: str) -> pd.DataFrame:
    """The published curves on one data set, each ordered by its rate.

    Returns:
        One row per point: codec, name (readable), quality_or_lambda, bpp, psnr_db (dB), ms_ssim (NaN where
        it was not published), source. All are means over the data set's images.

    Raises:
        UserError: the file is missing or not as ``data/reference/README.md`` describes it, or holds nothing
            on ``dataset``.
    """
    path = folder() / "published_rd.csv"
    if not path.is_file():
        raise UserError(
            f"{path} is missing: the published numbers come with a checkout of the repository, "
            "not with the installed package"
        )
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' and Unicode's errors are among them
        raise UserError(f"{path} is not a table ({error}): restore it") from error
    _check(table, path)
    rows = table[table["dataset"] == dataset]
    if rows.empty:
        raise UserError(f"nothing is published here on {dataset}: use {', '.join(table['dataset'].unique())}")
    rows = rows.assign(position=rows["codec"].map(list(rows["codec"].unique()).index))
    rows = rows.sort_values(["position", "bpp"], ignore_index=True)
    rows.insert(0, "name", rows["codec"].map(NAMES))
    return rows[["codec", "name", *COLUMNS[2:]]]


def _check(table: pd.DataFrame, path: Path) -> None:
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} must have the columns {', '.join(COLUMNS)}: restore it")
    if unknown := sorted(set(table["codec"].astype(str)) - set(NAMES)):
        raise UserError(f"{path} holds {unknown[0]}, which companion.reference.NAMES gives no readable name")
    numbers = table[["bpp", "psnr_db"]].apply(pd.to_numeric, errors="coerce")
    whole = (np.isfinite(numbers) & (numbers > 0)).all(axis=1) & table["source"].notna()
    if not whole.all():
        raise UserError(f"line {whole.idxmin() + 2} of {path} lacks a positive bpp or PSNR, or its source")


def curve(table: pd.DataFrame, codec: str) -> tuple[np.ndarray, np.ndarray]:
    """bpp and PSNR in dB of one codec's points in `published`, ordered by the rate.

    Raises:
        UserError: the codec is not among them.
    """
    rows = table[table["codec"] == codec]
    if rows.empty:
        raise UserError(f"there is no published {codec} here: use {', '.join(table['codec'].unique())}")
    return rows["bpp"].to_numpy(), rows["psnr_db"].to_numpy()


def sga_gain(table: pd.DataFrame, lmbdas: slice = slice(None)) -> float:
    """BD-rate in percent of SGA against its base, both of Yang et al. 2020 (pchip), of some of the points by
    λ.

    Args:
        table: as `published` returns it.
    """
    return statistics.bd_rate(*((curve["bpp"], curve["psnr_db"]) for curve in _yang(table, lmbdas)))


def sga_losses(table: pd.DataFrame) -> pd.Series:
    """Change of L(λ) in percent from that base to SGA, by λ, from PSNR and rate."""
    losses = [
        metrics.rd_loss(curve.index.to_series(), 10 ** (-curve["psnr_db"] / 10), curve["bpp"])
        for curve in _yang(table)
    ]
    return 100 * (losses[1] / losses[0] - 1)


def _yang(table: pd.DataFrame, lmbdas: slice = slice(None)) -> list[pd.DataFrame]:
    curves = (
        table[table["codec"] == codec].set_index("quality_or_lambda")
        for codec in ("yang2020-base", "yang2020-sga")
    )
    return [curve.sort_index().iloc[lmbdas] for curve in curves]
