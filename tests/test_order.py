"""Groups in decoding order: every value once, and what drives them decides what they are."""

import pytest
import torch

from sgaplus.codecs.models import FAMILIES
from sgaplus.codecs.order import Group, drive, rounded
from tests.test_models import CONTEXT, REFINABLE, untrained

HYPERPRIORS = tuple(name for name in REFINABLE if "factorized" not in name)


def family_of(name: str, step: float = 1.0):
    """A decoding order of an untrained model, made anew in each call, and latents for it."""
    model = untrained(name)
    family = FAMILIES[type(model)]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        parameters = model.h_s(4 * torch.randn(2, 8, 1, 2, generator=generator))
    y = 3 * torch.randn(2, model.M if hasattr(model, "M") else 8, 4, 8, generator=generator)
    return (lambda: family.order(family.networks(model), parameters, step)), y


@torch.no_grad()
@pytest.mark.parametrize("name", HYPERPRIORS)
def test_every_value_is_in_one_group_and_its_symbols_say_what_it_is(name):
    order, y = family_of(name, step=0.5)
    count = torch.zeros_like(y)
    on_grid = torch.zeros_like(y)

    def symbols(group: Group) -> torch.Tensor:
        count[(slice(None), *group.where)] += 1
        assert group.means.shape == group.scales.shape == group.of(y).shape
        answer = torch.round((group.of(y) - group.means) / group.step)
        on_grid[(slice(None), *group.where)] = answer * group.step + group.means
        return answer

    y_hat = drive(order(), symbols)
    assert count.eq(1).all()
    assert torch.equal(y_hat, on_grid)
    assert torch.equal(y_hat, rounded(order(), y))
    assert (y_hat - y).abs().max() <= 0.25 + 1e-6


@torch.no_grad()
@pytest.mark.parametrize("name", CONTEXT)
def test_the_groups_of_an_autoregressive_model_see_what_its_masked_convolution_sees(name):
    model = untrained(name)
    family = FAMILIES[type(model)]
    parameters = model.h_s(torch.randn(1, 8, 1, 2, generator=torch.Generator().manual_seed(3)))
    y = 3 * torch.randn(1, parameters.shape[1] // 2, 4, 8, generator=torch.Generator().manual_seed(4))
    seen = []
    y_hat = drive(
        family.order(family.networks(model), parameters, 1.0),
        lambda group: seen.append(group) or torch.round(group.of(y) - group.means),
    )
    both = torch.cat([parameters, model.context_prediction(y_hat)], 1)
    scales, means = model.entropy_parameters(both).chunk(2, 1)
    for group in seen:
        torch.testing.assert_close(group.of(means), group.means, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(group.of(scales), group.scales, atol=1e-5, rtol=1e-4)
