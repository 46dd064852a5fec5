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
from .errors import SystemFault, UserError
from .training import Run
from .weights import Card, load_parameters, save_codec, widths

# New channels start with this share of PyTorch's random weights.
_FAINT = 0.3


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


@torch.no_grad()
def widen(weights: dict[str, Tensor], N: int, M: int, seed: int = 0) -> dict[str, Tensor]:
    """Grow a mean-scale hyperprior to ``M`` latent channels; with as many already, the weights as they are.

    Every old weight keeps its place. In the hyper-synthesis no new unit feeds an old one, so that the same ẑ
    gives the old channels the same scales and means. In the synthesis and the hyper-analysis the new channels
    have small random weights, through which their gradients reach the encoder from the first step; where the
    new channels of y are zero, z and x̂ are the old ones too.

    Args:
        weights: parameters of a model with N transform channels and at most ``M`` latent channels.
        seed: of the new weights.

    Returns:
        The parameters by name, float32.

    Raises:
        UserError: the weights are of another architecture, of other transforms, or have more latent channels.
    """
    old_N, old_M = widths(weights)
    if old_N != N or old_M > M:
        raise UserError(
            f"weights with N = {old_N} and M = {old_M} cannot start a model with N = {N} and M = {M}: "
            "N must be the same, and M at least as large"
        )
    with torch.random.fork_rng(devices=[]):
        load_parameters(MeanScaleHyperprior(N, old_M), weights)  # refuses what does not fit
        torch.manual_seed(seed)
        grown = dict(MeanScaleHyperprior(N, M).named_parameters())
    for name, value in grown.items():
        old = weights[name].float()
        if name.startswith("h_s.4."):  # its outputs are the scales of all channels, then the means of all
            for half, old_half in zip(value.chunk(2), old.chunk(2), strict=True):
                _grow(half, old_half, outputs=0)
        else:
            # Transposed convolutions have their weights as (in, out, k, k).
            _grow(value, old, outputs=1 if name == "h_s.2.weight" else None)
    grown["h_s.4.bias"][old_M:M] = 1.0  # new scales of about one unit
    return {name: value.detach().contiguous() for name, value in grown.items()}


def _grow(value: Tensor, old: Tensor, outputs: int | None) -> None:
    """Put the ``old`` weights into the leading corner of ``value`` and make the new ones beside them faint.

    Args:
        outputs: the axis of the outputs, if no new input is to feed an old one.
    """
    if value.shape != old.shape:
        value *= _FAINT
        if outputs is not None:
            value.narrow(outputs, 0, old.shape[outputs]).zero_()
    value[tuple(slice(side) for side in old.shape)] = old


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
