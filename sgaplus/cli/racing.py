"""``sgaplus race``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import io
from ..errors import UserError
from . import terminal
from .app import CodecLmbda, CodecName, Device, Dtype, Quality, app
from .terminal import option

_TABLE = {
    "image": "{}",
    "plain": "{:.1f}",
    "preset": "{:.1f}",
    "ratio": "{:.1f}",
    "loss": "{:+.2f}",
}


@app.command()
@terminal.computing("choose a --crop, or a smaller one")
def race(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photographs, folders of them, or data sets by name.", show_default=False),
    ],
    out: Annotated[Path, option("A table (.csv): a line is added for each photograph.")] = Path("race.csv"),
    iterations: Annotated[int, option("Steps of the preset.")] = 100,
    reference_iterations: Annotated[int, option("Steps of the plain loop.")] = 500,
    preset: Annotated[str, option("What runs against the plain loop.")] = "fast",
    crop: Annotated[
        int | None, option("Side in pixels of the square in each photograph's centre, a multiple of 64.")
    ] = None,
    limit: Annotated[int | None, option("Only the first so many photographs.")] = None,
    seed: Annotated[int, option("Of the random numbers.")] = 0,
    codec: CodecName = "mshyper",
    lmbda: CodecLmbda = None,
    quality: Quality = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Measure how much sooner a preset is where the plain loop of public implementations ends.

    Each photograph is refined by both, in turn and in one process: by the plain loop with SSL(2.3) as published,
    in float32, with the true loss at every step, and by the preset. **plain** and **preset** are seconds, all
    in all, **ratio** is how many times as long the plain loop takes, and **loss** is by how many percent the preset's true loss differs from
    the plain loop's at the end. Photographs that the table has already are skipped, so that a race can be
    stopped and gone on with.

    - `sgaplus race kodak --limit 3`
    - `sgaplus race photo.png --crop 256 --reference-iterations 2000 --iterations 400`
    """

    from ..bench import race as races
    from ..codecs import weights
    from ..data import datasets

    settings = races.Settings(iterations, reference_iterations, preset, seed)
    if out.suffix != ".csv":
        raise UserError(f"--out must end in .csv, not '{out}'")
    io.check_folder(out.parent)
    found = datasets.list_images(photos[0] if len(photos) == 1 else photos, limit=limit, crop=crop)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    with terminal.bar("racing") as bar:
        task = bar.add_task("", total=None)
        table = races.run(
            out,
            loaded,
            found,
            settings,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    table = races.compared(table)
    change = table["change"]
    shown = table.assign(plain=table["reference_seconds"], preset=table["seconds"], loss=change)
    terminal.show(terminal.table(shown, _TABLE))
    terminal.show(
        f"{reference_iterations} steps of the plain loop take {table['ratio'].median():.1f} times as long (median) "
        f"as {iterations} of {preset}, whose true loss differs by {change.mean():+.2f} % (mean; from "
        f"{change.min():+.2f} to {change.max():+.2f})"
    )
    terminal.show(f"table: {out}")
