"""The adapter against CompressAI's own forward pass, and against a float64 computation written from the
formulas."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from compressai.models import MeanScaleHyperprior

from sgaplus import hardware
from sgaplus.codecs import codec as codecs
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


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("untrained", 0.01, freeze(untrained()), sha256="")


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    grid = torch.linspace(0, 6, 128)
    waves = torch.stack([torch.sin(k * grid)[:, None] * torch.cos(grid) for k in (1, 2, 3)])
    noise = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(1))
    return (0.5 + 0.3 * waves + 0.2 * (noise - 0.5)).clamp(0, 1)[None]


def test_bits_agree_with_an_independent_float64_sum(codec, image):
    decoded = codec.decode(codec.analyse(image))
    model = untrained().double().eval()
    z_hat, y_hat = decoded.latents["z"].double(), decoded.latents["y"].double()
    scales, means = model.h_s(z_hat).chunk(2, 1)
    sigma = scales.clamp_min(0.11).detach().numpy()
    v = torch.round(y_hat - means).abs().detach().numpy()
    upper, lower = (scipy.stats.norm.cdf((half - v) / sigma) for half in (0.5, -0.5))
    bits_y = -np.log2(np.maximum(upper - lower, 1e-9)).sum()
    assert decoded.bits["y"].item() == pytest.approx(bits_y, rel=1e-5)

    def cumulative(x: np.ndarray) -> np.ndarray:
        """The factorised prior's cumulative logits of arXiv 1802.01436, appendix 6.1; x is (C, n)."""
        h = x[:, None, :]
        parameters = dict(model.entropy_bottleneck.named_parameters())
        for k in range(5):
            matrix = np.logaddexp(0, parameters[f"matrices.{k}"].detach().numpy())
            h = np.einsum("cij,cjn->cin", matrix, h) + parameters[f"biases.{k}"].detach().numpy()
            if k < 4:
                h = h + np.tanh(parameters[f"factors.{k}"].detach().numpy()) * np.tanh(h)
        return 1 / (1 + np.exp(-h[:, 0]))

    z = z_hat[0].flatten(1).detach().numpy()
    p = cumulative(z + 0.5) - cumulative(z - 0.5)
    bits_z = -np.log2(np.maximum(p, 1e-9)).sum()
    assert decoded.bits["z"].item() == pytest.approx(bits_z, rel=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 65), (64, 64), (100, 130)])
def test_padding_keeps_the_picture_and_reaches_the_stride(codec, height, width):
    x = torch.rand(1, 3, height, width)
    padded = codec.pad(x)
    assert padded.shape[-2] % 64 == padded.shape[-1] % 64 == 0
    assert torch.equal(padded[..., :height, :width], x)
    assert torch.equal(padded[..., -1, -1], x[..., -1, -1])


def test_another_codec_is_made_and_the_original_stays(codec, image):
    rough = codec.to(dtype="bfloat16")
    assert (codec.dtype, rough.dtype, rough.to().dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    assert rough.to("cpu").dtype == torch.bfloat16
    assert rough.model is codec.model, "weights on the same device are shared"
    latents = rough.analyse(image)
    torch.testing.assert_close(rough.to(dtype="float32").analyse(image)["y"], codec.analyse(image)["y"])
    assert not torch.equal(latents["y"], codec.analyse(image)["y"])


def test_moving_a_codec_leaves_the_original_where_it_was(codec, monkeypatch):
    """Weights on another device are a copy; a device without data stands for the other one."""
    monkeypatch.setattr(hardware, "resolve_device", torch.device)
    monkeypatch.setattr(codecs, "note_bounds", lambda model: None)  # reads values
    moved = codec.to("meta")
    assert (moved.device.type, codec.device.type) == ("meta", "cpu")
    assert {parameter.device.type for parameter in codec.model.parameters()} == {"cpu"}


def test_what_is_made_of_the_weights_is_made_once(codec, image, monkeypatch):
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
