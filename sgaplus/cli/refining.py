"""``sgaplus refine``"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import io
from ..errors import UserError
from ..parsing import number
from . import terminal
from .app import HARDWARE, CodecLmbda, CodecName, Compiled, Device, Dtype, Quality, app, plan_of
from .terminal import option

if TYPE_CHECKING:
    import pandas as pd

    from ..data import datasets

_REFINEMENT = "Refinement"

_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}


@app.command()
@terminal.computing("lower --batch-size, or scale the photographs down")
def refine(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photographs, folders of them, or data sets by name.", show_default=False),
    ],
    out: Annotated[Path, option("Folder for the decoded photographs (PNG) and the table of results.")] = Path(
        "refined"
    ),
    rows: Annotated[
        str, option("The table's name in that folder; it ends in .csv or .parquet.")
    ] = "rows.csv",
    iterations: Annotated[
        int, option("Optimisation steps: 100 bring most of the gain, 2000 are the paper's.")
    ] = 500,
    codec: CodecName = "mshyper-s",
    lmbda: CodecLmbda = None,
    quality: Quality = None,
    preset: Annotated[
        str | None,
        option(
            "In place of method, temperature and learning rate: fast, which is tuned for the number of "
            "--iterations, from 10 on.",
            _REFINEMENT,
        ),
    ] = None,
    method: Annotated[
        str | None,
        option(
            "What stands for rounding while optimising. SGA+: ssl or ssl:a=2.3, linear, cosine, "
            "three-class:base=linear; SGA: atanh; baselines: ste, uniform, da, map; ours: expected. By default ssl.",
            _REFINEMENT,
        ),
    ] = None,
    refine_lmbda: Annotated[
        float | None,
        option("λ if not the codec's: a higher one for quality, a lower one for fewer bits.", _REFINEMENT),
    ] = None,
    temperature: Annotated[
        str | None,
        option(
            "How the temperature τ in (0, 1] falls, and with it chance in rounding: "
            "exponential:c=0.001,tau_max=1 or exponential-to:end=0.05; by default as published.",
            _REFINEMENT,
        ),
    ] = None,
    lr: Annotated[
        str | None,
        option("Learning rate: a number, or cosine:value=0.01; by default as published.", _REFINEMENT),
    ] = None,
    seed: Annotated[int, option("Of the random numbers.", _REFINEMENT)] = 0,
    batch_size: Annotated[
        int | None,
        option(
            "Most photographs at once, by default 24 on a GPU, else 1; changes results only as rounding does.",
            HARDWARE,
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    compiled: Compiled = False,
) -> None:
    """Refine photographs, and write what the decoder makes of them.

    The table has a row per photograph before refinement, after 500 steps and at the end: the **loss** that is
    minimised, λ·255²·MSE + bpp; **bpp**, bits per pixel; **PSNR** in dB and **MS-SSIM**, of which more is
    closer to the original; seconds.

    - `sgaplus refine photo.png`
    - `sgaplus refine holidays --preset fast --iterations 100 --out smaller --refine-lmbda 0.005`
    - `sgaplus refine kodak --method atanh --rows rows.parquet`
    - `sgaplus refine photo.png --codec mbt2018-mean --quality 3`
    """
    from ..codecs import weights
    from ..data import datasets, images
    from ..refinement import refine as refine_images

    if Path(rows).suffix not in _WRITERS:
        raise UserError(f"--rows must end in .csv or .parquet, not '{rows}'")
    plan = plan_of(method, preset, "ssl", iterations, temperature=temperature, lr=lr)
    if refine_lmbda is not None:
        number(refine_lmbda, "--refine-lmbda")
    found = datasets.list_images(photos[0] if len(photos) == 1 else photos)
    targets = _targets(found, out)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    pictures = [image.read() for image in found]
    terminal.say(f"refining {len(found)} image{'s' * (len(found) > 1)}; results are written at the end")
    with terminal.bar("refining") as bar:
        task = bar.add_task("", total=iterations * len(pictures))
        run = refine_images(
            loaded,
            pictures,
            plan,
            lmbda=refine_lmbda,
            iterations=iterations,
            seed=seed,
            names=[image.name for image in found],
            batch_size=batch_size,
            compiled=compiled,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    for target, x_hat in zip(targets, run.reconstructions, strict=True):
        images.write_image(target, x_hat)
    table = run.rows.assign(codec=loaded.name, codec_lmbda=loaded.lmbda)
    with io.atomic(out / rows) as temporary:
        _WRITERS[temporary.suffix](table, temporary)
    where = f"{str(loaded.dtype).removeprefix('torch.')} on {loaded.device}{', compiled' * compiled}"
    terminal.show(f"{loaded.name}, λ = {loaded.lmbda:g}, {plan.label}, {where}")
    formats = {"image": "{}", "iteration": "{:d}", "loss": "{:.4f}", "bpp": "{:.4f}"}
    formats |= {"psnr_8bit": "{:.2f}", "ms_ssim": "{:.4f}", "seconds": "{:.1f}"}
    terminal.show(terminal.table(table, formats))
    terminal.show(f"decoded photographs and {rows} are in {out}")


def _targets(found: Sequence[datasets.ImageFile], folder: Path) -> list[Path]:
    """Where the decoded photographs go.

    Raises:
        UserError: the folder cannot be written to, or a photograph would be overwritten.
    """
    io.check_folder(folder)
    originals = {image.path.resolve() for image in found}
    targets = [folder / f"{image.name}.png" for image in found]
    for target in targets:
        if target.resolve() in originals:
            raise UserError(f"{target} is one of the photographs and would be overwritten: use another --out")
    return targets
