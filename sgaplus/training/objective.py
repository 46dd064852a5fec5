"""The training loss L(λ) = λ·255²·MSE + bpp with mixed quantisation (Minnen and Singh, arXiv 2007.08739).

Bits are those of latents with additive uniform noise, which have a gradient; the decoder reads rounded ones,
as it will in use, with a straight-through gradient. What trained weights are worth is the loss after hard
rounding.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .. import metrics
from ..codecs.bits import factorized_bits, gaussian_bits
from ..codecs.checkpoints import load_parameters
from ..codecs.codec import Codec, freeze
from .gains import Gains
from .recipes import Recipe


def losses(
    codec: Codec,
    x: Tensor,
    lmbda: Tensor,
    generator: torch.Generator,
    mixed: bool,
    gains: Gains | None = None,
    served: Tensor | None = None,
) -> Tensor:
    """Training loss, bits per pixel and mean squared error, (3, B), of the images ``x`` (B, 3, H, W).

    The gains act on activations, as in the formulas of `gains`, which is the same as folded into weights.

    Args:
        lmbda: of each image, (B,).
        generator: of the noise, on the codec's device.
        mixed: the decoder reads rounded latents y; otherwise those with noise.
        gains, served: of a family, and the number in it of each image's λ, (B,): all λ in one pass.
    """
    model = codec.model
    if gains is None or served is None:
        gain_y = gain_synthesis = gain_z = x.new_ones(len(x), 1, 1, 1)
    else:
        gain_y, gain_synthesis, gain_z = (
            gain.index_select(0, served).exp()[:, :, None, None]
            for gain in (gains.y, gains.synthesis, gains.z)
        )
    features = codec.run("g_a", x)
    z = _noisy(codec.run("h_a", features) * gain_z, generator)
    scales, means = codec.run("h_s", z / gain_z).chunk(2, 1)
    y, means = features * gain_y, means * gain_y
    noisy = _noisy(y, generator)
    bits_y = gaussian_bits(model.gaussian_conditional, noisy - means, scales * gain_y)
    bits_z = factorized_bits(model.entropy_bottleneck, z, 1 / gain_z)
    read = y + ((y - means).round() + means - y).detach() if mixed else noisy
    bpp = (bits_y + bits_z) / x[0, 0].numel()
    mse = (codec.run("g_s", read / gain_synthesis) - x).square().mean((1, 2, 3))
    return torch.stack([metrics.rd_loss(lmbda, mse, bpp), bpp, mse])


def _noisy(v: Tensor, generator: torch.Generator) -> Tensor:
    return v + (torch.rand(v.shape, generator=generator, device=v.device) - 0.5)


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
