"""On another device than the CPU everything is where it belongs, and the numbers are the same.

`tests.test_hardware` runs these in a process of their own: PyTorch counts devices before its first gradient.
"""

import pandas as pd
import pytest
import torch
import torch._dynamo  # makes a generator's type part of others while it is imported

from sgaplus import bitstream, hardware, target_rate
from sgaplus.codecs import layers
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.refinement import refine
from tests import elsewhere
from tests.test_models import EACH_FAMILY, LMBDA, untrained

LOST = ["seconds"]


@pytest.fixture
def device(monkeypatch):
    found, resolve = elsewhere.present(), hardware.resolve_device
    known = found, str(found)
    monkeypatch.setattr(
        hardware, "resolve_device", lambda name="auto": found if name in known else resolve(name)
    )
    monkeypatch.setattr(torch, "Generator", elsewhere.generator)
    monkeypatch.setattr(torch, "tensor", elsewhere.tensor)
    monkeypatch.setattr(layers, "cheaper", lambda layer: layer)  # a CPU's own, which sums in another order
    return found


@pytest.fixture
def images():
    return list(torch.rand(2, 3, 64, 50, generator=torch.Generator().manual_seed(1)))


def codec_of(architecture):
    return Codec(architecture, LMBDA, freeze(untrained(architecture)), sha256="0" * 64)


def assert_same(found, wanted):
    pd.testing.assert_frame_equal(found.trace.drop(columns=LOST), wanted.trace.drop(columns=LOST))
    assert found.streams == wanted.streams


def test_what_mixes_devices_is_refused(device):
    with elsewhere.Mode():
        there = torch.ones(2, device=device)
        assert (there + 1).sum().item() == 4 and there.cpu().tolist() == [1, 1]
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(2)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


@pytest.mark.parametrize("architecture", EACH_FAMILY)
def test_refinement(architecture, device, images):
    codec, plain = codec_of(architecture), architecture == "mbt2018-mean"
    for method in ("fast", "ssl") if plain else ("fast",):  # fast needs the most of a family
        settings = {"iterations": 2, "trace_every": 1, "streams": plain}
        wanted = refine(codec, images, method, **settings)
        with elsewhere.Mode():
            moved = codec.to(device)
            assert moved.device == device
            assert_same(refine(moved, images, method, **settings), wanted)


@pytest.mark.parametrize("distortion", ["ms-ssim", lambda x_hat, x: (x_hat - x).abs().mean((1, 2, 3))])
def test_refinement_for_other_distortions(distortion, device):
    codec = codec_of("mbt2018-mean")
    images = [torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(1))]
    settings = {"iterations": 2, "trace_every": 1, "distortion": distortion, "lmbda": 0.1}
    wanted = refine(codec, images, "fast", **settings)
    with elsewhere.Mode():
        assert_same(refine(codec.to(device), images, "fast", **settings), wanted)


def test_files_and_the_dial(device, images):
    codec = codec_of("mbt2018-mean")
    wanted = target_rate.encode_to(codec, images[0], max_bytes=270, iterations=4)
    with elsewhere.Mode():
        moved = codec.to(device)
        found = target_rate.encode_to(moved, images[0], max_bytes=270, iterations=4)
        assert found.file.data == wanted.file.data
        x_hat = bitstream.decode(found.file.data, moved)
    assert torch.equal(x_hat.cpu(), bitstream.decode(wanted.file.data, codec))
