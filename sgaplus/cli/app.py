"""The application that the commands join, and options that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from ..errors import UserError
from . import terminal
from .terminal import option

if TYPE_CHECKING:
    from ..plans import Plan

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)

CODEC, HARDWARE = "Codec", "Hardware"
CodecName = Annotated[
    str,
    option(
        "A name that `sgaplus codecs` lists, such as mshyper-s or mbt2018-mean@3, or checkpoints, as"
        " `sgaplus codecs --help` says.",
        CODEC,
    ),
]
CodecLmbda = Annotated[
    float | None,
    option(
        "λ the codec was trained with. Default: 0.01 for names with several λ; required for a checkpoint.",
        CODEC,
    ),
]
Quality = Annotated[
    int | None, option("Quality of a downloadable codec, from 1 (small files) to 8 (best pictures).", CODEC)
]
Photos = Annotated[
    list[str], typer.Argument(help="Photographs, folders of them, or data sets by name.", show_default=False)
]
Device = Annotated[str, option("cpu, cuda (an NVIDIA GPU), or auto: the GPU if there is one.", HARDWARE)]
Dtype = Annotated[
    str, option("Number format: float32, bfloat16 (faster if the hardware supports it), or auto.", HARDWARE)
]
Compiled = Annotated[
    bool,
    option(
        "Compile the refinement step with torch.compile. It needs a C++ compiler, takes tens of seconds per"
        " image size and pays off only for long runs.",
        HARDWARE,
        "--compile",
    ),
]


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


def plan_of(
    method: str | None, preset: str | None, iterations: int | None, **schedules: str | None
) -> tuple[Plan, int]:
    """The plan that ``--method`` or ``--preset`` names, else the preset fast, and its iterations.

    Raises:
        UserError: both are given, there is no such preset, or the plan is wrong.
    """
    from .. import plans

    if preset is not None and method is not None:
        raise UserError("--preset stands in place of --method: give one of them")
    if preset is not None and preset not in plans.PRESETS:
        raise UserError(f"unknown preset '{preset}': use one of {', '.join(plans.PRESETS)}")
    if iterations is None:
        iterations = 50 if method is None else 500
    return plans.plan(method or preset or "fast", iterations, **schedules), iterations
