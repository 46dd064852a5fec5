"""Hyperpriors without a context model: z first, and h_s(ẑ) says how y is distributed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..bits import factorized_bits, gaussian_bits
from ..choice import Choice, mean
from ..models import Analyse, Decoded, Family, Latents, Networks, Quantiser
from ..order import at_once, decoding, without_means
from .factorized import factorized_hat, from_widths

# ŷ, ŷ − μ and σ, from h_s(ẑ) and y.
Settled = tuple[Tensor, Tensor | Choice, Tensor]
Settle = Callable[[Networks, Tensor, Tensor, Quantiser], Settled]


def analyse_scale(codec: Networks, x: Tensor) -> Latents:
    y = codec.run("g_a", x)
    return {"y": y, "z": codec.run("h_a", y.abs())}


def analyse(codec: Networks, x: Tensor) -> Latents:
    y = codec.run("g_a", x)
    return {"y": y, "z": codec.run("h_a", y)}


def decode(codec: Networks, latents: Latents, quantise: Quantiser, settle: Settle) -> Decoded:
    """What every hyperprior model shares; ``settle`` gives (ŷ, ŷ − μ, σ) from h_s(ẑ) and y."""
    model = codec.model
    z_hat = factorized_hat(model.entropy_bottleneck, latents["z"], "z", quantise)
    parameters = codec.run("h_s", mean(z_hat))
    y_hat, centred, scales = settle(codec, parameters, latents["y"], quantise)
    bits = {
        "y": gaussian_bits(model.gaussian_conditional, centred, scales),
        "z": factorized_bits(model.entropy_bottleneck, z_hat),
    }
    return Decoded(codec.run("g_s", y_hat), bits, {"y": y_hat, "z": mean(z_hat)})


def _settle_scale(codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser) -> Settled:
    """Ballé et al., arXiv 1802.01436: y on the integers, no mean."""
    y_hat = quantise(y, "y")
    return mean(y_hat), y_hat, parameters


def _settle_mean_scale(codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser) -> Settled:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, without context: y on round(y − μ) + μ."""
    scales, means = parameters.chunk(2, 1)
    centred = quantise(y - means, "y")
    return mean(centred) + means, centred, scales


def family(settle: Settle, analyse: Analyse, *decoders: str, **more: Any) -> Family:
    """A family with a hyperprior, whose y is found by ``settle``; the rest is as of `Family`."""

    def decode_settled(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
        return decode(codec, latents, quantise, settle)

    return Family(analyse, decode_settled, ("h_s", "g_s", *decoders), **more)


SCALE_HYPERPRIOR = family(
    _settle_scale, analyse_scale, decoding=lambda model: decoding(model, without_means), build=from_widths
)
MEAN_SCALE_HYPERPRIOR = family(
    _settle_mean_scale, analyse, decoding=lambda model: decoding(model, at_once), build=from_widths
)
