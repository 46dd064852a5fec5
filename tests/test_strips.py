"""Networks that compute the same in another way: GDN by hand, fixed parameters, large images in strips."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import nn

from sgaplus import hardware, metrics, refine
from sgaplus.codecs import convolutions, strips
from sgaplus.codecs.checkpoints import REFINABLE
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.convolutions import KeptLayout, cheaper
from sgaplus.codecs.layers import DivisiveNorm, fixed, replace_gdn
from tests.conftest import untrained as hyperprior
from tests.test_models import untrained
from tests.test_objective import steps
from tests.test_refinement import picture


@pytest.mark.parametrize("inverse", [False, True])
def test_values_and_gradients_are_those_of_compressai(inverse):
    torch.manual_seed(0)
    plain = GDN(6, inverse=inverse).double()
    with torch.no_grad():
        plain.gamma += 0.05 * torch.rand_like(plain.gamma)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    weight = torch.randn_like(x)
    results = []
    for layer in (plain, DivisiveNorm(plain)):
        plain.zero_grad()
        own = x.clone().requires_grad_()
        y = layer(own)
        (y * weight).sum().backward()
        results.append([y.detach(), own.grad, plain.gamma.grad.clone(), plain.beta.grad.clone()])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def network() -> torch.nn.Module:
    torch.manual_seed(2)
    layers = torch.nn.Conv2d(3, 4, 3), GDN(4), torch.nn.Sequential(torch.nn.LeakyReLU(), GDN(4, inverse=True))
    return replace_gdn(torch.nn.Sequential(*layers)).requires_grad_(False)


def test_a_fixed_network_computes_the_same_without_a_copy_of_its_convolutions():
    original = network()
    copied = fixed(original, torch.float32)
    x = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(copied(x), original(x), rtol=1e-6, atol=0)
    assert next(copied[0].parameters()).data_ptr() == original[0].weight.data_ptr()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more", "channels"),
    [(5, 2, 2, 1, 3), (3, 2, 1, 1, 4), (4, 2, 1, 0, 3), (2, 2, 0, 0, 3), (8, 4, 2, 0, 1), (5, 4, 1, 1, 1)],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_thin_transposed_convolution_is_one_convolution_of_phases(
    kernel, stride, padding, more, channels, bias, monkeypatch
):
    layer = nn.ConvTranspose2d(7, channels, kernel, stride, padding, more, bias=bias).double()
    copied = fixed(layer.requires_grad_(False), torch.float64)
    x = torch.randn(2, 7, 5, 6, dtype=torch.float64, requires_grad=True)
    expected = layer(x)
    grad = torch.randn_like(expected)
    expected_grad = torch.autograd.grad(expected, x, grad)
    monkeypatch.setattr(F, "conv_transpose2d", lambda *arguments: pytest.fail("it was transposed"))
    found = copied(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, x, grad), expected_grad, rtol=1e-12, atol=1e-12)


KEPT = [
    nn.ConvTranspose2d(4, 5, 5, 2, 2, 1),
    nn.ConvTranspose2d(4, 3, 5, 2, 2, bias=False),
    nn.ConvTranspose2d(4, 3, 5, 1, 2),
    nn.ConvTranspose2d(4, 3, 3, 2, 2, 1, dilation=2),
    nn.ConvTranspose2d(4, 3, (5, 3), 2, (2, 1), 1),
    nn.Conv2d(4, 7, 3, padding=1),
    nn.Conv2d(4, 7, 5, 2, 2, bias=False),
    nn.Conv2d(4, 7, (3, 5), (1, 3), (0, 2)),
    nn.Conv2d(4, 7, 3, 2, dilation=2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", KEPT, ids=repr)
def test_a_convolution_that_keeps_its_layout_computes_the_same(layer, dtype):
    copied, plain = fixed(layer, dtype), copy.deepcopy(layer).to(dtype)
    assert (type(copied) is KeptLayout) == convolutions.lays_out(dtype)
    for size in ((9, 12), (10, 7), (9, 12)):
        x = torch.randn(2, 4, *size).to(dtype).requires_grad_()
        expected = plain(x)
        grad = torch.randn_like(expected)
        found = copied(x)
        torch.testing.assert_close(found, expected)
        gradients = (torch.autograd.grad(value, x, grad) for value in (found, expected))
        torch.testing.assert_close(*gradients)


def test_weights_are_laid_out_once_for_a_shape(monkeypatch):
    copied = KeptLayout(nn.Conv2d(4, 7, 3, padding=1))
    made = []
    monkeypatch.setattr(copied, "_made", lambda shape, *how: made.append(tuple(shape)) or torch.clone)
    for size in (6, 6, 8, 8):
        x = torch.rand(1, 4, size, size, requires_grad=True)
        copied(x).sum().backward()
    assert made == 2 * [(1, 4, 6, 6)] + 2 * [(1, 4, 8, 8)]  # forward and backward


def test_other_convolutions_stay_as_they_are(monkeypatch):
    class Own(nn.Conv2d):
        pass

    convolution = nn.Conv2d(4, 7, 3)
    others = [nn.Conv2d(4, 4, 3, groups=2), Own(4, 7, 3), nn.Conv2d(4, 7, 3, padding="same")]
    others += [
        nn.Conv2d(4, 7, 3, padding_mode="reflect"),
        nn.Conv2d(4, 7, 3).double(),
        convolution.to("meta"),
    ]
    assert [cheaper(layer) for layer in others] == others
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert type(cheaper(nn.Conv2d(4, 7, 3))) is nn.Conv2d


def test_a_fixed_network_in_bfloat16_computes_what_autocast_does_and_leaves_the_original_alone():
    original = network()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    x = torch.rand(2, 3, 6, 5)
    found = fixed(original, torch.bfloat16)(x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        expected = original(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)
    assert all(torch.equal(before[name], value) for name, value in original.state_dict().items())


@pytest.fixture
def large(monkeypatch):
    """Images of more than 64 × 64 pixels count as large, and their strips are as narrow as can be."""
    monkeypatch.setattr(hardware, "LARGE_IMAGE", 64 * 64)
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)


@pytest.mark.parametrize(
    ("name", "size"), [*((name, (576, 64)) for name in REFINABLE), (REFINABLE[0], (64, 576))]
)
def test_networks_give_the_same_in_strips(name, size, large):
    codec = Codec(name, 0.01, freeze(untrained(name)), sha256="")
    width = codec.analyse(torch.rand(1, 3, 64, 64))["y"].shape[1]
    for network, channels, step in ("g_a", 3, 1), ("g_s", width, strips.PIXELS):
        x = torch.rand(
            2, channels, *(side // step for side in size), generator=torch.Generator().manual_seed(2)
        )
        found = codec.strips_of(network, x)
        assert len(found) > 1
        parts, whole = codec.run(network, x), codec._whole(network, x)
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5 * whole.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ssl", "quadratic"])
def test_losses_and_gradients_are_those_of_the_whole_image(method, request):
    arguments = Codec("untrained", 0.01, freeze(hyperprior()), sha256=""), method, False
    expected = list(steps(*arguments, size=(300, 50)))
    request.getfixturevalue("large")
    for found, whole in zip(steps(*arguments, size=(300, 50)), expected, strict=True):
        torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-6)


def test_a_refinement_in_strips_ends_where_that_of_the_whole_does(request):
    codec = Codec("untrained", 0.01, freeze(hyperprior()), sha256="")
    arguments = codec, [picture(300, 50)], "fast"
    whole = refine(*arguments, iterations=20, trace_every=5)
    request.getfixturevalue("large")
    found = refine(*arguments, iterations=20, trace_every=5)
    assert found.trace["loss"].to_numpy() == pytest.approx(whole.trace["loss"].to_numpy(), rel=1e-4)
    assert found.best["psnr"].item() == pytest.approx(whole.best["psnr"].item(), abs=1e-2)


def test_nothing_is_kept_of_networks_that_are_gone(large):
    network = torch.nn.Conv2d(3, 4, 16, stride=16)
    assert strips.of("g_a", network, torch.rand(1, 3, 512, 64))
    gone = weakref.ref(network)
    del network
    assert gone() is None


def test_small_images_are_not_cut():
    codec = Codec("untrained", 0.01, freeze(hyperprior()), sha256="")
    assert codec.strips_of("g_a", torch.empty(1, 3, 2048, 2048)) == []
    assert codec.strips_of("g_s", torch.empty(1, codec.model.M, 128, 128)) == []


@pytest.mark.parametrize("size", [(4000, 6000), (6016, 4032), (700, 30000)])
def test_strips_cover_the_image_and_have_a_bounded_size(size):
    codec = Codec("untrained", 0.01, freeze(hyperprior()), sha256="")
    found = codec.strips_of("g_s", torch.empty(1, codec.model.M, size[0] // 16, size[1] // 16, device="cpu"))
    assert [strip.begin for strip in found[1:]] == [strip.end for strip in found[:-1]]
    assert found[0].begin == 0 and found[-1].end == max(size) // 16
    for strip in found:
        assert 16 * (strip.last - strip.first) * min(size) <= 1.1 * strips.STRIP_PIXELS


def test_a_network_that_looks_at_the_whole_image_is_not_cut(large):
    class Mean(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) - x.mean()

    assert strips.of("g_a", Mean(3, 4, 16, stride=16), torch.rand(1, 3, 512, 64)) == []


def test_distortions_of_large_images_are_those_of_their_channels(monkeypatch):
    x, x_hat = (picture(200, 190, seed)[None] for seed in (0, 1))
    distortions = metrics.mse, metrics.psnr, metrics.psnr_8bit, metrics.ms_ssim
    expected = [distortion(x, x_hat) for distortion in distortions]
    monkeypatch.setattr(hardware, "LARGE_IMAGE", 100)
    for distortion, whole in zip(distortions, expected, strict=True):
        torch.testing.assert_close(distortion(x, x_hat), whole, rtol=1e-6, atol=0)
