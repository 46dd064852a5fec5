"""Devices, number formats and the allocator: what this machine can do."""

import contextlib
import ctypes
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import UserError

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
# madvise's advice, from Linux's mman.h, and the bytes of address space that are taken for it beforehand.
_MADV_HUGEPAGE, _RESERVED = 14, 3 * 2**29
# Pixels of an image, 2048 × 2048. Larger ones are computed in parts, so that they fit in memory.
LARGE_IMAGE = 2**22


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed tensors' pages in the process instead of returning them to the kernel.

    glibc maps every block above 128 KiB afresh and unmaps it when freed, so that each activation of
    a network costs one page fault per 4 KiB again and again. On a virtual machine that was as much
    time as all convolutions together. The process holds on to its memory, see `release_freed_memory`, and
    asks for pages of 2 MiB, whose addresses a processor finds sooner.

    Returns:
        Whether the allocator is glibc's and took the settings. Elsewhere nothing is changed.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**27))
    taken = [library.mallopt(name, value) for name, value in settings]
    _use_huge_pages(library)
    return all(taken)


def _use_huge_pages(library: Any) -> None:
    """Advise them for the heap, which grows first: of what is added later the kernel knows no advice."""
    library.malloc.restype = ctypes.c_void_p
    library.free(ctypes.c_void_p(library.malloc(ctypes.c_size_t(_RESERVED))))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            if line.endswith("[heap]"):
                first, last = (int(address, 16) for address in line.split()[0].split("-"))
                library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_HUGEPAGE)


def release_freed_memory() -> None:
    """Return to the kernel what `keep_freed_memory` keeps, as between the parts of a large image.

    Tensors of such an image differ so much in size that a freed one's place seldom fits the next.
    """
    if _keeps_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


def _keeps_freed_memory() -> bool:
    return bool(keep_freed_memory.cache_info().currsize) and keep_freed_memory()


def suit_memory(pixels: int) -> None:
    """For an image of so many pixels, let `keep_freed_memory` keep tensors of 32 MiB and more, or not.

    Those of a large image are returned as soon as they are freed.
    """
    if _keeps_freed_memory():
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**25)
        mallopt(_M_MMAP_MAX, 2**16 if pixels > LARGE_IMAGE else 0)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device named ``device``; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        UserError: the name is unknown, or names an accelerator this machine does not have.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"unknown device '{device}': use auto, cpu or cuda") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here: use --device cpu or auto")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"there is no device '{device}': here are {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )
    if resolved.type not in ("cpu", "cuda"):
        raise UserError(f"device '{device}' is not supported: use auto, cpu or cuda")
    return resolved


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What Linux says of this processor, its instructions among that; empty elsewhere."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices in hardware (AVX-512 BF16, AMX or Arm BF16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


@functools.cache
def cpu_is_faster_in_bfloat16() -> bool:
    """Whether this processor convolves faster in bfloat16 than in float32, measured once (some 0.1 s).

    Instructions for it do not say so: with AVX-512 BF16 but without matrix tiles, some processors are twice
    as fast and others slower.
    """
    if not has_bfloat16(torch.device("cpu")):
        return False
    seconds = {dtype: _seconds_of_a_convolution(dtype) for dtype in (torch.bfloat16, torch.float32)}
    return seconds[torch.bfloat16] < 0.9 * seconds[torch.float32]


def leave_busy_cores() -> bool:
    """Compute with one thread where that is faster, because other work keeps the cores busy.

    Threads wait for each other in every convolution, and where another process has one of their cores,
    several can be ten times as slow as one. Otherwise, or where the environment variable OMP_NUM_THREADS says
    how many, their number stays as it is, and so do results to the last bit.

    Returns:
        Whether it is one thread now that was several.
    """
    threads = torch.get_num_threads()
    if threads == 1 or "OMP_NUM_THREADS" in os.environ:
        return False
    together = _seconds_of_a_convolution(torch.float32, statistics.median)
    torch.set_num_threads(1)
    if 1.5 * _seconds_of_a_convolution(torch.float32, statistics.median) < together:
        return True
    torch.set_num_threads(threads)
    return False


@torch.no_grad()
def _seconds_of_a_convolution(dtype: torch.dtype, of: Callable[[Iterable[float]], float] = min) -> float:
    """The least (or another statistic) of several runs, of the kind that takes most of a codec's time."""
    x = channels_last(torch.ones(1, 128, 32, 32, dtype=dtype))
    weight = channels_last(torch.ones(128, 128, 5, 5, dtype=dtype))
    taken = []
    for _ in range(6):  # the first one prepares
        begun = time.perf_counter()
        torch.nn.functional.conv2d(x, weight, padding=2)
        taken.append(time.perf_counter() - begun)
    return of(taken[1:])


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The networks' number format; ``"auto"`` is bfloat16 where that is faster, else float32.

    Raises:
        UserError: the format is neither float32 nor bfloat16.
    """
    if str(dtype) == "auto":
        faster = has_bfloat16(device) if device.type == "cuda" else cpu_is_faster_in_bfloat16()
        return torch.bfloat16 if faster else torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in ("float32", "bfloat16"):
        raise UserError(f"unknown dtype '{dtype}': use auto, float32 or bfloat16")
    return getattr(torch, name)


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Let convolutions in float32 keep all of its digits.

    On recent GPUs PyTorch otherwise rounds their factors to TF32, which has 10 bits after the point.
    """
    cudnn: Any = torch.backends.cudnn
    if device.type != "cuda" or cudnn.conv.fp32_precision != "tf32":
        yield
        return
    # The older of two flags: PyTorch's compiler reads it, which is an error where the newer alone is set.
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = True


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Compute as this package means it, whatever the caller has set in PyTorch: a decorator, too.

    Another default type or device, autocast, and modes without gradients would change numbers without a word.
    """
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, before)
        yield


def channels_last(x: Tensor) -> Tensor:
    """``x`` (B, C, H, W) with the channels innermost in memory, the layout fast convolutions want."""
    return x.contiguous(memory_format=torch.channels_last)


def now(device: torch.device) -> float:
    """The clock in seconds, read when the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def free_memory(device: torch.device) -> float:
    """Bytes of the device's memory that are free now; 0 where nothing says, or there is no such GPU."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) if torch.cuda.is_available() else 0.0
    return min(_bytes("/proc/meminfo", "MemAvailable"), _free_of_group())


def _bytes(path: str, key: str) -> float:
    """What a file of Linux says in kilobytes; 0 where it says nothing."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(key))
    return 0.0


_high_water = functools.partial(_bytes, "/proc/self/status", "VmHWM")


def _free_of_group() -> float:
    """What the limit of a container or of a batch job leaves."""
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # the limit is "max" where there is none
        limit, used = (
            int((group / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current")
        )
        return float(limit - used)
    return float("inf")


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yield a function that gives, after the block, the most bytes that it took; 0 where none can tell.

    On a CPU these are the process's: memory that it had kept from before does not count as taken.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: float(torch.cuda.max_memory_allocated(device) - before)
        return
    with contextlib.suppress(OSError):  # lowers the high-water mark to what is in use
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    start = _high_water()
    yield lambda: max(0.0, _high_water() - start)


def memory_is_full(error: BaseException) -> bool:
    """Whether an error says that the memory of the GPU or of the computer is full."""
    full = isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
    return full or "can't allocate memory" in str(error)


def describe(device: torch.device) -> str:
    """A readable name of the processor or GPU, for provenance."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' * (threads > 1)}"


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
