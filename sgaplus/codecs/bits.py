"""What quantised latents cost under CompressAI's entropy models, with closed-form gradients.

Of choices between two integers these are the expected bits, (1 − p) bits(low) + p bits(low + 1).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr
from compressai.ops import LowerBound
from torch import Tensor, nn

from .choice import Choice

# Φ of this many √2 σ below the mean is 2e-37: likelihoods that count are far above it, and float32's
# subnormal numbers, which some processors compute a hundred times more slowly, are below.
_FAR = 9.0

# exp(x²) erfc(x) over [0, _FAR], fitted to a relative 1e-7 by powers of t = 1 / (1 + 0.4 x).
_SLOPE = 0.4
_SCALED_ERFC = (
    8.91724063e-05,
    0.223800827,
    0.242579225,
    0.122111084,
    0.437671715,
    -0.401160646,
    0.697595138,
    -0.396683185,
    0.0739965862,
)


def _erfc(x: Tensor) -> Tensor:
    """erfc of values up to `_FAR`; negative ones no further from 0.

    PyTorch's own; in programs that it compiles for a CPU, where that is far slower than an exponential
    function, by a polynomial.
    """
    if x.device.type == "cpu" and torch.compiler.is_compiling():
        return _fitted_erfc(x)
    return torch.erfc(x)


def _fitted_erfc(x: Tensor) -> Tensor:
    distance = x.abs()
    t = 1 / (1 + _SLOPE * distance)
    scaled = torch.full_like(t, _SCALED_ERFC[-1])
    for coefficient in reversed(_SCALED_ERFC[:-1]):
        scaled = scaled * t + coefficient
    upper = scaled * torch.exp(-distance.square())
    return torch.where(x < 0, 2 - upper, upper)


def note_bounds(model: nn.Module) -> None:
    """Keep the bounds of a model's likelihoods and scales as numbers beside the tensors that they are.

    To read them off these in every step would wait for a GPU each time.
    """
    for module in model.modules():
        if isinstance(module, LowerBound):
            module.number = float(module.bound)


def bound_of(lower: LowerBound) -> float:
    """The bound as a number."""
    return lower.number if hasattr(lower, "number") else float(lower.bound)


def bits_of(likelihood: Tensor, bound: float) -> Tensor:
    """Bits of each value, −log₂ p with p ≥ ``bound``."""
    return -torch.log2(likelihood.clamp_min(bound))


def factorized_bits(
    bottleneck: EntropyBottleneck | EntropyBottleneckVbr, z: Tensor | Choice, step: float | Tensor = 1.0
) -> Tensor:
    """Bits (B,) of ``z`` (B, C, h, w) under the factorised prior (arXiv 1802.01436, appendix 6.1).

    Args:
        step: of z's grid, or one for each image and channel, (B, C, 1, 1); z is given in units of it.
    """

    def bits(z: Tensor) -> Tensor:
        batch, channels = z.shape[:2]
        values = z.transpose(0, 1).reshape(channels, 1, -1)
        # CompressAI's `_likelihood` with one call for both ends.
        ends = torch.cat([values - 0.5, values + 0.5], -1)
        if isinstance(step, Tensor):
            ends = ends * step.expand_as(z).transpose(0, 1).reshape(channels, 1, -1).repeat(1, 1, 2)
        else:
            ends = ends * step
        lower, upper = bottleneck._logits_cumulative(ends, stop_gradient=False).sigmoid().chunk(2, -1)
        likelihood = (upper - lower).reshape(channels, batch, *z.shape[2:]).transpose(0, 1)
        return bits_of(likelihood, bound_of(bottleneck.likelihood_lower_bound))

    values = torch.lerp(bits(z.low), bits(z.low + 1), z.p) if isinstance(z, Choice) else bits(z)
    return values.sum((1, 2, 3))


def gaussian_bits(conditional: nn.Module, v: Tensor | Choice, scales: Tensor) -> Tensor:
    """Bits (B,) of the centred latent ``v`` = y − μ (B, C, h, w) under N(0, σ²) * U(−½, ½).

    Args:
        scales: σ, bounded from below as by CompressAI: there a gradient passes that would raise it.
    """
    bounds = bound_of(conditional.lower_bound_scale), bound_of(conditional.likelihood_lower_bound)
    if isinstance(v, Choice):
        values = _ExpectedGaussianBits.apply(v.low, v.p, scales, *bounds)
    else:
        values = _GaussianBits.apply(v, scales, *bounds)
    return values.sum((1, 2, 3))


class _GaussianBits(torch.autograd.Function):
    """−Σ log₂ p, p = ½ erfc(l) − ½ erfc(u) with l, u = (|v| ∓ ½) / √2σ, the form that loses no digits.

    With e(t) = exp(−t²) and k = √2 / (√(2π) ln 2 · p):  ∂bits/∂|v| = k (e(l) − e(u)) / √2σ  and
    ∂bits/∂σ = −k (l e(l) − u e(u)) / σ; both are 0 where p is at its bound.
    """

    @staticmethod
    def forward(ctx, v: Tensor, scales: Tensor, scale_bound: float, bound: float) -> Tensor:
        inverse = scales.clamp_min(scale_bound).reciprocal().mul(math.sqrt(0.5))
        distance = v.abs()
        lower = (distance - 0.5).mul(inverse).clamp_max(_FAR)
        upper = (distance + 0.5).mul(inverse).clamp_max(_FAR)
        likelihood = (_erfc(lower) - _erfc(upper)).mul(0.5)
        ctx.save_for_backward(v, scales, inverse, lower, upper, likelihood)
        ctx.bounds = scale_bound, bound
        return bits_of(likelihood, bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, scales, inverse, lower, upper, likelihood = ctx.saved_tensors
        scale_bound, bound = ctx.bounds
        # Without comparisons and masks, which are far slower on a CPU than sums and products.
        factor = inverse / F.threshold(likelihood, bound, math.inf)
        factor = factor.mul(grad / (math.sqrt(math.pi) * math.log(2)))
        at_lower, at_upper = lower.square().neg().exp(), upper.square().neg().exp()
        grad_v = grad_scales = None
        if ctx.needs_input_grad[0]:
            grad_v = (at_lower - at_upper).mul(factor).mul(v.sign())
        if ctx.needs_input_grad[1]:
            # 1/σ = √2 · inverse, one of whose factors is in `factor`
            grad_scales = (upper * at_upper).sub(lower * at_lower).mul(factor).mul(math.sqrt(2))
            below = (scale_bound - scales).sign().clamp_min(0)
            grad_scales = torch.addcmul(grad_scales, grad_scales.relu(), below, value=-1)
        return grad_v, grad_scales, None, None


class _ExpectedGaussianBits(torch.autograd.Function):
    """(1 − p) bits(low) + p bits(low + 1), each as `_GaussianBits` has them, in fewer passes than two.

    The two values share an end, and of their gradients most. With m = |low + ½| the value nearer to the mean
    lies between the ends m − 1 and m, the further one between m and m + 1; which of them is low + 1 is the
    sign's to say.
    """

    @staticmethod
    def forward(ctx, low: Tensor, p: Tensor, scales: Tensor, scale_bound: float, bound: float) -> Tensor:
        inverse = scales.clamp_min(scale_bound).reciprocal_().mul_(math.sqrt(0.5))
        between = low + 0.5
        sign, middle = torch.ones_like(between).copysign_(between), between.abs_()
        ends = [(middle + k).mul_(inverse).clamp_max_(_FAR) for k in (-1.0, 0.0, 1.0)]
        tails = [_erfc(end) for end in ends]
        likelihoods = [(tails[i] - tails[i + 1]).mul_(0.5) for i in (0, 1)]
        near, far = (bits_of(likelihood, bound) for likelihood in likelihoods)
        more, p_far = far.sub_(near), (p - 0.5).mul_(sign).add_(0.5)
        ctx.save_for_backward(scales, inverse, sign, p_far, more, *ends, *likelihoods)
        ctx.bounds = scale_bound, bound
        return torch.addcmul(near, more, p_far)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        scales, inverse, sign, p_far, more, *ends, near, far = ctx.saved_tensors
        scale_bound, bound = ctx.bounds
        factor = inverse * (grad / (math.sqrt(math.pi) * math.log(2)))
        factor_far = factor * p_far
        factor_near = factor.sub_(factor_far).div_(F.threshold(near, bound, math.inf))
        factor_far.div_(F.threshold(far, bound, math.inf))
        at = [end.square().neg_().exp_() for end in ends]
        grad_low = grad_scales = None
        if ctx.needs_input_grad[0]:
            grad_low = torch.addcmul((at[0] - at[1]).mul_(factor_near), at[1] - at[2], factor_far).mul_(sign)
        if ctx.needs_input_grad[2]:
            weighted = [density.mul_(end) for density, end in zip(at, ends, strict=True)]
            of_near = (weighted[1] - weighted[0]).mul_(factor_near)
            of_far = (weighted[2] - weighted[1]).mul_(factor_far)
            below = (scale_bound - scales).sign_().clamp_min_(0)
            grad_scales = of_near + of_far
            # each value's gradient meets the scales' bound by itself
            grad_scales.addcmul_(of_near.relu_().add_(of_far.relu_()), below, value=-1).mul_(math.sqrt(2))
        return grad_low, (grad * sign).mul_(more), grad_scales, None, None
