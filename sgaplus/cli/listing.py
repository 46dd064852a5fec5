"""``sgaplus codecs``, ``data`` and ``pages``"""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import UserError
from . import terminal
from .app import app
from .terminal import option

data_app = typer.Typer(no_args_is_help=True, help="Data sets: which are here, and fetching them.")
pages_app = typer.Typer(no_args_is_help=True, help="The pages of the book, in a checkout of the repository.")
app.add_typer(data_app, name="data")
app.add_typer(pages_app, name="pages")


@app.command()
def codecs() -> None:
    """List the codecs: where they are, their λ and size, and how they do on Kodak without refinement.

    A codec is *bundled* with this package, *downloadable* (on first use), or *cached* after that. A larger λ
    means better pictures and larger files. **bpp** are bits per pixel, **psnr** is the PSNR in dB
    (more is closer to the original), both as means over the 24 Kodak photographs, on which codecs are usually
    compared: measured for bundled codecs, as CompressAI publishes them for the others.
    """
    import pandas as pd

    from ..codecs import weights

    frame = pd.DataFrame(weights.listing())
    frame["MB"] = frame.pop("bytes").astype(float) / 1e6
    frame["quality"] = frame["quality"].astype(float)
    formats = {"name": "{}", "where": "{}", "lmbda": "{:g}", "quality": "{:.0f}", "MB": "{:.1f}"}
    frame = frame.rename(columns={"kodak_bpp": "bpp", "kodak_psnr": "psnr"})
    formats |= {"bpp": "{:.4f}", "psnr": "{:.2f}"}
    terminal.show(terminal.table(frame, formats))


@data_app.command("list")
def data_list() -> None:
    """Show the data sets, how many of their images are here, and in which folder.

    They are in the folder that the environment variable SGAPLUS_DATA names, else in the user's cache.
    """
    import pandas as pd

    from ..data import datasets

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
    from ..data import datasets

    terminal.show(f"{name} is in {datasets.fetch(name)}")


@pages_app.command("build")
def pages_build(
    force: Annotated[bool, option("Run also the pages that are up to date.", None, "--force")] = False,
) -> None:
    """Run every page of the book whose template, parameters, code or results have changed.

    To be called in the repository's root. `make book` does this too, and then builds the book.
    """
    try:
        from companion import build  # beside the book, in a checkout; papermill belongs to the extra `book`
    except ImportError as error:
        raise UserError(
            f"the book's own package is not here ({error}): work in a checkout of the repository, with make book"
        ) from error
    build.execute_all(force=force)
