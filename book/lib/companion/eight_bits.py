"""8-bit numbers in the synthesis: ``python -m companion.eight_bits SECONDS.csv LOSSES.csv``

Many processors without bfloat16 multiply 8-bit integers fast. Here the convolutions of g_s compute with
numbers that are rounded as for these: weights by output channel, activations or gradients by tensor. They
are multiplied in float32, so that losses are those of such a loop, and seconds are not. What a convolution
takes in such integers is measured by itself, with the operator of oneDNN that PyTorch's compiler uses.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgaplus import Codec, hardware, load_codec, refine
from sgaplus.data import datasets
from sgaplus.errors import SystemFault
from sgaplus.hardware import channels_last
from sgaplus.jobs import provenance

from .statistics import paired_means

PASSES = "none", "backward", "forward"
IMAGES = [f"kodim{number:02}" for number in range(1, 25, 3)]
GRID = [(lmbda, *how) for lmbda in (0.0025, 0.04) for how in (("fast", 50), ("ssl", 200))]


def rounded(x: Tensor, by: int | None = None) -> tuple[Tensor, Tensor]:
    """``x`` as integers from −127 to 127, and their unit: one of all, or one by index of dimension ``by``."""
    others = [d for d in range(x.ndim) if d != by]
    unit = (x.abs().amax(others, keepdim=True) / 127).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.round(x / unit), unit


def _near(x: Tensor, by: int | None = None) -> Tensor:
    whole, unit = rounded(x, by)
    return whole * unit


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, layer: nn.ConvTranspose2d, which: str) -> Tensor:
        ctx.layer, ctx.which, weight = layer, which, layer.weight
        if which == "forward":
            x, weight = _near(x), _near(weight, 1)
        form = layer.stride, layer.padding, layer.output_padding
        return F.conv_transpose2d(x, weight, layer.bias, *form)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.layer.weight
        if ctx.which == "backward":
            grad, weight = _near(grad), _near(weight, 0)
        return F.conv2d(grad, weight, None, ctx.layer.stride, ctx.layer.padding), None, None


class EightBits(nn.ConvTranspose2d):
    """A layer of g_s in one pass (of `PASSES`) of the loop; true losses, without gradients, are exact."""

    def __init__(self, layer: nn.ConvTranspose2d, which: str):
        sides = layer.kernel_size, layer.stride, layer.padding, layer.output_padding
        super().__init__(layer.in_channels, layer.out_channels, *sides)
        self.weight, self.bias, self.which = layer.weight, layer.bias, which

    def forward(self, x: Tensor) -> Tensor:
        return _Convolution.apply(x, self, self.which if torch.is_grad_enabled() else "none")


def in_eight_bits(codec: Codec, which: str) -> Codec:
    """The codec with all convolutions of g_s as `EightBits`."""
    model = copy.deepcopy(codec.model)
    for name, layer in list(model.g_s.named_children()):
        if isinstance(layer, nn.ConvTranspose2d):
            setattr(model.g_s, name, EightBits(layer, which))
    return Codec(codec.name, codec.lmbda, model, codec.sha256, torch.float32, codec.card)


def losses() -> pd.DataFrame:
    """The true loss of each image after refinement, by λ, method and what was in 8 bits (``pass``)."""
    files = datasets.list_images("kodak", images=IMAGES, crop=256)
    found = []
    for lmbda, method, iterations in GRID:
        for which in PASSES:
            codec = in_eight_bits(load_codec("mshyper-s", lmbda), which)
            for file in files:
                how = {"iterations": iterations, "trace_every": iterations, "read_offs": []}
                rows = refine(codec, [file.read()], method, **how, names=[file.name]).rows
                last = rows[rows["iteration"] == iterations].assign(**{"pass": which})
                found.append(last.assign(iterations=iterations, **provenance(codec.device)))
                print(lmbda, method, which, file.name, last["loss"].item(), flush=True)
    return pd.concat(found, ignore_index=True)


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`companion.statistics.paired_means` of the true loss against a loop without 8 bits, percent."""
    table = paired_means(
        rows.assign(configuration=rows["pass"]), "loss", "none", ["lmbda", "method", "iterations"]
    )
    return table.rename(columns={"configuration": "pass"})


def seconds() -> pd.DataFrame:
    """Milliseconds of the large convolutions backward through g_s (N = 128, 768 × 512), in both formats."""
    torch.set_num_threads(1)
    found = []
    for height, width in ((256, 384), (128, 192), (64, 96)):
        grad = channels_last(torch.randn(1, 128, height, width))
        times = _times(grad, channels_last(torch.randn(128, 128, 5, 5) / 57))
        found.append({"channels": 128, "height": height, "width": width} | times)
    return pd.DataFrame(found).assign(**provenance(torch.device("cpu")))


def _times(grad: Tensor, weight: Tensor) -> dict[str, float]:
    """Of the convolution in float32, of that of integers, and of making these of a gradient."""
    onednn, form = torch.ops.onednn, ([2, 2], [2, 2], [1, 1], 1)
    whole, units = rounded(weight, 0)
    unit, units = (grad.abs().max() / 127).item(), units.flatten()
    packed = onednn.qconv_prepack(whole.to(torch.int8), units, unit, 128, *form, list(grad.shape))
    origin, half_up = torch.zeros(len(weight), dtype=torch.int32), torch.tensor(128.5)

    def plain() -> Tensor:
        return F.conv2d(grad, weight, None, 2, 2)

    def make() -> Tensor:
        in_memory = grad.permute(0, 2, 3, 1).flatten()  # a view: over channels first PyTorch is slow
        largest = max(abs(end.item()) for end in in_memory.aminmax())
        return torch.add(half_up, grad, alpha=127 / largest).to(torch.uint8)  # which cuts off

    def convolve() -> Tensor:
        result = 1.0, 0, torch.float32, "none", [], ""
        return onednn.qconv_pointwise(made, unit, 128, packed, units, origin, None, *form, *result)

    made = make()
    if (convolve() - plain()).norm() > 0.03 * plain().norm():
        raise SystemFault("oneDNN's convolution of integers gives something else than that of float32")
    return {"float32_ms": _took(plain), "integers_ms": _took(convolve), "rounding_ms": _took(make)}


def _took(function: Callable[[], object]) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(13):
        begun = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[2:])  # the first ones prepare


if __name__ == "__main__":
    hardware.keep_freed_memory()
    for path, table in zip(sys.argv[1:], (seconds, losses), strict=True):
        table().to_csv(Path(path), index=False)
