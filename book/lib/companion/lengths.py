"""Where a file's bits go: the same symbols counted under ever more of what a real coder does.

estimated   the row's bits: float32, no probability below 1e-9
exact       −log₂ of the codec's own probabilities, in float64
levels      the same with the scales σ of y from the coder's table of 64
tables      −log₂ of the 16-bit frequencies, and what an escape says of a symbol outside of its table
strings     what rANS wrote: whole words, and a state for each string
file        the strings and the header

The latent that is coded first, z of a codec with a hyperprior and y of one without, has a table for each
channel and no scales.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from sgaplus.bitstream import container, stream
from sgaplus.bitstream.coder import Coder, coder_of, drive_y, gaussian, parameters_of, tables_of
from sgaplus.bitstream.rans import Tables
from sgaplus.codecs.codec import Codec
from sgaplus.codecs.order import Group


@dataclass(frozen=True, eq=False)
class Symbols:
    """What a file codes, in the order of its strings: symbols of the latent that is coded first, (n,), and of
    y, (m,), none without a hyperprior; the table of each, and the coder's tables; −log₂ of the factorised
    prior's probability of each of the first; σ of each y as the prior has it, not below its bound."""

    first: np.ndarray
    y: np.ndarray
    first_tables: np.ndarray
    y_tables: np.ndarray
    first_bits: np.ndarray
    scales: np.ndarray
    first_coder: Tables
    y_coder: Tables


def symbols_of(data: bytes, codec: Codec) -> Symbols:
    """The symbols of a file's content and the prior of each."""
    coder, latents = codec.once(coder_of), stream.read_latents(data, codec)
    symbols, tables, scales = [], [], []

    def given(group: Group) -> Tensor:
        symbols.append((group.of(latents["y"][None]) - group.means).round())
        tables.append(tables_of(coder, group))
        scales.append(group.scales.clamp_min(coder.scale_bound).flatten().numpy())
        return symbols[-1]

    if coder.decoding is not None:
        drive_y(coder, parameters_of(coder, latents["z"]), given)
    first = (latents[coder.first] - coder.medians).round()
    return Symbols(
        first=first.flatten().numpy().astype(np.int64),
        y=np.concatenate([part.flatten().numpy() for part in symbols] or [np.zeros(0)]).astype(np.int64),
        first_tables=np.repeat(np.arange(len(first)), first[0].numel()),
        y_tables=np.concatenate(tables or [np.zeros(0, np.int64)]),
        first_bits=_factorized_bits(codec, coder, latents[coder.first]),
        scales=np.concatenate(scales or [np.zeros(0)]),
        first_coder=coder.tables,
        y_coder=gaussian()[1],
    )


@torch.no_grad()
def _factorized_bits(codec: Codec, coder: Coder, latent: Tensor) -> np.ndarray:
    """Of each value, also in the tails, of the latent that is coded first, (C, h, w) in steps of its grid."""
    model, decoding = codec.model, coder.decoding
    prior, step = (decoding.bottleneck, decoding.z_step) if decoding else (model.entropy_bottleneck, 1.0)
    prior, values = copy.deepcopy(prior).cpu().double(), latent.flatten(1)[:, None]
    lower, upper = (prior._logits_cumulative((values + end) * step, False) for end in (-0.5, 0.5))
    # The same mass below the median as above: no digits are lost.
    above = lower + upper > 0
    lower, upper = torch.where(above, -upper, lower), torch.where(above, -lower, upper)
    return -_difference(F.logsigmoid(upper), F.logsigmoid(lower)).flatten().numpy() / math.log(2)


def _difference(upper: Tensor, lower: Tensor) -> Tensor:
    """log(exp(upper) − exp(lower))."""
    return upper + torch.log1p(-torch.exp(lower - upper))


def lengths(data: bytes, symbols: Symbols) -> dict[str, float]:
    """Bits of a file's content: exact, levels, tables, strings and file, as the module says."""
    content = container.unpack(data)
    first_bits = symbols.first_bits.sum()
    table_scales = gaussian()[0].numpy()
    strings = 8 * (len(content.z) + len(content.y))
    first_coded = table_bits(symbols.first, symbols.first_tables, symbols.first_coder)
    return {
        "exact": first_bits + gaussian_bits(symbols.y, symbols.scales).sum(),
        "levels": first_bits + gaussian_bits(symbols.y, table_scales[symbols.y_tables]).sum(),
        "tables": first_coded + table_bits(symbols.y, symbols.y_tables, symbols.y_coder),
        "strings": float(strings),
        "file": 8.0 * len(data),
    }


def gaussian_bits(symbols: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """−log₂ of the mass of N(0, σ²) * U(−½, ½) at each integer symbol, (n,), also far out in the tails."""
    distance, scale = torch.from_numpy(np.abs(symbols).astype(float)), torch.from_numpy(scales)
    upper = torch.special.log_ndtr((0.5 - distance) / scale)
    lower = torch.special.log_ndtr((-0.5 - distance) / scale)
    return -_difference(upper, lower).numpy() / math.log(2)


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
    """Bits as ``levels`` of `lengths`, with so many scales in equal ratios over the same range, of which the
    nearest replaces a scale, or the next larger one, as in CompressAI."""
    low, high = gaussian()[0][[0, -1]].log().tolist()
    table = torch.linspace(low, high, levels, dtype=torch.float64)
    borders = (table[:-1] + table[1:]) / 2 if nearest else table[:-1]
    chosen = torch.bucketize(torch.from_numpy(symbols.scales).log(), borders)
    return float(symbols.first_bits.sum() + gaussian_bits(symbols.y, table.exp()[chosen].numpy()).sum())
