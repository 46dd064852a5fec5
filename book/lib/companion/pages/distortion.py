"""The page on other distortions: what latents gain on the metric they are refined for, and on the other."""

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgaplus import decode, distortion, encode, load_codec, refine, target_rate

from .. import figures, statistics
from ..configurations import BASE

# Columns of quality that grow with the rate, and what they are.
METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last iteration; ``lmbda`` is the codec's, as λ means another thing in each distortion.

    ``ms_ssim_db`` is −10 log₁₀(1 − MS-SSIM).
    """
    last = statistics.at(rows.assign(lmbda=rows["codec_lmbda"]))
    last = last[(last["iterations"] > 0) | (last["distortion"] == "mse")]
    return last.assign(ms_ssim_db=-10 * np.log10(1 - last["ms_ssim"]))


def rates(points: pd.DataFrame) -> pd.DataFrame:
    """`statistics.bd_summary` against the unrefined codec: a row for each configuration and metric."""
    return pd.DataFrame(
        {"configuration": name, "metric": metric}
        | statistics.bd_summary(statistics.bd_per_image(points, BASE, name, column))
        for name in points["configuration"].unique()
        for column, metric in METRICS.items()
        if name != BASE
    )


def curves(points: pd.DataFrame) -> Figure:
    """Both metrics over the rate: means over images, a line for each configuration."""
    means = points.groupby(["configuration", "lmbda"], as_index=False)[["bpp", *METRICS]].mean()

    def draw(axes: Axes, column: str) -> None:
        figures.lines(axes, means, "bpp", column)

    parts = {"PSNR (dB)": "psnr", "−10 log₁₀(1 − MS-SSIM) (dB)": "ms_ssim_db"}
    return figures.panels(parts, draw, rate=True, size=(4, 3.8))


def region(
    image: torch.Tensor, box: tuple[int, int, int, int], lmbda: float, iterations: int, inside: float
) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
    """A photograph (3, H, W) at the size of the file that plain refinement writes, with and without a region
    of interest (left, top, width, height) and the weight ``inside``: a row for each, and the pictures."""
    codec = load_codec("mshyper-s", lmbda=lmbda)
    size = (image.shape[1], image.shape[2])
    weights = distortion.regions(size, [box], inside=inside)
    plain = refine(codec, [image], "fast", iterations=iterations)
    files = {"whole photograph": encode(codec, plain.latents[0], size)}
    limit = len(files["whole photograph"])
    found = target_rate.encode_to([codec], image, max_bytes=limit, iterations=iterations, distortion=weights)
    files["region of interest"] = found.file.data
    there = weights == inside
    lines, pictures = [], {}
    for name, data in files.items():
        picture = decode(data)
        squares = (picture - image).square().mean(0)
        mse = {"region": squares[there], "elsewhere": squares[~there], "psnr": squares}
        values = {key: -10 * float(part.mean().log10()) for key, part in mse.items()}
        lines.append({"weights": name, "bytes": len(data), **values})
        pictures[name] = picture
    return pd.DataFrame(lines), pictures
