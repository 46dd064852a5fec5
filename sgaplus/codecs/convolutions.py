"""Convolutions of fixed weights that cost less on a CPU; values and gradients are those of PyTorch's.

Weights that oneDNN has laid out are kept. PyTorch does this anew in every call, which on an Intel Xeon takes
half to three quarters of the time where activations are small, as in a hyper-synthesis. And a transposed
convolution with few channels to give, such as the colours, goes by its phases.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Channels that a matrix tile, or a vector of 512 bits, has room for.
_THIN = 16

# What PyTorch's compiler calls, too.
_mkldnn: Any = torch.ops.mkldnn


def cheaper(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """What stands for ``layer``, whose weights are fixed; itself where nothing costs less."""
    # Subclasses may well compute something else.
    plain = type(layer) in (nn.Conv2d, nn.ConvTranspose2d) and layer.groups == 1
    if not plain or layer.weight.device.type != "cpu":
        return layer
    if isinstance(layer, nn.ConvTranspose2d) and _is_thin(layer):
        return ByPhases(layer)
    zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return KeptLayout(layer) if zeros and lays_out(layer.weight.dtype) else layer


def lays_out(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and lays out weights of this format."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _mkldnn._is_mkldnn_bf16_supported())


def _is_thin(layer: nn.ConvTranspose2d) -> bool:
    """Whether `ByPhases` can stand for it: what it gives is ``stride`` times as high and wide."""
    sides = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation
    (kernel, stride, padding, more, dilation), across = ([int(side[i]) for side in sides] for i in (0, 1))
    square = [kernel, stride, padding, more, dilation] == across
    whole = stride > 1 and dilation == 1 and stride + 2 * padding == kernel + more
    return square and whole and layer.out_channels * stride**2 <= _THIN


class _Interlaced(torch.autograd.Function):
    """A transposed convolution of stride s as a convolution with s² times the channels, which interlace.

    Its backward pass is the convolution with the original weights.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, phases: Tensor, bias: Tensor | None, weight: Tensor, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.how = stride, padding
        return F.pixel_shuffle(F.conv2d(x, phases, bias, padding=phases.shape[-1] // 2), stride)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return F.conv2d(grad, weight, None, *ctx.how), None, None, None, None, None


class ByPhases(nn.Module):
    """A transposed convolution with few channels to give.

    On an Intel Xeon oneDNN takes two to three times as long for it as for its phases, of which the pixels
    (sq + a, sr + b) for all q and r are one.
    """

    def __init__(self, layer: nn.ConvTranspose2d):
        super().__init__()
        weight = layer.weight.detach()
        self.stride, self.padding = layer.stride[0], int(layer.padding[0])
        # What an impulse in the middle of each channel becomes has all weights, each at its phase.
        channels, reach = len(weight), (self.stride + self.padding - 1) // self.stride
        side = 2 * reach + 1
        impulses = weight.new_zeros(channels, channels, side, side)
        impulses[:, :, reach, reach] = torch.eye(channels)
        more = layer.output_padding[0]
        answers = F.conv_transpose2d(impulses, weight, None, self.stride, self.padding, more)
        answers = F.pixel_unshuffle(answers, self.stride)
        self.register_buffer("phases", answers.transpose(0, 1).flip(2, 3).contiguous())
        self.register_buffer("weight", weight)
        bias = None if layer.bias is None else layer.bias.detach().repeat_interleave(self.stride**2)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return _Interlaced.apply(x, self.phases, self.bias, self.weight, self.stride, self.padding)


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, layer: "KeptLayout") -> Tensor:
        ctx.layer, ctx.size = layer, x.shape[2:]
        return layer.ahead(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.back(grad, ctx.size), None


class KeptLayout(nn.Module):
    """A convolution, transposed or not, that keeps its weights as oneDNN wants them for the last shape of x.

    Programs that PyTorch compiles call ``layer`` as it is.
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d):
        super().__init__()
        self.layer = layer
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        self.padding = [int(side) for side in layer.padding]
        self._runs: dict[bool, tuple[Any, Callable[[Tensor], Tensor]]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if torch.compiler.is_compiling() else _Kept.apply(x, self)

    def ahead(self, x: Tensor) -> Tensor:
        return self._run(x, self.transposed, self.layer.bias, list(self.layer.output_padding))

    def back(self, grad: Tensor, size: Sequence[int]) -> Tensor:
        """The gradient of an x that is ``size`` high and wide."""
        layer = self.layer
        # Of the sizes that give such a gradient, a strided convolution's transpose knows the smallest.
        least = [
            (side - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for side, stride, padding, dilation, kernel in zip(
                grad.shape[2:], layer.stride, self.padding, layer.dilation, layer.kernel_size, strict=True
            )
        ]
        more = [side - smallest for side, smallest in zip(size, least, strict=True)]
        return self._run(grad, not self.transposed, None, more)

    def _run(self, x: Tensor, transposed: bool, bias: Tensor | None, more: list[int]) -> Tensor:
        """The convolution or its transpose, whose result is ``more`` pixels higher and wider."""
        asked = x.shape, more
        known, run = self._runs.get(transposed, (None, None))
        if run is None or known != asked:
            run = self._made(x.shape, transposed, bias, more)
            self._runs[transposed] = asked, run
        return run(x)

    def _made(
        self, shape: torch.Size, transposed: bool, bias: Tensor | None, more: list[int]
    ) -> Callable[[Tensor], Tensor]:
        layer, padding = self.layer, self.padding
        how: tuple[Any, ...] = padding, layer.stride, layer.dilation, 1
        lay_out, run = _mkldnn._reorder_convolution_weight, _mkldnn._convolution_pointwise
        if transposed:
            how = padding, more, layer.stride, layer.dilation, 1
            lay_out = _mkldnn._reorder_convolution_transpose_weight
            run = _mkldnn._convolution_transpose_pointwise
        kept = lay_out(layer.weight, *how, shape)
        return lambda x: run(x, kept, bias, *how, "none", [], "")
