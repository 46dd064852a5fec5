"""``sgaplus verify``"""

from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .app import app
from .options import CODEC
from .studying import Results
from .terminal import option

# Narrow names, so that the table fits 80 columns.
_NAMES = {"codec_lmbda": "λ", "label": "method", "difference": "dB"}
_FORMATS = {"λ": "{:g}", "bytes": "{:.0f}", "dB": "{:.1e}"}


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Verify only the files in this folder. Default: all files.", show_default=False),
    ] = None,
    codec: Annotated[
        str | None,
        option(
            "Verify only the files of this codec; checkpoints of your own are decoded only if named here."
            " Default: the files of all codecs.",
            CODEC,
        ),
    ] = None,
    results: Results = None,
) -> None:
    """Decode the stored files and compare them with the rows that name them.

    A file is verified if its length, checksum and codec are those of its row, if it decodes, and if the
    picture has the row's PSNR. The PSNR needs the photograph (`sgaplus data list`): **compared** is the
    number of files for which it is on this computer, **dB** the largest difference. **bytes** is the mean
    size of a file. Files that no row names are reported, too.

    - `sgaplus verify`
    - `sgaplus verify data/results/streams/mshyper-s_lambda0.01`
    - `sgaplus verify --codec ./checkpoints`
    """
    from ..studies import verify as verification

    with terminal.counting("decoding") as progress:
        table = verification.verify(results, folder, codec=codec, progress=progress)
    summary = verification.summary(table).drop(columns="decoded").rename(columns=_NAMES)
    terminal.show(terminal.table(summary, **_FORMATS))
    for line in table[table["problem"] != ""].itertuples():
        terminal.say(f"{line.stream}: {line.problem}")
    verification.require(table)
    terminal.show(f"all {len(table)} files are verified")
