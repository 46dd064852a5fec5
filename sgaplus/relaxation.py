"""What a rounding method is, and a choice between two integers; the methods themselves are in `rounding`.

Randomness comes from outside: `Method.draw` makes uniform numbers, `Method.relax` takes them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .codecs.choice import Choice
from .errors import UserError
from .parsing import Named, number

# Below this temperature a draw is hard for every purpose; 1/τ² and the gradients stay in float32's range.
TAU_FLOOR = 1e-4
# Arguments of f keep this distance from 0 and 1 (the authors' code).
_CLIP = 1e-5


def temperature(tau: float | Tensor) -> float | Tensor:
    """τ as it is used, not below `TAU_FLOOR`.

    Raises:
        UserError: a number that is not in (0, 1].
    """
    if isinstance(tau, Tensor):  # no check: it would wait for the device
        return tau.clamp_min(TAU_FLOOR)
    return max(number(tau, "the temperature", high=1.0), TAU_FLOOR)


class Method(Named):
    """A rounding method. By itself: a deterministic one, which ends at the nearest integer.

    Tensors v are floating point, of any shape. A temperature tau is a number in (0, 1] or a 0-dim tensor;
    below `TAU_FLOOR` it acts as `TAU_FLOOR`.
    """

    kind = "method"
    # Steps between two syntheses, for which a distortion's tangent stands; where there are some, `quantise`
    # gives choices for y.
    inner: int = 0

    @property
    def label(self) -> str:
        """For tables and legends."""
        raise NotImplementedError

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape of the uniform numbers that values of ``shape`` need; None for none."""
        return None

    def draw(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor | None:
        """Uniform numbers in [0, 1) for one call of `relax` on values of ``shape``, float32; None for none.

        The first axes are those of ``shape``, so the draws of several images can be stacked like the images.
        """
        wanted = self.noise_shape(tuple(shape))
        return None if wanted is None else torch.rand(wanted, generator=generator, device=device)

    def classes(self, v: Tensor) -> Tensor:
        """The integers between which the method chooses, (..., K)."""
        return torch.round(v).unsqueeze(-1)

    def log_probabilities(self, v: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        """Normalised log-probabilities of the classes, log softmax(f/τ), (..., K)."""
        return torch.zeros_like(v).unsqueeze(-1)

    def probabilities(self, v: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        """Probabilities of the classes, softmax(f/τ), (..., K)."""
        return self.log_probabilities(v, tau).exp()

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        """The value that stands for the rounded v while optimising; same shape, differentiable in v.

        Args:
            noise: what `draw` returned for the shape of v.

        Raises:
            UserError: the temperature is out of range, or the noise is not what the method needs.
        """
        raise NotImplementedError

    def of(self, name: str) -> Method:
        """The method whose `draw` makes the noise with which `quantise` stands for the latent ``name``."""
        return self

    def quantise(self, v: Tensor, name: str, tau: float | Tensor, noise: Tensor | None) -> Tensor | Choice:
        """What stands for a codec's latent while optimising, for `codecs.models`.

        Args:
            v: distance from the origin of the codec's grid.
            name: the latent, "y" or "z".
            noise: what `draw` of the latent's method (`of`) returned for the shape of ``v``.
        """
        return self.relax(v, tau, noise)

    def weight(self, tau: float | Tensor) -> float | Tensor:
        """How much the variances count in the distortion, of a method with choices."""
        return 1.0

    def _checked(self, noise: Tensor | None, v: Tensor) -> Tensor:
        wanted = self.noise_shape(tuple(v.shape))
        if noise is None or tuple(noise.shape) != wanted:
            got = "none" if noise is None else tuple(noise.shape)
            raise UserError(f"{self.name} needs noise of shape {wanted}, got {got}: make it with draw()")
        return noise


class TwoClass(Method):
    """A choice between ⌊v⌋ and ⌊v⌋ + 1 (at an integer too, so that nothing jumps there)."""

    clip: ClassVar[float] = _CLIP

    def log_odds(self, x: Tensor) -> Tensor:
        """d(x) = f(1 − x) − f(x), the log-odds of ceil against floor at τ = 1, for x in [clip, 1 − clip]."""
        raise NotImplementedError

    def log_kernel(self, u: Tensor) -> Tensor:
        """log f(u) of `ThreeClass` at n = 1, for a distance u from the class in [clip, 1 − clip]."""
        raise NotImplementedError

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.floor(v.detach())  # its gradient is zero everywhere
        # A clamp whose backward pass has no comparisons, which are slow on a CPU.
        return low, self.log_odds(F.hardtanh(v - low, self.clip, 1 - self.clip))

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        return shape

    def classes(self, v: Tensor) -> Tensor:
        low = torch.floor(v)
        return torch.stack([low, low + 1], -1)

    def log_probabilities(self, v: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        d = self._split(v)[1] / temperature(tau)
        return F.logsigmoid(torch.stack([-d, d], -1))

    def choice(self, v: Tensor, tau: float | Tensor = 1.0) -> Choice:
        """⌊v⌋ and the probability of ⌊v⌋ + 1, with the gradients of `probabilities`."""
        low, d = self._split(v)
        return Choice(low, torch.sigmoid(d / temperature(tau)))

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        logistic = torch.logit(self._checked(noise, v))  # ±∞ at u = 0 and 1: a hard choice without gradient
        tau = temperature(tau)
        low, d = self._split(v)
        return low + torch.sigmoid(d.div(tau * tau).add_(logistic.div_(tau)))
