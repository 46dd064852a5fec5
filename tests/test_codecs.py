"""A codec as an adapter: padding, other number formats and devices, what is made of its weights."""

import copy
import dataclasses
import pickle

import pytest
import torch
from compressai.models import MeanScaleHyperprior, MeanScaleHyperpriorVbr

from sgaplus import bitstream, hardware
from sgaplus.codecs import codec as codecs
from sgaplus.codecs.checkpoints import content_hash
from sgaplus.codecs.codec import Codec, freeze


def untrained(n: int = 16, m: int = 24, seed: int = 0) -> MeanScaleHyperprior:
    torch.manual_seed(seed)
    model = MeanScaleHyperprior(n, m)
    with torch.no_grad():
        # Latents of a few units and medians off the integers, as in a trained model.
        model.g_a[-1].weight *= 40
        model.entropy_bottleneck.quantiles += torch.rand_like(model.entropy_bottleneck.quantiles) - 0.5
    model.update(force=True)
    return model


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 65), (64, 64), (100, 130)])
def test_padding_keeps_the_picture_and_reaches_the_stride(codec, height, width):
    x = torch.rand(1, 3, height, width)
    padded = codec.pad(x)
    assert padded.shape[-2] % 64 == padded.shape[-1] % 64 == 0
    assert torch.equal(padded[..., :height, :width], x)
    assert torch.equal(padded[..., -1, -1], x[..., -1, -1])


def test_another_codec_is_made_and_the_original_stays(codec):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    rough = codec.to(dtype="bfloat16")
    assert (codec.dtype, rough.dtype, rough.to().dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    assert rough.to("cpu").dtype == torch.bfloat16
    assert rough.model is codec.model, "weights on the same device are shared"
    latents = rough.analyse(image)
    torch.testing.assert_close(rough.to(dtype="float32").analyse(image)["y"], codec.analyse(image)["y"])
    assert not torch.equal(latents["y"], codec.analyse(image)["y"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))])
def test_a_codec_that_has_written_a_file_goes_to_other_processes(copied):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = freeze(MeanScaleHyperpriorVbr(8, 12))
    codec = Codec("own", 0.01, model, content_hash(model), card={"metric": "mse"})
    latents = codec.decode(codec.analyse(torch.rand(1, 3, 64, 64))).latents
    data = bitstream.encode(codec, latents)
    other = copied(codec)
    assert other.model is not codec.model and other.card == codec.card
    assert bitstream.encode(other, latents) == data


def test_moving_a_codec_leaves_the_original_where_it_was(codec, monkeypatch):
    """Weights on another device are a copy; a device without data stands for the other one."""
    monkeypatch.setattr(hardware, "resolve_device", torch.device)
    monkeypatch.setattr(codecs, "note_bounds", lambda model: None)  # reads values
    moved = codec.to("meta")
    assert (moved.device.type, codec.device.type) == ("meta", "cpu")
    assert {parameter.device.type for parameter in codec.model.parameters()} == {"cpu"}


def test_what_is_made_of_the_weights_is_made_once(monkeypatch):
    """For every codec of the same weights: networks in each number format, and what `once` is asked for."""
    made = []
    monkeypatch.setattr(codecs, "fixed", lambda network, dtype: made.append(dtype) or network)
    fresh = Codec("untrained", 0.01, freeze(untrained()), sha256="")
    for _ in range(2):
        for dtype in ("float32", "bfloat16"):
            view = fresh.to(dtype=dtype)
            view.prepare()
            assert view.once(id) == fresh.once(id)
    assert made == 2 * [torch.float32] + 2 * [torch.bfloat16]  # h_s and g_s of each
    other = dataclasses.replace(fresh, model=freeze(untrained()))
    assert other.once(id) != fresh.once(id)
