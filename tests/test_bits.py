"""The closed-form bits against CompressAI's likelihoods, values and gradients."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

from sgaplus.codecs.bits import _fitted_erfc, bits_of, factorized_bits, gaussian_bits

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
