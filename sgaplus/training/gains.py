"""One network for every λ: log gains that are trained with it, and fold away (`codecs.gains`).

A base codec for another λ differs mostly in how finely it quantises each channel. A *family* is therefore
trained as one network, in which every step serves all λ, where separate codecs would share nothing. What is
trained is exactly what is published.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..codecs import gains


class Gains(nn.Module):
    """Log gains of each λ of a family of mean-scale hyperpriors.

    Args:
        lmbdas: the family's λ.
        reference: the λ whose gains are 1 at first. The others start at √(λ/reference): at high rates the
            distortion is that of a uniform quantiser, and the step that minimises L(λ) goes with λ^(-1/2).
        N, M: channels of z and of y.
    """

    def __init__(self, lmbdas: Sequence[float], reference: float, N: int, M: int):
        super().__init__()
        level = torch.tensor([0.5 * math.log(lmbda / reference) for lmbda in lmbdas])[:, None]
        self.y = nn.Parameter(level.repeat(1, M))
        self.synthesis = nn.Parameter(level.repeat(1, M))
        self.z = nn.Parameter(torch.zeros(len(lmbdas), N))

    def fold(self, model: nn.Module, index: int) -> dict[str, Tensor]:
        """The parameters of ``model`` for λ number ``index``, by name; differentiable in both.

        Those that no gain touches are the model's own.
        """
        y, synthesis, z = (gain[index].exp() for gain in (self.y, self.synthesis, self.z))
        return gains.fold(dict(model.named_parameters()), y, synthesis, z)

    @torch.no_grad()
    def start_from(self, network: Mapping[str, Tensor], lmbdas: Sequence[float]) -> None:
        """Take over the log gains that a network file has for ``lmbdas``."""
        for index, lmbda in enumerate(lmbdas):
            for name, values in gains.log_gains_at(network, lmbda).items():
                getattr(self, name.removeprefix(gains.PREFIX))[index] = values

    def published(self, lmbdas: Sequence[float]) -> dict[str, Tensor]:
        """The tensors of a network file, by rising λ."""
        order = sorted(range(len(lmbdas)), key=lambda index: lmbdas[index])
        found = {
            gains.PREFIX + name: value.detach().float().cpu()[order].contiguous()
            for name, value in self.named_parameters()
        }
        return found | {gains.LMBDA: torch.tensor(sorted(lmbdas), dtype=torch.float64)}
