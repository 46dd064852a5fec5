"""The factorised prior (Ballé et al., arXiv 1802.01436): y alone, with a distribution for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr
from compressai.models import CompressionModel
from torch import Tensor

from ..bits import factorized_bits
from ..choice import Choice, mean, moved
from ..models import Decoded, Family, Latents, Networks, Quantiser


def channels(weights: Mapping[str, Tensor], name: str) -> int:
    """How many channels a convolution of a state dict has."""
    if weights[name].ndim != 4:
        raise KeyError(name)
    return weights[name].shape[0]


def from_widths(cls: Any, weights: Mapping[str, Tensor]) -> CompressionModel:
    """A model ``cls(N, M)`` whose transforms have four convolutions with a GDN or ReLU between them."""
    return cls(channels(weights, "g_a.0.weight"), channels(weights, "g_a.6.weight"))


def from_width(cls: Any, weights: Mapping[str, Tensor]) -> CompressionModel:
    """A model ``cls(N)`` with the transforms of Cheng et al. 2020, whose latents have N channels too."""
    return cls(channels(weights, "g_a.0.conv1.weight"))


def factorized_hat(
    bottleneck: EntropyBottleneck | EntropyBottleneckVbr,
    latent: Tensor,
    name: str,
    quantise: Quantiser,
    step: float = 1.0,
) -> Tensor | Choice:
    """A latent on the grid of the factorised prior, in units of the grid's ``step``."""
    medians = bottleneck._get_medians().reshape(1, -1, 1, 1) / step
    return moved(quantise(latent - medians, name), medians)


def _analyse(codec: Networks, x: Tensor) -> Latents:
    return {"y": codec.run("g_a", x)}


def _decode(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
    """Ballé et al., arXiv 1802.01436, the factorised prior: y on round(y − median) + median."""
    bottleneck = codec.model.entropy_bottleneck
    y_hat = factorized_hat(bottleneck, latents["y"], "y", quantise)
    values = mean(y_hat)
    return Decoded(codec.run("g_s", values), {"y": factorized_bits(bottleneck, y_hat)}, {"y": values})


FACTORIZED = Family(_analyse, _decode, ("g_s",), stride=16, build=from_widths)
