"""Names of devices and formats, and what is said of the machine."""

import platform
import re

import pytest
import torch

from sgaplus import hardware as runtime
from sgaplus.errors import UserError

CPU = torch.device("cpu")


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        runtime.resolve_device("auto") == runtime.resolve_device("cpu") == runtime.resolve_device(CPU) == CPU
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.resolve_device("auto").type == "cuda"
    assert runtime.resolve_device("cuda:1").index == 1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu'"),
        ("", "unknown device ''"),
        ("mps", "device 'mps' is not supported"),
        ("cuda", "no CUDA device is available"),
        ("cuda:0", "no CUDA device is available"),
    ],
)
def test_devices_that_are_not_here(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        runtime.resolve_device(device)


def test_a_gpu_beyond_the_last_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="no device 'cuda:2'"):
        runtime.resolve_device("cuda:2")


@pytest.mark.parametrize("hardware", [True, False])
def test_automatic_format_is_what_the_hardware_has(monkeypatch, hardware):
    monkeypatch.setattr(runtime, "cpu_has_bfloat16", lambda: hardware)
    assert runtime.resolve_dtype("auto", CPU) == (torch.bfloat16 if hardware else torch.float32)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: hardware)
    found = runtime.resolve_dtype("auto", torch.device("cuda"))
    assert found == (torch.bfloat16 if hardware else torch.float32)


def test_formats_by_name():
    for given in ("bfloat16", torch.bfloat16, "torch.bfloat16"):
        assert runtime.resolve_dtype(given, CPU) == torch.bfloat16
    assert runtime.resolve_dtype("float32", CPU) == torch.float32
    for unknown in ("float16", "half", torch.float64):
        with pytest.raises(UserError, match="unknown dtype"):
            runtime.resolve_dtype(unknown, CPU)


def test_autocast_changes_convolutions_only_when_asked():
    convolution, x = torch.nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)
    with runtime.autocast(CPU, torch.bfloat16):
        assert convolution(x).dtype == torch.bfloat16
    with runtime.autocast(CPU, torch.float32):
        assert convolution(x).dtype == torch.float32


def test_the_allocator_is_set_where_it_is_glibc_s(monkeypatch):
    glibc = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    assert runtime.keep_freed_memory.__wrapped__() is glibc
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1"))
    assert runtime.keep_freed_memory.__wrapped__() is False


def test_the_machine_has_a_name():
    assert re.search(rf", {torch.get_num_threads()} threads?$", runtime.describe(CPU))
