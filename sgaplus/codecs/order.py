"""In which order a decoder finds the values of y, and from what.

A *decoding order* is a generator. It yields a `Group` of values that a decoder finds at once, is sent their
symbols (integers, as floating-point numbers of the shape of the group's means), and goes on with the next
group, whose means and scales may depend on all values before; in the end it returns ŷ (B, C, h, w). A group's
values are ``symbols · step + means``; only a codec that moves its reconstruction points knows others.

    from sgaplus.codecs.order import drive, rounded
    y_hat = rounded(order(networks, parameters, step), y)            # hard latents
    y_hat = drive(order(networks, parameters, step), read_symbols)   # those of a file

Whoever drives it chooses the arithmetic: `networks` gives a model's own modules, in float32 on any device,
and a file's coder replaces them by ones whose results are the same on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

Networks = Mapping[str, nn.Module]


@dataclass(frozen=True, eq=False)
class Group:
    """Values of y that do not depend on each other.

    Attributes:
        where: index of the values into (C, h, w).
        means: the origins of their grids, (B, …) with the shape that ``where`` selects.
        scales: their σ in units of the step, of the same shape, not bounded from below.
        step: of the grid.
    """

    where: tuple[slice | Tensor, ...]
    means: Tensor
    scales: Tensor
    step: float = 1.0

    def of(self, y: Tensor) -> Tensor:
        """The group's part of ``y`` (B, C, h, w)."""
        return y[(slice(None), *self.where)]


Groups = Generator[Group, Tensor, Tensor]
# From a model's networks, what h_s makes of ẑ (B, C, h, w), and the step of the grid.
Order = Callable[[Networks, Tensor, float], Groups]

_EVERYWHERE = (slice(None), slice(None), slice(None))


def drive(groups: Groups, symbols: Callable[[Group], Tensor]) -> Tensor:
    """ŷ (B, C, h, w), where ``symbols`` gives those of each group."""
    group = next(groups)
    while True:
        answer = symbols(group)
        try:
            group = groups.send(answer)
        except StopIteration as end:
            return end.value


@torch.no_grad()
def rounded(groups: Groups, y: Tensor) -> Tensor:
    """Hard ŷ of continuous latents ``y`` (B, C, h, w): each value on its grid, as the decoder finds it."""
    return drive(groups, lambda group: torch.round((group.of(y) - group.means) / group.step))


def without_means(networks: Networks, parameters: Tensor, step: float = 1.0) -> Groups:
    """Ballé et al., arXiv 1802.01436: all at once, and h_s gives the scales alone."""
    group = Group(_EVERYWHERE, torch.zeros_like(parameters), parameters / step, step)
    symbols = yield group
    return symbols * step


def at_once(networks: Networks, parameters: Tensor, step: float = 1.0) -> Groups:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, without context: all at once, from scales and means."""
    scales, means = parameters.chunk(2, 1)
    symbols = yield Group(_EVERYWHERE, means, scales / step, step)
    return symbols * step + means


class Neighbours(nn.Module):
    """A masked convolution of stride 1, computed at some positions alone.

    Attributes:
        reach: how far its mask goes to each side.
        channels: of its input.
    """

    taps: Tensor  # (taps, 2): rows and columns within the mask

    def __init__(self, convolution: MaskedConv2d):
        super().__init__()
        self.reach, self.channels = convolution.kernel_size[0] // 2, convolution.in_channels
        self.register_buffer("taps", convolution.mask.amax((0, 1)).nonzero())
        masked = (convolution.weight * convolution.mask).detach()
        weight = masked[:, :, self.taps[:, 0], self.taps[:, 1]].flatten(1)  # (out, channels · taps)
        self.sum = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.sum.weight = nn.Parameter(weight, requires_grad=False)
        self.sum.bias = convolution.bias

    def forward(self, padded: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """(B, out, positions) at rows ``i`` and columns ``j`` of the input, of which ``padded`` has ``reach``
        more on each side."""
        before = padded[:, :, i[:, None] + self.taps[:, 0], j[:, None] + self.taps[:, 1]]
        return self.sum(before.transpose(1, 2).flatten(2)).transpose(1, 2)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A group is so small that threads would wait for each other, ten times as long on a busy computer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def autoregressive_networks(model: Any) -> dict[str, nn.Module]:
    """What `wavefronts` needs of a model."""
    return {"neighbours": Neighbours(model.context_prediction), "parameters": model.entropy_parameters}


def wavefronts(networks: Networks, parameters: Tensor, step: float = 1.0) -> Groups:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, with context: each position from those before it.

    A causal k × k mask reaches ⌊k/2⌋ columns to the right in the rows above, so that all positions with the
    same column + (⌊k/2⌋ + 1) · row are independent of each other and form a group.
    """
    neighbours = networks["neighbours"]
    assert isinstance(neighbours, Neighbours)
    reach = neighbours.reach
    batch, _, height, width = parameters.shape
    padded = parameters.new_zeros(batch, neighbours.channels, height + 2 * reach, width + 2 * reach)
    rows = torch.arange(height, device=parameters.device)
    for front in range(width + (reach + 1) * (height - 1)):
        columns = front - (reach + 1) * rows
        inside = (columns >= 0) & (columns < width)
        i, j = rows[inside], columns[inside]
        with _one_thread():
            both = torch.cat([parameters[:, :, i, j], neighbours(padded, i, j)], 1)
            scales, means = networks["parameters"](both[..., None])[..., 0].chunk(2, 1)
        symbols = yield Group((slice(None), i, j), means, scales / step, step)
        padded[:, :, i + reach, j + reach] = symbols * step + means
    return padded[:, :, reach:-reach, reach:-reach]
