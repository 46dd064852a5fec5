"""Growing a codec: nothing changes at first, and every new unit learns from the first steps."""

import pytest
import torch
from compressai.models import MeanScaleHyperprior

from sgaplus.codecs.checkpoints import load_parameters
from sgaplus.codecs.codec import Codec, freeze, hard
from sgaplus.errors import UserError
from sgaplus.training import publishing
from sgaplus.training.run import Recipe, Run
from sgaplus.training.widening import widen
from tests.conftest import untrained


@pytest.fixture
def narrow():
    """Parameters with N = 8 and M = 12, hyper-latents a few units wide and GDN layers that mix channels."""
    model = untrained(8, 12)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model.h_a[-1].weight *= 10
        for transform in (model.g_a, model.g_s):
            for layer in (transform[1], transform[3], transform[5]):
                layer.gamma += 0.1 * torch.rand_like(layer.gamma)
                layer.beta *= 0.5 + torch.rand_like(layer.beta)
        model.entropy_bottleneck._update_quantiles()
    return {name: value.detach() for name, value in model.named_parameters()}


def loaded(parameters, n, m):
    model = MeanScaleHyperprior(n, m)
    load_parameters(model, parameters)
    return model.eval()


def picture(height=64, width=128):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n", "m"), [(12, 20), (12, 12), (8, 20)])
def test_a_wider_codec_starts_as_the_old_one(narrow, n, m):
    points = []
    for parameters, widths in ((narrow, (8, 12)), (widen(narrow, n, m, seed=1), (n, m))):
        codec = Codec("", 0.01, freeze(loaded(parameters, *widths)), "")
        with torch.no_grad():
            decoded = codec.decode(codec.analyse(picture()), hard)
        points.append((sum(bits.item() for bits in decoded.bits.values()), decoded.x_hat))
    (old_bits, old_x_hat), (bits, x_hat) = points
    assert old_bits > 100
    assert old_bits < bits < 1.01 * old_bits
    torch.testing.assert_close(x_hat, old_x_hat, atol=1e-5, rtol=1e-5)


def test_old_units_do_not_hear_new_ones(narrow):
    old, wide = loaded(narrow, 8, 12), loaded(widen(narrow, 12, 20), 12, 20)
    y = torch.randn(2, 12, 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    with torch.no_grad():
        torch.testing.assert_close(wide.g_a(picture())[:, :12], old.g_a(picture()))
        z = old.h_a(y)
        # Whatever new latent channels hold, the analysis transforms keep the old ones.
        wide_z = wide.h_a(torch.cat([y, torch.ones(2, 8, 8, 8)], 1))
        torch.testing.assert_close(wide_z[:, :8], z)
        scales, means = wide.h_s(wide_z).chunk(2, 1)
    old_scales, old_means = old.h_s(z).detach().chunk(2, 1)
    torch.testing.assert_close(scales[:, :12], old_scales)
    torch.testing.assert_close(means[:, :12], old_means)
    assert (means[:, 12:] == 0).all()
    torch.testing.assert_close(scales[:, 12:], torch.full_like(scales[:, 12:], 0.15))


def test_new_latent_channels_are_silent_but_heard(narrow):
    old, wide = loaded(narrow, 8, 12), loaded(widen(narrow, 12, 20), 12, 20)
    with torch.no_grad():
        y = wide.g_a(picture())
        z = wide.h_a(y)
        assert (y[:, 12:] == 0).all()
        assert (z[:, 8:] == 0).all()
        y_hat, z_hat = y.clone(), z.clone()
        y_hat[:, 12:] += 1
        z_hat[:, 8:] += 1
        x_hat, parameters = old.g_s(y[:, :12]), old.h_s(z[:, :8])
        difference = (wide.g_s(y_hat) - x_hat).std()
        assert 0 < difference < 0.3 * x_hat.std()
        changed = torch.cat([half[:, :12] for half in wide.h_s(z_hat).chunk(2, 1)], 1)
        assert 0 < (changed - parameters).std() < 0.3 * parameters.std()


def test_new_hyper_latents_cost_next_to_nothing(narrow):
    prior = loaded(widen(narrow, 12, 12, seed=2), 12, 12).entropy_bottleneck
    with torch.no_grad():
        likelihood, _, _ = prior._likelihood(torch.zeros(12, 1, 1))
        found = prior.quantiles.clone()
        prior._update_quantiles()
    assert (-likelihood[8:].log2() < 0.01).all()
    torch.testing.assert_close(prior.quantiles[8:], found[8:], atol=1e-3, rtol=1e-3)
    # Half a unit away, where training's noise reaches, the cost still has a slope.
    z = torch.full((12, 1, 1), 0.5, requires_grad=True)
    (-prior._likelihood(z)[0].log2()).sum().backward()
    assert (z.grad[8:] > 1).all()


def test_every_new_unit_learns_from_the_first_steps(narrow):
    recipe = Recipe(N=12, M=20, steps=10, cooldown=0, warmup=0, lr=1e-3, crop=64, batch=1)
    start = widen(narrow, 12, 20)
    run = Run.start(recipe, "cpu", "float32", start)
    photographs = [(255 * picture(80, 96)[0]).to(torch.uint8)]
    for _ in range(5):
        run.advance(photographs)
    for name, value in run.codec.model.named_parameters():
        if name.endswith("quantiles"):
            continue
        moved = value.detach() != start[name]
        halves = zip(moved.chunk(2), narrow[name].chunk(2), strict=True)
        for part, old in halves if name.startswith("h_s.4.") else [(moved, narrow[name])]:
            for axis in range(2 if name.endswith(".weight") else 1):
                units = part.transpose(0, axis)[old.shape[axis] :].flatten(1 if part.dim() > 1 else 0)
                assert (units.any(1) if part.dim() > 1 else units).all(), (name, axis)


def test_widening_to_the_same_width_changes_nothing():
    parameters = publishing.publishable(untrained(8, 12))
    same = widen(parameters, 8, 12)
    assert set(same) == set(parameters)
    for name, value in same.items():
        assert torch.equal(value, parameters[name].float()), name


def test_old_weights_keep_their_places(narrow):
    grown = widen(narrow, 12, 20)
    for name, old in narrow.items():
        if name.startswith("h_s.4."):
            corners = [half[tuple(map(slice, (12, *old.shape[1:])))] for half in grown[name].chunk(2)]
            assert torch.equal(torch.cat(corners), old), name
        else:
            assert torch.equal(grown[name][tuple(map(slice, old.shape))], old), name


def test_widening_is_reproducible_and_leaves_torch_s_random_numbers_alone(narrow):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = widen(narrow, 8, 16, seed=1)
    assert torch.equal(torch.rand(1), expected)
    again, other = widen(narrow, 8, 16, seed=1), widen(narrow, 8, 16, seed=2)
    assert torch.equal(first["g_s.0.weight"], again["g_s.0.weight"])
    assert not torch.equal(first["g_s.0.weight"], other["g_s.0.weight"])


@pytest.mark.parametrize(("n", "m"), [(6, 20), (8, 10)])
def test_widths_that_do_not_fit(narrow, n, m):
    with pytest.raises(UserError, match=f"N = 8 and M = 12 cannot start a model with N = {n} and M = {m}"):
        widen(narrow, n, m)


def test_weights_of_something_else_cannot_be_widened(narrow):
    with pytest.raises(UserError, match="not those of a mean-scale hyperprior"):
        widen({"weight": torch.zeros(2)}, 8, 12)
    del narrow["h_s.2.bias"]
    with pytest.raises(UserError, match=r"h_s\.2\.bias among them"):
        widen(narrow, 8, 16)
