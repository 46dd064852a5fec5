"""What people hand to `refine`: accepted where the meaning is plain, otherwise refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import io
from ..data.images import as_samples
from ..errors import UserError
from ..parsing import whole


def images_of(images: Any) -> list[Tensor]:
    """The images as float32 tensors (3, H, W) in [0, 1], without gradients.

    Args:
        images: one image (3, H, W), a batch (B, 3, H, W), or any iterable of these; tensors or NumPy arrays,
            uint8 (0 to 255) or floating-point, see `sgaplus.data.images.as_samples`.

    Raises:
        UserError: there is no image, or one has another shape, no pixels, or values beyond [0, 1].
    """
    if isinstance(images, Tensor | np.ndarray):
        images = [images]  # with one index for each of a batch
    elif isinstance(images, str | bytes | Path | Mapping) or not isinstance(images, Iterable):
        kind = repr(images) if isinstance(images, str | Path) else type(images).__name__
        raise UserError(f"images must be tensors (3, H, W), not {kind}: read files with sgaplus.read_image")
    found: list[Tensor] = []
    for item in images:
        samples = as_samples(item, f"image {len(found)}").detach().float()
        for image in samples if samples.ndim == 4 else [samples]:
            found.append(_checked(image, len(found)))
    if not found:
        raise UserError("there is no image to refine")
    return found


def names_of(names: Any, count: int) -> list[str]:
    """The names of ``count`` images in the tables; by default ``image-0``, …"""
    if names is None:
        return [f"image-{i}" for i in range(count)]
    single = isinstance(names, str | Path) or not isinstance(names, Iterable)
    names = [io.printable(str(name)) for name in ([names] if single else names)]
    if len(names) != count:
        raise UserError(f"{len(names)} names were given for {count} images")
    if len(set(names)) < count:
        raise UserError("the images' names must differ")
    return names


def read_offs_of(read_offs: Any, iterations: int) -> list[int]:
    """The iterations to read off; by default 500, as in the paper, if there are as many.

    Args:
        read_offs: whole numbers, or a single one.
    """
    if read_offs is None:
        return [500] if iterations >= 500 else []
    several = isinstance(read_offs, Iterable) and not isinstance(read_offs, str | bytes)
    several = several and getattr(read_offs, "ndim", 1) != 0  # an array or a tensor of one number
    found = [whole(t, "a read-off") for t in (read_offs if several else [read_offs])]
    for t in found:
        if not 0 <= t <= iterations:
            raise UserError(f"read-off {t} is not between 0 and the {iterations} iterations")
    return found


def _checked(image: Tensor, index: int) -> Tensor:
    shape = tuple(image.shape)
    if image.ndim != 3 or shape[0] != 3:
        channels_last = ": the channels come first, as after permute(2, 0, 1)" * (shape[2:] == (3,))
        raise UserError(f"image {index} must be a tensor (3, H, W), not {shape}{channels_last}")
    if not image.numel():
        raise UserError(f"image {index} has no pixels: its shape is {shape}")
    if not image.isfinite().all() or image.min() < 0 or image.max() > 1:
        raise UserError(f"image {index} must have values in [0, 1]")
    return image
