"""One network for every λ: gains per channel and λ that fold away into the weights.

A network file holds the weights of a mean-scale hyperprior, and for each of its λ the logarithms of three
gains per channel, in the manner of the gained variational autoencoder (Cui et al., arXiv 2003.02012): for
λ number k, with g = e^(log gain),

    y = g_y[k] · g_a(x),   x̂ = g_s(ŷ / g_s[k]),   z = g_z[k] · h_a(y / g_y[k]),
    (σ, μ) = g_y[k] · h_s(ẑ / g_z[k]).

Each is a factor on the inputs or outputs of a convolution, and the factorised prior takes the one on ẑ, so
that for every λ they fold into weights of the plain architecture.
"""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..parsing import six_digits

# Names in a network file: its λ (K,) in float64, and the log gains (K, channels) in float32.
PREFIX = "gains."
LMBDA, Y, SYNTHESIS, Z = (f"{PREFIX}{name}" for name in ("lmbda", "y", "synthesis", "z"))
_FIRST, _QUANTILES = "entropy_bottleneck.matrices.0", "entropy_bottleneck.quantiles"
_NEEDED = {Y, SYNTHESIS, Z, _FIRST, _QUANTILES, "g_a.6.bias", "h_a.4.bias", "h_s.4.bias"} | {
    f"{layer}.weight" for layer in ("g_a.6", "h_a.0", "h_a.4", "h_s.0", "h_s.4", "g_s.0")
}
# Digits with which gains are computed: the last one of float32 is the same on every machine.
_DIGITS = 50


def fold(own: Mapping[str, Tensor], y: Tensor, synthesis: Tensor, z: Tensor) -> dict[str, Tensor]:
    """The parameters of the plain architecture with gains of one λ; differentiable in all.

    Args:
        own: parameters of a mean-scale hyperprior by name. Those that no gain touches stay as they are.
        y, synthesis: gains (M,) of y before and after quantisation.
        z: gains (N,) of z.
    """
    y_twice = torch.cat([y, y])  # h_s gives the scales of all channels, then the means of all
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
    first = F.softplus(own[_FIRST]) / z[:, None, None]
    folded[_FIRST] = first + torch.log(-torch.expm1(-first))  # the inverse of softplus
    folded[_QUANTILES] = own[_QUANTILES] * z[:, None, None]
    return dict(own) | folded


def lmbdas_of(path: Path) -> tuple[float, ...]:
    """The λ of a network file; none where ``path`` is another file."""
    if path.suffix != ".safetensors":
        return ()
    try:
        with safe_open(path, "pt") as file:
            return tuple(file.get_tensor(LMBDA).tolist()) if LMBDA in file.keys() else ()  # noqa: SIM118
    except (OSError, SafetensorError):
        return ()  # who reads it will say why


def at(weights: Mapping[str, Tensor], lmbda: float) -> dict[str, Tensor]:
    """The plain architecture's float32 parameters that a network file has for a λ, the same on every machine.

    Weights without gains are returned as they are. Log gains are interpolated linearly in log λ between the
    network's λ, and go on with the same slope beyond them, at most to half the least or twice the largest. Of
    λ six digits count, as in a file's header.

    Raises:
        UserError: the gains are damaged or those of other weights, or λ is out of range.
    """
    if LMBDA not in weights:
        return dict(weights)
    lmbdas, lmbda = _checked(weights), six_digits(lmbda)
    if not lmbdas[0] / 2 <= lmbda <= lmbdas[-1] * 2:
        raise UserError(f"there is no lambda {lmbda:g}: choose one from {lmbdas[0]:g} to {lmbdas[-1]:g}")
    low, high, part = _place(lmbdas, lmbda)
    own = {name: value.float() for name, value in weights.items() if not name.startswith(PREFIX)}
    with localcontext(prec=_DIGITS):
        exact = [
            [
                ((1 - part) * Decimal(a) + part * Decimal(b)).exp()
                for a, b in zip(weights[name][low].tolist(), weights[name][high].tolist(), strict=True)
            ]
            for name in (Y, SYNTHESIS, Z)
        ]
        prior = [
            [[_scaled(Decimal(value), gain)] for (value,) in channel]
            for channel, gain in zip(own[_FIRST].tolist(), exact[2], strict=True)
        ]
    folded = fold(own, *(torch.tensor([float(gain) for gain in gains]) for gains in exact))
    folded[_FIRST] = torch.tensor([[[float(value)] for (value,) in channel] for channel in prior])
    return folded


def log_gains_at(weights: Mapping[str, Tensor], lmbda: float) -> dict[str, Tensor]:
    """The log gains of a network file at a λ, as `at` interpolates them, by the names of its tensors."""
    low, high, part = _place(_checked(weights), lmbda)
    return {name: weights[name][low].lerp(weights[name][high], float(part)) for name in (Y, SYNTHESIS, Z)}


def _scaled(value: Decimal, gain: Decimal) -> Decimal:
    """The inverse of softplus at softplus(value) / gain."""
    scaled = (1 + value.exp()).ln() / gain
    return scaled + (1 - (-scaled).exp()).ln()


def _checked(weights: Mapping[str, Tensor]) -> Sequence[float]:
    """The λ of a network."""
    lmbdas = weights[LMBDA].flatten().tolist()
    if not weights.keys() >= _NEEDED:
        raise UserError(f"{min(_NEEDED - weights.keys())} is missing beside the gains: take another file")
    for name, layer in ((Y, "g_a.6.bias"), (SYNTHESIS, "g_a.6.bias"), (Z, "h_a.4.bias")):
        if weights[name].shape != (len(lmbdas), len(weights[layer])) or not weights[name].isfinite().all():
            raise UserError(f"its {name} is not finite or does not fit the weights: take another file")
    if not lmbdas or lmbdas != sorted(set(lmbdas)) or not 0 < lmbdas[0] <= lmbdas[-1] < float("inf"):
        raise UserError(f"{LMBDA} does not hold rising λ: take another file")
    return lmbdas


def _place(lmbdas: Sequence[float], lmbda: float) -> tuple[int, int, Decimal]:
    """The indices of the two λ next to ``lmbda``, and how far it is on the way from the first, in log λ."""
    if lmbda in lmbdas:
        index = lmbdas.index(lmbda)
        return index, index, Decimal(0)
    if len(lmbdas) == 1:
        raise UserError(f"the network has lambda {lmbdas[0]:g} alone, not {lmbda:g}: choose that")
    high = min(max(1, sum(value < lmbda for value in lmbdas)), len(lmbdas) - 1)
    with localcontext(prec=_DIGITS):
        start, end, here = (Decimal(value).ln() for value in (lmbdas[high - 1], lmbdas[high], lmbda))
        return high - 1, high, (here - start) / (end - start)


def at_rate(sha256: str, lmbda: float) -> str:
    """The identity of a codec of variable rate, from that of its weights; another rate is another codec."""
    return hashlib.sha256(f"{sha256} {lmbda:.6g}".encode()).hexdigest()
