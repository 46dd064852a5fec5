"""8-bit numbers in one pass of the synthesis alone, and true losses without them."""

import pytest
import torch
from torch import nn

from companion import eight_bits
from sgaplus import refine
from sgaplus.data import images
from tests.conftest import write_photo


def test_numbers_are_the_nearest_of_255():
    x = (
        torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1, 50, 0])[:, None, None]
    )
    for by, units in ((None, 1), (1, 4)):
        whole, unit = eight_bits.rounded(x, by)
        assert unit.numel() == units and whole.abs().amax() == 127 and torch.equal(whole, whole.round())
        assert ((whole * unit - x).abs() <= unit / 2 + 1e-7).all()


@pytest.mark.parametrize("which", eight_bits.PASSES)
def test_one_pass_is_rounded(which):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, 4, 5, 2, 2, 1).requires_grad_(False)
    x = torch.randn(1, 6, 8, 8, requires_grad=True)
    found = []
    for module in (layer, eight_bits.EightBits(layer, which)):
        y = module(x)
        found.append((y, *torch.autograd.grad(y.square().sum() if which != "forward" else y.sum(), x)))
    for name, plain, other in zip(("forward", "backward"), *found, strict=True):
        off = ((other - plain).norm() / plain.norm()).item()
        assert 0.001 < off < 0.03 if name == which else off < 1e-6
    with torch.no_grad():
        assert torch.equal(layer(x), eight_bits.EightBits(layer, which)(x))


def test_true_losses_are_exact(codec, tmp_path):
    photo = images.read_image(write_photo(tmp_path / "photo.png"))
    changed = eight_bits.in_eight_bits(codec, "forward")
    kinds = [type(layer) for layer in changed.model.g_s]
    assert nn.ConvTranspose2d not in kinds and kinds.count(eight_bits.EightBits) == 4
    plain, other = (refine(c, [photo], iterations=3, trace_every=3) for c in (codec, changed))
    assert plain.rows["loss"][0] == pytest.approx(other.rows["loss"][0], rel=1e-8)  # sums of another order
    assert plain.trace["method_loss"].iloc[-1] != other.trace["method_loss"].iloc[-1]
