"""Where the time of a step goes: PyTorch's profiler, by the part of the step to which an operator belongs."""

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

# What the name of an operator, or of one that called it, contains; the first that fits counts. Copies that a
# convolution makes of its arguments are the convolution's.
_MARKS = {
    "convolutions": "conv",
    "normalisation": "_DivisiveNorm",
    "likelihood of y": "_GaussianBits",
    "optimiser": "Optimizer.step",
}
OTHER = "rest"
PARTS = (*_MARKS, OTHER)


def _part(event: FunctionEvent) -> str:
    """The part that an operator or the innermost of its callers belongs to."""
    caller: FunctionEvent | None = event
    while caller is not None:
        for part, mark in _MARKS.items():
            if mark in caller.name:
                return part
        caller = caller.cpu_parent
    return OTHER


def profiler_of(device: torch.device) -> profile:
    """A profiler to be started and stopped."""
    return profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")])


def shares(profiler: profile, device: torch.device) -> dict[str, float]:
    """The share of each of `PARTS` in the time that operators took, without the profiler's own.

    On CUDA the time of kernels counts, else that of the operators on the processor. Parts without any are
    left out: of a compiled step some have no operators of their own.
    """
    times = dict.fromkeys(PARTS, 0.0)
    for event in profiler.events():
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        times[_part(event)] += own
    total = sum(times.values())
    return {part: time / total for part, time in times.items() if time > 0}
