"""The plain refinement loop: the baseline of every speed figure, and an independent check of the fast one.

Written the way public implementations of SGA work (Yang, Bamler and Mandt, arXiv 2006.04240, and those that
build on it): float32, one image at a time, weights that still require gradients, CompressAI's own layers, two
Gumbel variables per latent, and a full extra forward pass for the true loss at every step. Only the grid is
this project's: latents are annealed around μ and the median. Nothing here is slowed down on purpose, and
nothing is to be made faster: a figure of speed says how far `refinement.refine` is from this.
"""

import math

import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from ..codecs.codec import Codec
from ..errors import UserError
from ..refinement import Progress
from ..rounding import SSL

# The one method that the plain loop knows, with its published schedules.
METHOD = SSL(2.3)


def _ssl_sample(v: Tensor, a: float, tau: float) -> Tensor:
    """A relaxed sample of ⌊v⌋ or ⌈v⌉ with log-probabilities of SSL(a); the temperature enters twice."""
    floor = torch.floor(v)
    x = torch.clamp(v - floor, 1e-5, 1 - 1e-5)
    log_p = torch.stack(
        [torch.log(torch.sigmoid(-a * torch.logit(x))), torch.log(torch.sigmoid(-a * torch.logit(1 - x)))], -1
    )
    gumbel = -torch.log(-torch.log(torch.rand_like(log_p).clamp(1e-9, 1 - 1e-7)))
    weights = torch.softmax((log_p / tau + gumbel) / tau, -1)
    return weights[..., 0] * floor + weights[..., 1] * (floor + 1)


def _forward(model: MeanScaleHyperprior, y: Tensor, z: Tensor, quantise) -> tuple[Tensor, Tensor]:
    """x̂ (1, 3, H, W) and the bits of the image."""
    medians = model.entropy_bottleneck._get_medians().reshape(1, -1, 1, 1)
    z_hat = quantise(z - medians) + medians
    scales, means = model.h_s(z_hat).chunk(2, 1)
    y_hat = quantise(y - means) + means
    values = z_hat.permute(1, 0, 2, 3).reshape(z_hat.shape[1], 1, -1)
    p_z = model.entropy_bottleneck._likelihood(values)[0].clamp_min(1e-9)
    p_y = model.gaussian_conditional._likelihood(y_hat, scales, means).clamp_min(1e-9)
    return model.g_s(y_hat), -torch.log2(p_z).sum() - torch.log2(p_y).sum()


def plain_model(codec: Codec) -> MeanScaleHyperprior:
    """The codec's model as CompressAI makes it: its own layers, weights that require gradients."""
    if type(codec.model) is not MeanScaleHyperprior:
        raise UserError(f"the plain loop knows mean-scale hyperpriors alone: {codec.name} is none")
    with torch.random.fork_rng(devices=[]):  # its own weights are random at first
        model = MeanScaleHyperprior(codec.model.N, codec.model.M).eval()
    model.load_state_dict(codec.model.state_dict())
    return model.to(codec.device)


def reference_refine(
    model: MeanScaleHyperprior,
    x: Tensor,
    lmbda: float,
    iterations: int,
    a: float = 2.3,
    lr: float = 5e-3,
    progress: Progress | None = None,
) -> tuple[list[float], list[float]]:
    """Refine one image with SSL(a) and Adam at ``lr``, τ(t) = min(1, exp(−t/1000)).

    Args:
        model: as CompressAI makes it, weights requiring gradients.
        x: image (1, 3, H, W) in [0, 1], sides multiples of 64.
        progress: called with (steps done, steps in all) after every step and its true loss.

    Returns:
        The method's loss and the true loss at every step.
    """
    pixels = x.shape[-2] * x.shape[-1]

    def loss_of(quantise) -> Tensor:
        x_hat, bits = _forward(model, y, z, quantise)
        return lmbda * 255**2 * (x_hat - x).square().mean() + bits / pixels

    with torch.no_grad():
        y = model.g_a(x)
        z = model.h_a(y)
    y.requires_grad_()
    z.requires_grad_()
    optimizer = torch.optim.Adam([y, z], lr=lr)
    method_losses, true_losses = [], []
    for t in range(iterations):
        tau = min(1.0, math.exp(-t / 1000))
        optimizer.zero_grad()
        model.zero_grad()
        loss = loss_of(lambda v: _ssl_sample(v, a, tau))  # noqa: B023
        loss.backward()
        optimizer.step()
        method_losses.append(loss.item())
        with torch.no_grad():
            true_losses.append(loss_of(torch.round).item())
        if progress:
            progress(t + 1, iterations)
    return method_losses, true_losses
