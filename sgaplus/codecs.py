"""One adapter over CompressAI's models: analyse, quantise on the codec's grid, rate, synthesise.

Everything that the refinement loop, the true loss and the training of base codecs need of a model is
one function of its latents and of a *quantiser*:

    latents = codec.analyse(x)                       # continuous y and z
    decoded = codec.decode(latents, quantise)        # x̂, bits of each latent, quantised latents

``quantise(v, name)`` receives the distance ``v`` of a latent from the origin of the codec's grid
(y − μ, z − median) and returns the value to code: ``torch.round`` for hard latents, a relaxed sample
while refining, ``v`` plus uniform noise while training. The origin is added back here, so that whatever
a quantiser returns, an integer lies on the grid that CompressAI's entropy coder uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel, MeanScaleHyperprior
from torch import Tensor

from . import runtime
from .errors import UserError
from .layers import replace_gdn

Quantiser = Callable[[Tensor, str], Tensor]
Latents = dict[str, Tensor]


@dataclass(frozen=True)
class Decoded:
    """What a decoder sees, and what it cost.

    Attributes:
        x_hat: reconstruction (B, 3, H, W) of the padded image, float32, not clamped to [0, 1].
        bits: for each latent the bits of each image, (B,).
        latents: the quantised latents, each (B, C, h, w), in image coordinates (origin added back).
    """

    x_hat: Tensor
    bits: dict[str, Tensor]
    latents: Latents


def hard(v: Tensor, name: str) -> Tensor:
    """The quantiser of the true loss and of the entropy coder: the nearest integer."""
    return torch.round(v)


def bits_of(likelihood: Tensor, bound: float) -> Tensor:
    """Bits of each image, −Σ log₂ p with p ≥ ``bound``; ``likelihood`` is (B, …), the result (B,)."""
    return -torch.log2(likelihood.clamp_min(bound)).flatten(1).sum(1)


def factorized_bits(bottleneck: torch.nn.Module, z: Tensor) -> Tensor:
    """Bits (B,) of ``z`` (B, C, h, w) under the factorised prior (arXiv 1802.01436, appendix 6.1)."""
    batch, channels = z.shape[:2]
    values = z.transpose(0, 1).reshape(channels, 1, -1)
    likelihood, _, _ = bottleneck._likelihood(values)
    likelihood = likelihood.reshape(channels, batch, -1).transpose(0, 1)
    return bits_of(likelihood, float(bottleneck.likelihood_lower_bound.bound))


def gaussian_bits(conditional: torch.nn.Module, v: Tensor, scales: Tensor) -> Tensor:
    """Bits (B,) of the centred latent ``v`` = y − μ (B, C, h, w) under N(0, σ²) * U(−½, ½)."""
    likelihood = conditional._likelihood(v, scales)
    return bits_of(likelihood, float(conditional.likelihood_lower_bound.bound))


def _analyse_hyperprior(model: Any, x: Tensor) -> Latents:
    y = model.g_a(x)
    return {"y": y, "z": model.h_a(y)}


def _decode_mean_scale(codec: Codec, latents: Latents, quantise: Quantiser) -> Decoded:
    """Minnen, Ballé and Toderici, arXiv 1809.02736: y on round(y − μ) + μ, z on round(z − median) + median."""
    model = codec.model
    medians = model.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)
    z_hat = quantise(latents["z"] - medians, "z") + medians
    with codec.autocast():
        parameters = model.h_s(z_hat)
    scales, means = parameters.float().chunk(2, 1)
    v_hat = quantise(latents["y"] - means, "y")
    y_hat = v_hat + means
    with codec.autocast():
        x_hat = model.g_s(runtime.channels_last(y_hat))
    bits = {
        "y": gaussian_bits(model.gaussian_conditional, v_hat, scales),
        "z": factorized_bits(model.entropy_bottleneck, z_hat),
    }
    return Decoded(x_hat.float(), bits, {"y": y_hat, "z": z_hat})


@dataclass(frozen=True)
class _Family:
    """How one CompressAI class is analysed and decoded."""

    analyse: Callable[[Any, Tensor], Latents]
    decode: Callable[[Codec, Latents, Quantiser], Decoded]
    stride: int


# A further model is one more line here; subclasses are looked up by exact type.
FAMILIES: dict[type, _Family] = {
    MeanScaleHyperprior: _Family(_analyse_hyperprior, _decode_mean_scale, stride=64),
}


@dataclass(frozen=True, eq=False)
class Codec:
    """A pretrained codec, frozen: no gradient ever reaches its weights.

    Attributes:
        name: the family's name, as `load_codec` takes it.
        lmbda: the λ it was trained with, in L = λ·255²·MSE + bpp.
        model: the CompressAI model.
        sha256: of the weights' file; of the state dict for a model made in memory.
        dtype: number format of the convolutions (`torch.bfloat16` or `torch.float32`).
        card: what is known about its training.
    """

    name: str
    lmbda: float
    model: CompressionModel
    sha256: str
    dtype: torch.dtype = torch.float32
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if type(self.model) not in FAMILIES:
            known = ", ".join(sorted(cls.__name__ for cls in FAMILIES))
            raise UserError(
                f"models of type {type(self.model).__name__} cannot be refined yet (supported: {known})"
            )

    @property
    def stride(self) -> int:
        """Image sides are padded to a multiple of this many pixels."""
        return FAMILIES[type(self.model)].stride

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.model.parameters()).device

    def autocast(self):
        """The context in which this codec's convolutions run."""
        return runtime.autocast(self.device, self.dtype)

    def to(self, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Codec:
        """The same codec on another device or with convolutions in another number format.

        Raises:
            UserError: the device or the format is not available.
        """
        resolved = runtime.resolve_device(device)
        model = self.model.to(resolved)
        return Codec(
            self.name, self.lmbda, model, self.sha256, runtime.resolve_dtype(dtype, resolved), self.card
        )

    def pad(self, x: Tensor) -> Tensor:
        """Extend ``x`` (B, 3, H, W) at the right and bottom to multiples of the stride by its last pixels."""
        height, width = x.shape[-2:]
        extra = (0, -width % self.stride, 0, -height % self.stride)
        return F.pad(x, extra, mode="replicate") if any(extra) else x

    def analyse(self, x: Tensor) -> Latents:
        """Continuous latents of ``x`` (B, 3, H, W) in [0, 1], sides multiples of the stride; float32."""
        with self.autocast():
            latents = FAMILIES[type(self.model)].analyse(self.model, runtime.channels_last(x))
        return {name: latent.float() for name, latent in latents.items()}

    def decode(self, latents: Latents, quantise: Quantiser = hard) -> Decoded:
        """Quantise the latents on the codec's grid, count their bits and synthesise the image.

        Args:
            latents: as `analyse` returns them.
            quantise: see the module's description; the default gives what a real decoder sees.
        """
        return FAMILIES[type(self.model)].decode(self, latents, quantise)


def freeze(model: CompressionModel) -> CompressionModel:
    """Prepare a CompressAI model for refinement in place: evaluation mode, fast GDN, no weight gradients."""
    runtime.keep_freed_memory()
    replace_gdn(model).to(memory_format=torch.channels_last).eval()
    return model.requires_grad_(False)
