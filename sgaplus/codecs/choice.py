"""A latent that will be one of two neighbouring integers, each with a probability."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Choice:
    """Independent choices between ``low`` and ``low`` + 1.

    Attributes:
        low: the lower values (B, C, h, w), distances from the origin of the codec's grid.
        p: probabilities of the upper ones, of the same shape.
    """

    low: Tensor
    p: Tensor

    @property
    def mean(self) -> Tensor:
        return self.low + self.p

    @property
    def variance(self) -> Tensor:
        return self.p * (1 - self.p)


# Functions and no operator of `Choice`: `torch.compile` takes a sum with a tensor for one of tensors.


def moved(value: Tensor | Choice, shift: Tensor) -> Tensor | Choice:
    """What a quantiser returned, its values moved by ``shift``."""
    return Choice(value.low + shift, value.p) if isinstance(value, Choice) else value + shift


def mean(value: Tensor | Choice) -> Tensor:
    """The expected value of what a quantiser returned."""
    return value.mean if isinstance(value, Choice) else value
