"""Hyperpriors with an autoregressive context model: decoded values say how the next are distributed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..choice import Choice, mean, moved
from ..models import Networks, Quantiser, hard
from ..order import autoregressive_networks, decoding, rounded, wavefronts
from . import hyperprior
from .factorized import from_width, from_widths


def _settle(codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser) -> hyperprior.Settled:
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
        y_hat = rounded(wavefronts(autoregressive_networks(codec.model), parameters), y).y_hat
    else:
        _, origin = entropy_parameters(y)
        y_hat = moved(quantise(y - origin, "y"), origin)
    scales, means = entropy_parameters(mean(y_hat))
    return mean(y_hat), moved(y_hat, -means), scales


AUTOREGRESSIVE = hyperprior.family(
    _settle,
    hyperprior.analyse,
    "context_prediction",
    "entropy_parameters",
    decoding=lambda model: decoding(model, wavefronts, autoregressive_networks),
    build=from_widths,
)
CHENG2020 = replace(AUTOREGRESSIVE, build=from_width)
