"""Published rate-distortion curves, each number with its source (``data/reference`` of a checkout)."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from sgaplus import io, metrics
from sgaplus.errors import UserError

from . import statistics

FOLDER = io.CHECKOUT / "data" / "reference"

NAMES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


def published(dataset: str) -> pd.DataFrame:
    """The published curves on one data set, means over its images, by rate; ``name`` is the readable one."""
    path = FOLDER / "published_rd.csv"
    if not path.is_file():
        raise UserError(
            f"{path} is missing: the published numbers come with a checkout of the repository, "
            "not with the installed package"
        )
    table = pd.read_csv(path)
    rows = table[table["dataset"] == dataset]
    if rows.empty:
        raise UserError(f"nothing is published here on {dataset}: use {', '.join(table['dataset'].unique())}")
    order = {codec: position for position, codec in enumerate(rows["codec"].unique())}
    rows = rows.sort_values(["codec", "bpp"], key=lambda c: c.replace(order), ignore_index=True)
    rows.insert(0, "name", rows["codec"].map(NAMES))
    return rows.drop(columns="dataset")


def per_image() -> pd.DataFrame:
    """Cool-chic 5.0 on each photograph of Kodak, as published: image, lmbda (its own), bpp, psnr_db."""
    return pd.read_csv(FOLDER / "coolchic_kodak.csv")


def curve(table: pd.DataFrame, codec: str) -> tuple[np.ndarray, np.ndarray]:
    """bpp and PSNR in dB of one codec's points in `published`, ordered by the rate."""
    rows = table[table["codec"] == codec]
    if rows.empty:
        raise UserError(f"there is no published {codec} here: use {', '.join(table['codec'].unique())}")
    return rows["bpp"].to_numpy(), rows["psnr_db"].to_numpy()


def _yang(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Base and SGA of Yang et al. 2020, by λ."""
    codecs = ("yang2020-base", "yang2020-sga")
    return [table[table["codec"] == codec].set_index("quality_or_lambda").sort_index() for codec in codecs]


def sga_gain(table: pd.DataFrame, lmbdas: slice = slice(None)) -> float:
    """BD-rate in percent of SGA against its base (pchip), of some of the points by λ in `published`."""
    curves = (curve.iloc[lmbdas] for curve in _yang(table))
    return statistics.bd_rate(*((curve["bpp"], curve["psnr_db"]) for curve in curves))


def sga_losses(table: pd.DataFrame) -> pd.Series:
    """Change of L(λ) in percent from that base to SGA, by λ, from PSNR and rate."""
    base, sga = (
        metrics.rd_loss(curve.index.to_series(), 10 ** (-curve["psnr_db"] / 10), curve["bpp"])
        for curve in _yang(table)
    )
    return 100 * (sga / base - 1)
