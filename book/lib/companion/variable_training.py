"""How ``data/checkpoints/mshyper-s-vbr.safetensors`` was trained: ``python -m companion.variable_training``.

A mean-scale hyperprior of variable rate (`sgaplus.codecs.families.vbr`) starts from the bundled codec of
λ = 0.01. Its gains are fixed at √(λ/0.01), for at high rates the step that minimises L(λ) goes with λ^(-1/2);
its reconstruction points have no offsets. Each step takes two of the eight λ, whose losses are weighted with
λ^(-1/2), and four crops of 256 × 256 for each; the learning rate falls to zero over the last part of the time
that is given. The weights are averages over the last hundred steps or so.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from compressai.models import MeanScaleHyperpriorVbr
from pytorch_optimizer import SOAP
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgaplus import metrics
from sgaplus.codecs import bundled, gains
from sgaplus.codecs.codec import Codec
from sgaplus.codecs.families.vbr import Rate
from sgaplus.codecs.layers import replace_gdn
from sgaplus.distortion import LAMBDAS
from sgaplus.training.crops import generator_for, read_photographs, sample_crops
from sgaplus.training.publishing import publishable

REFERENCE, LR, WARMUP, COOLING = 0.01, 1e-3, 100, 0.6
# What is stored in float32, and what stays as it is.
WHOLE = ("Gain", "entropy_bottleneck")
_FIXED = ("Gain", "QuantABCD", "entropy_bottleneck.quantiles")


def gain(lmbda: float) -> float:
    """The scale s of the grid at a λ."""
    return math.sqrt(lmbda / REFERENCE)


def start(weights: dict[str, Tensor]) -> MeanScaleHyperpriorVbr:
    """The untrained model, from the state dict of a mean-scale hyperprior of λ = `REFERENCE`."""
    N, M = weights["g_a.0.weight"].shape[0], weights["g_a.6.weight"].shape[0]
    model = MeanScaleHyperpriorVbr(N, M)
    state = model.state_dict() | {name: value.float() for name, value in weights.items()}
    state["Gain"] = torch.tensor([gain(lmbda) for lmbda in LAMBDAS["mse"]])
    state |= {name: torch.zeros_like(state[name]) for name in ("QuantABCD.4.weight", "QuantABCD.4.bias")}
    model.load_state_dict(state)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(_FIXED))
    return replace_gdn(model).train().to(memory_format=torch.channels_last)


def train(
    model: MeanScaleHyperpriorVbr, photographs: Sequence[Tensor], seconds: float, dtype: torch.dtype, crop=256
) -> int:
    """Train for a time; the number of steps. ``photographs`` are uint8, (3, H, W)."""
    codec = Codec("mshyper-s-vbr", REFERENCE, model, "", dtype)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = SOAP(
        trained,
        lr=LR,
        betas=(0.95, 0.95),
        weight_decay=0.0,
        precondition_frequency=20,
        max_precondition_dim=256,
    )
    average = [value.detach().clone() for value in trained]
    begun, step = time.perf_counter(), 0
    while (part := (time.perf_counter() - begun) / seconds) < 1:
        generator = generator_for(1, step)
        optimizer.zero_grad(set_to_none=True)
        for index in torch.randperm(len(LAMBDAS["mse"]), generator=generator)[:2].tolist():
            lmbda = LAMBDAS["mse"][index]
            model.rate = Rate(lmbda, gain(lmbda), 1.0)
            loss = _loss(codec, sample_crops(photographs, crop, 4, generator), lmbda, generator)
            (loss * math.sqrt(REFERENCE / lmbda) / 2).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.param_groups[0]["lr"] = LR * min(1, (step + 1) / WARMUP) * min(1, (1 - part) / COOLING)
        optimizer.step()
        step += 1
        weight = 1 - min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average, trained, strict=True):
                mean.lerp_(value, weight)
    with torch.no_grad():
        for mean, value in zip(average, trained, strict=True):
            value.copy_(mean)
        model.entropy_bottleneck._update_quantiles()
    return step


def _loss(codec: Codec, x: Tensor, lmbda: float, generator: torch.Generator) -> Tensor:
    """The mean L(λ) of images (B, 3, H, W), with additive uniform noise for quantisation."""
    decoded = codec.decode(codec.analyse(x), lambda v, _: v + torch.rand(v.shape, generator=generator) - 0.5)
    mse = (decoded.x_hat - x).square().mean((1, 2, 3))
    return metrics.rd_loss(lmbda, mse, decoded.all_bits / x[0, 0].numel()).mean()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of training photographs")
    parser.add_argument("--minutes", type=float, default=75)
    arguments = parser.parse_args()
    card = next(card for card in bundled.cards() if (card.name, card.lmbda) == ("mshyper-s", REFERENCE))
    model = start(gains.at(load_file(card.path), REFERENCE))
    photographs = read_photographs(arguments.photographs, 256, holdout=16).training
    print(train(model, photographs, 60 * arguments.minutes, torch.bfloat16), "steps")
    save_file(publishable(model, WHOLE), arguments.out)


if __name__ == "__main__":
    main()
