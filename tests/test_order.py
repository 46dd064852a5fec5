"""Groups in decoding order: every value once, and what drives them decides what they are."""

import pytest
import torch

from sgaplus.codecs.families import vbr
from sgaplus.codecs.models import FAMILIES
from sgaplus.codecs.order import Group, drive, rounded
from tests.test_models import LMBDA, REFINABLE, VARIABLE, untrained

HYPERPRIORS = tuple(name for name in REFINABLE if "factorized" not in name)


@torch.no_grad()
def start(name: str):
    """An untrained model, how it is decoded, what h_s makes of some ẑ, and latents y."""
    model = untrained(name)
    if name in VARIABLE:
        vbr.set_rate(model, LMBDA)
    decoding = FAMILIES[type(model)].decoding(model)
    generator = torch.Generator().manual_seed(3)
    parameters = decoding.h_s(4 * torch.randn(2, 8, 1, 2, generator=generator))
    channels = next(m.in_channels for m in model.g_s.modules() if hasattr(m, "in_channels"))
    return model, decoding, parameters, 3 * torch.randn(2, channels, 4, 8, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("name", HYPERPRIORS)
def test_every_value_is_in_one_group_and_its_symbols_say_what_it_is(name):
    _, decoding, parameters, y = start(name)
    count = torch.zeros_like(y)
    on_grid = torch.zeros_like(y)

    def symbols(group: Group) -> torch.Tensor:
        count[(slice(None), *group.where)] += 1
        assert group.means.shape == group.scales.shape == group.of(y).shape
        answer = torch.round(group.of(y) - group.means)
        on_grid[(slice(None), *group.where)] = answer + group.means
        return answer

    found = drive(decoding.groups(decoding.networks, parameters), symbols)
    again = rounded(decoding.groups(decoding.networks, parameters), y)
    assert count.eq(1).all()
    assert torch.equal(found.y_hat, on_grid)
    assert (found.y_hat - y).abs().max() <= 0.5 + 1e-6
    for part in ("y_hat", "shown", "means", "scales"):
        assert torch.equal(getattr(found, part), getattr(again, part))
    if name not in VARIABLE:
        assert torch.equal(found.shown, found.y_hat)
