"""Training photographs, and the random crops of one training step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.datasets import photographs_in
from ..data.images import note, read_image, to_uint8
from ..errors import UserError


@dataclass(frozen=True, eq=False)
class Photographs:
    """The photographs of a folder.

    Attributes:
        training: uint8 tensors (3, H, W), at least as large as the crops.
        held_out: those that are never trained on, by their paths below the folder; of any size.
    """

    training: list[Tensor]
    held_out: dict[str, Tensor]


def read_photographs(folder: Path, crop: int, holdout: int = 0) -> Photographs:
    """The photographs below ``folder``; of those to train on, the ones smaller than the crop are left out.

    Args:
        crop: pixels per side of the crops.
        holdout: how many photographs are held out, the last by name; none where fewer than half would remain.

    Raises:
        UserError: there is no such folder, a file in it is broken, or nothing is as large as the crop.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: name one with training photographs")
    paths = photographs_in(sorted(folder.rglob("*")), folder)
    kept = len(paths) - (holdout if len(paths) > 2 * holdout else 0)
    photographs = [to_uint8(read_image(path)) for path in paths[:kept]]
    large = [photo for photo in photographs if min(photo.shape[1:]) >= crop]
    if not large:
        raise UserError(
            f"{folder} holds no photograph of at least {crop} pixels a side: add some, or lower the crop"
        )
    if len(large) < len(photographs):
        small = len(photographs) - len(large)
        note(f"{small} of {len(photographs)} photographs have a side below {crop} pixels and are left out")
    held_out = {path.relative_to(folder).as_posix(): to_uint8(read_image(path)) for path in paths[kept:]}
    if held_out and all(min(photo.shape[1:]) < crop for photo in held_out.values()):
        note(f"no held-out photograph has {crop} pixels a side, so that none is evaluated")
    return Photographs(large, held_out)


def generator_for(seed: int, step: int, device: str | torch.device = "cpu") -> torch.Generator:
    """The random numbers of one step, a function of (seed, step) alone: resuming changes nothing."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step) % 2**63)


def sample_crops(photographs: Sequence[Tensor], side: int, count: int, generator: torch.Generator) -> Tensor:
    """Random crops (count, 3, side, side) in [0, 1], drawn by area, turned and mirrored at random.

    Args:
        photographs: uint8 tensors (3, H, W), at least as large as the crops, on the device of the result.
        generator: on the CPU, so that the crops are the same on every device.
    """
    areas = torch.tensor([photo[0].numel() for photo in photographs], dtype=torch.float64)
    chosen = torch.multinomial(areas, count, replacement=True, generator=generator)
    crops = []
    for index in chosen.tolist():
        photo = photographs[index]
        top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for size in photo.shape[1:])
        crop = photo[:, top : top + side, left : left + side]
        flip, turn = torch.randint(2, (2,), generator=generator).tolist()
        crop = crop.flip(2) if flip else crop
        crops.append(crop.transpose(1, 2) if turn else crop)
    return torch.stack(crops).float() / 255
