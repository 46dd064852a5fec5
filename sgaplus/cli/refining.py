"""``sgaplus refine``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import io
from ..errors import SystemFault, UserError
from ..parsing import number
from . import distorting, options, terminal
from .terminal import app, option

if TYPE_CHECKING:
    from .. import refinement
    from . import output_folder

# So many steps repay compiling on every processor of the book's page on the speed of a step; a method with
# inner steps gains little.
_MANY = 10_000


@app.command()
@terminal.computing("lower --batch-size, or scale the photographs down", long=True)
def refine(
    context: typer.Context,
    photos: options.Photos,
    out: Annotated[Path, option("Folder for the decoded photographs (PNG) and the table of results.")] = Path(
        "refined"
    ),
    rows: Annotated[
        str, option("File name of the table in that folder; it ends in .csv or .parquet.")
    ] = "rows.csv",
    iterations: options.Iterations = None,
    codec: options.CodecName = "mshyper-s",
    lmbda: options.CodecLmbda = None,
    quality: options.Quality = None,
    method: options.Method = "fast",
    refine_lmbda: Annotated[
        float | None,
        option(
            "λ of the refinement. Default: the codec's; a larger λ gives better quality, a smaller λ fewer"
            " bits.",
            options.REFINEMENT,
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        option(
            "Schedule of the temperature τ in (0, 1], which sets the randomness of rounding: "
            "exponential:c=0.001,tau_max=1 or exponential-to:end=0.05. Default: the method's published one.",
            options.REFINEMENT,
        ),
    ] = None,
    lr: Annotated[
        str | None,
        option(
            "Learning rate: a number, or cosine:value=0.01. Default: the method's published one.",
            options.REFINEMENT,
        ),
    ] = None,
    seed: options.Seed = 0,
    distortion: distorting.Name = None,
    roi: distorting.Regions = None,
    roi_weight: distorting.Factor = 8,
    weights: distorting.Map = None,
    batch_size: Annotated[
        int | None,
        option(
            "Maximum number of photographs of one size that are refined together. Default: as many as have"
            " the pixels of 24 photographs of Kodak (768 × 512) on a GPU, of one on a CPU. Results differ by"
            " floating-point rounding only, most in bfloat16.",
            options.HARDWARE,
            min=1,
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    compiled: options.Compiled = False,
) -> None:
    """Refine photographs and write the pictures that the decoder makes of them.

    Each picture is written as soon as its photograph is refined, and the same command continues with those
    that are missing. Ctrl-C ends the steps and keeps the best picture so far as NAME.interrupted.png. A
    photograph that fails does not stop the others. No picture in the output folder is ever replaced: other
    settings need another --out.

    The table has a row per photograph before refinement, after 500 steps and at the end: the **loss** that is
    minimised, λ·255²·MSE + bpp, or λ·(1 − MS-SSIM) + bpp; **bpp**, bits per pixel; **PSNR** in dB and
    **MS-SSIM** (higher is better); seconds.

    - `sgaplus refine photo.png`
    - `sgaplus refine holidays --out smaller --refine-lmbda 0.005`
    - `sgaplus refine kodak --method atanh --out atanh --rows rows.parquet`
    - `sgaplus refine photo.png --codec mbt2018-mean --quality 3 --out mbt2018`
    - `sgaplus refine portrait.png --roi 180,60,240,300`
    """
    from .. import hardware, refinement
    from ..codecs.weights import load_codec
    from ..data import datasets
    from . import output_folder

    if Path(rows).suffix not in output_folder.SUFFIXES:
        raise UserError(f"--rows must end in {' or '.join(output_folder.SUFFIXES)}, not '{rows}'")
    plan, iterations = options.plan_of(method, iterations, temperature=temperature, lr=lr)
    if refine_lmbda is not None:
        number(refine_lmbda, "--refine-lmbda")
    weighed = distorting.chosen(context, distortion, roi, roi_weight, weights)
    found = datasets.list_images(photos)
    output_folder.check(out, found)
    if dtype == "auto":  # which is a measurement: the same command may find another one faster later
        dtype = output_folder.format_in(out)
    loaded = load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    lmbda_used = refinement.lambda_of(loaded, refine_lmbda, weighed.metric or loaded.metric)
    settings = output_folder.settings_of(loaded, plan, lmbda_used, iterations, seed)
    settings |= {"distortion": weighed.words or loaded.metric}
    folder = output_folder.Folder(out, out / rows, settings)
    results = {image.name: folder.rows_of(image) for image in found}
    folder.stored_table()
    todo = [image for image in found if results[image.name] is None or not folder.keeps(image)]
    results |= dict.fromkeys((image.name for image in todo), None)
    failures: list[str] = []
    already = f"; {len(found) - len(todo)} are done already" if len(todo) < len(found) else ""
    terminal.say(f"refining {len(todo)} photograph{'s' * (len(todo) != 1)}{already}")
    if not compiled and not plan.method.inner and (steps := iterations * len(todo)) >= _MANY:
        terminal.note(f"there are {steps:,} steps: --compile makes each of them cheaper")
    with terminal.bar("refining") as bar:
        task = bar.add_task("", total=iterations * len(todo))
        finished = 0

        def refine_batch(batch: Sequence[output_folder.Photograph]) -> refinement.Run:
            return refinement.refine(
                loaded,
                [photograph.content for photograph in batch],
                plan,
                lmbda=lmbda_used,
                distortion=weighed.of([photograph.content for photograph in batch]),
                iterations=iterations,
                seed=seed,
                names=[photograph.name for photograph in batch],
                batch_size=len(batch),
                compiled=compiled,
                stoppable=True,
                progress=lambda steps, _: bar.update(task, completed=finished * iterations + steps),
            )

        def most(pixels: int) -> int:
            return batch_size or refinement.default_batch_size(loaded, pixels)

        try:
            for image, result in output_folder.refine_all(folder, todo, refine_batch, most):
                name = io.printable(image.name)
                if isinstance(result, Exception):
                    if len(found) == 1:
                        raise result
                    failures.append(name)
                    full = hardware.memory_is_full(result)
                    why = f"{image.path}: there is not enough memory, scale it down" if full else result
                    terminal.say(f"error: {why}", "red")
                else:
                    results[image.name] = result
                    folder.write_table(results)
                    if folder.interrupted(result):
                        steps = result[-1]["iteration"]
                        terminal.say(f"{name} was interrupted after {steps} iterations; its best is in {out}")
                        continue
                    terminal.say(f"{finished + 1} of {len(todo)}: {name}")
                finished += 1
        except KeyboardInterrupt:
            terminal.say(f"{finished - len(failures)} of {len(todo)} are done: the same command continues")
            raise
    table = folder.write_table(results)
    if len(table):
        where = f"{settings['dtype']} on {loaded.device}{', compiled' * compiled}"
        terminal.show(f"{loaded.name}, λ = {loaded.lmbda:g}, {plan.label}, {where}")
        formats = {"loss": "{:.4f}", "bpp": "{:.4f}", "psnr_8bit": "{:.2f}", "ms_ssim": "{:.4f}"}
        formats["seconds"] = "{:.1f}"
        terminal.show(terminal.table(table[["image", "iteration", *formats]], **formats))
        terminal.show(f"decoded photographs and {rows} are in {out}")
    if failures:
        raise SystemFault(f"{len(failures)} of {len(found)} photographs failed: {', '.join(failures)}")
