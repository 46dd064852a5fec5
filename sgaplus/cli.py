"""The command line: ``sgaplus refine``, ``codecs``, ``data``, ``train``, ``pages``.

Exit codes: 0, 2 for what the user can mend, 1 for what is not the user's fault.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import click
import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import __version__
from .errors import SystemFault, UserError

app = typer.Typer(
    help="Refine the latents of pretrained neural image codecs (SGA+).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: what is here, and fetching with checksums.", no_args_is_help=True)
pages_app = typer.Typer(help="The pages of the book.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(pages_app, name="pages")
out, err = Console(soft_wrap=False), Console(stderr=True)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="Number format of the convolutions: auto, float32 or bfloat16.")]


def _table(frame: pd.DataFrame, formats: dict[str, str]) -> Table:
    """A small table for the terminal: the columns of ``formats``, formatted."""
    table = Table(box=None, header_style="bold")
    for column in formats:
        table.add_column(column, justify="left" if frame[column].dtype.kind not in "ifu" else "right")
    for _, row in frame.iterrows():
        table.add_row(*("–" if pd.isna(row[c]) else f.format(row[c]) for c, f in formats.items()))
    return table


def _bar(description: str) -> Progress:
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


def _write_table(frame: pd.DataFrame, path: Path) -> None:
    from . import files

    writers: dict[str, Callable[[Path], None]] = {
        ".csv": lambda p: frame.to_csv(p, index=False),
        ".parquet": lambda p: frame.to_parquet(p, index=False),
    }
    if path.suffix not in writers:
        raise UserError(f"rows are written as .csv or .parquet, not as '{path.suffix}'")
    with files.atomic(path) as temporary:
        writers[path.suffix](temporary)


@app.command()
def refine(
    photos: Annotated[list[str], typer.Argument(help="Photographs, folders, or names of data sets.")],
    codec: Annotated[
        str, typer.Option(help="A bundled family, a zoo name, or the path of a checkpoint.")
    ] = "mshyper-s",
    lmbda: Annotated[
        float | None, typer.Option(help="λ the codec was trained with (see `sgaplus codecs`).")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="1 … 8, of a zoo codec.")] = None,
    refine_lmbda: Annotated[
        float | None, typer.Option(help="λ of the refinement; the codec's own by default.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="Rounding method: ssl:a=2.3, atanh, linear, cosine, three-class:base=linear, …"),
    ] = "ssl",
    iterations: Annotated[
        int, typer.Option(help="Adam steps; results are read off at 500 and at the end.")
    ] = 500,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Annotated[int, typer.Option(help="Of the rounding noise.")] = 0,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for the reconstructions (PNG) and the rows.")
    ] = Path("refined"),
    rows: Annotated[
        str, typer.Option(help="File of the rows in that folder: .csv or .parquet.")
    ] = "rows.csv",
) -> None:
    """Refine photographs and write what the decoder makes of them.

    Example: `sgaplus refine photo.png --iterations 500 --out refined`
    """
    from . import datasets, images, weights
    from .refine import refine as refine_images
    from .rounding import parse

    if Path(rows).suffix not in (".csv", ".parquet"):
        raise UserError(f"--rows must end in .csv or .parquet, not '{rows}'")
    chosen = parse(method)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    found = datasets.list_images(photos[0] if len(photos) == 1 else photos)
    pictures = [image.read() for image in found]
    names = [image.name for image in found]
    with _bar("refining") as bar:
        task = bar.add_task("", total=max(1, iterations * len(pictures)))
        run = refine_images(
            loaded,
            pictures,
            chosen,
            lmbda=refine_lmbda,
            iterations=iterations,
            seed=seed,
            names=names,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    for name, x_hat in zip(names, run.reconstructions, strict=True):
        images.write_image(out_folder / f"{name}.png", x_hat)
    _write_table(run.rows, out_folder / rows)
    shown = {
        "image": "{}",
        "iteration": "{:d}",
        "loss": "{:.4f}",
        "bpp": "{:.4f}",
        "psnr_8bit": "{:.2f}",
        "ms_ssim": "{:.4f}",
        "seconds": "{:.1f}",
    }
    out.print(
        f"{loaded.name}, λ = {loaded.lmbda:g}, {chosen.label}, {str(loaded.dtype)[6:]} on {loaded.device}"
    )
    out.print(_table(run.rows, shown))
    out.print(f"reconstructions and {rows} are in {out_folder}")


@app.command()
def codecs() -> None:
    """List the codecs: bundled, cached and downloadable, with size, λ and Kodak point."""
    from . import weights

    frame = pd.DataFrame(weights.listing())
    frame["MB"] = frame.pop("bytes") / 1e6
    if "quality" not in frame:
        frame["quality"] = None
    formats = {"name": "{}", "where": "{}", "lmbda": "{:g}", "quality": "{:.0f}", "MB": "{:.1f}"}
    kodak = {
        c: "{:.4f}" if c.endswith("bpp") else "{:.2f}" for c in frame if c in ("kodak_bpp", "kodak_psnr")
    }
    out.print(_table(frame, formats | kodak))


@data_app.command("list")
def data_list() -> None:
    """Show which data sets are here."""
    from . import datasets

    frame = pd.DataFrame([vars(row) for row in datasets.status()])
    frame["folder"] = frame["folder"].astype(str)
    out.print(_table(frame, {"name": "{}", "have": "{:.0f}", "of": "{:.0f}", "folder": "{}", "about": "{}"}))


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="kodak, tecnick, clic2020 or clic2025.")]) -> None:
    """Download a data set; every file is checked by its sha256, and a second call fetches only what is missing."""
    from . import datasets

    out.print(f"{name} is in {datasets.fetch(name)}")


@app.command()
def train(
    photos: Annotated[Path, typer.Argument(help="Folder of training photographs.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for weights, card and checkpoint.")],
    name: Annotated[str, typer.Option(help="Family name of the result.")] = "mshyper-s",
    n: Annotated[int, typer.Option("--N", help="Channels of the transforms.")] = 64,
    m: Annotated[int, typer.Option("--M", help="Channels of the latent y.")] = 96,
    lmbda: Annotated[float, typer.Option(help="λ of the loss.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Optimiser steps; may be raised on resuming.")] = 30_000,
    cooldown: Annotated[
        int, typer.Option(help="Last steps, in which the learning rate falls to zero.")
    ] = 9_000,
    lr: Annotated[float, typer.Option(help="SOAP's learning rate.")] = 1e-3,
    crop: Annotated[int, typer.Option(help="Pixels per side of the random crops.")] = 128,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    seed: Annotated[int, typer.Option(help="Of weights, crops and noise.")] = 0,
    lmbda_start: Annotated[float, typer.Option(help="λ of the first steps.")] = 0.05,
    lmbda_until: Annotated[int, typer.Option(help="Step from which λ is --lmbda; 0 for no such start.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to start from, .safetensors.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Train a base codec (mean-scale hyperprior). Killed at any point, the same command resumes.

    Example: `sgaplus train photographs --out trained --lmbda 0.01`
    """
    from . import publishing, training, weights

    recipe = training.Recipe(
        name=name,
        N=n,
        M=m,
        lmbda=lmbda,
        steps=steps,
        cooldown=cooldown,
        lr=lr,
        crop=crop,
        batch=batch,
        seed=seed,
        lmbda_start=lmbda_start,
        lmbda_until=lmbda_until,
    )
    photographs = training.read_photographs(photos, recipe)
    checkpoint = out_folder / f"{weights.stem(name, lmbda)}.pt"
    if checkpoint.is_file():
        run = training.Run.resume(checkpoint, recipe, device, dtype)
        err.print(f"resuming {checkpoint} at step {run.step}")
    else:
        run = training.Run.start(recipe, device, dtype, weights=start and weights.read_safetensors(start))
    with _bar("training") as bar:
        task = bar.add_task("", total=recipe.steps, completed=run.step)

        def report(step: int, means: dict[str, float]) -> None:
            bar.update(task, completed=step)
            bar.console.print(
                f"step {step}  loss {means['loss']:.4f}  bpp {means['bpp']:.4f}  PSNR {means['psnr']:.2f} dB"
            )

        training.train(run, photographs, checkpoint, report=report)
    path = publishing.publish(run, out_folder, f"{len(photographs)} photographs of {photos.name}")
    out.print(f"weights and card: {path}")


@pages_app.command("build")
def pages_build(force: Annotated[bool, typer.Option(help="Run fresh pages too.")] = False) -> None:
    """Run papermill for every stale page of the book."""
    from . import pages

    pages.execute_all(force=force)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        out.print(f"sgaplus {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; a user's mistake never shows a traceback."""
    warnings.showwarning = lambda message, *_, **__: err.print(f"note: {message}", style="yellow")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    code = 0
    try:
        app(args=arguments, standalone_mode=False, prog_name="sgaplus")
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.ClickException as error:
        error.show()
        code = 2
    except UserError as error:
        err.print(f"error: {error}", style="red", highlight=False)
        code = 2
    except SystemFault as error:
        err.print(f"error: {error}", style="red", highlight=False)
        code = 1
    except (KeyboardInterrupt, click.exceptions.Abort):
        err.print("stopped; nothing was left half-written", style="red")
        code = 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full: free some space and run again" if full else str(error)
        err.print(f"error: {what}", style="red", highlight=False)
        code = 1
    sys.exit(code)
