"""Codecs of variable rate (Kamisli, Racapé and Choi, arXiv 2402.18930): one model for all rates.

y lies on a grid of step 1/s around μ. The scale s is the rate: CompressAI trains a gain s for each of eight
λ, those of its other models. Between them log s is interpolated linearly over log λ; beyond them s grows as
√λ, as it does where quantisation noise is uniform. So a codec's λ says its scale, and the other way round. λ
counts to six digits, as many as a file's header holds.

Latents are in units of their grid's step, y·s and z divided by the step of its own, so that methods and
learning rates mean the same at every rate. What the synthesis gets of an integer k is (k + sign(k)·o)/s + μ,
with an offset o that a small network finds from σ·s and s; between integers it is interpolated linearly.

What CompressAI's coder does is followed here, where its `forward` in evaluation mode differs:

- z of the hyperprior and mean-scale models has a step that depends on s. `forward` counts its bits in
  intervals of length 1, as it passes the step as another argument; the coder's tables for a scale have
  intervals of the step (``model.update(scale=…)``).
- The scale is |gain|, of which `forward` takes no absolute value.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from compressai.models import CompressionModel, JointAutoregressiveHierarchicalPriorsVbr
from torch import Tensor, nn

from ...distortion import LAMBDAS
from ...errors import UserError
from ...parsing import six_digits
from .. import order
from ..bits import bound_of, factorized_bits, gaussian_bits
from ..choice import Choice, mean, moved
from ..models import Analyse, Decoded, Family, Latents, Networks, Quantiser, hard
from . import hyperprior
from .factorized import channels, factorized_hat


@dataclass(frozen=True)
class Rate:
    """The rate of a model, its attribute ``rate``.

    Attributes:
        lmbda: λ that it stands for.
        scale: s, the reciprocal of the step of y's grid.
        z_step: of z's grid.
    """

    lmbda: float
    scale: float
    z_step: float


def is_variable(model: nn.Module) -> bool:
    """Whether a model has several rates."""
    return hasattr(model, "Gain")


def _gains(parameter: Tensor) -> list[float]:
    gains = parameter.detach().abs().double().tolist()
    if not all(low < high for low, high in itertools.pairwise(gains)) or gains[0] <= 0:
        raise UserError(f"the model's gains do not rise ({', '.join(f'{gain:.4g}' for gain in gains)})")
    return gains


def _interpolate(value: float, xs: Sequence[float], ys: Sequence[float], beyond: float) -> float:
    """``ys`` at ``value``, linear in logarithms; ``beyond`` the ends with this slope."""
    if value in xs:
        return ys[xs.index(value)]
    x, log_xs, log_ys = math.log(value), np.log(xs), np.log(ys)
    inside = min(max(x, log_xs[0]), log_xs[-1])
    return math.exp(np.interp(inside, log_xs, log_ys) + beyond * (x - inside))


def lmbda_at(gains: Tensor, scale: float) -> float:
    """λ that a scale stands for, to six digits, with the ``Gain`` of a model.

    Raises:
        UserError: these gains do not rise.
    """
    return six_digits(_interpolate(scale, _gains(gains), LAMBDAS["mse"], 2.0))


def set_rate(model: Any, lmbda: float) -> None:
    """Give a model the rate of ``lmbda``, and its coding tables.

    Raises:
        UserError: its gains do not rise.
    """
    lmbda = six_digits(lmbda)
    scale = torch.tensor(_interpolate(lmbda, LAMBDAS["mse"], _gains(model.Gain), 0.5))  # float32, as a gain
    z_step = 1.0
    if model.vr_entbttlnck:
        # Files depend on it: float64, rounded to float32, is the same on every machine.
        network = copy.deepcopy(model.gayn2zqstep).double()
        step = network(scale.double().to(model.Gain.device).reciprocal().view(1))
        z_step = max(step.float().item(), float(model.lower_bound_zqstep.bound))
    table = model.gaussian_conditional.scale_table.tolist() or None
    model.update(table, force=True, scale=scale.to(model.Gain.device))
    model.rate = Rate(lmbda, scale.item(), z_step)


def _prepare(model: Any, lmbda: float) -> None:
    if not hasattr(model, "rate"):
        set_rate(model, lmbda)
    if model.rate.lmbda != six_digits(lmbda):
        raise UserError(f"the model has the rate of λ = {model.rate.lmbda:g}, not {lmbda:g}: load it again")


def _offsets(network: nn.Module, scales: Tensor, scale: float, bound: float) -> Tensor:
    """o of each value, of the shape of ``scales``, which are σ·s."""
    both = torch.stack([scales.clamp_min(bound), torch.full_like(scales, scale)], -1)
    return -network(both)[..., 0]


class _Offsets(nn.Module):
    """`_offsets` of a model, as a network that a decoding order runs."""

    def __init__(self, model: Any):
        super().__init__()
        self.network = model.QuantABCD
        self.scale = model.rate.scale
        self.bound = bound_of(model.gaussian_conditional.lower_bound_scale)
        self.used = not model.no_quantoffset

    def forward(self, scales: Tensor) -> Tensor:
        if not self.used:
            return torch.zeros_like(scales)
        return _offsets(self.network, scales, self.scale, self.bound)


def _shown(model: Any, y_hat: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """What the synthesis gets of ŷ; all three in units of the step."""
    scale = model.rate.scale
    if not model.no_quantoffset:
        bound = bound_of(model.gaussian_conditional.lower_bound_scale)
        y_hat = y_hat + _offsets(model.QuantABCD, scales, scale, bound) * (y_hat - means).clamp(-1, 1)
    return y_hat / scale


def _groups(of_other_models: order.Order) -> order.Order:
    """Their order with this grid and these reconstruction points."""

    def groups_of(networks: order.Modules, parameters: Tensor) -> order.Groups:
        offsets: Any = networks["offsets"]
        groups = of_other_models(networks, parameters)
        group = next(groups)
        while True:
            scales = group.scales * offsets.scale
            symbols = yield order.Group(group.where, group.means * offsets.scale, scales)
            shown = (symbols + offsets(scales) * symbols.clamp(-1, 1)) / offsets.scale
            try:
                group = groups.send(shown)
            except StopIteration as end:
                return end.value

    return groups_of


def _decoding(
    groups: order.Order, networks: Callable[[Any], order.Modules]
) -> Callable[[Any], order.Decoding]:
    def of(model: Any) -> order.Decoding:
        rate: Rate = model.rate
        return order.decoding(model, _groups(groups), networks, step=1 / rate.scale, z_step=rate.z_step)

    return of


def _autoregressive_networks(model: Any) -> dict[str, nn.Module]:
    networks = order.autoregressive_networks(model)
    total: Any = networks["neighbours"].get_submodule("sum")
    # As in `_settle_context`, but in float64, where it has one rounding and is the same on every machine.
    weight, bias = (parameter.detach().cpu().double() for parameter in model.scale_to_context.parameters())
    of_scale = (weight[:, 0] * model.rate.scale + bias).to(total.bias)
    total.bias = nn.Parameter(total.bias + of_scale, requires_grad=False)
    return {**networks, "offsets": _Offsets(model)}


# (ŷ, ŷ − μ, σ, what the synthesis gets) from h_s(ẑ) and y; all but the last in units of the step.
_Settled = tuple[Tensor, Tensor | Choice, Tensor, Tensor]
_Settle = Callable[[Networks, Tensor, Tensor, Quantiser], _Settled]


def _settle_at_once(split: Callable[[Tensor], tuple[Tensor, ...]]) -> _Settle:
    """``split`` gives σ and μ of what h_s makes of ẑ."""

    def settle(codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser) -> _Settled:
        model: Any = codec.model
        scales, means = split(parameters * model.rate.scale)
        centred = quantise(y - means, "y")
        y_hat = mean(centred) + means
        return y_hat, centred, scales, _shown(model, y_hat, means, scales)

    return settle


def _settle_context(codec: Networks, parameters: Tensor, y: Tensor, quantise: Quantiser) -> _Settled:
    """With context: μ and σ depend on what the synthesis gets of the values decoded before.

    Hard latents are found in decoding order. Otherwise, as without offsets, the origin of the grid comes from
    the context of y itself, then μ and σ from that of the relaxed ŷ. At a hard point of the grid both agree
    but for the offsets, which y itself does not have.
    """
    model: Any = codec.model
    scale = model.rate.scale
    if quantise is hard:
        found = order.rounded(_groups(order.wavefronts)(_autoregressive_networks(model), parameters), y)
        y_hat = found.y_hat
        return y_hat, y_hat - found.means, found.scales, found.shown

    # What is added to the context for its scale, (1, 2M, 1, 1).
    of_scale = model.scale_to_context(torch.full((1, 1), scale, device=y.device))[..., None, None]

    def entropy_parameters(values: Tensor) -> tuple[Tensor, Tensor]:
        context = codec.run("context_prediction", values) + of_scale
        both = codec.run("entropy_parameters", torch.cat([parameters, context], 1)) * scale
        scales, means = both.chunk(2, 1)
        return scales, means

    scales, origin = entropy_parameters(y / scale)
    relaxed = moved(quantise(y - origin, "y"), origin)
    y_hat = mean(relaxed)
    shown = _shown(model, y_hat, origin, scales)
    scales, means = entropy_parameters(shown)
    return y_hat, moved(relaxed, -means), scales, shown


def _decode(settle: _Settle) -> Callable[[Networks, Latents, Quantiser], Decoded]:
    def decode(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
        model: Any = codec.model
        step = model.rate.z_step
        z_hat = factorized_hat(model.entropy_bottleneck, latents["z"], "z", quantise, step)
        parameters = codec.run("h_s", mean(z_hat) * step)
        y_hat, centred, scales, shown = settle(codec, parameters, latents["y"], quantise)
        bits = {
            "y": gaussian_bits(model.gaussian_conditional, centred, scales),
            "z": factorized_bits(model.entropy_bottleneck, z_hat, step),
        }
        return Decoded(codec.run("g_s", shown), bits, {"y": y_hat, "z": mean(z_hat)})

    return decode


def _analyse(analyse: Analyse) -> Analyse:
    """Latents in units of their grids' steps."""

    def analyse_scaled(codec: Networks, x: Tensor) -> Latents:
        latents, rate = analyse(codec, x), codec.model.rate
        return {"y": latents["y"] * rate.scale, "z": latents["z"] / rate.z_step}

    return analyse_scaled


def _build(cls: Any, weights: Mapping[str, Tensor]) -> CompressionModel:
    widths = channels(weights, "g_a.0.weight"), channels(weights, "g_a.6.weight")
    weights["Gain"]
    if cls is JointAutoregressiveHierarchicalPriorsVbr:
        return cls(*widths)
    return cls(*widths, vr_entbttlnck="gayn2zqstep.0.weight" in weights)


def _family(
    analyse: Analyse,
    settle: _Settle,
    groups: order.Order,
    networks: Callable[[Any], order.Modules] = lambda model: {"offsets": _Offsets(model)},
) -> Family:
    return Family(
        _analyse(analyse),
        _decode(settle),
        ("h_s", "g_s", "context_prediction", "entropy_parameters"),
        decoding=_decoding(groups, networks),
        synthesise=lambda codec, y: codec.run("g_s", y / codec.model.rate.scale),  # without the offsets
        build=_build,
        prepare=_prepare,
    )


_scales_alone = _settle_at_once(lambda parameters: (parameters, torch.zeros_like(parameters)))
_scales_and_means = _settle_at_once(lambda parameters: parameters.chunk(2, 1))
SCALE_HYPERPRIOR_VBR = _family(hyperprior.analyse_scale, _scales_alone, order.without_means)
MEAN_SCALE_HYPERPRIOR_VBR = _family(hyperprior.analyse, _scales_and_means, order.at_once)
AUTOREGRESSIVE_VBR = _family(hyperprior.analyse, _settle_context, order.wavefronts, _autoregressive_networks)
