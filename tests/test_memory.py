"""What large photographs take in memory: peaks of what PyTorch allocates, and what is gone when it counts."""

import itertools
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sgaplus import bitstream, refinement
from sgaplus.bitstream import coder, exact
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.refinement import curvature
from tests.test_models import untrained


def peak_bytes(compute: Callable[[], object]) -> int:
    """The most bytes that PyTorch had allocated on the way, of those that ``compute`` asked for."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        compute()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def test_a_probe_takes_its_signs_and_two_gradients():
    y = torch.rand(1, 3, 256, 512, requires_grad=True)
    x_hat = y * 2
    generators = [torch.Generator().manual_seed(0)]
    peak = peak_bytes(lambda: curvature._product(x_hat, y, generators, None))
    assert peak < 3.5 * x_hat.nbytes


@pytest.mark.slow
def test_the_reconstruction_is_gone_when_the_file_is_written(call, photo, monkeypatch):
    seen, real = [], (refinement.refine, bitstream.encode)

    def refine(*arguments, **settings):
        run = real[0](*arguments, **settings)
        seen.extend(weakref.ref(each.untyped_storage()) for each in run.reconstructions)
        return run

    def encode(*arguments, **settings):
        assert [each() for each in seen] == [None]
        return real[1](*arguments, **settings)

    monkeypatch.setattr(refinement, "refine", refine)
    monkeypatch.setattr(bitstream, "encode", encode)
    code, _, err = call("encode", photo, "-o", "photo.sga", "--iterations", 1)
    assert code == 0, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "error"), [("mbt2018-mean", 1e-13), ("mbt2018", 0), ("cheng2020-anchor", 0)]
)
def test_coding_in_strips_takes_less_and_gives_the_same(name, error, monkeypatch):
    codec = Codec(name, 0.01, freeze(untrained(name)), sha256="0" * 64)
    written = codec.once(coder.coder_of)
    z_hat = torch.randn(len(written.medians), 12, 3, generator=torch.Generator().manual_seed(0)).double()
    whole = coder.parameters_of(written, z_hat)
    without_strips = peak_bytes(lambda: coder.parameters_of(written, z_hat))
    monkeypatch.setattr(exact, "WINDOWS", 1)
    found = coder.parameters_of(written, z_hat)
    torch.testing.assert_close(found, whole, rtol=0, atol=error)
    assert peak_bytes(lambda: coder.parameters_of(written, z_hat)) < 0.6 * without_strips


_KEPT = r"""
import os
import re
import torch
from sgaplus import hardware

def resident():
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

assert hardware.keep_freed_memory()
kept = []
for pixels in (hardware.LARGE_IMAGE, hardware.LARGE_IMAGE + 1, hardware.LARGE_IMAGE):
    hardware.suit_memory(pixels)
    hardware.release_freed_memory()
    before = resident()
    torch.ones(2**24)
    kept.append(resident() - before >= 2**25)
heap = re.search(r"\[heap\].*?VmFlags: (.*?)\n", open("/proc/self/smaps").read(), re.DOTALL)
print(kept, "hg" in heap[1].split() or not os.path.exists("/sys/kernel/mm/transparent_hugepage"))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_large_tensors_are_kept_for_small_images_alone_and_pages_are_huge():
    done = subprocess.run([sys.executable, "-c", _KEPT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[True, False, True] True\n", "")
