"""From a training run to a bundled codec: the parameters worth keeping, their card, and wider models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from . import metrics, runtime
from .codecs import Codec, freeze
from .training import Run
from .weights import Card, load_parameters, save_codec

# New channels start with this share of PyTorch's random weights.
_FAINT = 0.3


def publishable(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's parameters: float16, the small entropy model in float32; no buffers.

    Buffers hold constants below float16's range (the likelihood's bound of 1e-9) and tables that
    `update` recomputes: both belong to the class, not to the weights.
    """
    return {
        name: (value if name.startswith("entropy_bottleneck") else value.half()).detach().contiguous().cpu()
        for name, value in model.named_parameters()
    }


@torch.no_grad()
def widen(weights: dict[str, Tensor], N: int, M: int, seed: int = 0) -> dict[str, Tensor]:
    """Grow a trained mean-scale hyperprior to more latent channels, leaving the old ones as they are.

    Every old weight keeps its place; the new channels start small and random, those that lead from new
    hidden units to old outputs at zero, so that the old channels' entropy parameters do not change.

    Args:
        weights: parameters of a model with N transform channels and fewer than ``M`` latent channels.
        M: latent channels of the result.
    """
    torch.manual_seed(seed)
    grown = dict(MeanScaleHyperprior(N, M).named_parameters())
    for name, value in grown.items():
        old = weights[name]
        if name == "h_s.4.weight" or name == "h_s.4.bias":
            half, new_half, hidden = len(old) // 2, len(value) // 2, old.shape[-3] if old.ndim > 1 else 0
            value *= _FAINT
            for start, new_start in ((0, 0), (half, new_half)):
                block = value[new_start : new_start + half]
                if old.ndim > 1:
                    block[:, hidden:] = 0
                    block[:, :hidden] = old[start : start + half]
                else:
                    block[:] = old[start : start + half]
            if old.ndim == 1:
                value[half:new_half] = 1.0
        elif old.shape != value.shape:
            value *= _FAINT
            value[tuple(slice(side) for side in old.shape)] = old
    return {name: value.detach().contiguous() for name, value in grown.items()}


def publish(run: Run, folder: Path, note: str, kodak: Sequence[Tensor] = ()) -> Path:
    """Write the weights with their card into ``folder``; returns the weights' path.

    Args:
        note: the training data in words.
        kodak: the images (3, H, W) of the card's Kodak point, which is left out without them.
    """
    recipe = run.recipe
    run.codec.model.entropy_bottleneck._update_quantiles()
    weights = publishable(run.codec.model)
    training = {
        "data": note,
        "recipe": asdict(recipe),
        "optimizer": "SOAP",
        "seconds": round(run.seconds),
        "hardware": runtime.describe(run.codec.device),
        "torch": torch.__version__,
        "dtype": str(run.codec.dtype).removeprefix("torch."),
        "last": run.log[-1] if run.log else {},
    }
    model = MeanScaleHyperprior(recipe.N, recipe.M)
    load_parameters(model, weights)
    codec = Codec(recipe.name, recipe.lmbda, freeze(model), "").to(run.codec.device, "float32")
    card = Card(
        name=recipe.name,
        lmbda=recipe.lmbda,
        architecture="mbt2018-mean",
        N=recipe.N,
        M=recipe.M,
        sha256="",
        training=training,
        kodak=rd_point(codec, kodak) if kodak else {},
    )
    return save_codec(weights, card, folder)


@torch.no_grad()
def rd_point(codec: Codec, images: Sequence[Tensor]) -> dict[str, float]:
    """Means over images (3, H, W) of the unrefined codec's bpp, 8-bit PSNR (dB) and true loss (on floats)."""
    points = []
    for image in images:
        x = image[None].to(codec.device)
        decoded = codec.decode(codec.analyse(codec.pad(x)))
        x_hat = decoded.x_hat[..., : x.shape[-2], : x.shape[-1]]
        bpp = sum(bits.item() for bits in decoded.bits.values()) / x[0, 0].numel()
        mse = metrics.mse(x, x_hat).item()
        loss = codec.lmbda * 255**2 * mse + bpp
        points.append((bpp, metrics.psnr_8bit(x, x_hat).item(), loss))
    means = torch.tensor(points, dtype=torch.float64).mean(0).tolist()
    return {"images": len(points)} | dict(zip(("bpp", "psnr", "loss"), means, strict=True))
