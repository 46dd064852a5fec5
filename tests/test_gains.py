"""A family's folded weights against the formulas with gains, written out in float64."""

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from torch.func import functional_call

from sgaplus.codecs.checkpoints import load_parameters
from sgaplus.codecs.codec import Codec, freeze, hard
from sgaplus.training.gains import Gains
from sgaplus.training.objective import family_losses, losses
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


def plain(model, gains):
    """The plain architecture with the folded weights."""
    result = MeanScaleHyperprior(N, M).double()
    load_parameters(result, gains.fold(model, INDEX))
    return result


def channels(log_gain):
    return log_gain[INDEX].detach().exp()[:, None, None]


def some(*shape, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_folded_transforms_are_those_with_gains(family):
    model, gains = family
    folded = plain(model, gains)
    g_y, g_s, g_z = (channels(gain) for gain in (gains.y, gains.synthesis, gains.z))
    x, y, z = some(1, 3, 64, 128), some(1, M, 8, 8, scale=4), some(1, N, 2, 2, scale=4)
    torch.testing.assert_close(folded.g_a(x), g_y * model.g_a(x))
    torch.testing.assert_close(folded.h_a(y), g_z * model.h_a(y / g_y))
    (scales, means), (own_scales, own_means) = folded.h_s(z).chunk(2, 1), model.h_s(z / g_z).chunk(2, 1)
    torch.testing.assert_close(scales, g_y * own_scales)
    torch.testing.assert_close(means, g_y * own_means)
    torch.testing.assert_close(folded.g_s(y), model.g_s(y / g_s))


@torch.no_grad()
def test_the_folded_prior_is_that_of_the_latents_without_gain(family):
    model, gains = family
    z = some(N, 1, 9, scale=6)
    folded = plain(model, gains).entropy_bottleneck._logits_cumulative(z, stop_gradient=True)
    own = model.entropy_bottleneck._logits_cumulative(z / channels(gains.z), stop_gradient=True)
    torch.testing.assert_close(folded, own)


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
def test_bits_and_picture_of_the_folded_codec_are_those_with_gains(family):
    model, gains = family
    published = MeanScaleHyperprior(N, M)
    load_parameters(published, gains.fold(model, INDEX))
    published.entropy_bottleneck._update_quantiles()
    medians = published.entropy_bottleneck.quantiles[:, 0, 1].double()[:, None, None]
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(2))
    codec = Codec("", 0.01, freeze(published), "")
    decoded = codec.decode(codec.analyse(x), hard)

    g_y, g_s, g_z = (channels(gain) for gain in (gains.y, gains.synthesis, gains.z))
    assert_decoded(decoded, with_gains(model, g_y, g_s, g_z, medians, x))


@torch.no_grad()
def test_one_pass_over_images_of_several_lambda_gives_what_each_folded_codec_gives(family):
    model, gains = family
    model, gains = model.float(), gains.float()
    served, x = torch.tensor([2, 0, 2]), some(3, 3, 64, 64).float().sigmoid()
    lmbdas = torch.tensor([0.005, 0.01, 0.02])[served]
    generator = torch.Generator()
    codec = Codec("", 0.01, freeze(model), "")
    found = family_losses(codec, gains, x, lmbdas, served, generator.manual_seed(3))
    for index in (0, 2):
        plain_model = MeanScaleHyperprior(N, M)
        load_parameters(plain_model, gains.fold(model, index))
        plain_codec = Codec("", 0.01, freeze(plain_model), "")
        images = served == index
        expected = losses(plain_codec, x, lmbdas[images][0].item(), generator.manual_seed(3))
        torch.testing.assert_close(found[:, images], expected[:, images], rtol=1e-4, atol=1e-6)


def objective(model, gains):
    """A number that depends on every folded weight, smooth in each."""
    weights = gains.fold(model, INDEX)
    inputs = {
        "g_a": some(1, 3, 32, 32),
        "h_a": some(1, M, 8, 8),
        "h_s": some(1, N, 1, 1),
        "g_s": some(1, M, 2, 2),
    }
    total = 0.0
    for name, value in inputs.items():
        own = {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}
        output = functional_call(getattr(model, name), own, value)
        total = total + (output * some(*output.shape)).mean()
    prior = model.entropy_bottleneck
    own = {key.removeprefix("entropy_bottleneck."): w for key, w in weights.items() if "bottleneck" in key}
    _, likelihoods = functional_call(prior, own, some(1, N, 2, 2), {"training": False})
    return total - likelihoods.log().mean()


def test_gradients_reach_every_gain_and_every_folded_weight(family):
    model, gains = family
    objective(model, gains).backward()
    own = dict(model.named_parameters())
    checked = {f"gain {name}": gain for name, gain in gains.named_parameters()}
    for gain in checked.values():
        assert (gain.grad[INDEX] != 0).all()
        assert (gain.grad[[0, 2]] == 0).all()
    checked |= {name: own[name] for name in sorted(TOUCHED)}
    step = 1e-6
    for name, parameter in checked.items():
        assert parameter.grad.abs().max() > 0, name
        flat = parameter.grad.flatten().abs()
        for position in (flat.argmax().item(), flat.gt(0).nonzero()[0].item()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[position] += sign * step
                    values.append(objective(model, gains).item())
                    parameter.view(-1)[position] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            found = parameter.grad.flatten()[position].item()
            assert found == pytest.approx(slope, rel=1e-4, abs=1e-8), (name, position)


def test_gains_start_where_a_uniform_quantiser_has_them():
    gains = Gains((0.0025, 0.01, 0.09), 0.01, N, M)
    expected = torch.tensor([0.5, 1.0, 3.0])[:, None].expand(3, M)
    torch.testing.assert_close(gains.y.exp(), expected)
    torch.testing.assert_close(gains.synthesis.exp(), expected)
    assert torch.equal(gains.z.exp(), torch.ones(3, N))


def test_what_no_gain_touches_is_the_models_own(family):
    model, gains = family
    folded, own = gains.fold(model, INDEX), dict(model.named_parameters())
    assert folded.keys() == own.keys()
    assert {name for name in own if folded[name] is not own[name]} == TOUCHED
    unit = Gains((0.01,), 0.01, N, M).double().fold(model, 0)
    for name, value in unit.items():
        torch.testing.assert_close(value, own[name], msg=name)
