"""``sgaplus codecs`` and ``data``"""

from typing import Annotated

import typer

from . import terminal
from .terminal import app

codecs_app = typer.Typer(invoke_without_command=True)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: list and download them.")
app.add_typer(codecs_app, name="codecs")
app.add_typer(data_app, name="data")


@codecs_app.callback()
def codecs(context: typer.Context) -> None:
    """List the codecs: where they are, their λ and size, and their results on Kodak without refinement.

    A codec is *bundled* with this package, *downloadable* (on first use), or *cached* after that. A larger λ
    means better pictures and larger files. **bpp** is bits per pixel, **psnr** the PSNR in dB (higher is
    better). Both are means over the 24 Kodak photographs, the usual test images: measured for bundled codecs,
    as published by CompressAI for the others.

    Wherever a codec is named, `mbt2018-mean@3` is its quality 3, `mbt2018-mean@1-4` is a series of four, and
    `mbt2018-mean:ms-ssim` are those trained for MS-SSIM. Checkpoints are a file, a folder of them, or a list
    with their λ, `low.pth=0.01,high.pth=0.02`. Codecs of variable rate (`-vbr`) take any λ as their rate.
    Bundled codecs that share a network show the size of its one file, and have the λ in between too.
    """
    if context.invoked_subcommand:
        return
    import pandas as pd

    from ..codecs import weights

    frame = pd.DataFrame(weights.listing())
    frame["MB"] = frame.pop("bytes").astype(float) / 1e6
    frame["quality"] = frame["quality"].astype(float)
    frame = frame.rename(columns={"kodak_bpp": "bpp", "kodak_psnr": "psnr"})
    formats = {"lmbda": "{:g}", "quality": "{:.0f}", "MB": "{:.1f}", "bpp": "{:.4f}", "psnr": "{:.2f}"}
    terminal.show(terminal.table(frame[["name", "where", *formats]], **formats))


@codecs_app.command("fetch")
def codecs_fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A downloadable codec, with all or some of its qualities: mbt2018-mean@1-4.",
            show_default=False,
        ),
    ],
) -> None:
    """Download a codec's weights and check their SHA-256; a second call goes on where it was.

    - `sgaplus codecs fetch mbt2018-mean`
    - `sgaplus codecs fetch cheng2020-anchor@1-6`
    """
    from ..codecs import zoo
    from ..codecs.series import series

    found = series(name)
    if missing := found.missing():
        where = f"{found.size_missing / 1e6:.0f} MB to download into {zoo.zoo_folder()}"
        terminal.say(f"{name}: {len(missing)} of {len(found.members)} codecs, {where}")
        found.fetch(progress=True)
    downloaded = found.members[0].quality is not None
    where = f"is in {zoo.zoo_folder()}" if downloaded else "needs no download"
    terminal.show(f"{name} {where}: λ {', '.join(f'{value:g}' for value in found.lmbdas)}")


@data_app.command("list")
def data_list() -> None:
    """List the data sets, how many of their images are on this computer, and in which folder.

    The folder is that of the environment variable SGAPLUS_DATA, or else the user's cache folder.
    """
    from ..data import datasets

    terminal.show(terminal.table(datasets.status()))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="kodak, tecnick, clic2020 or clic2025.", show_default=False)],
) -> None:
    """Download a data set and check the SHA-256 of every file; a second call downloads what is missing.

    Example: `sgaplus data fetch kodak`
    """
    from ..data import datasets

    absent = datasets.absent(name)
    if absent:
        terminal.say(f"{name}: {absent} images are missing, about {datasets.megabytes(name):.0f} MB")
    terminal.show(f"{name} is in {datasets.fetch(name)}")
