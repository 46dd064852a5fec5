"""From a training run to bundled codecs: the parameters worth keeping, their card and their curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import hardware
from ..codecs.bundled import Card, save_codec
from ..codecs.checkpoints import load_parameters
from ..errors import SystemFault
from .evaluation import plain_codec, rd_point
from .lineage import curve_path, write_curve
from .run import Run
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


def publish(run: Run, folder: Path, note: str, kodak: Sequence[Tensor] = ()) -> list[Path]:
    """Write for each λ of the run its averaged weights, their card and their training curve into ``folder``.

    The card's ``training`` describes the data and names the optimiser, and lists the ``stages`` of training,
    the oldest first: recipe, start (the file whose weights it started from; empty for random ones), seconds,
    steps, hardware, torch, dtype, the last row of its log for this λ, and data where they differ from the
    card's. The curve, ``<stem>.training.csv``, holds the rows of this λ, with the columns `lineage.CURVE`
    and, where photographs were held out, `lineage.HELD_OUT`.

    Args:
        note: the training data in words.
        kodak: the images (3, H, W) of the card's Kodak point, which is left out without them.

    Returns:
        The paths of the weights, by λ.

    Raises:
        SystemFault: a weight is too large for float16, or the disk is full.
    """
    recipe = run.recipe
    paths = []
    for lmbda, parameters in sorted(run.weights().items()):
        model = recipe.untrained()
        load_parameters(model, parameters)
        weights = publishable(model)
        # The Kodak point is that of the published numbers.
        codec = plain_codec(recipe, lmbda, weights, run.codec.device)
        log = [row | {"lmbda": lmbda} for row in run.log if math.isclose(row["lmbda"], lmbda)]
        card = Card(
            name=recipe.name,
            lmbda=lmbda,
            architecture="mbt2018-mean",
            N=recipe.N,
            M=recipe.M,
            sha256="",
            training={"data": note, "optimizer": "SOAP", "stages": _stages(run, note, log)},
            kodak=rd_point(codec, kodak) if kodak else {},
        )
        path = save_codec(weights, card, folder)
        write_curve(curve_path(path), _curve(run, log))
        paths.append(path)
    return paths


def _stages(run: Run, note: str, log: list[dict[str, float]]) -> list[dict[str, Any]]:
    """The stages before the run, and the run itself."""
    earlier = [
        {key: value for key, value in stage.items() if (key, value) != ("data", note)}
        for stage in run.lineage.stages
    ]
    own = {
        "recipe": asdict(run.recipe),
        "start": run.lineage.start,
        "seconds": round(run.seconds),
        "steps": run.step,
        "hardware": hardware.describe(run.codec.device),
        "torch": torch.__version__,
        "dtype": run.codec.format,
        "last": log[-1] if log else {},
    }
    return [*earlier, own]


def _curve(run: Run, log: list[dict[str, float]]) -> list[dict[str, float]]:
    """The curve of the earlier stages, and the log with its stage and learning rate."""
    earlier = list(run.lineage.curve)
    before = max((row["stage"] for row in earlier), default=len(run.lineage.stages))
    own = [row | {"stage": before + 1, "lr": run.recipe.learning_rate(int(row["step"]) - 1)} for row in log]
    return [*earlier, *own]
