"""What is asked of a model that is to be refined: how its images are analysed and its latents decoded.

A *quantiser* ``quantise(v, name)`` receives the distance ``v`` of a latent from the origin of the codec's
grid (y − μ, z − median) and returns the value to code: `hard` for what a decoder sees, a relaxed sample while
refining, ``v`` plus uniform noise while training. The origin is added back by the codec, so that whatever a
quantiser returns, an integer lies on the grid that CompressAI's entropy coder uses. It is called once for
each latent.

It may also return a `Choice` of two integers: the networks see its mean, and the bits are expected ones.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from compressai.models import CompressionModel
from torch import Tensor

from ..errors import UserError
from ..parsing import whole
from .choice import Choice
from .order import Decoding

Quantiser = Callable[[Tensor, str], Tensor | Choice]
Latents = dict[str, Tensor]


class Networks(Protocol):
    """What is needed of a `Codec` here: its model, and the model's networks in the codec's number format."""

    @property
    def model(self) -> CompressionModel: ...

    def run(self, network: str, x: Tensor) -> Tensor: ...


Analyse = Callable[[Networks, Tensor], Latents]


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


def latent_channels(model: Any) -> int:
    """Of y: what the synthesis takes."""
    return next(layer.in_channels for layer in model.g_s.modules() if hasattr(layer, "in_channels"))


def from_state_dict(cls: Any, weights: Mapping[str, Tensor]) -> CompressionModel:
    """A model of the class whose weights these are, as CompressAI's classes make one."""
    return cls.from_state_dict(dict(weights))


@dataclass(frozen=True)
class Family:
    """How models of a class are analysed and decoded.

    Attributes:
        analyse: continuous latents of x (B, 3, H, W).
        decode: what the decoder makes of latents under a quantiser, and their bits.
        decoders: the networks that `decode` runs: patterns of their names, as in file names.
        stride: image sides are padded to a multiple of it.
        decoding: how a model's latents are decoded from a file; None without a hyperprior, and where no files
            are written.
        synthesise: x̂ of y on its grid, or near it.
        build: an untrained model of the class and of the widths of a state dict; raises anything where the
            state dict is another model's.
        prepare: called with a model and the λ of its codec before it is used.

    Raises:
        UserError: a function is missing, or a network's name or the stride is none.
    """

    analyse: Analyse
    decode: Callable[[Networks, Latents, Quantiser], Decoded]
    decoders: tuple[str, ...]
    stride: int = 64
    decoding: Callable[[Any], Decoding] | None = None
    synthesise: Callable[[Networks, Tensor], Tensor] = lambda codec, y: codec.run("g_s", y)
    build: Callable[[Any, Mapping[str, Tensor]], CompressionModel] = from_state_dict
    prepare: Callable[[CompressionModel, float], None] = lambda model, lmbda: None

    def __post_init__(self) -> None:
        for name in ("analyse", "decode", "synthesise", "build", "prepare", "decoding"):
            value = getattr(self, name)
            if not callable(value) and (name, value) != ("decoding", None):
                raise UserError(f"{name} of a family is a function, not {value!r}")
        if not isinstance(self.decoders, tuple) or not all(isinstance(name, str) for name in self.decoders):
            raise UserError(f"decoders of a family is a tuple of names, not {self.decoders!r}")
        whole(self.stride, "the stride of a family", 1)


# Filled by `families`. Classes are looked up by exact type: a subclass may well decode in another way.
FAMILIES: dict[type, Family] = {}
