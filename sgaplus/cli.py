"""The command line: ``sgaplus refine``, ``codecs``, ``data``, ``train``, ``pages``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from torch import Tensor

from . import __version__, crops, datasets, files, images, publishing, schedules, terminal, training, weights
from .errors import UserError
from .lineage import UNTRAINED, lineage_of
from .recipes import middle
from .refine import refine as refine_images
from .rounding import parse
from .specs import number
from .terminal import option

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: which are here, and fetching them.")
pages_app = typer.Typer(no_args_is_help=True, help="The pages of the book, in a checkout of the repository.")
app.add_typer(data_app, name="data")
app.add_typer(pages_app, name="pages")

_CODEC, _REFINEMENT, _MODEL, _STEPS, _HARDWARE = "Codec", "Refinement", "Model", "Optimisation", "Hardware"
Device = Annotated[str, option("cpu, cuda (an NVIDIA GPU), or auto: the GPU where there is one.", _HARDWARE)]
Dtype = Annotated[
    str, option("Number format: float32, bfloat16 (faster where the hardware has it), or auto.", _HARDWARE)
]

_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, option("Show the version.", None, "--version")] = False) -> None:
    """Refine the latents of neural image codecs: fewer bits and better pictures for the same decoder.

    A neural codec turns a photograph into *latents*, the numbers that its file consists of, by one pass
    through a network that was trained for all photographs. Refinement (the methods SGA and SGA+) goes on to
    optimise these numbers for the one photograph at hand. It minimises λ · distortion + bits: the larger
    **λ** (lmbda), the more quality counts.

    - `sgaplus codecs` shows which codecs there are
    - `sgaplus refine photo.png --iterations 100` refines a photograph; the result is in `refined/`
    - `sgaplus refine --help` explains every option
    """
    if version:
        terminal.show(f"sgaplus {__version__}")
        raise typer.Exit


@app.command()
@terminal.enough_memory("lower --batch-size, or scale the photographs down")
def refine(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photographs, folders of them, or data sets by name.", show_default=False),
    ],
    out: Annotated[Path, option("Folder for the decoded photographs (PNG) and the table of results.")] = Path(
        "refined"
    ),
    rows: Annotated[
        str, option("The table's name in that folder; it ends in .csv or .parquet.")
    ] = "rows.csv",
    iterations: Annotated[
        int, option("Optimisation steps: 100 bring most of the gain, 2000 are the paper's.")
    ] = 500,
    codec: Annotated[
        str, option("A name that `sgaplus codecs` lists, or the file of a checkpoint.", _CODEC)
    ] = "mshyper-s",
    lmbda: Annotated[
        float | None,
        option("λ it was trained with, where its name comes with several, and for a checkpoint.", _CODEC),
    ] = None,
    quality: Annotated[
        int | None, option("1 (small files) to 8 (best pictures), of a downloadable codec.", _CODEC)
    ] = None,
    method: Annotated[
        str,
        option(
            "What stands for rounding while optimising. SGA+: ssl or ssl:a=2.3, linear, cosine, "
            "three-class:base=linear; SGA: atanh; baselines: ste, uniform, da, map.",
            _REFINEMENT,
        ),
    ] = "ssl",
    refine_lmbda: Annotated[
        float | None,
        option("λ if not the codec's: a higher one for quality, a lower one for fewer bits.", _REFINEMENT),
    ] = None,
    temperature: Annotated[
        str | None,
        option(
            "How the temperature τ in (0, 1] falls, and with it chance in rounding: "
            "exponential:c=0.001,tau_max=1 or exponential-to:end=0.05; by default as published.",
            _REFINEMENT,
        ),
    ] = None,
    lr: Annotated[
        str | None,
        option("Learning rate: a number, or cosine:value=0.01; by default as published.", _REFINEMENT),
    ] = None,
    seed: Annotated[int, option("Of the random numbers.", _REFINEMENT)] = 0,
    batch_size: Annotated[
        int | None,
        option("Most photographs at once, by default 24 on a GPU, else 1; changes no result.", _HARDWARE),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Refine photographs, and write what the decoder makes of them.

    The table has a row per photograph before refinement, after 500 steps and at the end: the **loss** that is
    minimised, λ·255²·MSE + bpp; **bpp**, bits per pixel; **PSNR** in dB and **MS-SSIM**, of which more is
    closer to the original; seconds.

    - `sgaplus refine photo.png`
    - `sgaplus refine holidays --iterations 100 --out smaller --refine-lmbda 0.005`
    - `sgaplus refine kodak --method atanh --rows rows.parquet`
    - `sgaplus refine photo.png --codec mbt2018-mean --quality 3`
    """
    if Path(rows).suffix not in _WRITERS:
        raise UserError(f"--rows must end in .csv or .parquet, not '{rows}'")
    chosen = parse(method)
    published = schedules.defaults_for(chosen)
    settings = schedules.Settings(temperature or published.temperature, lr or published.lr)
    if refine_lmbda is not None:
        number(refine_lmbda, "--refine-lmbda")
    found = datasets.list_images(photos[0] if len(photos) == 1 else photos)
    targets = _targets(found, out)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    pictures = [image.read() for image in found]
    terminal.say(f"refining {len(found)} image{'s' * (len(found) > 1)}; results are written at the end")
    with terminal.bar("refining") as bar:
        task = bar.add_task("", total=iterations * len(pictures))
        run = refine_images(
            loaded,
            pictures,
            chosen,
            lmbda=refine_lmbda,
            iterations=iterations,
            temperature=settings.temperature,
            lr=settings.lr,
            seed=seed,
            names=[image.name for image in found],
            batch_size=batch_size,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    for target, x_hat in zip(targets, run.reconstructions, strict=True):
        images.write_image(target, x_hat)
    table = run.rows.assign(codec=loaded.name, codec_lmbda=loaded.lmbda)
    with files.atomic(out / rows) as temporary:
        _WRITERS[temporary.suffix](table, temporary)
    where = f"{str(loaded.dtype).removeprefix('torch.')} on {loaded.device}"
    terminal.show(f"{loaded.name}, λ = {loaded.lmbda:g}, {chosen.label}, {where}")
    formats = {"image": "{}", "iteration": "{:d}", "loss": "{:.4f}", "bpp": "{:.4f}"}
    formats |= {"psnr_8bit": "{:.2f}", "ms_ssim": "{:.4f}", "seconds": "{:.1f}"}
    terminal.show(terminal.table(table, formats))
    terminal.show(f"decoded photographs and {rows} are in {out}")


def _targets(found: Sequence[datasets.ImageFile], folder: Path) -> list[Path]:
    """Where the decoded photographs go.

    Raises:
        UserError: the folder cannot be written to, or a photograph would be overwritten.
    """
    files.check_folder(folder)
    originals = {image.path.resolve() for image in found}
    targets = [folder / f"{image.name}.png" for image in found]
    for target in targets:
        if target.resolve() in originals:
            raise UserError(f"{target} is one of the photographs and would be overwritten: use another --out")
    return targets


@app.command()
def codecs() -> None:
    """List the codecs: where they are, their λ and size, and how they do on Kodak without refinement.

    A codec is *bundled* with this package, *downloadable* (on first use), or *cached* after that. A larger λ
    means better pictures and larger files. **kodak_bpp** are bits per pixel, **kodak_psnr** is the PSNR in dB
    (more is closer to the original), both as means over the 24 Kodak photographs, on which codecs are usually
    compared.
    """
    frame = pd.DataFrame(weights.listing())
    frame["MB"] = frame.pop("bytes").astype(float) / 1e6
    frame["quality"] = frame["quality"].astype(float)
    formats = {"name": "{}", "where": "{}", "lmbda": "{:g}", "quality": "{:.0f}", "MB": "{:.1f}"}
    kodak = {"kodak_bpp": "{:.4f}", "kodak_psnr": "{:.2f}"}
    formats |= {name: text for name, text in kodak.items() if name in frame}
    terminal.show(terminal.table(frame, formats))


@data_app.command("list")
def data_list() -> None:
    """Show the data sets, how many of their images are here, and in which folder.

    They are in the folder that the environment variable SGAPLUS_DATA names, else in the user's cache.
    """
    frame = pd.DataFrame([vars(row) for row in datasets.status()])
    frame["folder"] = frame["folder"].astype(str)
    formats = {"name": "{}", "have": "{:d}", "of": "{:d}", "folder": "{}", "about": "{}"}
    terminal.show(terminal.table(frame, formats))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="kodak, tecnick, clic2020 or clic2025.", show_default=False)],
) -> None:
    """Download a data set, every file checked by its SHA-256; a second call fetches what is missing.

    Example: `sgaplus data fetch kodak`
    """
    terminal.show(f"{name} is in {datasets.fetch(name)}")


@app.command()
@terminal.enough_memory("lower --batch or --crop, or the widths --N and --M")
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
    lineage = lineage_of(start) if start and start.is_file() else UNTRAINED
    family = tuple(lmbda) if len(lmbda) > 1 else ()
    recipe = training.Recipe(
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
    files.check_folder(out)
    given = publishing.widen(weights.read_safetensors(start), n, m, seed) if start else None
    photographs = crops.read_photographs(photos, crop, recipe.holdout)
    checkpoint = out / f"{f'{name}_family' if family else weights.stem(name, lmbda[0])}.pt"
    if checkpoint.is_file():
        run = training.Run.resume(checkpoint, recipe, device, dtype)
        terminal.say(f"resuming {checkpoint} at step {run.step}")
    else:
        run = training.Run.start(recipe, device, dtype, given, lineage)
    with terminal.bar("training") as bar:
        task = bar.add_task("", total=recipe.steps, completed=run.step)

        def report(step: int, rows: list[dict[str, float]]) -> None:
            bar.update(task, completed=step)
            terminal.say(f"step {step}  {_progress(rows)}")

        training.train(run, photographs, checkpoint, report=report)
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
    try:
        return [image.read() for image in datasets.list_images("kodak")]
    except UserError as error:
        terminal.note(f"the card gets no Kodak point: {error}")
        return []


@pages_app.command("build")
def pages_build(
    force: Annotated[bool, option("Run also the pages that are up to date.", None, "--force")] = False,
) -> None:
    """Run every page of the book whose template, parameters, code or results have changed.

    To be called in the repository's root. `make book` does this too, and then builds the book.
    """
    from . import pages  # papermill belongs to the extra `book`

    pages.execute_all(force=force)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; no mistake shows a traceback.

    Args:
        arguments: those of the process where None.
    """
    sys.exit(terminal.run(app, arguments))
