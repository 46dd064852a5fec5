"""From a training run to a network file: the parameters worth keeping, their card and their curve."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import hardware
from ..codecs.bundled import save_network
from ..codecs.checkpoints import read_safetensors
from ..codecs.gains import LMBDA, PREFIX, at
from ..errors import SystemFault, UserError
from .lineage import UNTRAINED, Lineage, curve_path, write_curve
from .objective import plain_codec, rd_point
from .recipes import Recipe
from .run import Run


def publishable(
    model: torch.nn.Module, whole: tuple[str, ...] = ("entropy_bottleneck",)
) -> dict[str, Tensor]:
    """The model's parameters: float16, those whose names begin as in ``whole`` in float32; no buffers.

    Buffers hold constants below float16's range (the likelihood's bound of 1e-9) and tables that
    `update` recomputes: both belong to the class, not to the weights.
    """
    parameters = {
        name: (value if name.startswith(whole) else value.half()).detach().contiguous().cpu()
        for name, value in model.named_parameters()
    }
    for name, value in parameters.items():
        if not value.isfinite().all():
            raise SystemFault(
                f"{name} holds values beyond the range of float16: train with a lower learning rate"
            )
    return parameters


def publish(run: Run, folder: Path, note: str, kodak: Sequence[Tensor] = ()) -> Path:
    """Write the run's averaged weights, with the gains of a family, their card and training curve.

    The card's ``training`` describes the data and names the optimiser, and lists the ``stages`` of training,
    the oldest first: recipe, start (the file whose weights it started from; empty for random ones), seconds,
    steps, hardware, torch, dtype, the last row of its log for each λ, and data where they differ from the
    card's. The curve, ``<stem>.training.csv``, holds the rows of all λ, with the columns `lineage.CURVE` and,
    where photographs were held out, `lineage.HELD_OUT`.

    Args:
        note: the training data in words.
        kodak: the images (3, H, W) of the card's Kodak points, which are left out without them.

    Returns:
        The path of the weights.

    Raises:
        SystemFault: a weight is too large for float16, or the disk is full.
    """
    recipe = run.recipe
    lmbdas = sorted(recipe.family or (recipe.lmbda,))
    model, gains = run.averaged()
    weights = publishable(model) | (gains.published(recipe.family) if gains else {})
    # The Kodak points are those of the published numbers.
    codecs = (plain_codec(recipe, lmbda, at(weights, lmbda), run.codec.device) for lmbda in lmbdas)
    points = [rd_point(codec, kodak) for codec in codecs] if kodak else []
    training = {"data": note, "optimizer": "SOAP", "stages": _stages(run, note)}
    path = save_network(
        weights,
        folder,
        name=recipe.name,
        lmbdas=lmbdas,
        N=recipe.N,
        M=recipe.M,
        training=training,
        kodak=points,
    )
    write_curve(curve_path(path), _curve(run))
    return path


def start_from(path: Path, recipe: Recipe, device: str, dtype: str, lineage: Lineage = UNTRAINED) -> Run:
    """A run that starts from the weights in a file, which have the recipe's channels.

    Of a network with gains, a run of one λ gets the weights of that λ, a family the network with log gains
    for its own λ.

    Raises:
        UserError: the file holds no weights of this kind, of other channels, or none for a λ.
    """
    weights = read_safetensors(path)
    if LMBDA in weights and not recipe.family:
        weights = at(weights, recipe.lmbda)
    plain = {name: value for name, value in weights.items() if not name.startswith(PREFIX)}
    found = [len(plain[name]) for name in ("g_a.0.weight", "g_a.6.weight") if name in plain]
    if len(found) == 2 and found != [recipe.N, recipe.M]:
        raise UserError(
            f"{path} has N = {found[0]} and M = {found[1]}, and cannot start a network with N = {recipe.N}"
            f" and M = {recipe.M}: give --N {found[0]} --M {found[1]}, or leave out --start"
        )
    run = Run.start(recipe, device, dtype, plain, lineage)
    if LMBDA in weights and run.gains:
        run.gains.start_from(weights, recipe.family)
        run.average = [value.detach().clone() for value in run.parameters()]
    return run


def _stages(run: Run, note: str) -> list[dict[str, Any]]:
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
        "last": list({row["lmbda"]: row for row in run.log}.values()),
    }
    return [*earlier, own]


def _curve(run: Run) -> list[dict[str, float]]:
    """The curve of the earlier stages, and the log with its stage and learning rate."""
    stage = 1 + max((row["stage"] for row in run.lineage.curve), default=len(run.lineage.stages))
    rates = [run.recipe.learning_rate(int(row["step"]) - 1) for row in run.log]
    own = [row | {"stage": stage, "lr": lr} for row, lr in zip(run.log, rates, strict=True)]
    return [*run.lineage.curve, *own]
