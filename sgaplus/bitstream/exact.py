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

from ..codecs import strips
from ..errors import UserError

# Values of the windows of its input that a convolution in float64 copies at a time: 256 MiB.
WINDOWS = 2**25

_SUMS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
# They compute with single numbers, or move them.
_PLAIN = (nn.Identity, nn.LeakyReLU, nn.PixelShuffle, nn.ReLU)
_MANTISSA = 53


class _InStrips(nn.Module):
    """A convolution in float64, of large inputs strip by strip.

    PyTorch first copies all windows of an input, which of a large photograph are gigabytes.
    """

    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer
        kernel, step = layer.kernel_size[0], layer.stride[0]
        up = isinstance(layer, nn.ConvTranspose2d)
        usual = (up or step == 1) and layer.dilation[0] == 1 and layer.padding_mode == "zeros"
        usual = usual and layer.padding not in ("same", "valid")
        kept = usual and kernel + layer.output_padding[0] * up == step + 2 * layer.padding[0]
        # Rows of the output for one of the input; None where there are more at the ends, or fewer.
        self.step = step if kept else None
        self.margin = -(-(kernel - 1) // step)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        most = max(WINDOWS // (len(x) * width * self.layer.weight[0].numel()) - 2 * self.margin, 1)
        if self.step is None or height <= most:
            return self.layer(x)
        cut = strips.cut(2, height, most, self.margin)
        return strips.join(cut, self.layer, x, (1, self.step), torch.contiguous_format)


def in_strips(network: nn.Module) -> nn.Module:
    """``network``, its convolutions changed so that they take little memory of large inputs."""
    for name, child in network.named_children():
        setattr(network, name, in_strips(child))
    return _InStrips(network) if isinstance(network, nn.Conv2d | nn.ConvTranspose2d) else network


class _Exact(nn.Module):
    """A layer of `_SUMS` in float64, which is changed, so that its sums are not rounded."""

    def __init__(self, layer: Any):
        super().__init__()
        weight = layer.weight.detach().double() * getattr(layer, "mask", 1)
        outputs = getattr(layer, "out_channels", None) or layer.out_features
        self.bits = (_MANTISSA - (weight.numel() // outputs - 1).bit_length()) // 2
        bias = torch.zeros(outputs) if layer.bias is None else layer.bias.detach()
        self.bias = bias.double().reshape((-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1))
        layer.weight = nn.Parameter(_rounded(weight, self.bits), requires_grad=False)
        layer.bias = None
        self.layer = in_strips(layer)

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
