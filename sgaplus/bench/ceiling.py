"""What a device could do, the time of a program's convolutions by themselves, and where the time goes.

The convolutions are recorded while the program runs, then each is timed alone with its own shapes, number
format and memory layout on random values. PyTorch's profiler says in which part of a step the time goes.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

from ..hardware import now

_CONVOLUTIONS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default}

if torch.backends.mkldnn.is_available():  # those of `codecs.convolutions.KeptLayout`
    _kept = torch.ops.mkldnn._convolution_pointwise
    _kept_transposed = torch.ops.mkldnn._convolution_transpose_pointwise
    _CONVOLUTIONS |= {_kept.default, _kept_transposed.default}

    @register_flop_formula(_kept)
    def _flops(
        x: Sequence[int], weight: Sequence[int], *how: Any, out_shape: Sequence[int], **kw: Any
    ) -> int:
        return 2 * x[0] * math.prod(weight) * math.prod(out_shape[2:])

    @register_flop_formula(_kept_transposed)
    def _flops_transposed(x: Sequence[int], weight: Sequence[int], *how: Any, **kw: Any) -> int:
        return 2 * x[0] * math.prod(weight) * math.prod(x[2:])


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


@dataclass(frozen=True)
class _Form:
    """All of a tensor but its values."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Convolution:
    """A call of a convolution, forward or backward, known by everything that its time depends on.

    Attributes:
        function: PyTorch's operator.
        forms: its arguments, tensors without their values.
        flops: of the call, one multiplication and one addition being two.
    """

    function: Callable[..., Any]
    forms: tuple[Any, ...]
    flops: int

    def arguments(self, device: torch.device) -> list[Any]:
        """Arguments for a call: the same ones, tensors with random values."""
        return [
            torch.empty_strided(form.size, form.stride, dtype=form.dtype, device=device).normal_()
            if isinstance(form, _Form)
            else form
            for form in self.forms
        ]


def _form(argument: Any) -> Any:
    if isinstance(argument, Tensor) and argument.is_mkldnn:
        return argument  # weights in oneDNN's own order, which has no strides
    if isinstance(argument, Tensor):
        return _Form(tuple(argument.shape), argument.stride(), argument.dtype)
    return tuple(argument) if isinstance(argument, list) else argument


class Recorder(TorchDispatchMode):
    """Counts the convolutions that run while it is ``active``, in ``calls``."""

    def __init__(self) -> None:
        super().__init__()
        self.active = False
        self.calls: Counter[Convolution] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if self.active and func in _CONVOLUTIONS:
            flops = flop_registry[func._overloadpacket](*args, out_val=out)
            self.calls[Convolution(func, tuple(map(_form, args)), flops)] += 1
        return out


def ceiling(calls: Mapping[Convolution, int], device: torch.device, repeats: int) -> float:
    """Seconds that the convolutions take by themselves, each timed over ``repeats`` calls after one more."""
    seconds = 0.0
    for convolution, count in calls.items():
        arguments = convolution.arguments(device)
        convolution.function(*arguments)
        started = now(device)
        for _ in range(repeats):
            convolution.function(*arguments)
        seconds += count * (now(device) - started) / repeats
    return seconds


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
