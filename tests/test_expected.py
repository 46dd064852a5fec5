"""The expected loss against sums over all outcomes and means over sampled ones; bits against CompressAI."""

import itertools

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

from sgaplus import plans, rounding
from sgaplus.codecs.bits import _fitted_erfc, bits_of, factorized_bits, gaussian_bits
from sgaplus.codecs.choice import Choice, moved
from sgaplus.refinement.batch import Batch
from sgaplus.refinement.curvature import Curvature

SHAPE = (1, 2, 1, 3)


def choice(seed: int = 0) -> Choice:
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(-3, 3, SHAPE, generator=generator).double()
    p = torch.rand(SHAPE, generator=generator, dtype=torch.float64).clamp(0.01, 0.99)
    return Choice(low, p.requires_grad_())


def expectation(chosen: Choice, value) -> torch.Tensor:
    """Of a function of the rounded values, over all 2ⁿ outcomes."""
    total = torch.zeros((), dtype=torch.float64)
    for ups in itertools.product([0.0, 1.0], repeat=chosen.low.numel()):
        up = torch.tensor(ups, dtype=torch.float64).reshape(SHAPE)
        probability = (up * chosen.p + (1 - up) * (1 - chosen.p)).prod()
        total = total + probability * value(chosen.low + up)
    return total


def test_expected_gaussian_bits_and_their_gradients():
    conditional = GaussianConditional(None).double()
    scales = torch.linspace(0.4, 3, 6, dtype=torch.float64).reshape(SHAPE).requires_grad_()
    # As of a context model, whose origin moves: the values need not be integers.
    shift = torch.linspace(-0.4, 0.3, 6, dtype=torch.float64).reshape(SHAPE).requires_grad_()
    results = []
    for bits in (
        gaussian_bits(conditional, moved(chosen := choice(), shift), scales).sum(),
        expectation(
            moved(other := choice(), shift), lambda v: -conditional._likelihood(v, scales).log2().sum()
        ),
    ):
        p = chosen.p if not results else other.p
        results.append([bits, *torch.autograd.grad(bits, (p, shift, scales))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_expected_factorized_bits_and_their_gradients():
    torch.manual_seed(0)
    bottleneck = EntropyBottleneck(2).double()

    def bits(z):
        likelihood, _, _ = bottleneck._likelihood(z.transpose(0, 1).reshape(2, 1, -1))
        return -likelihood.log2().sum()

    results = []
    for function in (lambda c: factorized_bits(bottleneck, c).sum(), lambda c: expectation(c, bits)):
        chosen = choice(1)
        value = function(chosen)
        results.append([value, torch.autograd.grad(value, chosen.p)[0]])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_a_choice_has_the_probabilities_of_the_method(tau):
    v = torch.tensor([-1.7, -1.0, -0.5, 0.0, 0.2, 0.5, 3.9], dtype=torch.float64)
    method = rounding.Quadratic()
    chosen = method.choice(v, tau)
    torch.testing.assert_close(torch.stack([chosen.low, chosen.low + 1], -1), method.classes(v))
    torch.testing.assert_close(chosen.p, method.probabilities(v, tau)[..., 1])
    torch.testing.assert_close(chosen.mean, (method.classes(v) * method.probabilities(v, tau)).sum(-1))
    x = v - v.floor()
    odds = (x / (1 - x)) ** (1.6 / tau)
    inside = (x > 0.01) & (x < 0.99)
    torch.testing.assert_close(chosen.p[inside], (odds / (1 + odds))[inside])


def test_an_overflow_does_not_stay_in_the_curvature():
    y = torch.ones(1, 2, 3, 3, requires_grad=True)
    generators = [torch.Generator().manual_seed(0)]
    curvature = Curvature()
    for factor in (2.0, float("inf"), 4.0):
        value = curvature(y.repeat(1, 2, 1, 1)[:, :3] * factor, y, generators)
        curvature.steps = 0
        assert value.isfinite().all()
    assert curvature(y.repeat(1, 2, 1, 1)[:, :3] * 4.0, y, generators).gt(0).all()
    first = Curvature()
    assert first(y.repeat(1, 2, 1, 1)[:, :3] * float("inf"), y, generators).eq(0).all()


def test_an_images_curvature_does_not_depend_on_the_others():
    def estimate(images: list[int]) -> torch.Tensor:
        y = torch.ones(len(images), 2, 4, 4, requires_grad=True)
        generators = [torch.Generator().manual_seed(i) for i in images]
        return Curvature()(y.repeat(1, 2, 1, 1)[:, :3].cumsum(-1), y, generators)

    assert torch.equal(estimate([3, 5])[1], estimate([5])[0])


def known(value: torch.Tensor) -> Curvature:
    """A curvature that takes no probe now; channels are independent."""
    return Curvature(steps=1, value=value, coupling=torch.eye(value.shape[1]).expand(len(value), -1, -1))


@pytest.mark.slow
def test_the_loss_is_the_mean_of_sampled_ones(linear_codec):
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    method, tau, lmbda = rounding.Quadratic(c=0.7), 0.7, 0.01  # a weight of one

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (3, 4)]

    latents = {name: value.requires_grad_() for name, value in linear_codec.analyse(x).items()}
    batch = Batch(linear_codec, x, ["a", "b"], plans.plan(method), lmbda, latents, generators())
    diagonal = linear_codec.model.g_s.weight.square().sum((1, 2, 3)).reshape(1, -1, 1, 1)
    batch.curvature = known(diagonal.expand_as(latents["y"]))
    loss = batch.relaxed_loss(tau)

    batch.generators = generators()
    kept, noise = {}, batch.draw()

    def keep(v, name):
        kept[name] = method.quantise(v, name, tau, noise[name])
        return kept[name]

    linear_codec.decode(latents, keep)
    assert isinstance(kept["y"], Choice) and isinstance(kept["z"], torch.Tensor)
    torch.manual_seed(2)

    def draw(v, name):
        return kept["y"].low + torch.bernoulli(kept["y"].p) if name == "y" else kept["z"]

    losses = []
    with torch.no_grad():
        for _ in range(500):
            decoded = linear_codec.decode(latents, draw)
            mse = (decoded.x_hat - x).square().mean((1, 2, 3))
            losses.append(lmbda * 255**2 * mse + sum(decoded.bits.values()) / 64**2)
    sampled = torch.stack(losses)
    error = sampled.std(0) / len(losses) ** 0.5
    assert ((loss - sampled.mean(0)).abs() < 4 * error).all()
    # Fine enough to see what is left out without the variances.
    batch.generators, batch.curvature = generators(), known(torch.zeros_like(latents["y"]))
    assert ((batch.relaxed_loss(tau) - sampled.mean(0)).abs() > 10 * error).all()


BOUND = 1e-9


def gaussian_likelihood_bits(conditional, v, scales):
    return bits_of(conditional._likelihood(v, scales), BOUND).flatten(1).sum(1)


def test_gaussian_values_and_gradients_are_those_of_compressai():
    torch.manual_seed(0)
    conditional = GaussianConditional(None).double()
    # Wide enough that some values are at the likelihood's bound, some scales at theirs, in both directions.
    v = (4 * torch.randn(3, 4, 5, 6, dtype=torch.float64)).requires_grad_()
    scales = (2 * torch.rand(3, 4, 5, 6, dtype=torch.float64)).requires_grad_()
    weights = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    results = []
    for function in (gaussian_likelihood_bits, gaussian_bits):
        bits = function(conditional, v, scales)
        results.append([bits, *torch.autograd.grad(bits, (v, scales), weights)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    _, grad_v, grad_scales = results[1]
    assert 0.02 < grad_v.eq(0).double().mean() < 0.5
    at_bound = scales < float(conditional.lower_bound_scale.bound)
    assert grad_scales[at_bound].eq(0).any() and grad_scales[at_bound].ne(0).any()


def test_expected_gaussian_bits_at_the_bounds_are_the_mean_of_both_values():
    torch.manual_seed(0)
    conditional = GaussianConditional(None).double()
    low = (4 * torch.randn(3, 4, 5, 6, dtype=torch.float64)).floor().requires_grad_()
    p = torch.rand(3, 4, 5, 6, dtype=torch.float64).requires_grad_()
    scales = (2 * torch.rand(3, 4, 5, 6, dtype=torch.float64)).requires_grad_()
    weights = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)

    def each(v, weight):
        """Of every value by itself, so that each can be weighted."""
        flat = (part.reshape(-1, 1, 1, 1) for part in (v, scales))
        return gaussian_bits(conditional, *flat).reshape(v.shape) * weight

    results = []
    for bits in (
        (each(low, 1 - p) + each(low + 1, p)).sum((1, 2, 3)),
        gaussian_bits(conditional, Choice(low, p), scales),
    ):
        results.append([bits, *torch.autograd.grad(bits, (low, p, scales), weights)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    at_bound = scales < float(conditional.lower_bound_scale.bound)
    assert at_bound.any() and results[1][3][at_bound].ne(0).any()


@pytest.mark.parametrize("distance", [0.0, 5.0, 30.0, 1e4])
def test_gaussian_gradients_are_finite_however_far_the_value_is(distance):
    conditional = GaussianConditional(None)
    v = torch.full((1, 1, 1, 2), distance, requires_grad=True)
    scales = torch.tensor([0.01, 50.0]).reshape(1, 1, 1, 2).requires_grad_()
    bits = gaussian_bits(conditional, v, scales)
    bits.sum().backward()
    assert bits.isfinite().all() and v.grad.isfinite().all() and scales.grad.isfinite().all()


def test_factorized_values_and_gradients_are_those_of_compressai():
    torch.manual_seed(1)
    bottleneck = EntropyBottleneck(4).double()
    z = (3 * torch.randn(3, 4, 2, 5, dtype=torch.float64)).requires_grad_()
    found = factorized_bits(bottleneck, z)
    likelihood, _, _ = bottleneck._likelihood(z.transpose(0, 1).reshape(4, 1, -1))
    expected = bits_of(likelihood.reshape(4, 3, -1).transpose(0, 1), BOUND).flatten(1).sum(1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(bits.sum(), z)[0] for bits in (found, expected)))


def test_the_fitted_erfc_is_the_true_one():
    x = torch.linspace(-9, 9, 100_001)
    expected = torch.special.erfc(x.double())
    error = (_fitted_erfc(x) / expected - 1).abs()
    assert error[x.abs() < 3].max() < 1e-6
    assert error.max() < 81 * 2**-23, "what rounding of x² to float32 alone may do to exp(-x²)"
