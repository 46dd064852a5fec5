"""``sgaplus race``"""

from pathlib import Path
from typing import Annotated

from . import terminal
from .app import app
from .options import CodecLmbda, CodecName, Device, Dtype, Photos, Quality
from .terminal import option

_FORMATS = {"plain": "{:.1f}", "preset": "{:.1f}", "ratio": "{:.1f}", "loss": "{:+.2f}"}


@app.command()
@terminal.computing("choose a --crop, or a smaller one")
def race(
    photos: Photos,
    out: Annotated[Path, option("Table of results (.csv); a row is added for each photograph.")] = Path(
        "race.csv"
    ),
    iterations: Annotated[int, option("Iterations of the preset.")] = 25,
    reference_iterations: Annotated[int, option("Iterations of the plain loop.")] = 500,
    preset: Annotated[str, option("Preset to compare with the plain loop.")] = "fast",
    crop: Annotated[
        int | None, option("Refine only the central square of this side in pixels, a multiple of 64.")
    ] = None,
    limit: Annotated[int | None, option("Maximum number of photographs.")] = None,
    seed: Annotated[int, option("Random seed.")] = 0,
    codec: CodecName = "mshyper",
    lmbda: CodecLmbda = None,
    quality: Quality = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Measure how long a preset needs to reach the final loss of the plain loop of public implementations.

    Both refine each photograph, in turn and in one process. The plain loop uses SSL (a = 2.3) with its
    published settings in float32 and computes the true loss at every step. **plain** and **preset** are the
    wall-clock times in seconds, **ratio** is their quotient, and **loss** is the difference of the preset's
    final true loss from the plain loop's in percent. Photographs that are already in the table are skipped,
    so that an interrupted race continues.

    - `sgaplus race kodak --limit 3`
    - `sgaplus race photo.png --crop 256 --reference-iterations 2000 --iterations 100`
    """
    from ..bench import race as races
    from ..bench import race_table
    from ..codecs import weights
    from ..data import datasets

    settings = races.Settings(iterations, reference_iterations, preset, seed)
    terminal.check_target(out, ".csv")
    found = datasets.list_images(photos, limit=limit, crop=crop)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    with terminal.counting("racing") as progress:
        table = races.run(out, loaded, found, settings, progress=progress)
    table = race_table.compared(table)
    change = table["change"]
    shown = table.assign(plain=table["reference_seconds"], preset=table["seconds"], loss=change)
    terminal.show(terminal.table(shown[["image", *_FORMATS]], **_FORMATS))
    terminal.show(
        f"{reference_iterations} steps of the plain loop take {table['ratio'].median():.1f} times as long"
        f" (median) as {iterations} of {preset}, whose true loss differs by {change.mean():+.2f} % (mean;"
        f" from {change.min():+.2f} to {change.max():+.2f})"
    )
    terminal.show(f"table: {out}")
