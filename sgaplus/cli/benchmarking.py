"""``sgaplus bench``"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from .. import io
from . import terminal
from .app import app
from .options import CODEC, CodecLmbda, Compiled, Device, Dtype, Quality
from .terminal import option


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
