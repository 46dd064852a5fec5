"""What a step of refinement takes with a codec: its synthesis network, in numbers."""

import functools
from dataclasses import dataclass

import torch
from compressai.models import CompressionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import checkpoints
from .models import latent_channels


@dataclass(frozen=True)
class Effort:
    """What a step of refinement takes: time in proportion to ``work``, memory in proportion to ``width``.

    Attributes:
        work: multiplications per pixel of the synthesis network, in one pass.
        width: channels of the transforms, N.
    """

    work: float
    width: int


@functools.cache
def of_architecture(architecture: str, N: int, M: int) -> Effort:
    """Of an architecture by CompressAI's name."""
    return of_model(checkpoints.build(architecture, N, M))


def of_model(model: CompressionModel) -> Effort:
    """Of a model, counted in a pass through its synthesis network."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        picture = model.g_s(torch.zeros(1, latent_channels(model), 4, 4))
    width = next(layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return Effort(counter.get_total_flops() / 2 / (picture.shape[-1] * picture.shape[-2]), width)
