"""How each of CompressAI's models is analysed and decoded, and what its latents cost.

A *quantiser* ``quantise(v, name)`` receives the distance ``v`` of a latent from the origin of the codec's
grid (y − μ, z − median) and returns the value to code: `hard` for what a decoder sees, a relaxed sample while
refining, ``v`` plus uniform noise while training. The origin is added back here, so that whatever a quantiser
returns, an integer lies on the grid that CompressAI's entropy coder uses.

It may also return a `Choice` of two integers: the networks see its mean, and the bits are expected ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import (
    Cheng2020Anchor,
    Cheng2020Attention,
    CompressionModel,
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from torch import Tensor, nn

from .bits import factorized_bits, gaussian_bits
from .choice import Choice, mean, moved
from .order import Order, at_once, autoregressive_networks, rounded, wavefronts, without_means

Quantiser = Callable[[Tensor, str], Tensor | Choice]
Latents = dict[str, Tensor]


class Networks(Protocol):
    """What is needed of a `Codec` here: its model, and the model's networks in the codec's number format."""

    @property
    def model(self) -> CompressionModel: ...

    def run(self, network: str, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Decoded:
    """What a decoder sees, and what it cost.

    Attributes:
        x_hat: reconstruction (B, 3, H, W) of the padded image, float32, not clamped to [0, 1].
        bits: for each latent the bits of each image, (B,).
        latents: the quantised latents, or means of choices, each (B, C, h, w), with the origin added back.
    """

    x_hat: Tensor
    bits: dict[str, Tensor]
    latents: Latents

    @property
    def all_bits(self) -> Tensor:
        """Bits of each image, (B,)."""
        return functools.reduce(torch.add, self.bits.values())


def hard(v: Tensor, name: str) -> Tensor:
    """The quantiser of the true loss and of the entropy coder: the nearest integer."""
    return torch.round(v)


def _factorized_hat(
    bottleneck: EntropyBottleneck, latent: Tensor, name: str, quantise: Quantiser
) -> Tensor | Choice:
    medians = bottleneck._get_medians().reshape(1, -1, 1, 1)
    return moved(quantise(latent - medians, name), medians)


def _analyse_factorized(codec: Networks, x: Tensor) -> Latents:
    return {"y": codec.run("g_a", x)}


def _decode_factorized(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
    """Ballé et al., arXiv 1802.01436, the factorised prior: y on round(y − median) + median."""
    bottleneck = codec.model.entropy_bottleneck
    y_hat = _factorized_hat(bottleneck, latents["y"], "y", quantise)
    values = mean(y_hat)
    return Decoded(codec.run("g_s", values), {"y": factorized_bits(bottleneck, y_hat)}, {"y": values})


def _analyse_scale(codec: Networks, x: Tensor) -> Latents:
    y = codec.run("g_a", x)
    return {"y": y, "z": codec.run("h_a", y.abs())}


def _analyse_hyperprior(codec: Networks, x: Tensor) -> Latents:
    y = codec.run("g_a", x)
    return {"y": y, "z": codec.run("h_a", y)}


def _decode_hyperprior(
    codec: Networks,
    latents: Latents,
    quantise: Quantiser,
    settle: Callable[[Networks, Tensor, Tensor, Quantiser], tuple[Tensor, Tensor | Choice, Tensor]],
) -> Decoded:
    """What every hyperprior model shares; ``settle`` gives (ŷ, ŷ − μ, σ) from h_s(ẑ) and y."""
    model = codec.model
    z_hat = _factorized_hat(model.entropy_bottleneck, latents["z"], "z", quantise)
    parameters = codec.run("h_s", mean(z_hat))
    y_hat, centred, scales = settle(codec, parameters, latents["y"], quantise)
    bits = {
        "y": gaussian_bits(model.gaussian_conditional, centred, scales),
        "z": factorized_bits(model.entropy_bottleneck, z_hat),
    }
    return Decoded(codec.run("g_s", y_hat), bits, {"y": y_hat, "z": mean(z_hat)})


def _settle_scale(
    codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser
) -> tuple[Tensor, Tensor | Choice, Tensor]:
    """Ballé et al., arXiv 1802.01436: y on the integers, no mean."""
    y_hat = quantise(y, "y")
    return mean(y_hat), y_hat, parameters


def _settle_mean_scale(
    codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser
) -> tuple[Tensor, Tensor | Choice, Tensor]:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, without context: y on round(y − μ) + μ."""
    scales, means = parameters.chunk(2, 1)
    centred = quantise(y - means, "y")
    return mean(centred) + means, centred, scales


def _settle_context(
    codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser
) -> tuple[Tensor, Tensor | Choice, Tensor]:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, with context: μ and σ depend on the ŷ decoded before.

    Hard latents are found position by position, as the decoder finds them. Otherwise two parallel passes do:
    the origin of the grid from the context of y itself, then μ and σ from that of the relaxed ŷ; at a hard
    point of the grid both agree.
    """

    def entropy_parameters(values: Tensor) -> tuple[Tensor, Tensor]:
        context = codec.run("context_prediction", values)
        scales, means = codec.run("entropy_parameters", torch.cat([parameters, context], 1)).chunk(2, 1)
        return scales, means

    y_hat: Tensor | Choice
    if quantise is hard:
        y_hat = rounded(wavefronts(autoregressive_networks(codec.model), parameters), y)
    else:
        _, origin = entropy_parameters(y)
        y_hat = moved(quantise(y - origin, "y"), origin)
    scales, means = entropy_parameters(mean(y_hat))
    return mean(y_hat), moved(y_hat, -means), scales


@dataclass(frozen=True)
class Family:
    """How one CompressAI class is analysed and decoded.

    Attributes:
        analyse: continuous latents of x (B, 3, H, W).
        decode: what the decoder makes of latents under a quantiser, and their bits.
        decoders: the networks that `decode` runs.
        stride: image sides are padded to a multiple of it.
        order: in which a decoder finds y from what h_s makes of ẑ; None without a hyperprior.
        networks: those that ``order`` runs, of a model.
    """

    analyse: Callable[[Networks, Tensor], Latents]
    decode: Callable[[Networks, Latents, Quantiser], Decoded]
    decoders: tuple[str, ...]
    stride: int = 64
    order: Order | None = None
    networks: Callable[[CompressionModel], dict[str, nn.Module]] = lambda model: {}


def _hyperprior(
    settle: Callable[..., Any],
    analyse: Callable[[Networks, Tensor], Latents],
    *decoders: str,
    **decoding: Any,
) -> Family:
    def decode(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
        return _decode_hyperprior(codec, latents, quantise, settle)

    return Family(analyse, decode, ("h_s", "g_s", *decoders), **decoding)


_FACTORIZED = Family(_analyse_factorized, _decode_factorized, ("g_s",), stride=16)
_CONTEXT = _hyperprior(
    _settle_context,
    _analyse_hyperprior,
    "context_prediction",
    "entropy_parameters",
    order=wavefronts,
    networks=autoregressive_networks,
)

# Classes are looked up by exact type: a subclass may well decode in another way. An entry adds a class of
# one's own, which `Codec("name", lmbda, freeze(model), content_hash(model))` then takes.
FAMILIES: dict[type, Family] = {
    FactorizedPrior: _FACTORIZED,
    FactorizedPriorReLU: _FACTORIZED,
    ScaleHyperprior: _hyperprior(_settle_scale, _analyse_scale, order=without_means),
    MeanScaleHyperprior: _hyperprior(_settle_mean_scale, _analyse_hyperprior, order=at_once),
    JointAutoregressiveHierarchicalPriors: _CONTEXT,
    Cheng2020Anchor: _CONTEXT,
    Cheng2020Attention: _CONTEXT,
}
