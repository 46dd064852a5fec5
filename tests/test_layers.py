"""The hand-written GDN against CompressAI's, values and gradients."""

import pytest
import torch
from compressai.layers import GDN

from sgaplus.codecs.layers import DivisiveNorm, fixed, replace_gdn


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
    assert copied[0].weight.data_ptr() == original[0].weight.data_ptr()


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
