"""Names of devices and formats, and what is said of the machine."""

from pathlib import Path

import pytest
import torch

from sgaplus import hardware
from sgaplus.errors import UserError
from tests import forked
from tests.conftest import POSIX

CPU = torch.device("cpu")


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        hardware.resolve_device("auto")
        == hardware.resolve_device("cpu")
        == hardware.resolve_device(CPU)
        == CPU
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert hardware.resolve_device("auto").type == "cuda"
    assert hardware.resolve_device("cuda:1").index == 1
    with pytest.raises(UserError, match="no device 'cuda:2'"):
        hardware.resolve_device("cuda:2")


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
        hardware.resolve_device(device)


@pytest.mark.parametrize(
    ("supported", "seconds", "expected"),
    [(True, 0.5, True), (True, 1.5, False), (True, 1.0, False), (False, 0.5, False)],
)
def test_bfloat16_is_chosen_where_it_is_measured_to_be_faster(monkeypatch, supported, seconds, expected):
    """Processors that have it may still be slower in it."""
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: supported)
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(hardware, "_seconds_of_a_convolution", times.__getitem__)
    assert hardware.cpu_is_faster_in_bfloat16.__wrapped__() is expected


@pytest.mark.parametrize(
    ("slower", "given", "expected"),
    [(3.0, False, True), (1.2, False, False), (0.5, False, False), (3.0, True, False)],
)
def test_busy_cores_are_left_to_others(monkeypatch, slower, given, expected):
    """``slower``: seconds with two threads for a second with one; ``given``: whether their number is."""
    threads = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(hardware, "_seconds_of_a_convolution", lambda *_: 1.0 if threads[-1] == 1 else slower)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if not given:
        monkeypatch.delenv("OMP_NUM_THREADS")
    assert hardware.leave_busy_cores() is expected
    assert threads[-1] == (1 if expected else 2)


@pytest.mark.parametrize("faster", [True, False])
def test_automatic_format_is_the_faster_one(monkeypatch, faster):
    monkeypatch.setattr(hardware, "cpu_is_faster_in_bfloat16", lambda: faster)
    assert hardware.resolve_dtype("auto", CPU) == (torch.bfloat16 if faster else torch.float32)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or faster
    )
    found = hardware.resolve_dtype("auto", torch.device("cuda"))
    assert found == (torch.bfloat16 if faster else torch.float32)


@pytest.mark.parametrize("allowed", [True, False])
def test_float32_is_float32_on_a_gpu(monkeypatch, allowed):
    """PyTorch rounds the factors of convolutions to TF32 there by default; its compiler reads the flag."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", allowed)
    before = cudnn.conv.fp32_precision
    for device, kept in ((torch.device("cuda"), False), (CPU, allowed)):
        with pytest.raises(ZeroDivisionError), hardware.full_float32(device):
            assert cudnn.allow_tf32 == kept
            assert (cudnn.conv.fp32_precision == "tf32") == kept
            raise ZeroDivisionError
        assert (cudnn.allow_tf32, cudnn.conv.fp32_precision) == (allowed, before)


@POSIX
@pytest.mark.slow
def test_refinement_files_and_the_dial_work_on_another_device(tmp_path):
    log, tests = tmp_path / "log", Path(__file__).with_name("other_device.py")
    process = forked.start("pytest", "-q", "-p", "no:cacheprovider", tests, log=log)
    process.join()
    assert process.exitcode == 0, log.read_text()
