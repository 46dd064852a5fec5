"""Layers that cost less: divisive normalisation with a closed-form backward pass, weights cast once.

CompressAI's GDN is right but keeps four activations per layer and multiplies through each of them
in the backward pass. Written out by hand the same function keeps two. Nothing is computed in place: on
activations beyond the processor's caches that took two to three times as long.
"""

import copy

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from .convolutions import cheaper


class _DivisiveNorm(torch.autograd.Function):
    """y = x · n^(∓1/2) with n = β + γ * x² (Ballé et al., arXiv 1511.06281, eq. 5; inverse: +1/2).

    With r = n^(∓1/2):  ∂L/∂x = g·r + 2x·γᵀ(∂L/∂n),  where 2·∂L/∂n = −g·x·r³ (forward GDN) or
    g·x/r (inverse GDN), so that the factor 2 cancels.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
        norm = F.conv2d(x.square(), gamma, beta)
        r = norm.sqrt() if inverse else norm.rsqrt()
        ctx.save_for_backward(x, r, gamma)
        ctx.inverse = inverse
        return x * r

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, r, gamma = ctx.saved_tensors
        twice = grad * x / r if ctx.inverse else -(grad * x * r * r * r)
        # Not conv_transpose2d, which with one thread in float32 took 1.6 times as long on an Intel Xeon.
        grad_x = torch.addcmul(grad * r, x, F.conv2d(twice, gamma.transpose(0, 1)))
        grad_gamma = grad_beta = None
        if ctx.needs_input_grad[1]:
            grad_gamma = conv2d_weight(x.square(), gamma.shape, twice) / 2
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

    def weights(self) -> tuple[Tensor, Tensor]:
        """γ (C, C, 1, 1) and β (C,), neither negative."""
        gamma = self.gamma_reparam(self.gamma)
        return gamma[:, :, None, None], self.beta_reparam(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """x, y: (B, C, H, W)."""
        gamma, beta = self.weights()
        # CUDA's autocast would compute roots in float32 and return another format than that of x.
        with torch.autocast(x.device.type, enabled=False):
            return _DivisiveNorm.apply(x, gamma.to(x.dtype), beta.to(x.dtype), self.inverse)


class _FixedDivisiveNorm(nn.Module):
    """`DivisiveNorm` with weights that were found once."""

    def __init__(self, norm: DivisiveNorm, dtype: torch.dtype):
        super().__init__()
        self.inverse = norm.inverse
        gamma, beta = (value.detach().to(dtype) for value in norm.weights())
        self.register_buffer("gamma", gamma)
        self.register_buffer("beta", beta)

    def forward(self, x: Tensor) -> Tensor:
        return _DivisiveNorm.apply(x, self.gamma, self.beta, self.inverse)


def replace_gdn(module: nn.Module) -> nn.Module:
    """Replace every GDN below ``module`` in place; the state dict's names and values stay."""
    for name, child in module.named_children():
        if type(child) is GDN:
            setattr(module, name, DivisiveNorm(child))
        else:
            replace_gdn(child)
    return module


def fixed(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a frozen network that computes in ``dtype``: its weights are cast once, not in every call.

    Weights that are of that format already are shared.
    """
    replaced: dict[int, object] = {}
    for parameter in network.parameters():
        replaced[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    for buffer in network.buffers():
        replaced[id(buffer)] = buffer.to(dtype if buffer.is_floating_point() else buffer.dtype)
    for module in network.modules():
        if isinstance(module, DivisiveNorm):
            replaced[id(module)] = _FixedDivisiveNorm(module, dtype)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            replaced[id(module)] = cheaper(copy.deepcopy(module, replaced))
    return copy.deepcopy(network, replaced)
