"""``sgaplus bench`` and ``race``"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from .. import io
from . import terminal
from .options import CODEC, CodecLmbda, CodecName, Compiled, Device, Dtype, Photos, Quality
from .terminal import app, option

_FORMATS = {"plain": "{:.1f}", "preset": "{:.1f}", "ratio": "{:.1f}", "loss": "{:+.2f}"}


@app.command()
@terminal.computing("lower --batch-size, or --width and --height")
def bench(
    context: typer.Context,
    pairs: Annotated[int, option("Number of times that both loops run, in turn.")] = 3,
    steps: Annotated[int, option("Timed steps of each loop in a pair.")] = 5,
    warmup: Annotated[int, option("Untimed steps before the timed ones.")] = 4,
    width: Annotated[int, option("Image width in pixels, a multiple of 64.")] = 768,
    height: Annotated[int, option("Image height in pixels, a multiple of 64.")] = 512,
    batch_size: Annotated[
        int | None, option("Number of images that our loop refines together. Default: 24 on a GPU, else 1.")
    ] = None,
    out: Annotated[Path | None, option("File for the measurement; it ends in .json.")] = None,
    instructions: Annotated[
        Path | None,
        option(
            "Measure each instruction set of the processor, in both number formats, with one thread and with"
            " two; a folder for the measurements. Those that are there are kept."
        ),
    ] = None,
    n: Annotated[int, option("Width of the networks, whose weights are random.", CODEC, "--N")] = 128,
    m: Annotated[int, option("Channels of the latents y.", CODEC, "--M")] = 192,
    codec: Annotated[
        str | None,
        option("Mean-scale hyperprior that `sgaplus codecs` lists, instead of random weights.", CODEC),
    ] = None,
    lmbda: CodecLmbda = None,
    quality: Quality = None,
    seed: Annotated[int, option("Random seed of weights and images.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compiled = False,
) -> None:
    """Measure how much faster a refinement step is than in the plain loop of public implementations.

    Both loops run in turn, in one process, on the same images. The plain loop computes in float32, one image
    at a time, with gradients of the weights and with the true loss at every step. The time of the step's
    convolutions alone is reported as well: no loop on this device can be faster.

    With --instructions the table says how many times as fast the step is in both number formats, and which
    one `auto` picks.

    - `sgaplus bench`
    - `sgaplus bench --instructions measured`
    - `sgaplus bench --codec mshyper-s --pairs 5 --out bench.json`
    """
    from ..bench import benchmark, measurement
    from ..bench import instructions as sets

    if codec is not None:
        terminal.refuse(context, "a --codec has widths of its own, leave out one of them", "n", "m")
    if instructions is not None:
        why = "--instructions measures both number formats on the CPU, each into a file: leave it out"
        terminal.refuse(context, why, "out", "device", "dtype")
        io.check_folder(instructions)
    if out is not None:
        terminal.check_target(out, ".json")
    # Each setting is a parameter of its name.
    settings = measurement.Settings(
        **{field.name: context.params[field.name.lower()] for field in fields(measurement.Settings)}
    )
    if instructions is not None:
        with terminal.counting("measuring") as progress:
            found = sets.measure(instructions, settings, progress=progress)
        terminal.show(terminal.table(sets.compared(found), **sets.FORMATTED))
        terminal.show(f"measurements: {instructions}")
        return
    with terminal.counting("measuring") as progress:
        measured = benchmark.run(settings, progress=progress)
    terminal.show(measurement.text(measured))
    if out is not None:
        measurement.write(measured, out)
        terminal.show(f"measurement: {out}")


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
