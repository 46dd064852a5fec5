"""The application that the commands join."""

from typing import Annotated

import typer

from .. import __version__
from . import terminal
from .terminal import option

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, option("Show the version.", None, "--version")] = False) -> None:
    """Refine the latents of neural image codecs: fewer bits and better pictures for the same decoder.

    A neural codec turns a photograph into *latents*, the numbers stored in its file, by one pass through a
    network that was trained for all photographs. Refinement (the methods SGA and SGA+) then optimises these
    numbers for one photograph. It minimises λ · distortion + bits: a larger **λ** (lmbda) gives more weight
    to quality.

    - `sgaplus codecs` lists the codecs
    - `sgaplus refine photo.png` refines a photograph and writes the result to `refined/`
    - `sgaplus refine --help` explains every option
    """
    if version:
        terminal.show(f"sgaplus {__version__}")
        raise typer.Exit
