"""From a training run to a bundled codec: the parameters worth keeping, and their card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from . import metrics, runtime
from .codecs import Codec, freeze
from .errors import SystemFault
from .training import Run
from .weights import Card, load_parameters, save_codec
from .widening import widen

__all__ = ["publish", "publishable", "rd_point", "widen"]


def publishable(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's parameters: float16, the small entropy model in float32; no buffers.

    Buffers hold constants below float16's range (the likelihood's bound of 1e-9) and tables that
    `update` recomputes: both belong to the class, not to the weights.

    Raises:
        SystemFault: a weight is too large for float16.
    """
    parameters = {
        name: (value if name.startswith("entropy_bottleneck") else value.half()).detach().contiguous().cpu()
        for name, value in model.named_parameters()
    }
    for name, value in parameters.items():
        if not value.isfinite().all():
            raise SystemFault(
                f"{name} holds values beyond the range of float16: train with a lower learning rate"
            )
    return parameters


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
