"""What the rounding methods' formulas say by themselves, in float64: slopes, exponents, moments of a draw."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from sgaplus.rounding import SSL, ThreeClass, TwoClass

# Distances from an integer at which power laws are fitted, far below those that the methods clip at.
_ENDS = (1e-9, 1e-6)


def midpoints(points: int) -> Tensor:
    """The middles of so many equal parts of (0, 1), float64: a mean over them is one over the interval."""
    return (torch.arange(points, dtype=torch.float64) + 0.5) / points


def ceil_probability(method: TwoClass, x: Tensor, tau: float = 1.0) -> Tensor:
    """p(⌈v⌉) at x = v − ⌊v⌋ in (0, 1), without the clip that the loop has."""
    return torch.sigmoid(method.log_odds(x) / tau)


def probability_slope(method: TwoClass, x: Tensor, tau: float = 1.0) -> Tensor:
    """dp(⌈v⌉)/dv at x, by automatic differentiation."""
    x = x.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(ceil_probability(method, x, tau).sum(), x)
    return slope


def log_probability_slope(method: TwoClass, distance: Tensor) -> Tensor:
    """d log p/dv of a class while its own probability vanishes: of ⌈v⌉ at x = distance, by autograd."""
    x = distance.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.logsigmoid(method.log_odds(x)).sum(), x)
    return slope


def end_exponent(method: TwoClass, slope=probability_slope) -> float:
    """k of |slope| ∝ distanceᵏ next to an integer: below 0 it grows without bound, above 0 it vanishes."""
    distance = torch.tensor(_ENDS, dtype=torch.float64)
    first, last = slope(method, distance).abs().log().tolist()
    return (last - first) / float(np.log(_ENDS[1] / _ENDS[0]))


def moments(method: TwoClass, x: Tensor, tau: float, points: int = 20_001) -> dict[str, np.ndarray]:
    """Mean and standard deviation of a draw and of its derivative by v at x = v − ⌊v⌋ (m,), and its distance
    from ⌊v⌉; (m,) each, over quantiles of the uniform noise, in float64."""
    noise = midpoints(points).expand(len(x), points).contiguous()
    v = x.detach().double()[:, None].expand_as(noise).contiguous().requires_grad_()
    values = method.relax(v, tau, noise)
    (slopes,) = torch.autograd.grad(values.sum(), v)
    values = values.detach()
    error = (values - torch.round(x.double())[:, None]).abs()
    found = {"value": values.mean(1), "value_sd": values.std(1, correction=0), "slope": slopes.mean(1)}
    found |= {"slope_sd": slopes.std(1, correction=0), "error": error.mean(1)}
    return {name: tensor.numpy() for name, tensor in found.items()}


def draw_slope(method: TwoClass, x: Tensor) -> Tensor:
    """Mean over the noise of a draw's derivative by v, at x ≠ ½ and τ = 1; `moments` has it by quadrature.

    With the odds α of p, the mean of σ(log α + logit u) over uniform u is α (α − 1 − log α) / (α − 1)².
    """
    x = x.detach().double().requires_grad_()
    log_odds = method.log_odds(x)
    odds = log_odds.exp()
    (slope,) = torch.autograd.grad((odds * (odds - 1 - log_odds) / (odds - 1).square()).sum(), x)
    return slope


def wrong_class(method: TwoClass) -> float:
    """Probability of the farther integer at τ = 1, mean over v uniform between two integers."""
    x = midpoints(2_000)
    p = ceil_probability(method, x)
    return float(torch.where(x < 0.5, p, 1 - p).mean())


def flat_share(method: TwoClass) -> float:
    """Share of v, uniform between two integers, at which dp(⌈v⌉)/dv is under 0.1 at τ = 1."""
    return float((probability_slope(method, midpoints(20_000)) < 0.1).double().mean())


def closest_a(method: TwoClass) -> tuple[float, float]:
    """SSL's a closest to another method's p(⌈v⌉), by least squares, and the largest difference left."""
    x = midpoints(2_000)
    p = ceil_probability(method, x)

    def squares(a: float) -> float:
        return float((ceil_probability(SSL(a), x) - p).square().mean())

    a = float(minimize_scalar(squares, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6}).x)
    return a, float((ceil_probability(SSL(a), x) - p).abs().max())


def third_mass(method: ThreeClass, w: float = 0.0) -> float:
    """Probability of the farthest of three classes at a distance w ≥ 0 from the nearest, at τ = 1."""
    return float(method.probabilities(torch.tensor([w], dtype=torch.float64))[0, 0])
