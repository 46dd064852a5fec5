"""Networks whose results are the same to the last bit on every machine.

A sum of floating-point numbers depends on the order in which they are added, and so on the processor, the
library and the number of threads. Here no sum of a convolution or of a linear layer is rounded: its input and
its weights are first rounded to b bits below their largest magnitude, so that all products are integers of 2b
bits, and n of them add up within the 53 bits of float64 where n · 2²ᵇ ≤ 2⁵³. With b of 20 or 21 this is about
as accurate as float32. What remains are operations on single numbers, which IEEE 754 defines.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

_SUMS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
# They compute with single numbers, or move them.
_PLAIN = (nn.Identity, nn.LeakyReLU, nn.PixelShuffle, nn.ReLU)
_MANTISSA = 53


class _Exact(nn.Module):
    """A layer of `_SUMS` in float64, which is changed, so that its sums are not rounded."""

    def __init__(self, layer: Any):
        super().__init__()
        weight = layer.weight.detach().double() * getattr(layer, "mask", 1)
        outputs = getattr(layer, "out_channels", None) or layer.out_features
        self.bits = (_MANTISSA - (weight.numel() // outputs - 1).bit_length()) // 2
        bias = torch.zeros(outputs) if layer.bias is None else layer.bias.detach()
        self.bias = bias.double().reshape((-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1))
        self.layer = layer
        self.layer.weight = nn.Parameter(_rounded(weight, self.bits), requires_grad=False)
        self.layer.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(_rounded(x, self.bits)) + self.bias


def _rounded(x: Tensor, bits: int) -> Tensor:
    """``x`` as multiples, up to 2ᵇ, of a power of two that its largest magnitude decides."""
    _, exponent = math.frexp(x.abs().max().item())
    # The products of a smaller unit would be too small for float64.
    unit = math.ldexp(1.0, max(exponent, -900) - bits)
    return (x / unit).round() * unit


def exact(network: nn.Module) -> nn.Module:
    """A copy of ``network`` on the CPU whose results are the same everywhere; it takes float64."""
    copied = copy.deepcopy(network).cpu()
    if isinstance(copied, _SUMS):
        return _Exact(copied)
    if type(copied) in _PLAIN:
        return copied
    children = list(copied.named_children())
    if not children:
        raise UserError(f"latents of this codec cannot be written: it has a layer {type(copied).__name__}")
    for name, child in children:
        setattr(copied, name, exact(child))
    return copied
