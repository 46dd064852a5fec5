"""``sgaplus train``"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import io
from ..errors import UserError
from ..parsing import number
from . import terminal
from .options import Device, Dtype
from .terminal import app, option

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.crops import Photographs

_MODEL, _STEPS = "Model", "Optimisation"
# Steps of a run whose end is a matter of time.
_ENDLESS = 10**9


@app.command()
@terminal.computing("lower --batch or --crop, or the widths --N and --M", long=True)
def train(
    context: typer.Context,
    photos: Annotated[Path, typer.Argument(help="Folder of training photographs.", show_default=False)],
    out: Annotated[
        Path, option("Folder for the weights, the card that documents their training, and the checkpoint.")
    ],
    name: Annotated[str, option("Name of the codec's family.")] = "mshyper-s",
    lmbda: Annotated[
        list[float] | None,
        option(
            "λ: a larger one gives better pictures and larger files; give several for a family. Default:"
            " 0.01."
        ),
    ] = None,
    n: Annotated[int, option("Width of the networks.", _MODEL, "--N")] = 64,
    m: Annotated[int, option("Channels of the latents y.", _MODEL, "--M")] = 192,
    start: Annotated[
        Path | None, option("Weights of the same --N and --M to start from (.safetensors).", _MODEL)
    ] = None,
    steps: Annotated[int, option("Optimiser steps; can be raised when resuming.", _STEPS)] = 30_000,
    warmup: Annotated[int, option("First steps, during which the learning rate rises.", _STEPS)] = 200,
    cooldown: Annotated[
        int, option("Last steps, during which the learning rate falls to zero.", _STEPS)
    ] = 9_000,
    minutes: Annotated[
        float | None,
        option(
            "Minutes of training in place of --steps and --cooldown: the learning rate falls in the second"
            " half.",
            _STEPS,
        ),
    ] = None,
    lr: Annotated[float, option("Learning rate of the optimiser SOAP between them.", _STEPS)] = 1e-3,
    crop: Annotated[int, option("Side of the random crops in pixels, a multiple of 64.", _STEPS)] = 256,
    batch: Annotated[int, option("Crops per step; for a family, per λ.", _STEPS)] = 2,
    per_step: Annotated[int, option("Number of λ of a family in one step.", _STEPS)] = 2,
    mixed: Annotated[
        bool,
        option("Train the decoder on rounded latents, --no-mixed on latents with noise.", _STEPS),
    ] = True,
    average: Annotated[
        float,
        option(
            "Decay per step of the published average of the weights; 0 publishes the last weights.", _STEPS
        ),
    ] = 0.999,
    holdout: Annotated[
        int,
        option("Number of photographs, the last by name, used for evaluation instead of training.", _STEPS),
    ] = 16,
    report_every: Annotated[int, option("Steps between two evaluations.", _STEPS, min=1)] = 100,
    seed: Annotated[int, option("Random seed of weights, crops and noise.", _STEPS)] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Train a codec, or a family of codecs of several λ, on photographs of your own.

    The codec is a mean-scale hyperprior (Minnen, Ballé and Toderici 2018). Interrupted at any point, the same
    command continues from its last checkpoint, on a CPU with the same result. The codec is evaluated
    now and then on held-out photographs, and at the end on Kodak if that data set is on this computer. The
    published weights are an average over the last steps.

    Several λ share one network, which is published as one file: `--lmbda` then chooses among them wherever a
    codec is named, and may lie in between.

    - `sgaplus train photographs --out trained --lmbda 0.01`
    - `sgaplus train photographs --out trained --lmbda 0.005 --lmbda 0.01 --lmbda 0.02`
    - `sgaplus refine photo.png --codec trained`
    """
    from ..codecs import bundled
    from ..training import checkpoints, crops, publishing
    from ..training import run as runs
    from ..training.lineage import UNTRAINED, lineage_of
    from ..training.recipes import Recipe, middle

    lineage = lineage_of(start) if start and start.is_file() else UNTRAINED
    lmbda = lmbda or [0.01]
    family = tuple(lmbda) if len(lmbda) > 1 else ()
    if not family:
        terminal.refuse(context, "only a family has several λ, give --lmbda several times", "per_step")
    if minutes is not None:
        terminal.refuse(context, "--minutes takes its place, leave out one of them", "steps", "cooldown")
        minutes = number(minutes, "minutes")
        steps, cooldown = _ENDLESS, 0
    # The other settings are parameters of their names.
    names = {field.name for field in fields(Recipe)} - {"lmbda", "family", "clip", "steps", "cooldown"}
    settings = {name: context.params[name.lower()] for name in names} | {"steps": steps, "cooldown": cooldown}
    reference = (lineage.lmbda or middle(family)) if family else lmbda[0]
    recipe = Recipe(lmbda=reference, family=family, **settings)
    io.check_folder(out)
    photographs = crops.read_photographs(photos, crop, holdout)
    terminal.say(_held_out(photographs, holdout))
    stem = bundled.stem(name, lmbda)
    weights, checkpoint = out / f"{stem}.safetensors", out / f"{f'{name}_family' if family else stem}.pt"
    if checkpoint.is_file():
        if minutes is not None:
            state, begun = checkpoints.read(checkpoint)
            if state["step"] > begun.steps - begun.cooldown:
                recipe = replace(recipe, steps=begun.steps, cooldown=begun.cooldown)
                terminal.note(
                    f"the cool-down of {checkpoint} has begun and ends with step {begun.steps}, whatever"
                    " --minutes says: to train for longer, start from its weights, with --start and another"
                    " --out"
                )
        run = runs.Run.resume(checkpoint, recipe, device, dtype)
        if start and start.name != run.lineage.start:
            raise UserError(f"{checkpoint} did not start from {start.name}: use another --out")
        terminal.say(f"resuming {checkpoint} at step {run.step}")
    elif weights.exists():
        raise UserError(f"{weights} is there, and no checkpoint of its training: use another --out")
    elif start:
        run = publishing.start_from(start, recipe, device, dtype, lineage)
    else:
        run = runs.Run.start(recipe, device, dtype)
    with terminal.bar("training") as bar:
        task = bar.add_task("", total=None if minutes else recipe.steps, completed=run.step)

        def report(step: int, rows: list[dict[str, float]]) -> None:
            bar.update(task, completed=step)
            terminal.say(f"step {step}  {_progress(rows)}")

        told: dict[str, Any] = {"report": report, "report_every": report_every, "minutes": minutes}
        held_out = list(photographs.held_out.values())
        runs.train(run, photographs.training, checkpoint, held_out=held_out, **told)
    story = f"{len(photographs.training)} photographs of {photos.resolve().name}"
    path = publishing.publish(run, out, story, _kodak())
    for card in bundled.read_cards(path.with_suffix(".json")):
        if point := card.kodak:
            of = f"λ = {card.lmbda:g} on Kodak, mean over {point['images']} images without refinement"
            parts = f"{point['bpp']:.4f} bpp, PSNR {point['psnr']:.2f} dB, loss {point['loss']:.4f}"
            terminal.show(f"{of}: {parts}")
    terminal.show(f"weights and card: {path}")


def _held_out(photographs: Photographs, wanted: int) -> str:
    """Which photographs are held out, in words."""
    names, total = photographs.held_out, len(photographs.held_out) + len(photographs.training)
    if names:
        return f"{len(names)} of {total} photographs are held out for evaluation: {', '.join(names)}"
    reason = f": {wanted} would be half of the {total} or more (--holdout)" if wanted else ""
    return f"no photograph is held out{reason}"


def _progress(rows: Sequence[dict[str, float]]) -> str:
    """What happened in the last steps: everything for one λ, the losses for several."""
    if len(rows) == 1:
        (row,) = rows
        text = f"loss {row['loss']:.4f}  bpp {row['bpp']:.4f}  PSNR {row['psnr']:.2f} dB"
        if "held_out_loss" in row:
            text += f"  held out: loss {row['held_out_loss']:.4f}  bpp {row['held_out_bpp']:.4f}  "
            text += f"PSNR {row['held_out_psnr']:.2f} dB"
        return text
    text = "loss " + ", ".join(f"{row['loss']:.3f} (λ {row['lmbda']:g})" for row in rows)
    if all("held_out_loss" in row for row in rows):
        text += "  held out: " + ", ".join(f"{row['held_out_loss']:.3f}" for row in rows)
    return text


def _kodak() -> list[Tensor]:
    """The Kodak photographs; none, with a note, if they are not on this computer."""
    from ..data import datasets

    try:
        return [image.read() for image in datasets.list_images("kodak")]
    except UserError as error:
        terminal.note(f"the card gets no Kodak point: {error}")
        return []
