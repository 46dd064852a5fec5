"""How much the distortion bends along each latent: what its rounding noise costs, to second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distortion import MSE, Distortion, Function

# Steps between two probes, the share of the estimate that a probe replaces, the window of its average.
_EVERY = 10
_SHARE = 0.5
_WINDOW = 5
# How far latents are moved for a distortion whose second derivatives are differences of first ones.
_REACH = 0.1


def signs(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Independent signs ±1 of the shape of ``like`` (B, …), each image's from its own generator."""
    drawn = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    for each, generator in zip(drawn, generators, strict=True):
        each.random_(0, 2, generator=generator)
    return drawn.mul_(2).sub_(1)


@dataclass(eq=False)
class Curvature:
    """A running estimate of ½ diag(JᵀHJ), the Gauss-Newton diagonal of ½ P·D(x̂(ŷ)) over P samples x̂ₚ.

    J is the Jacobian of x̂, H the Hessian of P·D. Of squared errors with weights wₚ the diagonal is
    Σₚ wₚ (∂x̂ₚ/∂ŷᵢ)², and one product of the Jacobian with random signs r has, squared, that expectation:
    E (Jᵀ√w r)ᵢ² (Martens, Sutskever and Swersky, arXiv 1206.6464). It costs one backward pass. Of any other
    distortion it is E rᵢ (JᵀHJr)ᵢ / 2 (Hutchinson's estimate of a diagonal), with differences between two
    points for HJr, as the functions of users need not have second derivatives. As the synthesis is a
    convolution the diagonal varies slowly over positions, and a mean over neighbours does for a mean over
    many probes.

    Attributes:
        coupling: correlations R (B, C, C) of the channels' products Jᵀr, over positions. With the diagonal κ
            they make a Hessian of the latents at one position, √κᵢ Rᵢⱼ √κⱼ, which is never negative.
    """

    steps: int = 0
    mean: Tensor | None = None
    value: Tensor | None = None
    coupling: Tensor | None = None
    _gram: Tensor | None = None

    @property
    def due(self) -> bool:
        """Whether this step takes a probe."""
        return self.steps % _EVERY == 0

    def held(self) -> Tensor:
        """The estimate that this step has without a probe."""
        assert self.value is not None, "the first step takes a probe"
        self.steps += 1
        return self.value

    def __call__(
        self,
        x_hat: Tensor,
        y_hat: Tensor,
        generators: Sequence[torch.Generator],
        distortion: Distortion = MSE,
        x: Tensor | None = None,
        synthesis: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The estimate for this step, of the shape of ``y_hat`` (B, C, h, w).

        Args:
            x_hat: (B, 3, H, W), computed from ``y_hat``; its graph stays for the loss's own backward pass.
            generators: one for each image.
            x, synthesis: the images, and x̂ of latents in float32, where the distortion is a function.
        """
        if self.due:
            if distortion.function is None:
                product = _product(x_hat, y_hat, generators, distortion.weights)
                fresh = product.square()
            else:
                assert x is not None and synthesis is not None
                fresh = _of_function(distortion.function, x_hat, y_hat, generators, x, synthesis)
                product = _product(x_hat, y_hat, generators, None)  # for the coupling, as if it were squares
            fresh = F.avg_pool2d(fresh, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
            self.mean = _mixed(self.mean, fresh)
            self.value = self.mean.clamp_min(0)  # Hutchinson's estimates may be below
            self._gram = _mixed(self._gram, torch.einsum("bchw,bdhw->bcd", product, product))
            inverse = self._gram.diagonal(dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
            self.coupling = self._gram * inverse[:, :, None] * inverse[:, None, :]
        return self.held()


def _mixed(last: Tensor | None, fresh: Tensor) -> Tensor:
    """The running mean with a fresh estimate; an overflow in bfloat16 must not stay."""
    fresh = torch.where(fresh.isfinite(), fresh, torch.zeros_like(fresh) if last is None else last)
    return fresh if last is None else torch.lerp(last, fresh, _SHARE)


def _product(
    x_hat: Tensor, y_hat: Tensor, generators: Sequence[torch.Generator], weights: Tensor | None
) -> Tensor:
    """Jᵀ√w r with random signs r: its square has the mean Σₚ wₚ (∂x̂ₚ/∂ŷᵢ)²."""
    probe = signs(x_hat, generators)
    if weights is not None:
        probe.mul_(weights.sqrt())
    (product,) = torch.autograd.grad(x_hat, y_hat, probe, retain_graph=True)
    return product


def _of_function(
    function: Function,
    x_hat: Tensor,
    y_hat: Tensor,
    generators: Sequence[torch.Generator],
    x: Tensor,
    synthesis: Callable[[Tensor], Tensor],
) -> Tensor:
    """One estimate of ½ diag(JᵀHJ)."""

    def slope(at: Tensor) -> Tensor:
        at = at.requires_grad_()
        return torch.autograd.grad(function(at, x).sum(), at)[0]

    probe = signs(y_hat, generators)
    with torch.no_grad():
        here, there = synthesis(y_hat.detach()), synthesis(y_hat.detach() + _REACH * probe)
    bend = (slope(there) - slope(here)) / _REACH
    (product,) = torch.autograd.grad(x_hat, y_hat, bend.to(x_hat.dtype), retain_graph=True)
    return x[0].numel() / 2 * probe * product
