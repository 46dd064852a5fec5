"""A pretrained codec: one adapter over CompressAI's models.

Everything that the refinement loop, the true loss and the training of base codecs need of a model is
one function of its latents and of a quantiser (see `models`):

    latents = codec.analyse(x)                       # continuous latents: y, and z of a hyperprior
    decoded = codec.decode(latents, quantise)        # x̂, bits of each latent, quantised latents
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from torch import Tensor

from .. import hardware
from ..errors import UserError
from ..parsing import number
from . import strips
from .bits import note_bounds
from .families import FAMILIES
from .layers import fixed, replace_gdn
from .models import Decoded, Latents, Quantiser, hard

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Codec:
    """A pretrained codec, frozen: no gradient ever reaches its weights.

    Attributes:
        name: the family's name, as `load_codec` takes it.
        lmbda: the λ it was trained with, in L = λ·255²·MSE + bpp.
        model: the CompressAI model.
        sha256: its identity in files and tables: of the weights' file for a codec that is bundled or
            downloaded, of the weights themselves (`checkpoints.content_hash`) for a checkpoint.
        dtype: number format of the convolutions, `torch.bfloat16` or `torch.float32`; also its name.
        card: what is known about its training.
        also: further hashes by which files may name it.

    Raises:
        UserError: the model's class is not registered, its weights are of half precision, or λ or the number
            format is none.
    """

    name: str
    lmbda: float
    model: CompressionModel
    sha256: str
    dtype: torch.dtype = torch.float32
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    also: tuple[str, ...] = field(default=(), repr=False)
    # What was made of the weights so far; codecs that share a model share it.
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)
    # Networks of the model with weights in this number format.
    _fixed: dict[str, torch.nn.Module] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.model) not in FAMILIES:
            name = type(self.model).__name__
            raise UserError(
                f"models of type {name} cannot be refined yet: give the model itself where this one wraps it"
                f" (model.module), or register the class with sgaplus.codecs.register({name}, family), as"
                " sgaplus.codecs.families describes"
            )
        if short := {p.dtype for p in self.model.parameters()} & {torch.float16, torch.bfloat16}:
            raise UserError(
                f"the model holds {short.pop()}, where float32 is needed: load its checkpoint again"
            )
        object.__setattr__(self, "lmbda", number(self.lmbda, "lambda"))
        object.__setattr__(self, "dtype", hardware.resolve_dtype(self.dtype, self.device))
        FAMILIES[type(self.model)].prepare(self.model, self.lmbda)
        note_bounds(self.model)
        # `dataclasses.replace` passes it on, to another model too.
        if self._made.setdefault("model", self.model) is not self.model:
            object.__setattr__(self, "_made", {"model": self.model})
        object.__setattr__(self, "_fixed", self._made.setdefault(self.dtype, {}))

    def __reduce__(self) -> tuple:
        """Without what was made of the weights, which other processes and copies make for themselves."""
        return Codec, (self.name, self.lmbda, self.model, self.sha256, self.dtype, self.card, self.also)

    @property
    def stride(self) -> int:
        """Image sides are padded to a multiple of this many pixels."""
        return FAMILIES[type(self.model)].stride

    @property
    def metric(self) -> str:
        """What it was trained for beside the rate, ``"mse"`` or ``"ms-ssim"``; its λ is that metric's."""
        return self.card.get("metric", "mse")

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.model.parameters()).device

    @property
    def format(self) -> str:
        """The number format as `load_codec` takes it, such as ``"bfloat16"``."""
        return str(self.dtype).removeprefix("torch.")

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Codec:
        """The same codec on another device or with convolutions in another number format.

        This one stays as it is. Both share their weights on one device; another device gets a copy.

        Args:
            device, dtype: None keeps what this codec has; ``"auto"`` is the best of this machine.

        Raises:
            UserError: the device or the format is not available.
        """
        where = self.device if device is None else hardware.resolve_device(device)
        format_ = self.dtype if dtype is None else hardware.resolve_dtype(dtype, where)
        model, made = self.model, self._made
        if (where.type, where.index or 0) != (self.device.type, self.device.index or 0):
            model, made = copy.deepcopy(model).to(where), {}
        return Codec(self.name, self.lmbda, model, self.sha256, format_, self.card, self.also, made)

    def once(self, make: Callable[[Codec], T]) -> T:
        """What ``make(self)`` gives, made once for these weights."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def run(self, network: str, x: Tensor) -> Tensor:
        """A network of the model, such as ``"g_s"``, on ``x`` (B, C, H, W), in this codec's number format.

        Float32 on both sides. While a model is trained its weights change and are cast in every call. Large
        images go through g_a and g_s in strips, see `strips`.
        """
        if self.model.training:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                return self.model.get_submodule(network)(hardware.channels_last(x)).float()
        if found := self.strips_of(network, x):
            return strips.run(network, found, lambda part: self._whole(network, part), x)
        return self._whole(network, x)

    def strips_of(self, network: str, x: Tensor) -> list[strips.Strip]:
        """The strips in which ``network`` runs on ``x`` (B, C, H, W), see `strips.of`."""
        return strips.of(network, self._frozen(network), x)

    def _whole(self, network: str, x: Tensor) -> Tensor:
        frozen, x = self._frozen(network), hardware.channels_last(x).to(self.dtype)
        if torch.compiler.is_compiling():  # a program keeps to what holds when it runs
            return frozen(x).float()
        with hardware.full_float32(x.device):
            return frozen(x).float()

    def _frozen(self, network: str) -> torch.nn.Module:
        """A network of the model with its weights in this codec's number format, made once."""
        if network not in self._fixed:
            self._fixed[network] = fixed(self.model.get_submodule(network), self.dtype)
        return self._fixed[network]

    def prepare(self) -> None:
        """Make now what `decode` makes of the model's networks when it first needs them."""
        names = [name for name, _ in self.model.named_modules()]
        for pattern in FAMILIES[type(self.model)].decoders:
            for network in fnmatch.filter(names, pattern):
                self._frozen(network)

    def pad(self, x: Tensor) -> Tensor:
        """Extend ``x`` (B, 3, H, W) at the right and bottom to multiples of the stride by its last pixels."""
        height, width = x.shape[-2:]
        extra = (0, -width % self.stride, 0, -height % self.stride)
        return F.pad(x, extra, mode="replicate") if any(extra) else x

    def analyse(self, x: Tensor) -> Latents:
        """Continuous latents of ``x`` (B, 3, H, W) in [0, 1], sides multiples of the stride; float32."""
        return FAMILIES[type(self.model)].analyse(self, x)

    def decode(self, latents: Latents, quantise: Quantiser = hard) -> Decoded:
        """Quantise the latents on the codec's grid, count their bits and synthesise the image.

        Args:
            latents: as `analyse` returns them.
            quantise: see `models`; the default gives what a real decoder sees.
        """
        return FAMILIES[type(self.model)].decode(self, latents, quantise)

    def synthesise(self, y: Tensor) -> Tensor:
        """x̂ (B, 3, H, W) of y (B, C, h, w) on the codec's grid or near it."""
        return FAMILIES[type(self.model)].synthesise(self, y)

    def price(self, latents: Latents, quantise: Quantiser = hard) -> Decoded:
        """As `decode`, without the synthesis, which takes most of its time: ``x_hat`` is its input."""
        return FAMILIES[type(self.model)].decode(_WithoutSynthesis(self), latents, quantise)


@dataclass(frozen=True)
class _WithoutSynthesis:
    codec: Codec

    @property
    def model(self) -> CompressionModel:
        return self.codec.model

    def run(self, network: str, x: Tensor) -> Tensor:
        return x if network == "g_s" else self.codec.run(network, x)


def codec_of(value: Any) -> Codec:
    """``value``, if it is a codec.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, Codec):
        return value
    what = repr(value) if isinstance(value, str) else type(value).__name__
    raise UserError(f"a codec is what sgaplus.load_codec returns, not {what}")


def freeze(model: CompressionModel) -> CompressionModel:
    """Prepare a CompressAI model for refinement in place: evaluation mode, fast GDN, no weight gradients."""
    replace_gdn(model).to(memory_format=torch.channels_last).eval()
    return model.requires_grad_(False)
