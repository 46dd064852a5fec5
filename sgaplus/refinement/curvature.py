"""How much the distortion bends along each latent: what its rounding noise costs, to second order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Steps between two probes, the share of the estimate that a probe replaces, the window of its average.
_EVERY = 10
_SHARE = 0.5
_WINDOW = 5


def signs(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Independent signs ±1 of the shape of ``like`` (B, …), each image's from its own generator."""
    drawn = [torch.randint(0, 2, like.shape[1:], generator=g, device=like.device) for g in generators]
    return torch.stack(drawn).to(like.dtype).mul_(2).sub_(1)


@dataclass(eq=False)
class Curvature:
    """A running estimate of Σₚ (∂x̂ₚ/∂ŷᵢ)², the Gauss-Newton diagonal of ½‖x − x̂(ŷ)‖².

    One product of the Jacobian with random signs r has, squared, that expectation: E (Jᵀr)ᵢ² = Σₚ Jₚᵢ²
    (Martens, Sutskever and Swersky, arXiv 1206.6464). It costs one backward pass. As the synthesis is a
    convolution the diagonal varies slowly over positions, and a mean over neighbours does for a mean over
    many probes.
    """

    steps: int = 0
    value: Tensor | None = None

    @property
    def due(self) -> bool:
        """Whether this step takes a probe."""
        return self.steps % _EVERY == 0

    def held(self) -> Tensor:
        """The estimate that this step has without a probe."""
        assert self.value is not None, "the first step takes a probe"
        self.steps += 1
        return self.value

    def __call__(self, x_hat: Tensor, y_hat: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The estimate for this step, of the shape of ``y_hat`` (B, C, h, w).

        Args:
            x_hat: (B, 3, H, W), computed from ``y_hat``; its graph stays for the loss's own backward pass.
            generators: one for each image.
        """
        if self.due:
            probe = (x_hat * signs(x_hat, generators)).sum()
            (product,) = torch.autograd.grad(probe, y_hat, retain_graph=True)
            fresh = F.avg_pool2d(product.square(), _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
            last = torch.zeros_like(fresh) if self.value is None else self.value
            fresh = torch.where(fresh.isfinite(), fresh, last)  # an overflow in bfloat16 must not stay
            self.value = fresh if self.value is None else torch.lerp(last, fresh, _SHARE)
        return self.held()
