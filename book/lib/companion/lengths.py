"""Where a file's bits go: the same symbols counted under ever more of what a real coder does.

estimated   the row's bits: float32, no probability below 1e-9
exact       −log₂ of the codec's own probabilities, in float64
levels      the same with the scales σ of y from the coder's table of 64
tables      −log₂ of the 16-bit frequencies, and what an escape says of a symbol outside of its table
strings     what rANS wrote: whole words, and a state for each of the two strings
file        the strings and the header
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sgaplus.bitstream import container, stream
from sgaplus.bitstream.coder import coder_of, drive_y, gaussian, parameters_of, tables_of
from sgaplus.bitstream.rans import Tables
from sgaplus.codecs.codec import Codec
from sgaplus.codecs.order import Group
from sgaplus.errors import UserError


@dataclass(frozen=True, eq=False)
class Symbols:
    """What a file of a codec with a hyperprior codes, in the order of its strings.

    Attributes:
        z, y: symbols, int64, (n,) and (m,).
        z_tables, y_tables: the table of each.
        z_bits: −log₂ of the factorised prior's probability of each z, float64.
        scales: σ of each y as the prior has it, not below its bound, float64.
        z_coder, y_coder: the coder's tables.
    """

    z: np.ndarray
    y: np.ndarray
    z_tables: np.ndarray
    y_tables: np.ndarray
    z_bits: np.ndarray
    scales: np.ndarray
    z_coder: Tables
    y_coder: Tables


def symbols_of(data: bytes, codec: Codec) -> Symbols:
    """The symbols of a file's content and the prior of each."""
    coder = codec.once(coder_of)
    if coder.decoding is None:
        raise UserError(f"{codec.name} has no hyperprior: count the bits of a codec that has one")
    latents = stream.read_latents(data, codec)
    symbols, tables, scales = [], [], []

    def given(group: Group) -> Tensor:
        symbols.append((group.of(latents["y"][None]) - group.means).round())
        tables.append(tables_of(coder, group))
        scales.append(group.scales.clamp_min(coder.scale_bound).flatten().numpy())
        return symbols[-1]

    drive_y(coder, parameters_of(coder, latents["z"]), given)
    with torch.no_grad():
        bottleneck = copy.deepcopy(codec.model.entropy_bottleneck).cpu().double()
        likelihood, _, _ = bottleneck._likelihood(latents["z"].flatten(1)[:, None])
    z = (latents["z"] - coder.medians).round()
    return Symbols(
        z=_whole(z),
        y=np.concatenate([_whole(part) for part in symbols]),
        z_tables=np.repeat(np.arange(len(z)), z[0].numel()),
        y_tables=np.concatenate(tables),
        z_bits=-likelihood.log2().flatten().numpy(),
        scales=np.concatenate(scales),
        z_coder=coder.tables,
        y_coder=gaussian()[1],
    )


def _whole(symbols: Tensor) -> np.ndarray:
    return symbols.flatten().numpy().astype(np.int64)


def lengths(data: bytes, symbols: Symbols) -> dict[str, float]:
    """Bits of a file's content: exact, levels, tables, strings and file, as the module says."""
    content = container.unpack(data)
    z_bits = symbols.z_bits.sum()
    table_scales = gaussian()[0].numpy()
    strings = 8 * (len(content.z) + len(content.y))
    z_coded = table_bits(symbols.z, symbols.z_tables, symbols.z_coder)
    return {
        "exact": z_bits + gaussian_bits(symbols.y, symbols.scales).sum(),
        "levels": z_bits + gaussian_bits(symbols.y, table_scales[symbols.y_tables]).sum(),
        "tables": z_coded + table_bits(symbols.y, symbols.y_tables, symbols.y_coder),
        "strings": float(strings),
        "file": 8.0 * len(data),
    }


def gaussian_bits(symbols: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """−log₂ of the mass that N(0, σ²) * U(−½, ½) has at each integer symbol, (n,); also far out in the
    tails."""
    distance, scale = torch.from_numpy(np.abs(symbols).astype(float)), torch.from_numpy(scales)
    upper = torch.special.log_ndtr((0.5 - distance) / scale)
    lower = torch.special.log_ndtr((-0.5 - distance) / scale)
    nats = upper + torch.log1p(-torch.exp(lower - upper))
    return -nats.numpy() / math.log(2)


def table_bits(symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> float:
    """Bits of symbols under 16-bit tables, with the escapes of those that are outside of theirs."""
    sizes = np.array([len(cdf) for cdf in tables.cdfs])
    frequencies = pd.DataFrame([np.diff(cdf) for cdf in tables.cdfs]).to_numpy()
    places = symbols - np.array(tables.offsets)[indexes]
    escape = sizes[indexes] - 2
    outside = (places < 0) | (places >= escape)
    bits = 16 - np.log2(frequencies[indexes, np.where(outside, escape, places)])
    return float(bits.sum()) + _escape_bits(places[outside], escape[outside])


def _escape_bits(places: np.ndarray, escape: np.ndarray) -> float:
    """Nibbles of 4 bits: how many follow, then the distance from the table."""
    distances = np.where(places < 0, -2 * places - 1, 2 * (places - escape))
    nibbles = [math.ceil(int(distance).bit_length() / 4) for distance in distances]
    return 4.0 * sum(1 + count for count in nibbles)


def with_levels(symbols: Symbols, levels: int, nearest: bool = False) -> float:
    """Bits as ``levels`` of `lengths`, with another table of scales over the same range.

    Args:
        levels: how many there are, in equal ratios.
        nearest: whether a scale is replaced by the nearest one in ratio; else by the next larger one, as
            CompressAI does.
    """
    low, high = gaussian()[0][[0, -1]].log().tolist()
    table = torch.linspace(low, high, levels, dtype=torch.float64)
    borders = (table[:-1] + table[1:]) / 2 if nearest else table[:-1]
    chosen = torch.bucketize(torch.from_numpy(symbols.scales).log(), borders)
    return float(symbols.z_bits.sum() + gaussian_bits(symbols.y, table.exp()[chosen].numpy()).sum())
