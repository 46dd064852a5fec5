"""Models of CompressAI's latent codecs: a hyperprior, and y in channel groups, on checkerboards, or at once.

`SimpleVAECompressionModel` with a `HyperpriorLatentCodec`, whose y is a tree of `ChannelGroupsLatentCodec`
(Minnen and Singh, arXiv 2007.08739), `CheckerboardLatentCodec` (He et al., arXiv 2103.15306) and
`GaussianConditionalLatentCodec`. ELIC (He et al., arXiv 2203.10886) has all three.

What counts is the decoder's order: groups one after the other, in each the anchors of the checkerboard and
then the others. A checkerboard's ``forward_method`` is one of training; with "onepass" the model's own
`forward` is not what its coder does.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
)
from compressai.models import CompressionModel
from torch import Tensor, nn

from ...errors import UserError
from ..bits import bound_of, factorized_bits, gaussian_bits
from ..choice import Choice, mean, moved
from ..models import Decoded, Family, Latents, Networks, Quantiser, hard, latent_channels
from ..order import Decoding, Group, Groups, Modules, rounded
from .factorized import channels, factorized_hat, from_width

_Y = "latent_codec.y"
_KNOWN = (ChannelGroupsLatentCodec, CheckerboardLatentCodec, GaussianConditionalLatentCodec)


def _prepare(model: Any, lmbda: float) -> None:
    """Refuse a model whose latent codecs are others than those above."""
    codec: Any = getattr(model, "latent_codec", None)
    if type(codec) is not HyperpriorLatentCodec or type(codec.latent_codec["hyper"]) is not HyperLatentCodec:
        raise UserError(f"{type(model).__name__} has no HyperpriorLatentCodec over a HyperLatentCodec")
    for name, part in _tree(_Y, codec.latent_codec["y"]):
        if type(part) not in _KNOWN:
            known = ", ".join(cls.__name__ for cls in _KNOWN)
            raise UserError(f"{name} is a {type(part).__name__}, where it can be one of {known}")


def _tree(name: str, codec: Any) -> Iterator[tuple[str, Any]]:
    """A latent codec of y and all within it, by their names in the model."""
    yield name, codec
    if type(codec) is ChannelGroupsLatentCodec:
        for key, part in codec.latent_codec.items():
            yield from _tree(f"{name}.latent_codec.{key}", part)
    elif type(codec) is CheckerboardLatentCodec:
        yield from _tree(f"{name}.y", codec.latent_codec["y"])


def _anchors(codec: CheckerboardLatentCodec, like: Tensor) -> Tensor:
    """Where the checkerboard's anchors are, (h, w)."""
    rows, columns = (torch.arange(side, device=like.device) for side in like.shape[-2:])
    return (rows[:, None] + columns) % 2 == (codec.anchor_parity == "odd")


def _parameters(codec: Networks, name: str, part: Any, y: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """σ and μ of y (B, C, h, w), each value's from those of ``y`` that a decoder has before it."""
    if type(part) is ChannelGroupsLatentCodec:
        groups = y.split(part.groups, 1)
        both = []
        for k, group in enumerate(groups):
            given = side
            if k:
                before = codec.run(f"{name}.channel_context.y{k}", part.merge_y(*groups[:k]))
                given = part.merge_params(before, side)
            child = f"{name}.latent_codec.y{k}"
            both.append(_parameters(codec, child, part.latent_codec[f"y{k}"], group, given))
        scales, means = (torch.cat(values, 1) for values in zip(*both, strict=True))
        return scales, means
    if type(part) is CheckerboardLatentCodec:
        context = codec.run(f"{name}.context_prediction", y) * ~_anchors(part, y)
        given = codec.run(f"{name}.entropy_parameters", part.merge(context, side))
        return _parameters(codec, f"{name}.y", part.latent_codec["y"], y, given)
    return _chunks(part, codec.run(f"{name}.entropy_parameters", side))


def _chunks(leaf: GaussianConditionalLatentCodec, parameters: Tensor) -> tuple[Tensor, Tensor]:
    scales, means = leaf._chunk(parameters)
    return scales, torch.zeros_like(scales) if means is None else means


def _networks(model: Any) -> dict[str, nn.Module]:
    """Those within the latent codec of y, by their names in the model."""
    found: dict[str, nn.Module] = {}
    for name, part in _tree(_Y, model.latent_codec.latent_codec["y"]):
        for attribute in ("context_prediction", "entropy_parameters", "channel_context"):
            network = getattr(part, attribute, None)
            if isinstance(network, nn.ModuleDict):
                found |= {f"{name}.{attribute}.{key}": child for key, child in network.items()}
            elif network is not None:
                found[f"{name}.{attribute}"] = network
    return found


def _decoding(model: Any) -> Decoding:
    root, hyper = (model.latent_codec.latent_codec[key] for key in ("y", "hyper"))
    bounds = {bound_of(leaf.gaussian_conditional.lower_bound_scale) for leaf in _leaves(root)}
    if len(bounds) > 1:
        raise UserError("latents cannot be written where channel groups have several bounds of their scales")

    def groups(networks: Modules, parameters: Tensor) -> Groups:
        y_hat = parameters.new_zeros(len(parameters), latent_channels(model), *parameters.shape[2:])
        yield from _groups(networks, _Y, root, parameters, y_hat, 0)
        return y_hat

    return Decoding(hyper.entropy_bottleneck, hyper.h_s, groups, _networks(model), *bounds)


def _leaves(root: Any) -> list[GaussianConditionalLatentCodec]:
    return [part for _, part in _tree(_Y, root) if type(part) is GaussianConditionalLatentCodec]


def _groups(
    networks: Modules, name: str, part: Any, side: Tensor, y_hat: Tensor, first: int
) -> Generator[Group, Tensor, None]:
    """The groups of a latent codec, whose values are written into its part ``y_hat`` (B, C, h, w) of all.

    Args:
        first: the channel at which its part begins.
    """
    channels_of = slice(first, first + y_hat.shape[1])
    if type(part) is ChannelGroupsLatentCodec:
        views = y_hat.split(part.groups, 1)
        for k, view in enumerate(views):
            given = side
            if k:
                before = networks[f"{name}.channel_context.y{k}"](part.merge_y(*views[:k]))
                given = part.merge_params(before, side)
            child = f"{name}.latent_codec.y{k}"
            start = first + sum(part.groups[:k])
            yield from _groups(networks, child, part.latent_codec[f"y{k}"], given, view, start)
    elif type(part) is CheckerboardLatentCodec:
        anchors = _anchors(part, y_hat)
        leaf = networks[f"{name}.y.entropy_parameters"]
        for where in (anchors, ~anchors):
            context = networks[f"{name}.context_prediction"](y_hat) * ~anchors
            given = networks[f"{name}.entropy_parameters"](part.merge(context, side))
            i, j = where.nonzero(as_tuple=True)
            scales, means = (value[:, :, i, j] for value in _chunks(part.latent_codec["y"], leaf(given)))
            symbols = yield Group((channels_of, i, j), means, scales)
            y_hat[:, :, i, j] = symbols + means
    else:
        scales, means = _chunks(part, networks[f"{name}.entropy_parameters"](side))
        symbols = yield Group((channels_of, slice(None), slice(None)), means, scales)
        y_hat[:] = symbols + means


def _analyse(codec: Networks, x: Tensor) -> Latents:
    y = codec.run("g_a", x)
    return {"y": y, "z": codec.run("latent_codec.hyper.h_a", y)}


def _decode(codec: Networks, latents: Latents, quantise: Quantiser) -> Decoded:
    """As every hyperprior; with a context the relaxed y is found as that of an autoregressive model is."""
    model: Any = codec.model
    root, hyper = (model.latent_codec.latent_codec[key] for key in ("y", "hyper"))
    z_hat = factorized_hat(hyper.entropy_bottleneck, latents["z"], "z", quantise)
    side = codec.run("latent_codec.hyper.h_s", mean(z_hat))
    y = latents["y"]
    centred: Tensor | Choice
    if quantise is hard:
        decoding = _decoding(model)
        found = rounded(decoding.groups(decoding.networks, side), y)
        values, scales = found.y_hat, found.scales
        centred = values - found.means
    else:
        _, origin = _parameters(codec, _Y, root, y, side)
        y_hat = moved(quantise(y - origin, "y"), origin)
        values = mean(y_hat)
        scales, means = _parameters(codec, _Y, root, values, side)
        centred = moved(y_hat, -means)
    bits = {"y": _gaussian_bits(root, centred, scales), "z": factorized_bits(hyper.entropy_bottleneck, z_hat)}
    return Decoded(codec.run("g_s", values), bits, {"y": values, "z": mean(z_hat)})


def _gaussian_bits(root: Any, centred: Tensor | Choice, scales: Tensor) -> Tensor:
    """Bits (B,) of y, each channel's by the entropy model of its own latent codec."""
    sizes = root.groups if type(root) is ChannelGroupsLatentCodec else [scales.shape[1]]
    parts = zip(_leaves(root), _split(centred, sizes), scales.split(sizes, 1), strict=True)
    return functools.reduce(torch.add, [gaussian_bits(leaf.gaussian_conditional, *of) for leaf, *of in parts])


def _split(value: Tensor | Choice, sizes: list[int]) -> list[Tensor | Choice]:
    if isinstance(value, Choice):
        both = zip(value.low.split(sizes, 1), value.p.split(sizes, 1), strict=True)
        return [Choice(low, p) for low, p in both]
    return list(value.split(sizes, 1))


def _build_elic(cls: Any, weights: Mapping[str, Tensor]) -> CompressionModel:
    """N, M and the channel groups from a state dict."""
    groups: list[int] = []
    while (name := f"{_Y}.latent_codec.y{len(groups)}.context_prediction.weight") in weights:
        groups.append(weights[name].shape[1])
    return cls(channels(weights, "g_a.0.weight"), channels(weights, "g_a.13.weight"), groups=groups)


LATENT_CODEC = Family(
    _analyse,
    _decode,
    (
        "g_s",
        "latent_codec.hyper.h_s",
        f"{_Y}*.entropy_parameters",
        f"{_Y}*.context_prediction",
        f"{_Y}*.channel_context.y[0-9]",
        f"{_Y}*.channel_context.y[0-9][0-9]",
    ),
    decoding=_decoding,
    prepare=_prepare,
)
CHENG2020_CHECKERBOARD = replace(LATENT_CODEC, build=from_width)
ELIC2022 = replace(LATENT_CODEC, build=_build_elic)
