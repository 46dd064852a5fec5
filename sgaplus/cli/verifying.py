"""``sgaplus verify``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .app import app
from .terminal import option

# Narrow names, so that the table fits 80 columns.
_NAMES = {"codec_lmbda": "λ", "label": "method", "difference": "dB"}
_TABLE = {
    "codec": "{}",
    "λ": "{:g}",
    "method": "{}",
    "files": "{:d}",
    "bytes": "{:.0f}",
    "verified": "{:d}",
    "compared": "{:d}",
    "dB": "{:.1e}",
}


@app.command()
def verify(
    folder: Annotated[
        Path | None, typer.Argument(help="Only the files in this folder; all by default.", show_default=False)
    ] = None,
    results: Annotated[
        Path | None, option("Folder of the results; by default data/results of the checkout.")
    ] = None,
) -> None:
    """Decode the stored files and compare them with the rows that name them.

    A file verifies where its length, checksum and codec are those of its row, it decodes, and the picture has
    the row's PSNR. For the last the photograph has to be at hand (`sgaplus data list`): **compared** says of how
    many files it was, **dB** what the largest difference was. **bytes** are the mean of a file.
    Files that no row names are reported too.

    - `sgaplus verify`
    - `sgaplus verify data/results/streams/mshyper-s_lambda0.01`
    """
    from ..studies import verify as verification

    with terminal.bar("decoding") as bar:
        task = bar.add_task("", total=None)
        table = verification.verify(
            results, folder, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    terminal.show(terminal.table(verification.summary(table).rename(columns=_NAMES), _TABLE))
    for line in table[table["problem"] != ""].itertuples():
        terminal.say(f"{line.stream}: {line.problem}")
    verification.require(table)
    terminal.show(f"all {len(table)} files verify")
