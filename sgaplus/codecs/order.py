"""In which order a decoder finds the values of y, and from what.

A *decoding order* is a generator. It yields a `Group` of values that a decoder finds at once, is sent their
symbols (integers, as floating-point numbers of the shape of the group's means), and goes on with the next
group, whose means and scales may depend on all values before. A group's values are ``symbols + means``. In
the end it returns what the synthesis gets, (B, C, h, w): these values, unless the codec moves them.

    from sgaplus.codecs.order import drive, rounded
    decoding = family.decoding(model)
    y_hat = rounded(decoding.groups(decoding.networks, parameters), y)     # hard latents
    found = drive(decoding.groups(exact_networks, parameters), read_symbols)   # those of a file

Whoever drives it chooses the arithmetic: `networks` are a model's own modules, in float32 on any device,
and a file's coder replaces them by ones whose results are the same on every machine.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

from .bits import bound_of

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True, eq=False)
class Group:
    """Values of y that do not depend on each other.

    Attributes:
        where: index of the values into (C, h, w).
        means: the origins of their grids, (B, …) with the shape that ``where`` selects.
        scales: their σ, of the same shape, not bounded from below.
    """

    where: tuple[slice | Tensor, ...]
    means: Tensor
    scales: Tensor

    def of(self, y: Tensor) -> Tensor:
        """The group's part of ``y`` (B, C, h, w)."""
        return y[(slice(None), *self.where)]


Groups = Generator[Group, Tensor, Tensor]
Order = Callable[[Modules, Tensor], Groups]


@dataclass(frozen=True, eq=False)
class Decoding:
    """How the latents of a model with a hyperprior are decoded.

    Attributes:
        bottleneck: the entropy model of z.
        h_s: from ẑ to what ``groups`` begins with, (B, C, h, w).
        groups: the decoding order of y.
        networks: those that it runs.
        scale_bound: scales of y below it are raised to it.
        step, z_step: of the grids of y and z in the model's own units. Latents are in units of them.
    """

    bottleneck: Any
    h_s: nn.Module
    groups: Order
    networks: Modules
    scale_bound: float
    step: float = 1.0
    z_step: float = 1.0


@dataclass(frozen=True, eq=False)
class Found:
    """What driving a decoding order gives.

    Attributes:
        shown: what the synthesis gets, (B, C, h, w).
        groups: each with its symbols.
    """

    shown: Tensor
    groups: list[tuple[Group, Tensor]]

    def _joined(self, part: Callable[[Group, Tensor], Tensor]) -> Tensor:
        whole = torch.empty_like(self.shown)
        for group, symbols in self.groups:
            whole[slice(None), *group.where] = part(group, symbols)
        return whole

    @property
    def y_hat(self) -> Tensor:
        """The values on their grids, (B, C, h, w)."""
        return self._joined(lambda group, symbols: symbols + group.means)

    @property
    def means(self) -> Tensor:
        """Of the groups, (B, C, h, w)."""
        return self._joined(lambda group, _: group.means)

    @property
    def scales(self) -> Tensor:
        """Of the groups, (B, C, h, w)."""
        return self._joined(lambda group, _: group.scales)


def drive(groups: Groups, symbols: Callable[[Group], Tensor]) -> Found:
    """All values of y, where ``symbols`` gives those of each group."""
    found: list[tuple[Group, Tensor]] = []
    group = next(groups)
    while True:
        answer = symbols(group)
        found.append((group, answer))
        try:
            group = groups.send(answer)
        except StopIteration as end:
            return Found(end.value, found)


@torch.no_grad()
def rounded(groups: Groups, y: Tensor) -> Found:
    """Hard latents of continuous ones ``y`` (B, C, h, w): each on its grid, as the decoder finds it."""
    return drive(groups, lambda group: torch.round(group.of(y) - group.means))


_EVERYWHERE = (slice(None), slice(None), slice(None))


def without_means(networks: Modules, parameters: Tensor) -> Groups:
    """Ballé et al., arXiv 1802.01436: all at once, and h_s gives the scales alone."""
    return (yield Group(_EVERYWHERE, torch.zeros_like(parameters), parameters))


def at_once(networks: Modules, parameters: Tensor) -> Groups:
    """Minnen, Ballé and Toderici, arXiv 1809.02736, without context: all at once, from scales and means."""
    scales, means = parameters.chunk(2, 1)
    return (yield Group(_EVERYWHERE, means, scales)) + means


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


def wavefronts(networks: Modules, parameters: Tensor) -> Groups:
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
        symbols = yield Group((slice(None), i, j), means, scales)
        padded[:, :, i + reach, j + reach] = symbols + means
    return padded[:, :, reach:-reach, reach:-reach]


def decoding(
    model: Any, groups: Order, networks: Callable[[Any], Modules] = lambda model: {}, **steps: float
) -> Decoding:
    """That of a model with CompressAI's usual names."""
    bound = bound_of(model.gaussian_conditional.lower_bound_scale)
    return Decoding(model.entropy_bottleneck, model.h_s, groups, networks(model), bound, **steps)
