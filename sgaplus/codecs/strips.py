"""Large images in strips: what a network needs in memory then depends on the strip, not on the image.

An image of more than `hardware.LARGE_IMAGE` pixels is cut across its longer side. Each strip goes through the
network with a margin on either side, as wide as the network looks, and what comes of the margins is dropped:
the values are those of the whole image up to rounding. A gradient costs one more forward pass, in place of
keeping what that made.

Positions are those of y, the latents. One of them is `PIXELS` wide in all of CompressAI's models.
"""

import itertools
import weakref
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import hardware

# Of a strip with its margins, in all images of a batch together.
STRIP_PIXELS = 2**20
PIXELS = 16
# The networks that run in strips: how wide a position is in what they take, and in what they give.
NETWORKS = {"g_a": (PIXELS, 1), "g_s": (1, PIXELS)}
# The image in which a margin is looked for, in positions.
_PROBE = 64, 4


Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Strip:
    """A part of an image along one of its sides.

    Attributes:
        dim: the side's dimension, 2 or 3.
        begin, end: positions of the strip.
        first, last: those of the strip with its margins.
    """

    dim: int
    begin: int
    end: int
    first: int
    last: int

    def wide(self, x: Tensor, step: int = 1) -> Tensor:
        """The strip of ``x`` with its margins; a position is ``step`` wide."""
        return x.narrow(self.dim, self.first * step, (self.last - self.first) * step)

    def own(self, x: Tensor, step: int = 1) -> Tensor:
        """The strip of ``x`` alone."""
        return x.narrow(self.dim, self.begin * step, (self.end - self.begin) * step)

    def trimmed(self, out: Tensor, step: int = 1) -> Tensor:
        """Without the margins what a network made of `wide`."""
        return out.narrow(self.dim, (self.begin - self.first) * step, (self.end - self.begin) * step)


def of(name: str, network: nn.Module, x: Tensor) -> list[Strip]:
    """The strips in which the network ``name`` runs on ``x`` (B, C, H, W); none where it takes all at once.

    That is so for small images, and for networks that look at all of an image.
    """
    if name not in NETWORKS:
        return []
    step, _ = NETWORKS[name]
    height, width = (side // step for side in x.shape[-2:])
    if height * width * PIXELS**2 <= hardware.LARGE_IMAGE:
        return []
    if network not in _margins:
        _margins[network] = _margin(name, network, x.shape[1])
    margin = _margins[network]
    if margin is None:
        return []
    dim, length, across = (2, height, width) if height >= width else (3, width, height)
    room = STRIP_PIXELS // (len(x) * across * PIXELS**2) - 2 * margin
    return cut(dim, length, max(room, 2 * margin, 1), margin)


def cut(dim: int, length: int, most: int, margin: int) -> list[Strip]:
    """Strips of at most ``most`` positions, about equally long, of a side of ``length``."""
    count = -(-length // most)
    edges = [round(i * length / count) for i in range(count + 1)]
    return [
        Strip(dim, begin, end, max(0, begin - margin), min(length, end + margin))
        for begin, end in itertools.pairwise(edges)
    ]


def join(
    strips: Sequence[Strip], network: Network, x: Tensor, steps: tuple[int, int], layout: torch.memory_format
) -> Tensor:
    """What ``network`` makes of ``x`` in these strips; ``steps``: how wide a position is before and then."""
    (step, step_out), joined = steps, torch.empty(0)
    for strip in strips:
        part = strip.trimmed(network(strip.wide(x, step)), step_out)
        if not joined.numel():
            sides = list(part.shape)
            sides[strip.dim] = x.shape[strip.dim] // step * step_out
            joined = torch.empty(sides, dtype=part.dtype, device=part.device, memory_format=layout)
        strip.own(joined, step_out).copy_(part)
    return joined


def run(name: str, strips: Sequence[Strip], network: Network, x: Tensor) -> Tensor:
    """As `join`, for a network of this name and with gradients."""
    return _InStrips.apply(x, name, strips, network)


class _InStrips(torch.autograd.Function):
    """No strip's graph is kept: the backward pass computes each strip once more."""

    @staticmethod
    def forward(ctx, x: Tensor, name: str, strips: Sequence[Strip], network: Network) -> Tensor:
        ctx.save_for_backward(x)
        ctx.how = name, strips, network
        joined = join(strips, network, x, NETWORKS[name], torch.channels_last)
        hardware.release_freed_memory()
        return joined

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (name, strips, network) = ctx.saved_tensors, ctx.how
        step, step_out = NETWORKS[name]
        total = torch.zeros_like(x)
        for strip in strips:
            part = strip.wide(x, step).detach().clone().requires_grad_()
            with torch.enable_grad():
                out = strip.trimmed(network(part), step_out)
            (own,) = torch.autograd.grad(out, part, strip.own(grad, step_out))
            strip.wide(total, step).add_(own)
        del part, out, own
        hardware.release_freed_memory()
        return total, None, None, None


# Of networks that are in use; of others nothing is kept.
_margins: MutableMapping[nn.Module, int | None] = weakref.WeakKeyDictionary()


def _margin(name: str, network: nn.Module, channels: int) -> int | None:
    """How many positions beyond a strip's own reach into it; None where it is all of a large image.

    Found by the gradient of a row in the middle of a small one.
    """
    step, step_out = NETWORKS[name]
    length, width = _PROBE
    weight = next(network.parameters())
    generator = torch.Generator(weight.device).manual_seed(0)

    def noise(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, device=weight.device)
        return drawn.to(weight.dtype)

    x = noise(1, channels, length * step, width * step).requires_grad_()
    with torch.enable_grad():
        out = network(x)
        if out.shape[-2] != length * step_out:
            return None
        middle = out.narrow(2, length // 2 * step_out, step_out)
        (gradient,) = torch.autograd.grad(middle, x, noise(*middle.shape))
    rows = gradient.abs().sum((0, 1, 3)).reshape(length, step).sum(1)
    touched = rows.nonzero().flatten().tolist()
    margin = max(length // 2 - touched[0], touched[-1] - length // 2)
    return margin if margin < length // 2 - 1 else None
