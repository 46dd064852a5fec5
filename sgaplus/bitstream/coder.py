"""Hard latents to CompressAI's two strings and back.

Encoder and decoder must agree on every index into the tables, and a scale close to a border between two
tables gets another index when its last digits differ. Computed in float32, as CompressAI does, they do differ
between devices, numbers of threads and batch sizes. So here, on both sides:

- h_s runs in float64 on the CPU, whatever device and number format refined the latents. Two orders of
  summation then differ by some 1e-15, a ten-millionth of a ten-millionth of what separates the tables: about
  one image in 10⁸ or fewer would have an index that depends on the machine. The tables' borders are compared
  with the scales exactly.
- The tables, too, have last digits that depend on the processor where they are made in float32. The Gaussian
  ones and their 64 scales are stored (``gaussian.npz``) as CompressAI 1.2.8 makes them on x86. Those of the
  factorised prior are made in float64, and rounding to 16 bits then gives the same tables everywhere.

What an unmodified CompressAI makes of the strings:

- With its networks in float64 and the tables from here (`compressai_weights`, then ``model.double()``),
  ``model.decompress`` returns the same latents, up to the last digits of float64.
- With tables of its own (``model.update()``, in float32) it does so only if they are the same. Where float32
  rounds a frequency to another integer they are not, as for several of the bundled codecs.
- In float32 it does so only where no index differs. That is rare for real photographs: with ``mshyper-s`` at
  λ = 0.01, 16 of the 24 Kodak images have indexes that differ, mostly one or two, and one is enough to lose
  the rest of the image. CompressAI's own float32 strings share the problem as soon as two machines are
  involved.

The symbols themselves depend on the means only through round(y − μ), and hard latents lie in the middle of
their interval: μ of another device, even in bfloat16, gives the same symbols.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from compressai.models import (
    CompressionModel,
    FactorizedPrior,
    FactorizedPriorReLU,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from torch import Tensor, nn

from ..codecs.codec import Codec
from ..codecs.models import Latents
from ..errors import SystemFault, UserError
from . import rans

_FACTORIZED = (FactorizedPrior, FactorizedPriorReLU)
_HYPERPRIOR = (ScaleHyperprior, MeanScaleHyperprior)


@dataclass(frozen=True, eq=False)
class Coder:
    """What coding needs of a codec; everything is float64 and on the CPU.

    Attributes:
        stride: of the latent that is coded first, in pixels.
        medians: (N, 1, 1), origin of the grid of that latent.
        tables: of the factorised prior, one for each channel.
        h_s: from ẑ to the parameters of y; None without a hyperprior, where y itself is coded first.
        with_means: whether h_s gives scales and means, or scales alone.
        scale_bound: scales below it are raised to it.
    """

    stride: int
    medians: Tensor
    tables: rans.Tables
    h_s: nn.Module | None
    with_means: bool
    scale_bound: float

    @property
    def first(self) -> str:
        """Name of the latent that is coded first, with the factorised prior."""
        return "y" if self.h_s is None else "z"


@functools.cache
def gaussian() -> tuple[Tensor, rans.Tables]:
    """The 64 scales, float64 (64,), and the table of each: N(0, σ²) * U(−½, ½) around 0 in 16 bits."""
    with np.load(Path(__file__).with_name("gaussian.npz"), allow_pickle=False) as stored:
        scales = torch.from_numpy(stored["scales"]).double()
        rows = np.split(stored["frequencies"].astype(int), np.cumsum(stored["sizes"] - 1)[:-1])
    cdfs = [[0, *np.cumsum(row).tolist()] for row in rows]
    # 2c + 1 symbols around 0, then the escape: the cdf has 2c + 3 entries.
    return scales, rans.Tables(cdfs, [-(len(cdf) - 3) // 2 for cdf in cdfs])


def check_class(name: str, cls: type) -> None:
    """Raises:
    UserError: latents of a model of this class, of the codec ``name``, cannot be written.
    """
    if cls not in _FACTORIZED + _HYPERPRIOR:
        raise UserError(
            f"latents of {name} cannot be written yet: a codec with a context model ({cls.__name__}) is "
            "decoded one position at a time; use one without, such as mbt2018-mean"
        )


def coder_of(codec: Codec) -> Coder:
    """What coding needs of ``codec``; `Codec.once` keeps it.

    The scale table is that of the format, also where the codec's checkpoint has another one.

    Raises:
        UserError: its latents cannot be written yet.
    """
    model = codec.model
    check_class(codec.name, type(model))
    hyperprior = type(model) in _HYPERPRIOR
    return Coder(
        stride=codec.stride,
        medians=model.entropy_bottleneck._get_medians().detach().cpu().double().reshape(-1, 1, 1),
        tables=_factorized_tables(model),
        h_s=copy.deepcopy(model.h_s).cpu().double() if hyperprior else None,
        with_means=type(model) is MeanScaleHyperprior,
        scale_bound=float(model.gaussian_conditional.lower_bound_scale.bound) if hyperprior else 0.0,
    )


def _factorized_tables(model: CompressionModel) -> rans.Tables:
    bottleneck = copy.deepcopy(model.entropy_bottleneck).cpu().double()
    bottleneck.update(force=True)
    rows = zip(bottleneck.quantized_cdf.tolist(), bottleneck.cdf_length.tolist(), strict=True)
    return rans.Tables([row[:size] for row, size in rows], bottleneck.offset.tolist())


def compressai_weights(codec: Codec) -> dict[str, Tensor]:
    """The state dict with which CompressAI's own model decodes the strings, the tables of `coder_of` in it.

        model = MeanScaleHyperprior(N, M)
        model.load_state_dict(compressai_weights(codec))
        model.double().decompress([[y], [z]], shape)

    Raises:
        UserError: latents of this codec cannot be written yet.
    """
    coder = codec.once(coder_of)
    weights = {name: value.detach().cpu().clone() for name, value in codec.model.state_dict().items()}
    stored = {"entropy_bottleneck": coder.tables}
    if coder.h_s is not None:
        scales, stored["gaussian_conditional"] = gaussian()
        weights["gaussian_conditional.scale_table"] = scales.float()
    for module, tables in stored.items():
        rows = [torch.tensor(cdf, dtype=torch.int32) for cdf in tables.cdfs]
        weights[f"{module}._quantized_cdf"] = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        weights[f"{module}._cdf_length"] = torch.tensor([len(row) for row in rows], dtype=torch.int32)
        weights[f"{module}._offset"] = torch.tensor(tables.offsets, dtype=torch.int32)
    return weights


def _channels(symbols_shape: tuple[int, ...]) -> np.ndarray:
    """The table of each symbol of the latent that is coded first: its channel."""
    channels, height, width = symbols_shape
    return np.repeat(np.arange(channels, dtype=np.uint16), height * width)


def _conditional(coder: Coder, z_hat: Tensor) -> tuple[np.ndarray, Tensor]:
    """The table of each symbol of y, flat, and the means (M, h, w), from ẑ (N, h', w')."""
    assert coder.h_s is not None
    with torch.no_grad():
        parameters = coder.h_s(z_hat[None])[0]
    scales, means = parameters.chunk(2) if coder.with_means else (parameters, torch.zeros_like(parameters))
    table_scales, _ = gaussian()
    # As CompressAI's build_indexes: how many scales but the last are below.
    indexes = torch.bucketize(scales.clamp_min(coder.scale_bound).contiguous(), table_scales[:-1])
    return indexes.flatten().numpy().astype(np.uint16), means


def _symbols(latent: Tensor, origin: Tensor) -> np.ndarray:
    # The clamp keeps what is far too large from wrapping around; `rans.encode` refuses it.
    return (latent - origin).round().clamp(-(2**30), 2**30).flatten().numpy().astype(np.int64)


def _on_grid(symbols: np.ndarray, origin: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(symbols.astype(np.float64)).reshape(shape) + origin


def encode_latents(coder: Coder, latents: Latents, shape: tuple[int, int]) -> tuple[bytes, bytes]:
    """The strings (y, z) of latents (C, h, w), which end up on the codec's grid; decoded again and compared.

    Args:
        shape: (h, w) of the latent that is coded first.

    Raises:
        UserError: the latents are not those of this codec and of an image of this size.
        SystemFault: the strings do not decode to the same latents.
    """
    names = ("y",) if coder.h_s is None else ("y", "z")
    if set(latents) != set(names):
        raise UserError(f"this codec has the latents {', '.join(names)}, not {', '.join(latents)}")
    values = {name: latents[name].detach().cpu().double() for name in names}
    for name, value in values.items():
        if not value.isfinite().all():
            raise UserError(f"latent {name} holds values that are not finite")
    first = values[coder.first]
    _check_shape(coder.first, first, (len(coder.medians), *shape))
    symbols = _symbols(first, coder.medians)
    first_indexes = _channels(first.shape)
    string = rans.encode(symbols, first_indexes, coder.tables)
    _check_equal(rans.decode(string, first_indexes, coder.tables), symbols)
    if coder.h_s is None:
        return string, b""
    indexes, means = _conditional(coder, _on_grid(symbols, coder.medians, first.shape))
    _check_shape("y", values["y"], tuple(means.shape))
    symbols = _symbols(values["y"], means)
    _, tables = gaussian()
    y_string = rans.encode(symbols, indexes, tables)
    _check_equal(rans.decode(y_string, indexes, tables), symbols)
    return y_string, string


def _check_shape(name: str, latent: Tensor, expected: tuple[int, ...]) -> None:
    if latent.shape != expected:
        raise UserError(
            f"latent {name} has shape {tuple(latent.shape)}, where this codec has {expected} for an image of "
            "this size"
        )


def _check_equal(decoded: np.ndarray, symbols: np.ndarray) -> None:
    # The encoder's own output; were this to fail, CompressAI's coder and ours would not be the same.
    if not np.array_equal(decoded, symbols):
        raise SystemFault("the strings do not decode to the latents that were encoded: please report it")


def decode_latents(coder: Coder, y: bytes, z: bytes, shape: tuple[int, int]) -> Latents:
    """The latents of two strings, float64, each (C, h, w).

    Args:
        shape: (h, w) of the latent that is coded first.

    Raises:
        UserError: the strings were not written with this codec for this size.
    """
    first_shape = (len(coder.medians), *shape)
    if coder.h_s is None:
        if z:
            raise UserError(
                "the file does not fit its codec: it holds a string for a hyperprior, which the codec does"
                " not have"
            )
        return {
            "y": _on_grid(rans.decode(y, _channels(first_shape), coder.tables), coder.medians, first_shape)
        }
    z_hat = _on_grid(rans.decode(z, _channels(first_shape), coder.tables), coder.medians, first_shape)
    indexes, means = _conditional(coder, z_hat)
    _, tables = gaussian()
    return {"y": _on_grid(rans.decode(y, indexes, tables), means, tuple(means.shape)), "z": z_hat}
