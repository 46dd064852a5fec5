"""A family's folded weights against the formulas with gains, written out in float64."""

import pytest
import torch
from compressai.models import MeanScaleHyperprior

from sgaplus.codecs.checkpoints import load_parameters
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.training.gains import Gains
from sgaplus.training.objective import losses
from tests.conftest import untrained

N, M, INDEX = 8, 12, 1
SIGMA_MIN, LIKELIHOOD_MIN = 0.11, 1e-9
TOUCHED = {f"{layer}.weight" for layer in ("g_a.6", "h_a.0", "h_a.4", "h_s.0", "h_s.4", "g_s.0")} | {
    "g_a.6.bias",
    "h_a.4.bias",
    "h_s.4.bias",
    "entropy_bottleneck.matrices.0",
    "entropy_bottleneck.quantiles",
}


@pytest.fixture
def family():
    """A float64 model with random biases and GDN layers, and random gains of three λ."""
    generator = torch.Generator().manual_seed(0)

    def noise(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    model, gains = untrained(N, M).double(), Gains((0.005, 0.01, 0.02), 0.01, N, M).double()
    with torch.no_grad():
        model.h_a[-1].weight *= 20
        for name, value in model.named_parameters():
            if name.endswith("bias") or name.startswith("entropy_bottleneck.factors"):
                value += 0.3 * noise(value.shape)
        for gain in gains.parameters():
            gain += 0.3 * noise(gain.shape)
    return model, gains


def some(*shape, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def with_gains(model, g_y, g_s, g_z, medians, x):
    """Bits of each latent and x̂ of a float64 model with gains on its activations."""
    y = g_y * model.g_a(x.double())
    z_hat = torch.round(g_z * model.h_a(y / g_y) - medians) + medians
    scales, means = (g_y * part for part in model.h_s(z_hat / g_z).chunk(2, 1))
    scales, v = scales.clamp_min(SIGMA_MIN), torch.round(y - means)

    def cumulative(z):
        logits = model.entropy_bottleneck._logits_cumulative((z / g_z)[0].flatten(1)[:, None], True)
        return torch.sigmoid(logits)

    p_y = torch.special.ndtr((0.5 - v.abs()) / scales) - torch.special.ndtr((-0.5 - v.abs()) / scales)
    p_z = cumulative(z_hat + 0.5) - cumulative(z_hat - 0.5)
    bits = {k: -p.clamp_min(LIKELIHOOD_MIN).log2().sum().item() for k, p in (("y", p_y), ("z", p_z))}
    return bits, model.g_s((v + means) / g_s)


def assert_decoded(decoded, expected):
    for name, bits in expected[0].items():
        assert bits > 20, "a latent that costs nothing proves nothing"
        assert decoded.bits[name].item() == pytest.approx(bits, rel=1e-4), name
    torch.testing.assert_close(decoded.x_hat.double(), expected[1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("mixed", [True, False])
def test_one_pass_over_images_of_several_lambda_gives_what_each_folded_codec_gives(family, mixed):
    model, gains = family
    model, gains = model.float(), gains.float()
    served, x = torch.tensor([2, 0, 2]), some(3, 3, 64, 64).float().sigmoid()
    lmbdas = torch.tensor([0.005, 0.01, 0.02])[served]
    generator = torch.Generator()
    codec = Codec("", 0.01, freeze(model), "")
    found = losses(codec, x, lmbdas, generator.manual_seed(3), mixed, gains, served)
    for index in (0, 2):
        plain = MeanScaleHyperprior(N, M)
        load_parameters(plain, gains.fold(model, index))
        images = served == index
        own = Codec("", 0.01, freeze(plain), "")
        expected = losses(own, x, lmbdas, generator.manual_seed(3), mixed)
        torch.testing.assert_close(found[:, images], expected[:, images], rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_gains_of_their_lambda_and_every_folded_weight(family):
    model, gains = family
    folded = gains.fold(model, INDEX)
    assert {name for name, own in model.named_parameters() if folded[name] is not own} == TOUCHED
    sum((folded[name] * some(*folded[name].shape)).sum() for name in TOUCHED).backward()
    for gain in gains.parameters():
        assert (gain.grad[INDEX] != 0).all()
        assert (gain.grad[[0, 2]] == 0).all()
    for name, value in model.named_parameters():
        assert (value.grad is not None) == (name in TOUCHED)


def test_mixed_quantisation_decodes_rounded_latents_with_the_gradient_at_them():
    model = untrained(N, M)
    codec, x, lmbda = Codec("", 0.01, model, ""), some(2, 3, 64, 64).float().sigmoid(), torch.full((2,), 0.01)
    noise = torch.Generator().manual_seed(3)
    _, bpp, mse = losses(codec, x, lmbda, noise, mixed=True)
    _, expected, with_noise = losses(codec, x, lmbda, noise.manual_seed(3), mixed=False)
    torch.testing.assert_close(bpp, expected)
    y, z = model.g_a(x), model.h_a(model.g_a(x))
    means = model.h_s(z + torch.rand(z.shape, generator=noise.manual_seed(3)) - 0.5).chunk(2, 1)[1]
    y_hat = (torch.round(y - means) + means).detach().requires_grad_()
    expected = (model.g_s(y_hat) - x).square().mean((1, 2, 3))
    torch.testing.assert_close(mse, expected)
    assert (mse != with_noise).all()
    (straight_through,) = torch.autograd.grad(mse.sum(), model.g_a[-1].bias)
    (at_rounded,) = torch.autograd.grad(expected.sum(), y_hat)
    torch.testing.assert_close(straight_through, at_rounded.sum((0, 2, 3)))
