"""Generalised divisive normalisation with a closed-form backward pass.

CompressAI's GDN is right but keeps four activations per layer and multiplies through each of them
in the backward pass. Written out by hand the same function keeps two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn


class _DivisiveNorm(torch.autograd.Function):
    """y = x · n^(∓1/2) with n = β + γ * x² (Ballé et al., arXiv 1511.06281, eq. 5; inverse: +1/2).

    With r = n^(∓1/2):  ∂L/∂x = g·r + 2x·γᵀ(∂L/∂n),  where 2·∂L/∂n = −g·x·r³ (forward GDN) or
    g·x/r (inverse GDN), so that the factor 2 cancels.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
        norm = F.conv2d(x * x, gamma, beta)
        r = norm.sqrt_() if inverse else norm.rsqrt_()
        ctx.save_for_backward(x, r, gamma)
        ctx.inverse = inverse
        return x * r

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, r, gamma = ctx.saved_tensors
        twice = grad * x
        twice = twice.div_(r) if ctx.inverse else twice.mul_(r).mul_(r).mul_(r).neg_()
        grad_x = torch.addcmul(grad * r, x, F.conv_transpose2d(twice, gamma))
        grad_gamma = grad_beta = None
        if ctx.needs_input_grad[1]:
            grad_gamma = torch.nn.grad.conv2d_weight(x * x, gamma.shape, twice) / 2
        if ctx.needs_input_grad[2]:
            grad_beta = twice.sum((0, 2, 3), dtype=torch.float32).to(gamma.dtype) / 2
        return grad_x, grad_gamma, grad_beta, None


class DivisiveNorm(nn.Module):
    """A drop-in for `compressai.layers.GDN` with the same parameters, values and gradients.

    Args:
        gdn: the layer whose parameters it takes over (shared, under the same names).
    """

    def __init__(self, gdn: GDN):
        super().__init__()
        self.inverse = gdn.inverse
        self.beta_reparam, self.gamma_reparam = gdn.beta_reparam, gdn.gamma_reparam
        self.beta, self.gamma = gdn.beta, gdn.gamma

    def forward(self, x: Tensor) -> Tensor:
        """x, y: (B, C, H, W)."""
        channels = x.shape[1]
        gamma = self.gamma_reparam(self.gamma).reshape(channels, channels, 1, 1)
        beta = self.beta_reparam(self.beta)
        return _DivisiveNorm.apply(x, gamma.to(x.dtype), beta.to(x.dtype), self.inverse)


def replace_gdn(module: nn.Module) -> nn.Module:
    """Replace every GDN below ``module`` in place; the state dict's names and values stay."""
    for name, child in module.named_children():
        if type(child) is GDN:
            setattr(module, name, DivisiveNorm(child))
        else:
            replace_gdn(child)
    return module
