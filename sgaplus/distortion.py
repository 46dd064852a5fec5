"""What refinement weighs against the bits: a distortion D of each image, in L = λ · scale · D + bpp.

λ means another thing in each: 255² · MSE and 1 − MS-SSIM are those of CompressAI, which pairs their λ in its
zoo, and for any other function λ has to be given.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor

from . import metrics
from .data.images import as_samples
from .errors import UserError
from .parsing import number, whole

Function = Callable[[Tensor, Tensor], Tensor]

# The largest weight of a region.
HEAVIEST = 1e6

# λ of qualities 1 to 8 of CompressAI's zoo.
LAMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}


@dataclass(frozen=True, eq=False)
class Distortion:
    """A distortion of each of some images.

    Attributes:
        spec: names it in rows and keys.
        metric: in which metric's convention λ is, a key of `LAMBDAS`; empty where λ is the function's own.
        scale: what λ is multiplied with beside D.
        function: D (B,) of reconstructions and originals, each (B, 3, H, W); None is the mean squared error.
        weights: of its pixels, (B or 1, 1, H, W) with a mean of 1; None are equal ones.
    """

    spec: str
    metric: str = ""
    scale: float = 1.0
    function: Function | None = None
    weights: Tensor | None = None

    def total(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """D times the samples of an image, (B,).

        Raises:
            UserError: a function gives something else than a value per image.
        """
        if self.function is not None:
            return x[0].numel() * self._value(self.function, x_hat, x)
        squares = F.mse_loss(x_hat, x, reduction="none")
        return (squares if self.weights is None else squares * self.weights).sum((1, 2, 3))

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """D of each image in float64, (B,); of any image ``x_hat`` is as precise as it comes."""
        if self.function is not None:
            return self._value(self.function, x_hat, x).double()
        if self.weights is None:
            return metrics.mse(x, x_hat)
        squares = (x.double() - x_hat.double()).square()
        return (self.weights.double() * squares).flatten(1).mean(1)

    def _value(self, function: Function, x_hat: Tensor, x: Tensor) -> Tensor:
        value = function(x_hat, x)
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if shape != (len(x),):
            raise UserError(
                f"the distortion {self.spec} must give a tensor with one value per image, ({len(x)},), not"
                f" {shape}: reduce over all dimensions but the first"
            )
        return value

    def check(self, x_hat: Tensor, x: Tensor) -> None:
        """Refuse a function that changes these images, or gives no finite number, or no gradient that is."""
        if self.function is None:
            return
        with torch.enable_grad():
            leaf = x_hat.detach().requires_grad_()
            given = leaf.clone(), x
            versions = [each._version for each in given]
            value = self._value(self.function, *given)
            if versions != [each._version for each in given]:
                raise UserError(f"the distortion {self.spec} changes its arguments: compute with copies")
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise UserError(
                f"the distortion {self.spec} has no gradient: compute it by operations of PyTorch, of the"
                " first of its two arguments"
            )
        if not value.isfinite().all() or not gradient.isfinite().all():
            raise UserError(
                f"the distortion {self.spec} of the unrefined reconstruction, or its gradient, is not"
                " finite: refinement cannot start there"
            )


MSE = Distortion("mse", "mse", 255**2)


def _one_minus_ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    return 1 - ms_ssim(x_hat.float(), x.float(), data_range=1.0, size_average=False)


MS_SSIM = Distortion("ms-ssim", "ms-ssim", function=_one_minus_ms_ssim)
NAMED = {each.spec: each for each in (MSE, MS_SSIM)}


def lambda_in(metric: str, lmbda: float, trained: str) -> float:
    """``lmbda`` of a codec that was trained for ``trained``, in the convention of ``metric``.

    Where the two differ, it is that of CompressAI's zoo at the same quality, interpolated on logarithms.
    """
    if metric == trained:
        return lmbda
    of, to = np.log(LAMBDAS[trained]), np.log(LAMBDAS[metric])
    wanted = np.log(lmbda)
    nearest = np.clip(wanted, of[0], of[-1])
    return float(np.exp(np.interp(nearest, of, to) + wanted - nearest))


def regions(
    size: Sequence[int], boxes: Iterable[Sequence[int]], *, inside: float = 8.0, outside: float = 1.0
) -> Tensor:
    """A map of weights (H, W) in which regions of interest count more than the rest.

    Args:
        size: height and width of the image, or its shape.
        boxes: each (left, top, width, height) in pixels.
        inside, outside: at most `HEAVIEST`.

    Raises:
        UserError: a box is empty or reaches out of the image, or a weight is out of range.
    """
    height, width = size[-2:]
    inside = number(inside, "the weight inside", high=HEAVIEST, closed=True)
    weights = torch.full((height, width), number(outside, "the weight outside", high=HEAVIEST, closed=True))
    for box in boxes:
        values = tuple(box) if isinstance(box, Iterable) else (box,)
        if len(values) != 4:
            raise UserError(f"a region is left, top, width and height in pixels, not {values}")
        left, top, across, down = (whole(value, "a region's place or side in pixels") for value in values)
        if across < 1 or down < 1 or left < 0 or top < 0 or left + across > width or top + down > height:
            raise UserError(
                f"the region {left},{top},{across},{down} (left, top, width, height) is empty or reaches out"
                f" of the image, which is {width}×{height} pixels"
            )
        weights[top : top + down, left : left + across] = inside
    return weights


def each_of(value: Any, images: Sequence[Tensor], default: str = "mse") -> list[Distortion]:
    """The distortion of each image.

    Args:
        value: ``"mse"`` or ``"ms-ssim"``; a `Distortion`; a map of weights of the squared error, (H, W) or an
            image (3, H, W), of which only the ratios count, or a list or stack of one for each image; a
            differentiable function of reconstructions and originals (B, 3, H, W) that gives (B,). None is
            ``default``.
        images: each (3, H, W).

    Raises:
        UserError: it is nothing of these, or does not fit an image.
    """
    value = default if value is None else value
    if isinstance(value, str):
        if value not in NAMED:
            raise UserError(f"unknown distortion '{value}': use {' or '.join(NAMED)}, a map or a function")
        value = NAMED[value]
    if isinstance(value, Tensor | np.ndarray):
        stack = value.ndim > 2 and len(value) == len(images)
        value = list(value) if stack else [value] * len(images)
    if isinstance(value, list | tuple):
        if len(value) != len(images):
            raise UserError(f"{len(value)} maps of weights were given for {len(images)} images")
        return [_weighted(weights, image) for weights, image in zip(value, images, strict=True)]
    if not callable(value):
        raise UserError(f"a distortion is {', '.join(NAMED)}, map or function, not {type(value).__name__}")
    if not isinstance(value, Distortion):
        value = Distortion(getattr(value, "__qualname__", type(value).__name__), function=value)
    if value is MS_SSIM and (small := min(min(image.shape[-2:]) for image in images)) < metrics.MS_SSIM_SIDE:
        raise UserError(f"MS-SSIM needs at least {metrics.MS_SSIM_SIDE} pixels a side, and one has {small}")
    for image in images if value.weights is not None else ():
        _check_shape(value.weights, (1, 1, *image.shape[-2:]))
    return [value] * len(images)


def _check_shape(weights: Any, wanted: tuple[int, ...]) -> None:
    shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if shape != wanted:
        raise UserError(f"a map of weights must have the image's size, as a tensor {wanted}, not {shape}")


def _weighted(weights: Any, image: Tensor) -> Distortion:
    weights = as_samples(weights, "a map of weights").detach().float().cpu()
    if weights.ndim == 3 and len(weights) == 3:  # a greyscale image
        weights = weights.mean(0)
    _check_shape(weights, tuple(image.shape[-2:]))
    normal = weights / weights.mean()
    if (weights < 0).any() or not normal.isfinite().all() or not normal.any():
        raise UserError("weights of pixels must not be negative or all zero, and have a finite sum")
    digest = hashlib.sha256(weights.contiguous().numpy().tobytes()).hexdigest()[:16]
    return replace(MSE, spec=f"mse:weights={digest}", weights=normal[None, None])


def together(distortions: Sequence[Distortion], device: torch.device) -> Distortion:
    """Of images of one shape, refined together."""
    first = distortions[0]
    if first.weights is None:
        return first
    weights = torch.cat([each.weights for each in distortions if each.weights is not None])
    return replace(first, weights=weights.to(device))
