"""The loss that refinement minimises: a function of latents, a temperature and random numbers drawn before.

It consists of tensor operations alone, none of which looks at a value, so that PyTorch can also make a
program of it: `torch.compile` merges its element-wise passes into few and, on CUDA, is asked to record the
kernels of a step and its backward pass as graphs, to be launched as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import metrics
from ..codecs.choice import Choice
from ..codecs.codec import Codec
from ..codecs.models import Latents
from ..distortion import MSE, Distortion
from ..errors import UserError, first_line
from ..rounding import Method

# Programs are specific to shapes, methods and codecs; PyTorch's own limit of 8 is meant to find mistakes.
_MOST_PROGRAMS = 1000


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What relaxed latents decode to.

    Attributes:
        x_hat: reconstruction (B, 3, H, W) of the original pixels.
        y_hat: the relaxed latents y (B, C, h, w), or the means of choices.
        choice: these choices; None of other latents.
        bits: of each image, (B,).
    """

    x_hat: Tensor
    y_hat: Tensor
    choice: Choice | None
    bits: Tensor


def crop(x_hat: Tensor, size: Sequence[int]) -> Tensor:
    """The original pixels, ``size`` high and wide, of a padded reconstruction."""
    return x_hat[..., : size[0], : size[1]]


def relax(
    codec: Codec,
    method: Method,
    latents: Latents,
    tau: float | Tensor,
    noise: Mapping[str, Tensor | None],
    size: Sequence[int],
) -> Relaxed:
    """Decode the latents as ``method`` relaxes them.

    Args:
        noise: for each latent what its method (`Method.of`) drew, stacked over images.
        size: height and width of the images in pixels.
    """
    choices: dict[str, Choice] = {}

    def quantise(v: Tensor, name: str) -> Tensor | Choice:
        value = method.quantise(v, name, tau, noise[name])
        if isinstance(value, Choice):
            choices[name] = value
        return value

    decoded = codec.decode(latents, quantise)
    return Relaxed(crop(decoded.x_hat, size), decoded.latents["y"], choices.get("y"), decoded.all_bits)


def loss(
    relaxed: Relaxed,
    x: Tensor,
    lmbda: float | Tensor,
    curvature: Tensor | None = None,
    weight: float | Tensor = 1.0,
    distortion: Distortion = MSE,
) -> Tensor:
    """L(λ) = λ · scale · D + bpp of each image, (B,): with the MSE, λ·255²·MSE + bpp.

    Args:
        x: the images (B, 3, H, W).
        curvature: of the distortion, see `Curvature`, of the shape of ``relaxed.y_hat``; needed where these
            are choices.
        weight: of the variances in the distortion, see `Method.weight`.
    """
    total = distortion.total(relaxed.x_hat, x)
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
    curvature: Tensor | None,
    distortion: Distortion,
) -> Tensor:
    relaxed = relax(codec, method, latents, tau, noise, x.shape[-2:])
    return loss(relaxed, x, lmbda, curvature, method.weight(tau), distortion)


@functools.cache
def _program(device_type: str) -> Callable[..., Tensor]:
    # On CUDA this mode asks for graphs.
    mode = "reduce-overhead" if device_type == "cuda" else "default"
    return torch.compile(_whole, fullgraph=True, dynamic=False, mode=mode)


def compiled_loss(
    codec: Codec,
    method: Method,
    latents: Latents,
    tau: float,
    noise: Mapping[str, Tensor | None],
    x: Tensor,
    lmbda: float,
    curvature: Tensor | None = None,
    distortion: Distortion = MSE,
) -> Tensor:
    """`loss` of `relax` as one compiled program; what it takes of each.

    Made at the first call for images of a shape, which takes tens of seconds, or seconds where PyTorch's
    cache on disk has it.

    Raises:
        UserError: PyTorch cannot compile it here, for want of a C++ compiler above all.
    """
    # Not at the top: importing these takes as long as importing torch.
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    codec.prepare()
    # As tensors, so that another value needs no other program.
    numbers = [torch.full((), value, device=x.device) for value in (tau, lmbda)]
    limits = {"recompile_limit": _MOST_PROGRAMS, "accumulated_recompile_limit": _MOST_PROGRAMS}
    with torch.compiler.config.patch(limits):  # type: ignore[attr-defined]  # PyTorch adds it at run time
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return _program(x.device.type)(
                codec, method, latents, numbers[0], noise, x, numbers[1], curvature, distortion
            )
        except (TorchDynamoException, InductorError) as error:
            reason = first_line(error)
            remedy = "install a C++ compiler, such as g++, or " if "InvalidCxxCompiler" in reason else ""
            raise UserError(
                f"the step cannot be compiled here ({reason}): {remedy}go without compiling"
            ) from error
