"""CompressAI's entropy coder: 64-bit rANS with 16-bit tables, written by `compressai.ans` and read here.

Symbols outside of their table are an escape, then their distance from it in nibbles. A string is read by
Python and not by `compressai.ans`, which does not know where a string ends: a truncated one makes it return
what lies behind in memory, or ends the process. Reading is strict. A string that was not written by the
encoder for just these tables ends in another state than the encoder began with, and is refused; the chance
that it is not is about 2⁻³¹.

Tables made in float32 have last digits that depend on the processor. So the Gaussian ones and their 64 scales
are stored (``gaussian.npz``) as CompressAI 1.2.8 makes them on x86. Those of the factorised prior are made in
float64, and rounding to 16 bits then gives the same tables everywhere.

rANS: Duda, arXiv 1311.2540; the implementation that CompressAI builds on is ryg_rans by Fabian Giesen.
"""

import copy
import functools
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from compressai import ans
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr
from torch import Tensor

from ..errors import UserError

_LOW = 1 << 31  # the state is in [2³¹, 2⁶³); the encoder begins with 2³¹
_NIBBLE = 4
# Seven nibbles: with more, the encoder of CompressAI would not end.
_MAX_NIBBLES = 7
# The encoder of CompressAI writes beyond its memory where there are fewer: it takes a word for each symbol,
# and two rare ones with the last state need three words.
_MIN_SYMBOLS = 3
# Far more than a float32 latent can tell apart, and less than seven nibbles say.
MAX_SYMBOL = 2**24
BROKEN = "the file is damaged, or was written with other weights: its strings cannot be decoded"


@dataclass(frozen=True)
class Tables:
    """Tables of cumulated frequencies, out of 2¹⁶.

    Attributes:
        cdfs: for each table the cumulated frequencies of its symbols and of the escape, from 0 to 2¹⁶.
        offsets: for each table its first symbol.
    """

    cdfs: list[list[int]]
    offsets: list[int]


@functools.cache
def gaussian() -> tuple[Tensor, Tables]:
    """The 64 scales, float64 (64,), and the table of each: N(0, σ²) * U(−½, ½) around 0 in 16 bits."""
    with np.load(Path(__file__).with_name("gaussian.npz"), allow_pickle=False) as stored:
        scales = torch.from_numpy(stored["scales"]).double()
        rows = np.split(stored["frequencies"].astype(int), np.cumsum(stored["sizes"] - 1)[:-1])
    cdfs = [[0, *np.cumsum(row).tolist()] for row in rows]
    # 2c + 1 symbols around 0, then the escape: the cdf has 2c + 3 entries.
    return scales, Tables(cdfs, [-(len(cdf) - 3) // 2 for cdf in cdfs])


def factorized(bottleneck: EntropyBottleneck | EntropyBottleneckVbr, step: float = 1.0) -> Tables:
    """The table of each channel of a factorised prior, whose latents lie on a grid of this step."""
    bottleneck = copy.deepcopy(bottleneck).cpu().double()
    if isinstance(bottleneck, EntropyBottleneckVbr):
        bottleneck.update_variable(force=True, qs=torch.tensor(step, dtype=torch.float64))
    else:
        bottleneck.update(force=True)
    rows = zip(bottleneck.quantized_cdf.tolist(), bottleneck.cdf_length.tolist(), strict=True)
    return Tables([row[:size] for row, size in rows], bottleneck.offset.tolist())


def encode(symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> bytes:
    """The string of ``symbols`` (n,), the i-th by the table ``indexes[i]``; integers.

    Raises:
        UserError: a symbol is beyond what can be coded, or there are fewer than 3.
    """
    if len(symbols) < _MIN_SYMBOLS:
        raise UserError(f"a string has at least {_MIN_SYMBOLS} symbols, not {len(symbols)}")
    if np.abs(symbols).max() > MAX_SYMBOL:
        raise UserError(
            f"a latent is {np.abs(symbols).max():.3g} steps from its mean, where {MAX_SYMBOL} can be coded: "
            "are the latents those of this codec?"
        )
    sizes = [len(cdf) for cdf in tables.cdfs]
    return ans.RansEncoder().encode_with_indexes(
        symbols.tolist(), indexes.tolist(), tables.cdfs, sizes, tables.offsets
    )


class Reader:
    """Reads a string in as many parts as its reader likes; `finish` makes sure that it ends there.

    Raises:
        UserError: the string was not written by `encode`; from every method.
    """

    def __init__(self, string: bytes) -> None:
        if len(string) % 4 or len(string) < 8:
            raise UserError(BROKEN)
        # Words become Python's integers one by one: all at once they would take nine times the string's
        # memory.
        self._remaining = iter(np.frombuffer(string, "<u4").astype(np.uint32).data)
        self._state = next(self._remaining) | next(self._remaining) << 32
        if not _LOW <= self._state < 1 << 63:
            raise UserError(BROKEN)

    def read(self, indexes: np.ndarray, tables: Tables) -> np.ndarray:
        """The next symbols (n,), int32.

        Args:
            indexes: (n,), uint16; the table of each symbol.
        """
        try:
            symbols, self._state = _symbols(self._state, self._remaining.__next__, indexes, tables)
        except StopIteration:
            raise UserError(BROKEN) from None
        result = np.frombuffer(symbols, np.int32)
        if np.abs(result).max() > MAX_SYMBOL:
            raise UserError(BROKEN)
        return result

    def finish(self) -> None:
        if self._state != _LOW or next(self._remaining, None) is not None:
            raise UserError(BROKEN)


def decode(string: bytes, indexes: np.ndarray, tables: Tables) -> np.ndarray:
    """The symbols (n,), int32, of a string; it must hold these symbols and nothing else.

    Args:
        indexes: (n,), uint16; the table of each symbol.

    Raises:
        UserError: the string was not written by `encode` with these tables.
    """
    reader = Reader(string)
    symbols = reader.read(indexes, tables)
    reader.finish()
    return symbols


def _symbols(state: int, next_word, indexes: np.ndarray, tables: Tables) -> tuple[array, int]:
    """All symbols, and the state behind them. This loop is where the time goes: 0.25 µs a symbol."""
    rows = [(cdf, len(cdf) - 2, offset) for cdf, offset in zip(tables.cdfs, tables.offsets, strict=True)]
    symbols = array("i")
    append = symbols.append
    for cdf, escape, offset in map(rows.__getitem__, np.ascontiguousarray(indexes).data):
        frequency = state & 0xFFFF
        symbol = bisect_right(cdf, frequency) - 1
        start = cdf[symbol]
        state = (cdf[symbol + 1] - start) * (state >> 16) + frequency - start
        if state < _LOW:
            state = state << 32 | next_word()
        if symbol == escape:
            symbol, state = _escaped(state, next_word, escape)
        append(symbol + offset)
    return symbols, state


def _escaped(state: int, next_word, escape: int) -> tuple[int, int]:
    """A symbol outside of its table, and the state behind it."""

    def nibble() -> int:
        nonlocal state
        value = state & 0xF
        state >>= _NIBBLE
        if state < _LOW:
            state = state << 32 | next_word()
        return value

    count = nibble()
    if count > _MAX_NIBBLES:
        raise UserError(BROKEN)
    distance = 0
    for position in range(count):
        distance |= nibble() << (_NIBBLE * position)
    if count and not distance >> (_NIBBLE * (count - 1)):
        raise UserError(BROKEN)  # the encoder writes no leading zeros
    below = distance & 1
    return (-(distance >> 1) - 1 if below else (distance >> 1) + escape), state
