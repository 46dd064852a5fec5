"""Distortion, the rate-distortion loss, Bjøntegaard deltas and intervals: thin calls into libraries."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

from . import hardware
from .data.images import as_samples
from .errors import UserError
from .parsing import number

# The rates and the PSNR of a curve's points.
Points = tuple[Sequence[float], Sequence[float]]
# MS-SSIM halves the image four times and then needs an 11-pixel window.
MS_SSIM_SIDE = 161


def _pair(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Images and reconstructions as samples (B, 3, H, W), on the device of the latter."""
    x, x_hat = as_samples(x, "the original"), as_samples(x_hat, "the reconstruction")
    x, x_hat = (image[None] if image.ndim == 3 else image for image in (x, x_hat))
    if x.shape != x_hat.shape or x.ndim != 4 or not x.numel():
        shapes = f"{tuple(x.shape)} and {tuple(x_hat.shape)}"
        raise UserError(f"two images (3, H, W) or batches (B, 3, H, W) of one shape are needed, not {shapes}")
    return x.to(x_hat.device), x_hat


def _mean(distortion: Callable[[Tensor, Tensor], Tensor], x: Tensor, x_hat: Tensor) -> Tensor:
    """A distortion that is a mean over colour channels; those of large images one by one, to save memory."""
    if x.shape[-2] * x.shape[-1] <= hardware.LARGE_IMAGE:
        return distortion(x, x_hat)
    means = []
    for each in zip(x.split(1, 1), x_hat.split(1, 1), strict=True):
        means.append(distortion(*each))
        hardware.release_freed_memory()
    return torch.stack(means).mean(0)


def mse(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean squared error of each image in float64, (B,).

    Args:
        x, x_hat: images (B, 3, H, W), or one (3, H, W), as `sgaplus.data.images.as_samples` takes them: white
            is 1, and 255 in uint8.

    Raises:
        UserError: their shapes differ, or samples are of another type. This holds for all distortions.
    """
    x, x_hat = _pair(x, x_hat)
    return _mean(lambda x, x_hat: (x.double() - x_hat.double()).square().flatten(1).mean(1), x, x_hat)


def psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """−10·log₁₀ MSE in dB of each image, (B,): on floats as they are, which is the paper's PSNR."""
    return -10 * torch.log10(mse(x, x_hat))


def to_8bit(x: Tensor) -> Tensor:
    """What a decoder writes: clamped to [0, 1] and rounded to multiples of 1/255."""
    return torch.round(as_samples(x).clamp(0, 1) * 255) / 255


def psnr_8bit(x: Tensor, x_hat: Tensor) -> Tensor:
    """PSNR in dB of the clamped 8-bit reconstruction, (B,): what a codec is judged by."""
    return psnr(x, to_8bit(x_hat))


@hardware.undisturbed()
def ms_ssim(x: Tensor, x_hat: Tensor) -> Tensor:
    """MS-SSIM of the clamped 8-bit reconstruction, (B,); NaN for images under 161 pixels a side."""
    x, x_hat = _pair(x, x_hat)
    if min(x.shape[-2:]) < MS_SSIM_SIDE:
        return torch.full((x.shape[0],), torch.nan, dtype=torch.float64, device=x.device)

    def similarity(x: Tensor, x_hat: Tensor) -> Tensor:
        return _ms_ssim(x.float(), to_8bit(x_hat).float(), data_range=1.0, size_average=False).double()

    return _mean(similarity, x, x_hat)


def rd_loss(lmbda: float | Tensor, distortion: Tensor, bpp: Tensor, scale: float = 255**2) -> Tensor:
    """L(λ) = λ·scale·D + bpp; by default λ·255²·MSE + bpp (paper, section 2)."""
    lmbda = number(lmbda, "lambda") if isinstance(lmbda, str) else lmbda
    return lmbda * scale * distortion + bpp


def bd_rate(anchor: Points, test: Points, method: str = "pchip") -> float:
    """Bjøntegaard delta rate in percent of ``test`` against ``anchor``; negative is better.

    log₁₀ of the rate is interpolated over PSNR and averaged over the range of PSNR that both curves cover.

    Args:
        anchor, test: (bpp, PSNR in dB) of at least four points each, in any order.
        method: the interpolation, ``"pchip"`` or ``"akima"``.

    Raises:
        UserError: too few points, one that is no rate or no PSNR, a PSNR that does not grow with the rate,
            curves without a common range, or an unknown interpolation.
    """
    return _delta("bd_rate", 1, "PSNR", "{:.2f} dB", (anchor, test), method)


def bd_psnr(anchor: Points, test: Points, method: str = "pchip") -> float:
    """Bjøntegaard delta PSNR in dB of ``test`` against ``anchor``; positive is better.

    PSNR is interpolated over log₁₀ of the rate and averaged over the range of rates that both curves cover.
    Arguments and errors are those of `bd_rate`.
    """
    return _delta("bd_psnr", 0, "rate", "{:.4f} bpp", (anchor, test), method)


def _delta(delta: str, axis: int, name: str, form: str, points: tuple[Points, Points], method: str) -> float:
    """A delta of two curves over what they share of an axis: 0 is the rate, 1 the PSNR."""
    if method not in ("pchip", "akima"):
        raise UserError(f"unknown interpolation '{method}': use pchip or akima")
    curves = [_curve(curve) for curve in points]
    low, high = max(curve[axis, 0] for curve in curves), min(curve[axis, -1] for curve in curves)
    if low >= high:
        ends = f"{form.format(low)} is above {form.format(high)}"
        raise UserError(f"the curves have no {name} in common ({ends})")
    import bjontegaard  # which imports matplotlib

    interpolated = getattr(bjontegaard, delta)
    return float(interpolated(*curves[0], *curves[1], method=method, require_matching_points=False))


def _curve(points: Points) -> np.ndarray:
    """A rate-distortion curve as (2, points), ordered by rate and fit for interpolation."""
    try:
        curve = np.array([np.asarray(values, dtype=float) for values in points])
    except (TypeError, ValueError):
        curve = np.empty(0)
    if curve.ndim != 2 or len(curve) != 2 or curve.shape[1] < 4:
        raise UserError(
            "a Bjøntegaard delta needs two curves, each of at least four points: a sequence of bpp and one of"
            " PSNR of the same length"
        )
    if not np.isfinite(curve).all() or curve[0].min() <= 0:
        raise UserError("a Bjøntegaard delta needs positive bpp and finite PSNR")
    curve = curve[:, np.argsort(curve[0])]
    if (np.diff(curve) <= 0).any():
        raise UserError("a Bjøntegaard delta needs curves on which PSNR grows with the bpp")
    return curve
