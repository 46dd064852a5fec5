"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
Method = Annotated[
    str,
    option(
        "How rounding is relaxed during optimisation. fast sets the schedules too and adapts to --iterations"
        " (10 or more). SGA+: ssl or ssl:a=2.3, linear, cosine, three-class:base=linear; SGA: atanh;"
        " baselines: ste, uniform, da, map; ours: quadratic.",
        REFINEMENT,
    ),
]
Iterations = Annotated[
    int | None,
    option("Optimisation steps; the paper uses 500 and 2000. Default: 50 of fast, else 500.", REFINEMENT),
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


def plan_of(method: str, iterations: int | None, **schedules: str | None) -> tuple[Plan, int]:
    """The plan that ``--method`` names, and its iterations."""
    from .. import plans

    if iterations is None:
        iterations = 50 if method in plans.PRESETS else 500
    return plans.plan(method, iterations, **schedules), iterations
