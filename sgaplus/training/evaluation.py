"""What trained weights are worth: rate and distortion after hard rounding, without refinement."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .. import metrics
from ..codecs.checkpoints import load_parameters
from ..codecs.codec import Codec, freeze
from .recipes import Recipe


def plain_codec(
    recipe: Recipe, lmbda: float, parameters: Mapping[str, Tensor], device: torch.device
) -> Codec:
    """The codec that ``parameters`` make, float32.

    Raises:
        UserError: a parameter is not finite or of another architecture.
    """
    model = recipe.untrained()
    load_parameters(model, dict(parameters))
    return Codec(recipe.name, lmbda, freeze(model), "").to(device, "float32")


@torch.no_grad()
def rd_point(codec: Codec, images: Sequence[Tensor]) -> dict[str, float]:
    """Means over images (3, H, W) of the unrefined codec's bpp, 8-bit PSNR (dB) and true loss (on floats)."""
    points = []
    for image in images:
        x = image[None].to(codec.device)
        decoded = codec.decode(codec.analyse(codec.pad(x)))
        x_hat = decoded.x_hat[..., : x.shape[-2], : x.shape[-1]]
        bpp = decoded.all_bits.double() / x[0, 0].numel()
        loss = metrics.rd_loss(codec.lmbda, metrics.mse(x, x_hat), bpp)
        points.append([value.item() for value in (bpp, metrics.psnr_8bit(x, x_hat), loss)])
    means = torch.tensor(points, dtype=torch.float64).mean(0).tolist()
    return {"images": len(points)} | dict(zip(("bpp", "psnr", "loss"), means, strict=True))


def centres(photographs: Sequence[Tensor], side: int) -> list[Tensor]:
    """The central square of ``side`` pixels, in [0, 1], of uint8 photographs (3, H, W) that have one."""
    large = [photo for photo in photographs if min(photo.shape[1:]) >= side]
    corners = [((photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2) for photo in large]
    return [
        photo[:, top : top + side, left : left + side].float() / 255
        for photo, (top, left) in zip(large, corners, strict=True)
    ]
