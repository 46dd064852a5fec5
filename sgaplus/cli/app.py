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
CodecName = Annotated[str, option("A name that `sgaplus codecs` lists, or the file of a checkpoint.", CODEC)]
CodecLmbda = Annotated[
    float | None,
    option(
        "λ it was trained with: 0.01 by default where its name comes with several; needed for a checkpoint.",
        CODEC,
    ),
]
Quality = Annotated[
    int | None, option("1 (small files) to 8 (best pictures), of a downloadable codec.", CODEC)
]
Device = Annotated[str, option("cpu, cuda (an NVIDIA GPU), or auto: the GPU where there is one.", HARDWARE)]
Dtype = Annotated[
    str, option("Number format: float32, bfloat16 (faster where the hardware has it), or auto.", HARDWARE)
]
Compiled = Annotated[
    bool,
    option(
        "Merge a step's passes by torch.compile, which takes a C++ compiler, and tens of seconds for pictures of "
        "each size: for many steps.",
        HARDWARE,
        "--compile",
    ),
]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, option("Show the version.", None, "--version")] = False) -> None:
    """Refine the latents of neural image codecs: fewer bits and better pictures for the same decoder.

    A neural codec turns a photograph into *latents*, the numbers that its file consists of, by one pass
    through a network that was trained for all photographs. Refinement (the methods SGA and SGA+) goes on to
    optimise these numbers for the one photograph at hand. It minimises λ · distortion + bits: the larger
    **λ** (lmbda), the more quality counts.

    - `sgaplus codecs` shows which codecs there are
    - `sgaplus refine photo.png --iterations 100` refines a photograph; the result is in `refined/`
    - `sgaplus refine --help` explains every option
    """
    if version:
        terminal.show(f"sgaplus {__version__}")
        raise typer.Exit


def plan_of(
    method: str | None, preset: str | None, default: str, iterations: int, **schedules: str | None
) -> Plan:
    """The plan that ``--method`` or ``--preset`` names; that of ``default`` where neither is given.

    Raises:
        UserError: both are given, there is no such preset, or the plan is wrong.
    """
    from .. import plans

    if preset is not None and method is not None:
        raise UserError("--preset stands in place of --method: give one of them")
    if preset is not None and preset not in plans.PRESETS:
        raise UserError(f"unknown preset '{preset}': use one of {', '.join(plans.PRESETS)}")
    return plans.plan(method or preset or default, iterations, **schedules)
