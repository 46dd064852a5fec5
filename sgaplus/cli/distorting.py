"""Options of what counts as distortion, which `sgaplus refine` and `sgaplus encode` share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import io
from ..errors import UserError
from ..parsing import number
from .terminal import option, refuse

if TYPE_CHECKING:
    from torch import Tensor

_GROUP = "Distortion"

Name = Annotated[
    str | None, option("mse or ms-ssim. Default: what the codec was trained for, mostly mse.", _GROUP)
]
Regions = Annotated[
    list[str] | None,
    option("Region of interest, in pixels: LEFT,TOP,WIDTH,HEIGHT. May be given several times.", _GROUP),
]
Factor = Annotated[
    float, option("How much more errors within --roi count than those in the rest of the picture.", _GROUP)
]
Map = Annotated[
    Path | None,
    option("Greyscale picture of the photograph's size: the brighter, the more errors count there.", _GROUP),
]


@dataclass(frozen=True)
class Chosen:
    """What the options say.

    Attributes:
        words: for a record of settings; empty for the codec's own metric.
        metric: in which convention λ is; empty for the codec's own.
        of: the distortion of photographs, each (3, H, W), as `distortion.each_of` takes it.
    """

    words: str
    metric: str
    of: Callable[[Sequence[Tensor]], Any]


def chosen(
    context: typer.Context, name: str | None, roi: Sequence[str] | None, factor: float, weights: Path | None
) -> Chosen:
    """What the options say, unless they contradict each other."""
    from .. import distortion
    from ..data import images

    if name is not None and name not in distortion.NAMED:
        raise UserError(f"unknown distortion '{name}': use {' or '.join(distortion.NAMED)}")
    if not roi:
        refuse(context, "give its regions with --roi", "roi_weight")
    if not roi and weights is None:
        return Chosen(name or "", name or "", lambda photographs: name)
    if roi and weights is not None:
        raise UserError("--roi and --weights say the same in two ways: give one of them")
    if name == "ms-ssim":
        raise UserError("--roi and --weights weigh squared errors: leave out --distortion ms-ssim")
    if weights is not None:
        brightness = images.read_image(weights)
        content = hashlib.sha256(brightness.numpy().tobytes()).hexdigest()[:16]
        return Chosen(f"mse, weights {content}", "mse", lambda photographs: [brightness] * len(photographs))
    factor = number(factor, "--roi-weight", high=distortion.HEAVIEST, closed=True)
    boxes = [_box(text) for text in roi or ()]
    words = "; ".join(",".join(map(str, box)) for box in boxes)

    def maps(photographs: Sequence[Tensor]) -> list[Tensor]:
        return [distortion.regions((x.shape[1], x.shape[2]), boxes, inside=factor) for x in photographs]

    return Chosen(f"mse, weight {factor:g} in {words}", "mse", maps)


def _box(text: str) -> tuple[int, ...]:
    try:
        box = tuple(int(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise UserError(
            f"--roi takes LEFT,TOP,WIDTH,HEIGHT in pixels, such as 100,50,200,150, not '{io.printable(text)}'"
        )
    return box
