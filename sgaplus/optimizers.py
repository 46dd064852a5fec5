"""The optimisers of refinement, by name.

Every one of them goes its own way for each image of a batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class ChannelSOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of the channels' gradients.

    SOAP (Vyas et al., arXiv 2409.11321, algorithm 3) runs Adam in the basis in which Shampoo's preconditioner
    is diagonal. Here a parameter is the latents of a batch, (B, C, h, w): an image's gradient is a matrix of
    C channels by h·w positions, only its channels are rotated, and each image has a basis of its own. The
    rotation takes care of what the synthesis network couples: channels whose gradients vary together.

    A step along each eigenvector is ``lr`` long. ``basis_beta`` is the decay of the channels' second moments
    G·Gᵀ, and ``every`` counts the steps between two computations of the basis; the first four have one each.
    """

    def __init__(self, params: Sequence[Tensor], lr: float):
        settings = {"betas": (0.8, 0.98), "basis_beta": 0.95, "every": 10, "eps": 1e-8}
        super().__init__(params, {"lr": lr, **settings})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    # positions by channels, as latents lie in memory
                    step = self._direction(p.grad.flatten(2).mT, self.state[p], group)
                    p.sub_(step.mT.unflatten(2, p.shape[2:]), alpha=group["lr"])

    def _direction(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        second = gradient.mT @ gradient
        if not state:
            state |= {"t": 0, "m": torch.zeros_like(gradient), "v": torch.zeros_like(gradient)}
            state |= {"second": second, "basis": _eigenvectors(second)}
        else:
            state["second"].lerp_(second, 1 - group["basis_beta"])
            if state["t"] < 4 or state["t"] % group["every"] == 0:
                basis = _eigenvectors(state["second"])
                turn = state["basis"].mT @ basis
                # Variances along the new axes, those along the old ones taken for uncorrelated.
                state |= {"m": state["m"] @ turn, "v": state["v"] @ turn.square(), "basis": basis}
        state["t"] += 1
        (beta1, beta2), t = group["betas"], state["t"]
        turned = gradient @ state["basis"]
        state["m"].lerp_(turned, 1 - beta1)
        state["v"].lerp_(turned.square_(), 1 - beta2)
        spread = (state["v"] / (1 - beta2**t)).sqrt_().add_(group["eps"])
        return (state["m"] / spread.mul_(1 - beta1**t)) @ state["basis"].mT


def _eigenvectors(second: Tensor) -> Tensor:
    """Eigenvectors, as columns, of symmetric matrices (B, C, C), in float64.

    A small multiple of diag(1, …, 2) tells equal eigenvalues apart, of channels without gradients above all:
    LAPACK does not always converge otherwise.
    """
    matrices = second.double()
    channels = matrices.shape[-1]
    scale = matrices.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
    ramp = torch.linspace(1, 2, channels, dtype=matrices.dtype, device=matrices.device)
    return torch.linalg.eigh(matrices / scale[:, None, None] + 1e-4 * ramp.diag())[1].to(second.dtype)


# Every optimiser by its name, a function of the parameters and the first learning rate.
OPTIMIZERS: dict[str, Callable[[Sequence[Tensor], float], torch.optim.Optimizer]] = {
    "adam": functools.partial(torch.optim.Adam, fused=True),
    "soap": ChannelSOAP,
}
