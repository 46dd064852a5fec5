"""The training loss L(λ) = λ·255²·MSE + bpp, with additive uniform noise in place of quantisation."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import metrics
from ..codecs.codec import Codec


class Objective(torch.nn.Module):
    """The training loss as a module, so that a family's folded weights can take the place of its own."""

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec, self.model = codec, codec.model

    def forward(self, x: Tensor, lmbda: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Training loss, bits per pixel and mean squared error of ``x`` (B, 3, H, W), each a scalar."""

        def noisy(v: Tensor, name: str) -> Tensor:
            return v + (torch.rand(v.shape, generator=generator) - 0.5).to(v.device)

        decoded = self.codec.decode(self.codec.analyse(x), noisy)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = decoded.all_bits.sum() / pixels
        mse = (decoded.x_hat - x).square().mean()
        return metrics.rd_loss(lmbda, mse, bpp), bpp, mse
