"""Wider models from trained ones: new units that change nothing yet and learn from the first steps.

A unit that is to learn needs weights on one side, and one that is to change nothing has none on the other:

- *Hidden* units hear the old ones through small random weights and are not heard by them.
- *Latent* channels (of y and of z) are heard through small random weights and are zero at first; their priors
  are concentrated on the value zero, so that they cost next to nothing.

The widened model gives the old bits and, up to floating-point error, the old x̂.
"""

import math

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from ..codecs.checkpoints import load_parameters, widths
from ..errors import UserError

# Root mean square of new weights into hidden units and out of latent channels, as shares of the old weights'.
# The latter also pass on the noise that stands for quantisation in training.
_HIDDEN, _LATENT = 0.3, 0.03
# σ of new channels of y: zero costs 0.001 bits, and above CompressAI's bound of 0.11 σ can learn.
_SCALE = 0.15
# Scale of the logistic prior of new channels of z: zero costs 0.007 bits.
_PRIOR_SCALE = 1 / 12

_TRANSPOSED = ("g_s.", "h_s.0.", "h_s.2.")
_FROM_LATENTS = ("g_s.0.", "h_s.0.")
_TO_LATENTS = ("g_a.6.", "h_a.4.")


@torch.no_grad()
def widen(weights: dict[str, Tensor], N: int, M: int, seed: int = 0) -> dict[str, Tensor]:
    """Grow a mean-scale hyperprior to ``N`` transform and ``M`` latent channels.

    Every old weight keeps its place; with as many channels already, the weights are returned as they are.

    Args:
        weights: parameters of a model with at most ``N`` and ``M`` channels.
        seed: of the new weights.

    Returns:
        The parameters by name, float32.

    Raises:
        UserError: the weights are of another architecture, or have more channels.
    """
    old_N, old_M = widths(weights)
    if old_N > N or old_M > M:
        raise UserError(
            f"weights with N = {old_N} and M = {old_M} cannot start a model with N = {N} and M = {M}: "
            "both must be at least as large"
        )
    with torch.random.fork_rng(devices=[]):
        load_parameters(MeanScaleHyperprior(old_N, old_M), weights)  # refuses what does not fit
        torch.manual_seed(seed)
        model = MeanScaleHyperprior(N, M)
        model.entropy_bottleneck = _concentrated_prior(N)
    grown = dict(model.named_parameters())
    for name, value in grown.items():
        old = weights[name].float()
        if name.startswith("h_s.4."):  # its outputs are the scales of all channels, then the means of all
            for half, old_half in zip(value.chunk(2), old.chunk(2), strict=True):
                _grow(name, half, old_half)
        elif value.shape != old.shape:
            _grow(name, value, old)
        else:
            value.copy_(old)
    grown["h_s.4.bias"][old_M:M] = _SCALE
    return {name: value.detach().contiguous() for name, value in grown.items()}


def _grow(name: str, value: Tensor, old: Tensor) -> None:
    """Put the ``old`` parameter into the leading corner of ``value``, and what the module says beside it."""
    if name.startswith(("g_", "h_")) and name.endswith((".weight", ".bias")):
        share = _LATENT if name.startswith(_FROM_LATENTS) else _HIDDEN
        value *= share * old.square().mean().sqrt() / value.square().mean().sqrt()
        outputs = 1 if name.startswith(_TRANSPOSED) and value.dim() > 1 else 0
        kept = old.shape[outputs]
        if name.startswith((*_TO_LATENTS, "h_s.4.")):
            value.narrow(outputs, kept, value.shape[outputs] - kept).zero_()
        if not name.startswith(_FROM_LATENTS):
            value.narrow(outputs, 0, kept).zero_()
    value[tuple(slice(side) for side in old.shape)] = old


def _concentrated_prior(channels: int) -> EntropyBottleneck:
    """A factorised prior that is logistic, of median 0 and narrow, in every channel."""
    prior = EntropyBottleneck(channels, init_scale=_PRIOR_SCALE)
    # Random biases tell a layer's units apart and shift the median: the last bias shifts it back.
    prior.biases[-1] -= prior._logits_cumulative(torch.zeros(channels, 1, 1), stop_gradient=True)
    tail = math.log(2 / prior.tail_mass - 1) * _PRIOR_SCALE
    prior.quantiles.copy_(torch.tensor([-tail, 0.0, tail]).expand(channels, 1, 3))
    return prior
