"""Latents to a file's bytes, and a file's bytes to the photograph."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codecs import bundled, gains, weights, zoo
from ..codecs.checkpoints import content_hash
from ..codecs.codec import Codec, codec_of
from ..codecs.families import vbr
from ..codecs.models import Latents
from ..codecs.series import families, series
from ..errors import UserError
from ..hardware import undisturbed
from ..parsing import six_digits, whole
from . import container
from .coder import Progress, coder_of, decode_latents, encode_latents
from .container import MAX_PIXELS, Container


def check(codec: Codec, *images: Tensor) -> None:
    """Make sure, before any work is done, that latents of ``codec`` for ``images`` (3, H, W) can be written.

    Raises:
        UserError: they cannot.
    """
    codec.once(coder_of)
    _identity(codec)
    for image in images:
        container.check_size(image.shape[1:])


@undisturbed()
def encode(
    codec: Codec, latents: Latents, size: Sequence[int] | None = None, *, progress: Progress | None = None
) -> bytes:
    """A file's content (see `container`) from latents, refined or not.

    Args:
        codec: the codec that they belong to.
        latents: of one image, each (C, h, w) or (1, C, h, w), as `Run.latents` or `Codec.decode` give them.
            Continuous ones are rounded as the true loss rounds them.
        size: height and width of the photograph in pixels, or its shape; else all that the latents cover.
        progress: called with how many latents are coded, and how many will be; it takes seconds only with a
            context model.

    Raises:
        UserError: the latents are not those of this codec and size, or cannot be written.
    """
    codec = codec_of(codec)
    if not isinstance(latents, Mapping):
        raise UserError(f"latents are those of one image, as run.latents[0], not {type(latents).__name__}")
    coder = codec.once(coder_of)
    single = {name: _single(name, latent) for name, latent in latents.items()}
    if size is None:
        if coder.first not in single:
            raise UserError(f"there is no latent {coder.first}, which this codec has")
        size = [coder.stride * side for side in single[coder.first].shape[1:]]
    if not isinstance(size, Sequence | np.ndarray) or isinstance(size, str) or len(size) < 2:
        raise UserError(f"the photograph's size is its height and width, not {size!r}")
    height, width = (whole(side, "a side of the photograph", 1) for side in size[-2:])
    content = Container(codec.name, codec.lmbda, _identity(codec), height, width, b"", b"", coder.step)
    y, z = encode_latents(coder, single, content.shape(coder.stride), progress)
    return container.pack(replace(content, z=z, y=y))


def unpack(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Container:
    """The header and the strings of a file's content, after all that can be checked without its codec.

    Raises:
        UserError: the file is damaged, or its photograph larger than ``max_pixels``.
    """
    content, max_pixels = container.unpack(data), whole(max_pixels, "max_pixels", 1)
    if content.pixels > max_pixels:
        raise UserError(
            f"the photograph has {content.pixels / 1e6:.3g} megapixels, more than the {max_pixels / 1e6:g}"
            " that are allowed (--max-megapixels, max_pixels)"
        )
    return content


def decode(
    data: bytes | Container,
    codec: Codec | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Tensor:
    """The photograph of a file's content: float32 (3, H, W) in [0, 1], on the CPU.

    Nothing in ``data`` is executed or fetched, and no more is allocated than the decoder needs for an image
    of the size that it names, which is checked first.

    Args:
        data: the bytes, or what `unpack` made of them.
        codec: the one it was written with; without it, the one among the bundled and the downloaded codecs,
            with float32 networks as rows have them. ``codec.to(dtype="float32")`` computes so too.
        max_pixels: larger photographs are refused; `unpack` has its own limit.
        progress: called with how many latents are decoded, and how many will be.

    Raises:
        UserError: the file is damaged, too large, or its codec is not available; the message names it.
    """
    return reconstruction(data, codec, max_pixels=max_pixels, progress=progress).clamp(0, 1)


@undisturbed()
def reconstruction(
    data: bytes | Container,
    codec: Codec | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Tensor:
    """As `decode`, before clamping to [0, 1]: the reconstruction whose PSNR the paper reports."""
    content = _content(data, max_pixels)
    codec = _checked(content, codec)
    y = _latents(content, codec, progress)[1][None].float().to(codec.device)
    with torch.no_grad():
        x_hat = codec.run("g_s", y)[0, :, : content.height, : content.width]
    if not x_hat.isfinite().all():
        raise UserError("the file cannot be decoded: its photograph has values that are not finite")
    return x_hat.cpu().contiguous()


@undisturbed()
def read_latents(
    data: bytes | Container, codec: Codec | None = None, *, max_pixels: int = MAX_PIXELS
) -> Latents:
    """A file's latents, float64 on the codec's grid, each (C, h, w); arguments as of `decode`."""
    content = _content(data, max_pixels)
    return _latents(content, _checked(content, codec))[0]


def info(data: bytes) -> dict[str, Any]:
    """The header of a file; its codec is not needed.

    Returns:
        version, codec (empty for a checkpoint), lmbda (six digits), weights (first digits of their SHA-256),
        height, width (pixels), bytes (of all), header_bytes, z_bytes, y_bytes, bpp.

    Raises:
        UserError: the file is damaged.
    """
    content = container.unpack(data)
    said = {"version": content.version, "codec": content.name, "lmbda": six_digits(content.lmbda)}
    said |= {"weights": content.weights.hex(), "height": content.height, "width": content.width}
    said |= {"bytes": len(data), "header_bytes": content.header_bytes}
    return said | {
        "z_bytes": len(content.z),
        "y_bytes": len(content.y),
        "bpp": 8 * len(data) / content.pixels,
    }


def find_codec(data: bytes | Container, *, fetch: bool = False) -> Codec:
    """The codec of a file among the bundled and CompressAI's, found by its weights.

    Args:
        fetch: whether to download it where it is not downloaded yet.

    Raises:
        UserError: the file is damaged, or its codec is not there; the message says which and where it is.
    """
    content = data if isinstance(data, Container) else container.unpack(data)
    for card in bundled.cards():
        if card.sha256.startswith(content.weights.hex()):
            return bundled.load(card).to("auto", "float32")
    if content.name in families():
        member = None
        with contextlib.suppress(UserError):  # the family has no such λ
            member = series(content.name).member(six_digits(content.lmbda))
        if member and member.sha256.startswith(content.weights.hex()):
            return member.load(dtype="float32")
    for name in zoo.ZOO:
        for metric, qualities in zoo.URLS[name].items():
            for quality, url in qualities.items():
                if content.weights.hex().startswith(zoo.zoo_file(url)[1]):
                    return _downloadable(content, name, quality, metric, fetch)
    if content.name in zoo.VARIABLE:
        codec = _downloadable(content, content.name, 1, "mse", fetch)
        if _identity(codec) == content.weights:
            return codec
    other = "use another version of sgaplus, or " if content.name in families() else ""
    raise UserError(
        f"the file was written with {content.codec}, which is not bundled here: {other}give its weights' file"
        " (--codec)"
    )


def _downloadable(content: Container, name: str, quality: int, metric: str, fetch: bool) -> Codec:
    of = f"of λ = {content.lmbda:.6g}" if name in zoo.VARIABLE else f"of quality {quality} ({metric})"
    if not fetch and not zoo.zoo_file(zoo.URLS[name][metric][quality])[0].is_file():
        raise UserError(
            f"the file was written with {name} {of} from CompressAI's zoo, which"
            f" is not downloaded yet: give its name to download it (--codec {name})"
        )
    if name in zoo.VARIABLE:
        return weights.load_codec(name, six_digits(content.lmbda), dtype="float32")
    return weights.load_codec(name, quality=quality, metric=metric, dtype="float32")


def _identity(codec: Codec) -> bytes:
    """The first 8 bytes of the SHA-256 of a codec's weights."""
    if not re.fullmatch(r"[0-9a-f]{64}", codec.sha256):
        raise UserError(f"{codec.name} does not say which weights it has: load it with load_codec")
    return bytes.fromhex(codec.sha256)[:8]


def _single(name: str, latent: Tensor) -> Tensor:
    if not isinstance(latent, Tensor):
        raise UserError(f"latent {name} must be a tensor (C, h, w), not {type(latent).__name__}")
    latent = latent.detach()
    if latent.ndim == 4 and len(latent) == 1:
        latent = latent[0]
    if latent.ndim != 3:
        raise UserError(f"latent {name} must be that of one image, (C, h, w), not {tuple(latent.shape)}")
    return latent


def _content(data: bytes | Container, max_pixels: int) -> Container:
    return data if isinstance(data, Container) else unpack(data, max_pixels=max_pixels)


def _checked(content: Container, codec: Codec | None) -> Codec:
    """The codec of a file."""
    if codec is None:
        return find_codec(content)
    if _identity(codec_of(codec)) != content.weights and not _has_the_weights(codec, content):
        raise UserError(
            f"the file was written with {content.codec}, not with {codec.name}, λ = {codec.lmbda:g}, "
            f"weights {codec.sha256[:16]}…"
        )
    return codec


def _has_the_weights(codec: Codec, content: Container) -> bool:
    """Whether ``codec`` is that of a file that names it by another hash: it was saved in another way then."""
    own = codec.once(_content_sha256)
    if any(known.startswith(content.weights.hex()) for known in (own, *codec.also)):
        return True
    try:
        return find_codec(content).once(_content_sha256) == own
    except UserError:
        return False


def _content_sha256(codec: Codec) -> str:
    content = content_hash(codec.model)
    return gains.at_rate(content, codec.lmbda) if vbr.is_variable(codec.model) else content


def _latents(content: Container, codec: Codec, progress: Progress | None = None) -> tuple[Latents, Tensor]:
    coder = codec.once(coder_of)
    if content.step != coder.step:
        raise UserError(
            f"the file does not fit its codec: version {content.version} of the format is not that of "
            f"{codec.name}, or the step of its grid is another one"
        )
    return decode_latents(coder, content.y, content.z, content.shape(coder.stride), progress)
