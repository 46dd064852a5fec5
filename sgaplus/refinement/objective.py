"""The loss that refinement minimises: a function of latents, a temperature and random numbers drawn before.

It consists of tensor operations alone, none of which looks at a value, so that PyTorch can also make a
program of it: `torch.compile` merges its element-wise passes into few and, on CUDA, is asked to record the
kernels of a step and its backward pass as graphs, to be launched as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..codecs.choice import Choice
from ..codecs.codec import Codec
from ..codecs.models import Decoded, Latents, Quantiser
from ..distortion import MSE, Distortion
from ..errors import UserError, first_line
from ..rounding import Method

# Programs are specific to shapes, methods and codecs; PyTorch's own limit of 8 is meant to find mistakes.
_MOST_PROGRAMS = 1000


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What relaxed latents decode to.

    Attributes:
        x_hat: reconstruction (B, 3, H, W) of the padded image; of latents that are only priced, none.
        y_hat: the relaxed latents y (B, C, h, w), or the means of choices.
        choice: these choices; None of other latents.
        bits: of each image, (B,).
    """

    x_hat: Tensor
    y_hat: Tensor
    choice: Choice | None
    bits: Tensor


@dataclass(frozen=True, eq=False)
class Tangent:
    """A distortion of latents ŷ near a point ŷ₀ to second order: v + ⟨g, δ⟩ + ⟨δ, √κ R √κ δ⟩ with δ = ŷ − ŷ₀.

    It stands for the synthesis and its backward pass where latents have moved little. κ is the Gauss-Newton
    diagonal, and R has the channels' correlations, of which `Curvature` tells; positions count as
    independent.

    Attributes:
        at: ŷ₀, (B, C, h, w).
        value: v, the distortion times the samples of an image, (B,).
        slope: g, of the shape of ``at``.
        root: √κ, of that shape.
        coupling: R, (B, C, C).
    """

    at: Tensor
    value: Tensor
    slope: Tensor
    root: Tensor
    coupling: Tensor

    @classmethod
    def of(
        cls, total: Tensor, y_hat: Tensor, curvature: Tensor, coupling: Tensor, keep: bool = False
    ) -> Tangent:
        """At ``y_hat``, from which the distortions ``total`` (B,) were computed.

        Args:
            keep: their graph; with a variable rate the bits have parts of it too.
        """
        (slope,) = torch.autograd.grad(total.sum(), y_hat, retain_graph=keep)
        return cls(y_hat.detach(), total.detach(), slope, curvature.sqrt(), coupling)

    def __call__(self, y_hat: Tensor) -> Tensor:
        """(B,)."""
        return self.value + _Bent.apply(y_hat, self.at, self.slope, self.root, self.coupling)


class _Bent(torch.autograd.Function):
    """⟨g, δ⟩ + ⟨δ, Kδ⟩ of each image, where K = √κ R √κ is symmetric: its gradient is g + 2 Kδ."""

    @staticmethod
    def forward(ctx, y_hat: Tensor, at: Tensor, slope: Tensor, root: Tensor, coupling: Tensor) -> Tensor:
        delta = y_hat - at
        bend = torch.einsum("bcd,bdhw->bchw", coupling, root * delta).mul_(root)
        slope = slope + bend
        ctx.save_for_backward(slope + bend)
        return delta.mul_(slope).sum((1, 2, 3))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * grad[:, None, None, None], None, None, None, None


def crop(x_hat: Tensor, size: Sequence[int]) -> Tensor:
    """The original pixels, ``size`` high and wide, of a padded reconstruction."""
    return x_hat[..., : size[0], : size[1]]


def relax(
    decode: Callable[[Latents, Quantiser], Decoded],
    method: Method,
    latents: Latents,
    tau: float | Tensor,
    noise: Mapping[str, Tensor | None],
) -> Relaxed:
    """Decode the latents as ``method`` relaxes them.

    Args:
        decode: a codec's `decode` or `price`.
        noise: for each latent what its method (`Method.of`) drew, stacked over images.
    """
    choices: dict[str, Choice] = {}

    def quantise(v: Tensor, name: str) -> Tensor | Choice:
        value = method.quantise(v, name, tau, noise[name])
        if isinstance(value, Choice):
            choices[name] = value
        return value

    decoded = decode(latents, quantise)
    return Relaxed(decoded.x_hat, decoded.latents["y"], choices.get("y"), decoded.all_bits)


def loss(
    total: Tensor,
    relaxed: Relaxed,
    x: Tensor,
    lmbda: float | Tensor,
    curvature: Tensor | None = None,
    weight: float | Tensor = 1.0,
    distortion: Distortion = MSE,
) -> Tensor:
    """L(λ) = λ · scale · D + bpp of each image, (B,): with the MSE, λ·255²·MSE + bpp.

    Args:
        total: D times the samples of an image, (B,), see `Distortion.total`.
        x: the images (B, 3, H, W).
        curvature: of the distortion, see `Curvature`, of the shape of ``relaxed.y_hat``; needed where these
            are choices.
        weight: of the variances in the distortion, see `Method.weight`.
    """
    if relaxed.choice is not None:
        assert curvature is not None
        total = total + weight * (curvature * relaxed.choice.variance).sum((1, 2, 3))
    height, width = x.shape[-2:]
    bpp = relaxed.bits / (height * width)
    return metrics.rd_loss(lmbda, total / x[0].numel(), bpp, distortion.scale)


def _whole(
    codec: Codec,
    method: Method,
    latents: Latents,
    tau: Tensor,
    noise: Mapping[str, Tensor | None],
    x: Tensor,
    lmbda: Tensor,
    distortion: Distortion,
) -> Tensor:
    relaxed = relax(codec.decode, method, latents, tau, noise)
    total = distortion.total(crop(relaxed.x_hat, x.shape[-2:]), x)
    return loss(total, relaxed, x, lmbda, distortion=distortion)


def _total(codec: Codec, y_hat: Tensor, x: Tensor, distortion: Distortion) -> Tensor:
    return distortion.total(crop(codec.synthesise(y_hat), x.shape[-2:]), x)


def inner_loss(
    codec: Codec,
    method: Method,
    latents: Latents,
    tau: float | Tensor,
    noise: Mapping[str, Tensor | None],
    x: Tensor,
    lmbda: float | Tensor,
    curvature: Tensor,
    distortion: Distortion,
    tangent: Tangent,
) -> Tensor:
    """`loss` of each image, (B,), with ``tangent`` in place of a synthesis."""
    priced = relax(codec.price, method, latents, tau, noise)
    return loss(tangent(priced.y_hat), priced, x, lmbda, curvature, method.weight(tau), distortion)


@functools.cache
def _program(function: Callable[..., Tensor], device_type: str) -> Callable[..., Tensor]:
    # On CUDA this mode asks for graphs.
    mode = "reduce-overhead" if device_type == "cuda" else "default"
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def _compiled(function: Callable[..., Tensor], codec: Codec, *arguments: Any) -> Tensor:
    """``function(codec, *arguments)`` as one compiled program.

    Made at the first call for images of a shape, which takes tens of seconds, or seconds where PyTorch's
    cache on disk has it.
    """
    # Not at the top: importing these takes as long as importing torch.
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    codec.prepare()
    # As tensors, so that another value needs no other program.
    tensors = [torch.full((), a, device=codec.device) if isinstance(a, float) else a for a in arguments]
    limits = {"recompile_limit": _MOST_PROGRAMS, "accumulated_recompile_limit": _MOST_PROGRAMS}
    with torch.compiler.config.patch(limits):  # type: ignore[attr-defined]  # PyTorch adds it at run time
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return _program(function, codec.device.type)(codec, *tensors)
        except (TorchDynamoException, InductorError) as error:
            reason = first_line(error)
            remedy = "install a C++ compiler, such as g++, or " if "InvalidCxxCompiler" in reason else ""
            raise UserError(f"steps cannot be compiled ({reason}): {remedy}go without compiling") from error


compiled_loss = functools.partial(_compiled, _whole)
compiled_inner_loss = functools.partial(_compiled, inner_loss)


def compiled_tangent(
    codec: Codec, y_hat: Tensor, x: Tensor, curvature: Tensor, coupling: Tensor, distortion: Distortion
) -> Tangent:
    """The distortion's tangent at ``y_hat``."""
    at = y_hat.detach().requires_grad_()
    found = Tangent.of(_compiled(_total, codec, at, x, distortion), at, curvature, coupling)
    # Graphs on CUDA write each result where the last one was.
    return replace(found, value=found.value.clone(), slope=found.slope.clone())
