"""Files of every kind of codec: exactly the same latents from them on every machine."""

import copy
import dataclasses
import itertools
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import sgaplus
from sgaplus import bitstream
from sgaplus.bitstream import container
from sgaplus.bitstream.coder import coder_of
from sgaplus.bitstream.exact import exact
from sgaplus.codecs.checkpoints import REFINABLE
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from tests import fuzz
from tests.test_coder import hard_latents, picture
from tests.test_models import EACH_FAMILY, untrained

SIZE = 70, 100
# Their files are of version 1, and CompressAI reads them.
PLAIN = "bmshj2018-factorized", "bmshj2018-factorized-relu", "bmshj2018-hyperprior", "mbt2018-mean"
EACH = tuple(name for name in EACH_FAMILY if name not in PLAIN)


def make(architecture: str) -> Codec:
    return Codec(architecture, 0.01, freeze(untrained(architecture)), "0123456789abcdef" * 4)


@pytest.fixture(scope="module", params=REFINABLE)
def codec(request) -> Codec:
    return make(request.param)


def test_there_and_back(codec):
    """In a file of the version of its codec, with progress that ends at all that there is."""
    with torch.no_grad():
        decoded = codec.decode(codec.analyse(codec.pad(picture(*SIZE)[None])))
    encoding, decoding = [], []
    data = bitstream.encode(codec, decoded.latents, SIZE, progress=lambda *now: encoding.append(now))
    for name, latent in bitstream.read_latents(data, codec).items():
        torch.testing.assert_close(latent.float(), decoded.latents[name][0], rtol=1e-4, atol=1e-3)
    x_hat = decoded.x_hat[0, :, : SIZE[0], : SIZE[1]].clamp(0, 1)
    found = bitstream.decode(data, codec, progress=lambda *now: decoding.append(now))
    torch.testing.assert_close(found, x_hat, rtol=0, atol=1e-3)
    if "z" in decoded.latents:
        count = decoded.latents["y"].numel()
        assert encoding == sorted(encoding) and decoding == sorted(decoding)
        assert (encoding[-1], decoding[-1]) == ((2 * count, 2 * count), (count, count))
    content, plain = container.unpack(data), codec.name in PLAIN
    assert codec.once(coder_of).plain == plain and content.version == (1 if plain else 2)
    for step in (1.0,) if plain else (None, 0.5):
        with pytest.raises(UserError, match="does not fit its codec"):
            bitstream.decode(container.pack(dataclasses.replace(content, step=step)), codec)
    if not plain:
        with pytest.raises(UserError, match=codec.name):
            bitstream.compressai_weights(codec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "dtype"),
    [*zip(EACH_FAMILY, itertools.cycle(("float32", "bfloat16")), strict=False)],
    indirect=["codec"],
)
def test_refined_latents_there_and_back(codec, dtype):
    own, codec = codec, codec.to(dtype=dtype)
    run = sgaplus.refine(codec, [picture(*SIZE)], "ssl", iterations=4, trace_every=1)
    data = bitstream.encode(codec, run.latents[0], SIZE)
    decoded = bitstream.decode(data, own)
    assert (decoded - run.reconstructions[0].clamp(0, 1)).abs().mean() < 2e-3
    if dtype == "float32":
        torch.testing.assert_close(decoded, run.reconstructions[0].clamp(0, 1), rtol=0, atol=1e-3)
        assert len(data) <= 1.01 * run.best["bpp"].item() * SIZE[0] * SIZE[1] / 8 + 60


_ELSEWHERE = """
import dataclasses, pathlib, sys, torch
from sgaplus import bitstream, load_codec
for file in pathlib.Path(sys.argv[1]).glob("*.sga"):
    codec = load_codec(file.with_suffix(".pth"), 0.01, device="cpu", dtype="float32")
    found = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        fresh = dataclasses.replace(codec, _made={})
        found.append(bitstream.read_latents(file.read_bytes(), fresh))
        assert bitstream.encode(fresh, found[-1], (64, 128)) == file.read_bytes(), (file, threads)
    torch.save(found, file.with_suffix(".pt"))
"""


@pytest.mark.slow
def test_any_number_of_threads_and_another_processor_decode_the_same_bits(tmp_path):
    """And encode them."""
    ours = {}
    for name in EACH_FAMILY:
        path = tmp_path / f"{name}.pth"
        torch.save(untrained(name).state_dict(), path)
        codec = sgaplus.load_codec(path, 0.01, device="cpu", dtype="float32")
        data = bitstream.encode(codec, hard_latents(codec, picture(64, 128)), (64, 128))
        path.with_suffix(".sga").write_bytes(data)
        ours[name] = bitstream.read_latents(data, codec)
    # As on an old processor: other vectors, other orders of summation.
    old = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    old |= {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"}  # threads that wait take no time
    command = [sys.executable, "-W", "ignore", "-c", _ELSEWHERE, str(tmp_path)]
    subprocess.run(command, check=True, env=os.environ | old)
    for name, latents in ours.items():
        # The symbols of plain files are the same, their latents as far as float64 goes.
        near = 1e-12 if name in PLAIN else 0
        for elsewhere in torch.load(tmp_path / f"{name}.pt", weights_only=True):
            torch.testing.assert_close(elsewhere, latents, rtol=near, atol=near, msg=name)


@torch.no_grad()
@pytest.mark.parametrize(
    ("layer", "channels", "over"),
    [
        (nn.Conv2d(192, 5, 5, padding=2), 1, 1),
        (nn.ConvTranspose2d(192, 5, 5, stride=2), 1, 0),
        (nn.Linear(192, 5), -1, 1),
    ],
    ids=["convolution", "transposed", "linear"],
)
def test_exact_sums_do_not_depend_on_their_order(layer, channels, over):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 192, 6, 7, dtype=torch.float64, generator=generator).movedim(1, channels)
    order = torch.randperm(192, generator=generator)
    shuffled_x, shuffled = x.index_select(channels, order), copy.deepcopy(layer)
    shuffled.weight.copy_(layer.weight.index_select(over, order))
    found = exact(layer)(x)
    assert torch.equal(exact(shuffled)(shuffled_x), found)
    expected = copy.deepcopy(layer).double()(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(shuffled.double()(shuffled_x), expected)


def test_exact_values_of_any_size_are_numbers_or_not():
    layer = exact(nn.Conv2d(2, 3, 1))
    for size in (0.0, 1e-310, 1e-200, 1e200, float("inf"), float("nan")):
        found = layer(torch.full((1, 2, 1, 1), size, dtype=torch.float64))
        assert found.isfinite().all() == (size < 1e300)


def test_a_layer_of_another_kind_is_refused():
    with pytest.raises(UserError, match=r"cannot be written.*Softmax"):
        exact(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Softmax(1)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("mbt2018-mean", 300), *((name, 100) for name in EACH)])
def test_damaged_and_crafted_files_are_refused(name, count):
    codec = fuzz.small_codec(name)
    files = fuzz.small_files(codec)
    damaged, crafted = (fuzz.fuzz(codec, files, count, crafted=crafted) for crafted in (False, True))
    assert damaged["other"] == 0 and damaged.total() == crafted.total() == count
    assert min(damaged["refused"], crafted["refused"]) > 0.8 * count


@torch.no_grad()
@pytest.mark.parametrize("name", EACH)
def test_means_that_grow_without_bounds_are_refused(name):
    """As of a crafted file, in which what is decoded first makes what follows larger and larger."""
    codec, growing = make(name), make(name)
    data = bitstream.encode(codec, hard_latents(codec, picture(*SIZE)), SIZE)
    for key, parameter in growing.model.named_parameters():
        if re.search("h_s|context|entropy_parameters", key):
            parameter *= 1e30
    with pytest.raises(UserError, match="cannot be decoded"):
        bitstream.decode(data, growing)
