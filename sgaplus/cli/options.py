"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .terminal import option

if TYPE_CHECKING:
    from ..plans import Plan

CODEC, REFINEMENT, HARDWARE = "Codec", "Refinement", "Hardware"
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
Preset = Annotated[
    str | None,
    option(
        "Method, temperature and learning rate in one: fast, which adapts to --iterations (10 or more). "
        "Default: fast, unless --method is given.",
        REFINEMENT,
    ),
]
Method = Annotated[
    str | None,
    option(
        "How rounding is relaxed during optimisation. SGA+: ssl or ssl:a=2.3, linear, cosine, "
        "three-class:base=linear; SGA: atanh; baselines: ste, uniform, da, map; ours: quadratic.",
        REFINEMENT,
    ),
]
Seed = Annotated[int, option("Random seed.", REFINEMENT)]
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
