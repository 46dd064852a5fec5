"""Whether a codec of one's own does what refinement and files take for granted.

register(MyModel, families.MEAN_SCALE_HYPERPRIOR)
codec = Codec("mine", 0.01, freeze(model), content_hash(model))
conformance.check(codec, images)
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, first_line
from ..hardware import undisturbed
from .choice import Choice
from .codec import Codec
from .models import Decoded, Latents

# How far a reconstruction and a hard latent may be from what they should be, and how far, in relation, bits.
NEAR = 1e-3
BITS = 1e-4
# The same of the parallel pass at hard latents, which is exact but for moved reconstruction points.
PARALLEL = 1e-2
STEPS = 30

# What the model's own evaluation makes of images (B, 3, H, W): x_hat and likelihoods, as `forward` does.
Evaluate = Callable[[Tensor], Mapping[str, Any]]


@undisturbed()
def check(codec: Codec, images: Tensor | None = None, evaluate: Evaluate | None = None) -> dict[str, float]:
    """Check a codec on a few images; raises at the first thing that is wrong.

    In this order: the latents that `analyse` gives; that each of them is quantised once; x̂ and bits of hard
    latents against the model's own; that hard latents stay what they are, decoded again and through a file;
    the relaxed pass at hard latents; gradients; and that a few steps of refinement lower the true loss.

    Args:
        images: (B, 3, H, W) in [0, 1], of any size, some of those that the model was trained for; smooth
            noise where None.
        evaluate: what the model makes of images that are padded. By default its `forward` in evaluation mode,
            which is not what a decoder sees where the model has an autoregressive context.

    Returns:
        How far x̂ and each latent's bits (in relation) are from the model's own, and the true loss before and
        after `STEPS` steps.

    Raises:
        UserError: what is wrong, in one sentence.
    """
    codec = codec.to(dtype="float32")
    name = type(codec.model).__name__
    images = _noise() if images is None else images
    x = codec.pad(images.to(codec.device))
    found: dict[str, float] = {}
    with torch.no_grad():
        try:
            latents = codec.analyse(x)
            _check_latents(name, latents, x)
            decoded = codec.decode(latents)
        except RuntimeError as error:  # torch's, of shapes above all
            raise UserError(
                f"{name}: images of {tuple(x.shape)} cannot be analysed and decoded ({first_line(error)}): do"
                " so with sides that are multiples of the family's stride"
            ) from error
        _check_decoded(name, decoded, latents, x)
        _check_quantised(name, codec, latents)
        own = (codec.model if evaluate is None else evaluate)(x)
        found["x_hat"] = _difference(decoded.x_hat, own["x_hat"])
        if not found["x_hat"] <= NEAR:
            raise UserError(
                f"{name}: what hard latents decode to differs from the model's own reconstruction by up to"
                f" {found['x_hat']:.3g}: make `decode` do what the decoder does, or give `evaluate` where the"
                " model's forward pass is not its decoder"
            )
        for latent, bits in decoded.bits.items():
            found[f"bits_{latent}"] = _check_bits(name, latent, bits, own["likelihoods"])
        _check_integers(name, codec, decoded)
        _check_parallel(name, codec, decoded)
    _check_gradients(name, codec, latents, x)
    return found | _check_refinement(name, codec, images)


def _noise() -> Tensor:
    drawn = torch.rand(1, 3, 20, 15, generator=torch.Generator().manual_seed(0))
    return F.interpolate(drawn, size=(150, 100), mode="bicubic").clamp(0, 1)


def _difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item() if a.shape == b.shape else float("inf")


def _check_latents(name: str, latents: Latents, x: Tensor) -> None:
    if not isinstance(latents, dict) or "y" not in latents:
        raise UserError(f"{name}: analyse returns the latents by name, y among them, not {latents!r:.80}")
    for latent, value in latents.items():
        if value.ndim != 4 or len(value) != len(x) or not value.isfinite().all():
            raise UserError(
                f"{name}: latent {latent} has shape {tuple(value.shape)} or values that are not finite: make"
                f" analyse return (B, C, h, w) for {len(x)} images"
            )


def _check_decoded(name: str, decoded: Decoded, latents: Latents, x: Tensor) -> None:
    if decoded.x_hat.shape != x.shape:
        raise UserError(
            f"{name}: images of {tuple(x.shape)} decode to {tuple(decoded.x_hat.shape)}: give the family's"
            " stride, to which images are padded"
        )
    for what, values in (("bits", decoded.bits), ("quantised latents", decoded.latents)):
        if values.keys() != latents.keys():
            raise UserError(
                f"{name}: decode gives {what} of {', '.join(values)}, where latents are {', '.join(latents)}"
            )


def _check_quantised(name: str, codec: Codec, latents: Latents) -> None:
    seen: list[str] = []

    def spy(v: Tensor, latent: str) -> Tensor:
        seen.append(latent)
        return torch.round(v)

    codec.decode(latents, spy)
    for latent in latents:
        if seen.count(latent) != 1:
            raise UserError(
                f"{name}: decode calls quantise {seen.count(latent)} times for {latent}: call it once for"
                " each, with all of its distances from the grid's origin"
            )


def _check_bits(name: str, latent: str, bits: Tensor, likelihoods: Mapping[str, Tensor]) -> float:
    if latent not in likelihoods:
        raise UserError(f"{name}: the model has no likelihoods of {latent}, only of {', '.join(likelihoods)}")
    own = -likelihoods[latent].double().log2().flatten(1).sum(1)
    off = ((bits.double() - own).abs() / own).max().item()
    if not off <= BITS:
        raise UserError(
            f"{name}: {latent} costs {bits.tolist()[0]:.6g} bits, where the model's own likelihoods say"
            f" {own.tolist()[0]:.6g}: count the bits of what is coded, with the scales of the decoder"
        )
    return off


def _check_integers(name: str, codec: Codec, decoded: Decoded) -> None:
    from ..bitstream import coder  # it imports this package

    again = codec.decode(decoded.latents)
    for latent, value in decoded.latents.items():
        if not _difference(again.latents[latent], value) <= NEAR:
            raise UserError(
                f"{name}: hard latents {latent}, decoded once more, differ by up to"
                f" {_difference(again.latents[latent], value):.3g}: add the grid's origin back to what"
                " quantise returns"
            )
    try:
        written = codec.once(coder.coder_of)
    except UserError:
        return  # no files are written of this family
    single = {latent: value[0] for latent, value in decoded.latents.items()}
    height, width = single[written.first].shape[1:]
    y, z = coder.encode_latents(written, single, (height, width))
    read, _ = coder.decode_latents(written, y, z, (height, width))
    for latent, value in single.items():
        if not _difference(read[latent].float(), value.cpu()) <= NEAR:
            raise UserError(
                f"{name}: {latent} of a file is not what was written: make `decoding` do what `decode` does"
            )


def _check_parallel(name: str, codec: Codec, decoded: Decoded) -> None:
    quantisers: dict[str, Callable[[Tensor, str], Tensor | Choice]] = {
        "integers": lambda v, latent: torch.round(v),
        "choices": lambda v, latent: Choice(torch.round(v), torch.zeros_like(v)),
    }
    for what, quantise in quantisers.items():
        again = codec.decode(decoded.latents, quantise)
        off = (again.all_bits / decoded.all_bits - 1).abs().max().item()
        if not off <= PARALLEL:
            raise UserError(
                f"{name}: a quantiser that returns {what} gives {100 * off:.3g} % other bits at hard latents"
                " than the decoder: let the relaxed pass end where the hard one is"
            )


def _check_gradients(name: str, codec: Codec, latents: Latents, x: Tensor) -> None:
    leaves = {latent: value.detach().clone().requires_grad_() for latent, value in latents.items()}
    decoded = codec.decode(leaves, lambda v, latent: v)
    loss = (decoded.x_hat - x).square().sum() + decoded.all_bits.sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for latent, gradient in zip(leaves, gradients, strict=True):
        if gradient is None or not gradient.isfinite().all() or not gradient.any():
            raise UserError(f"{name}: no finite gradient reaches {latent}: compute x̂ and bits in torch")


def _check_refinement(name: str, codec: Codec, images: Tensor) -> dict[str, float]:
    from ..refinement import refine  # it imports this package

    run = refine(codec, list(images), "fast", iterations=STEPS)
    before = run.rows.loc[run.rows["iteration"] == 0, "loss"].mean()
    after = run.rows.loc[run.rows["iteration"] == STEPS, "loss"].mean()
    if not after < before:
        raise UserError(
            f"{name}: {STEPS} steps of refinement change the true loss from {before:.4f} to {after:.4f}:"
            " compare the relaxed pass with the hard one"
        )
    return {"loss_before": before, "loss_after": after}
