"""``sgaplus train``"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import io
from ..errors import UserError
from . import terminal
from .app import Device, Dtype, app
from .terminal import option

if TYPE_CHECKING:
    from torch import Tensor

_MODEL, _STEPS = "Model", "Optimisation"


@app.command()
@terminal.computing("lower --batch or --crop, or the widths --N and --M")
def train(
    photos: Annotated[Path, typer.Argument(help="Folder of training photographs.", show_default=False)],
    out: Annotated[
        Path, option("Folder for the weights, the card that tells how they were trained, and the checkpoint.")
    ],
    name: Annotated[str, option("Name of the codec's family.")] = "mshyper-s",
    lmbda: Annotated[
        list[float],
        option(
            "λ, what quality is worth: larger for better pictures and larger files; several for a family."
        ),
    ] = (0.01,),
    n: Annotated[int, option("Width of the networks.", _MODEL, "--N")] = 64,
    m: Annotated[int, option("Channels of the latents y.", _MODEL, "--M")] = 192,
    start: Annotated[
        Path | None,
        option("Weights to start from, .safetensors; missing channels are added.", _MODEL),
    ] = None,
    steps: Annotated[int, option("Optimiser steps; may be raised on resuming.", _STEPS)] = 30_000,
    warmup: Annotated[int, option("First steps, in which the learning rate rises.", _STEPS)] = 200,
    cooldown: Annotated[int, option("Last steps, in which it falls to zero.", _STEPS)] = 9_000,
    lr: Annotated[float, option("Learning rate between the two, of the optimiser SOAP.", _STEPS)] = 1e-3,
    crop: Annotated[int, option("Pixels per side of the random crops, a multiple of 64.", _STEPS)] = 256,
    batch: Annotated[int, option("Crops per step, and per λ of a family.", _STEPS)] = 2,
    per_step: Annotated[int, option("How many λ of a family one step serves.", _STEPS)] = 2,
    seed: Annotated[int, option("Of weights, crops and noise.", _STEPS)] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Train a codec, or a family of codecs of several λ, on photographs of your own.

    It is a mean-scale hyperprior (Minnen, Ballé and Toderici 2018). Stopped at any point, the same command
    goes on from its last checkpoint, with the same result. At the end the codec's bits per pixel and PSNR on
    Kodak are measured, if that data set is here.

    A family is best made in two rounds: first all λ together, which share one network. Then each λ alone,
    from what the first round made of it, with
    `--start trained/mshyper-s_lambda0.01.safetensors --steps 1500 --cooldown 1500`.

    - `sgaplus train photographs --out trained --lmbda 0.01`
    - `sgaplus train photographs --out trained --lmbda 0.005 --lmbda 0.01 --lmbda 0.02`
    - `sgaplus refine photo.png --codec trained/mshyper-s_lambda0.01.safetensors --lmbda 0.01`
    """
    from ..codecs import weights
    from ..training import crops, publishing
    from ..training import run as runs
    from ..training.lineage import UNTRAINED, lineage_of
    from ..training.recipes import Recipe, middle

    lineage = lineage_of(start) if start and start.is_file() else UNTRAINED
    family = tuple(lmbda) if len(lmbda) > 1 else ()
    recipe = Recipe(
        name=name,
        N=n,
        M=m,
        lmbda=(lineage.lmbda or middle(family)) if family else lmbda[0],
        family=family,
        steps=steps,
        warmup=warmup,
        cooldown=cooldown,
        lr=lr,
        crop=crop,
        batch=batch,
        per_step=per_step,
        seed=seed,
    )
    io.check_folder(out)
    given = publishing.widen(weights.read_safetensors(start), n, m, seed) if start else None
    photographs = crops.read_photographs(photos, crop, recipe.holdout)
    checkpoint = out / f"{f'{name}_family' if family else weights.stem(name, lmbda[0])}.pt"
    if checkpoint.is_file():
        run = runs.Run.resume(checkpoint, recipe, device, dtype)
        terminal.say(f"resuming {checkpoint} at step {run.step}")
    else:
        run = runs.Run.start(recipe, device, dtype, given, lineage)
    with terminal.bar("training") as bar:
        task = bar.add_task("", total=recipe.steps, completed=run.step)

        def report(step: int, rows: list[dict[str, float]]) -> None:
            bar.update(task, completed=step)
            terminal.say(f"step {step}  {_progress(rows)}")

        runs.train(run, photographs, checkpoint, report=report)
    story = f"{len(photographs)} photographs of {photos.resolve().name}"
    for path in publishing.publish(run, out, story, _kodak()):
        point = json.loads(path.with_suffix(".json").read_text())["kodak"]
        if point:
            parts = f"{point['bpp']:.4f} bpp, PSNR {point['psnr']:.2f} dB, loss {point['loss']:.4f}"
            terminal.show(f"Kodak, mean over {point['images']} images without refinement: {parts}")
        terminal.show(f"weights and card: {path}")


def _progress(rows: Sequence[dict[str, float]]) -> str:
    """What happened in the last steps: of one λ everything, of each of several the loss."""
    if len(rows) == 1:
        (row,) = rows
        return f"loss {row['loss']:.4f}  bpp {row['bpp']:.4f}  PSNR {row['psnr']:.2f} dB"
    return "loss " + ", ".join(f"{row['loss']:.3f} (λ {row['lmbda']:g})" for row in rows)


def _kodak() -> list[Tensor]:
    """The Kodak photographs; none, with a note, where they are not at hand."""
    from ..data import datasets

    try:
        return [image.read() for image in datasets.list_images("kodak")]
    except UserError as error:
        terminal.note(f"the card gets no Kodak point: {error}")
        return []
