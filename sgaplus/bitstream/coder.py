"""Hard latents to two strings and back.

Encoder and decoder must agree on every index into the tables, and a scale close to a border between two
tables gets another index when its last digits differ. Computed in float32, as CompressAI does, they do differ
between devices, numbers of threads and batch sizes. So here, on both sides:

- Entropy parameters are computed in float64 on the CPU, whatever device and number format refined the
  latents, and the tables' borders are compared with the scales exactly.
- With a context model an error in one mean would spread to all values that are decoded later. Its networks,
  and those of a codec of variable rate, therefore compute without any rounding that depends on the machine
  (see `exact`).
- h_s of a scale or mean-scale hyperprior computes in plain float64. Two orders of summation then differ by
  some 1e-15, a ten-millionth of a ten-millionth of what separates the tables: about one image in 10⁸ or fewer
  would have an index that depends on the machine.
- The tables are the same everywhere (see `rans`).

The values of y are written in their decoding order (see `codecs.order`), in each group channel by channel.
Without a context model and with one rate, CompressAI reads them (see `plain`).

The symbols themselves depend on the means only through round(y − μ), and hard latents lie in the middle of
their interval: μ of another device, even in bfloat16, gives the same symbols.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from compressai.models import FactorizedPrior, FactorizedPriorReLU, MeanScaleHyperprior, ScaleHyperprior
from torch import Tensor

from ..codecs.codec import Codec
from ..codecs.families import FAMILIES
from ..codecs.models import Latents, latent_channels
from ..codecs.order import Decoding, Found, Group, drive
from ..errors import SystemFault, UserError
from . import rans
from .exact import exact, in_strips
from .rans import factorized, gaussian

Progress = Callable[[int, int], None]

_FACTORIZED = (FactorizedPrior, FactorizedPriorReLU)
_HYPERPRIOR = (ScaleHyperprior, MeanScaleHyperprior)


@dataclass(frozen=True, eq=False)
class Coder:
    """What coding needs of a codec; everything is float64 and on the CPU.

    Attributes:
        stride: of the latent that is coded first, in pixels.
        medians: (N, 1, 1), origin of the grid of that latent.
        tables: of the factorised prior, one for each channel.
        channels: of y.
        decoding: of y, from z; None without a hyperprior, where y itself is coded first.
        plain: whether CompressAI's own decoder reads the strings.
    """

    stride: int
    medians: Tensor
    tables: rans.Tables
    channels: int
    decoding: Decoding | None
    plain: bool

    @property
    def step(self) -> float | None:
        """That of y's grid as a file says it; None where the format has none."""
        return None if self.plain or self.decoding is None else float(np.float32(self.decoding.step))

    @property
    def scale_bound(self) -> float:
        """Scales of y below it are raised to it."""
        return 0.0 if self.decoding is None else self.decoding.scale_bound

    @property
    def first(self) -> str:
        """Name of the latent that is coded first, with the factorised prior."""
        return "y" if self.decoding is None else "z"


def coder_of(codec: Codec) -> Coder:
    """What coding needs of ``codec``; `Codec.once` keeps it.

    The scale table is that of the format, also where the codec's checkpoint has another one.

    Raises:
        UserError: its latents cannot be written.
    """
    model, make = codec.model, FAMILIES[type(codec.model)].decoding
    decoding: Decoding | None = None
    bottleneck: Any = getattr(model, "entropy_bottleneck", None)
    z_step = 1.0
    if type(model) not in _FACTORIZED:
        if make is None:
            raise UserError(f"latents of {codec.name} cannot be written: its family does not say how")
        decoding = make(model)
        bottleneck, z_step = decoding.bottleneck, decoding.z_step
    plain = type(model) in _FACTORIZED + _HYPERPRIOR
    if decoding is not None:
        h_s = in_strips(copy.deepcopy(decoding.h_s).cpu().double()) if plain else exact(decoding.h_s)
        networks = {name: exact(network) for name, network in decoding.networks.items()}
        decoding = replace(decoding, h_s=h_s, networks=networks)
    return Coder(
        stride=codec.stride,
        medians=bottleneck._get_medians().detach().cpu().double().reshape(-1, 1, 1) / z_step,
        tables=factorized(bottleneck, z_step),
        channels=latent_channels(model),
        decoding=decoding,
        plain=plain,
    )


def _channels(symbols_shape: tuple[int, ...]) -> np.ndarray:
    """The table of each symbol of the latent that is coded first: its channel."""
    channels, height, width = symbols_shape
    return np.repeat(np.arange(channels, dtype=np.uint16), height * width)


def tables_of(coder: Coder, group: Group) -> np.ndarray:
    """The table of each value of a group, flat."""
    if not (group.means.isfinite().all() and group.scales.isfinite().all()):
        raise UserError(rans.BROKEN)
    scales, _ = gaussian()
    # As CompressAI's build_indexes: how many scales but the last are below.
    bounded = group.scales.clamp_min(coder.scale_bound).contiguous()
    indexes = torch.bucketize(bounded, scales[:-1], out_int32=True)
    return indexes.flatten().numpy().astype(np.uint16)


def _whole(symbols: Tensor) -> np.ndarray:
    """The nearest integers, flat; ``symbols`` are overwritten."""
    # The clamp keeps what is far too large from wrapping around; `rans.encode` refuses it.
    return symbols.round_().clamp_(-(2**30), 2**30).flatten().numpy().astype(np.int32)


def _floating(symbols: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(symbols.astype(np.float64)).reshape(shape)


@torch.no_grad()
def parameters_of(coder: Coder, z_hat: Tensor) -> Tensor:
    """What the decoding order of y begins with, (1, C, h, w), from ẑ (N, h', w')."""
    assert coder.decoding is not None
    return coder.decoding.h_s(z_hat[None] * coder.decoding.z_step)


@torch.no_grad()
def drive_y(coder: Coder, parameters: Tensor, symbols: Callable[[Group], Tensor]) -> Found:
    """All values of y from the ``symbols`` of each group (see `codecs.order`)."""
    assert coder.decoding is not None
    return drive(coder.decoding.groups(coder.decoding.networks, parameters), symbols)


def encode_latents(
    coder: Coder, latents: Latents, shape: tuple[int, int], progress: Progress | None = None
) -> tuple[bytes, bytes]:
    """The strings (y, z) of latents (C, h, w), which end up on the codec's grid; decoded again and compared.

    Args:
        shape: (h, w) of the latent that is coded first.
        progress: called with how many values of y are encoded or decoded, and how many will be.

    Raises:
        UserError: the latents are not those of this codec and of an image of this size.
        SystemFault: the strings do not decode to the same latents.
    """
    names = ("y",) if coder.decoding is None else ("y", "z")
    if set(latents) != set(names):
        raise UserError(f"this codec has the latents {', '.join(names)}, not {', '.join(latents)}")
    values = {name: latents[name].detach().cpu() for name in names}
    for name, value in values.items():
        if not value.isfinite().all():
            raise UserError(f"latent {name} holds values that are not finite")
    first = values[coder.first]
    _check_shape(coder.first, first, (len(coder.medians), *shape))
    symbols = _whole(first - coder.medians)
    z_hat = _floating(symbols, first.shape) + coder.medians
    string = rans.encode(symbols, _channels(first.shape), coder.tables)
    _check_equal(_decode_first(coder, string, first.shape), z_hat)
    if coder.decoding is None:
        return string, b""
    parameters = parameters_of(coder, z_hat)
    _check_shape("y", values["y"], (coder.channels, *parameters.shape[2:]))
    y, coded, indexes = values["y"][None], [], []

    def given(group: Group) -> Tensor:
        indexes.append(tables_of(coder, group))
        coded.append(_whole(group.of(y) - group.means))
        advance(coded[-1].size)
        return _floating(coded[-1], group.means.shape)

    advance = _counting(progress, 2 * y.numel())
    y_hat = drive_y(coder, parameters, given).y_hat
    y_string = rans.encode(np.concatenate(coded), np.concatenate(indexes), gaussian()[1])
    _check_equal(_decode_y(coder, y_string, parameters, advance).y_hat, y_hat)
    return y_string, string


def _check_shape(name: str, latent: Tensor, expected: tuple[int, ...]) -> None:
    if latent.shape != expected:
        raise UserError(f"latent {name} has shape {tuple(latent.shape)}, and needs {expected} for this size")


def _check_equal(decoded: Tensor, encoded: Tensor) -> None:
    # The encoder's own output; were this to fail, CompressAI's coder and ours would not be the same.
    if not torch.equal(decoded, encoded):
        raise SystemFault("the strings do not decode to the latents that were encoded: please report it")


def _counting(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Reports the sum of what it is called with."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def decode_latents(
    coder: Coder, y: bytes, z: bytes, shape: tuple[int, int], progress: Progress | None = None
) -> tuple[Latents, Tensor]:
    """The latents of two strings, float64, each (C, h, w), and what the synthesis gets of y.

    Args:
        shape: (h, w) of the latent that is coded first.
        progress: called with how many values of y are decoded, and how many will be.

    Raises:
        UserError: the strings were not written with this codec for this size.
    """
    first_shape = (len(coder.medians), *shape)
    if coder.decoding is None:
        if z:
            raise UserError("the file does not fit its codec: it holds a string for a missing hyperprior")
        y_hat = _decode_first(coder, y, first_shape)
        return {"y": y_hat}, y_hat
    z_hat = _decode_first(coder, z, first_shape)
    parameters = parameters_of(coder, z_hat)
    advance = _counting(progress, coder.channels * parameters[0, 0].numel())
    found = _decode_y(coder, y, parameters, advance)
    return {"y": found.y_hat[0], "z": z_hat}, found.shown[0]


def _decode_first(coder: Coder, string: bytes, shape: tuple[int, ...]) -> Tensor:
    return _floating(rans.decode(string, _channels(shape), coder.tables), shape) + coder.medians


def _decode_y(coder: Coder, string: bytes, parameters: Tensor, advance: Callable[[int], None]) -> Found:
    reader, (_, tables) = rans.Reader(string), gaussian()

    def read(group: Group) -> Tensor:
        symbols = reader.read(tables_of(coder, group), tables)
        advance(symbols.size)
        return _floating(symbols, group.means.shape)

    found = drive_y(coder, parameters, read)
    reader.finish()
    return found
