"""One network for every λ: gains on the latents that fold away into the weights.

A base codec for another λ differs mostly in how finely it quantises each channel. A *family* is therefore
trained as one mean-scale hyperprior with three gains per channel and λ, in the manner of the gained
variational autoencoder (Cui et al., arXiv 2003.02012): for λ number k, with g = e^(log gain),

    y = g_y[k] · g_a(x),   x̂ = g_s(ŷ / g_s[k]),   z = g_z[k] · h_a(y / g_y[k]),
    (σ, μ) = g_y[k] · h_s(ẑ / g_z[k]).

Each is a factor on the inputs or outputs of a convolution, and the factorised prior's first layer takes the
one on ẑ, so that for every λ they fold into weights of the plain architecture: what is trained is exactly
what is published. Every step serves all λ, where separate codecs would share nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


class Gains(nn.Module):
    """Log gains of each λ of a family of mean-scale hyperpriors.

    Args:
        lmbdas: the family's λ.
        reference: the λ whose gains are 1 at first. The others start at √(λ/reference): at high rates the
            distortion is that of a uniform quantiser, and the step that minimises L(λ) goes with λ^(-1/2).
        N, M: channels of z and of y.
    """

    def __init__(self, lmbdas: Sequence[float], reference: float, N: int, M: int):
        super().__init__()
        level = torch.tensor([0.5 * math.log(lmbda / reference) for lmbda in lmbdas])[:, None]
        self.y = nn.Parameter(level.repeat(1, M))
        self.synthesis = nn.Parameter(level.repeat(1, M))
        self.z = nn.Parameter(torch.zeros(len(lmbdas), N))

    def fold(self, model: nn.Module, index: int) -> dict[str, Tensor]:
        """The parameters of ``model`` for λ number ``index``, by name; differentiable in both.

        Those that no gain touches are the model's own.
        """
        y, synthesis, z = (gain[index].exp() for gain in (self.y, self.synthesis, self.z))
        y_twice = torch.cat([y, y])  # h_s gives the scales of all channels, then the means of all
        own = dict(model.named_parameters())
        # Convolutions have weights (out, in, k, k), transposed ones (in, out, k, k).
        folded = {
            "g_a.6.weight": own["g_a.6.weight"] * y[:, None, None, None],
            "g_a.6.bias": own["g_a.6.bias"] * y,
            "h_a.0.weight": own["h_a.0.weight"] / y[:, None, None],
            "h_a.4.weight": own["h_a.4.weight"] * z[:, None, None, None],
            "h_a.4.bias": own["h_a.4.bias"] * z,
            "h_s.0.weight": own["h_s.0.weight"] / z[:, None, None, None],
            "h_s.4.weight": own["h_s.4.weight"] * y_twice[:, None, None, None],
            "h_s.4.bias": own["h_s.4.bias"] * y_twice,
            "g_s.0.weight": own["g_s.0.weight"] / synthesis[:, None, None, None],
        }
        first = "entropy_bottleneck.matrices.0"
        folded[first] = _inverse_softplus(F.softplus(own[first]) / z[:, None, None])
        return own | folded
