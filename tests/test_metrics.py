"""Metrics against closed forms, and against what an interval promises."""

import math

import pytest
import torch

from sgaplus import metrics
from sgaplus.errors import UserError

BPP = (0.12, 0.25, 0.5, 0.9, 1.4)
PSNR = (27.0, 29.5, 32.0, 34.5, 36.5)


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_error():
    x = torch.full((2, 3, 8, 8), 0.5)
    x_hat = x + torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(metrics.psnr(x, x_hat), torch.tensor([20.0, 40.0]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(metrics.mse(x, x_hat), torch.tensor([1e-2, 1e-4]).double(), atol=1e-7, rtol=0)
    assert metrics.psnr(x, x).tolist() == [math.inf, math.inf]


def test_8bit_psnr_clamps_and_rounds_the_reconstruction():
    x = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    beyond = x + torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)
    assert metrics.psnr_8bit(x, beyond).tolist() == [math.inf, math.inf]
    assert metrics.psnr(x, beyond).tolist() == pytest.approx([20 * math.log10(2)] * 2)
    # An error of 1.4 steps is one of 1 step after rounding.
    grey = torch.full((1, 3, 4, 4), 100 / 255)
    assert metrics.psnr_8bit(grey, grey + 1.4 / 255).item() == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_ms_ssim_of_a_small_image_is_not_a_number():
    x = random_image(2, 3, 160, 400)
    assert metrics.ms_ssim(x, x).isnan().tolist() == [True, True]


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bd_rate_of_scaled_rates_is_the_scale(method):
    assert metrics.bd_rate((BPP, PSNR), (BPP, PSNR), method) == pytest.approx(0, abs=1e-9)
    for factor in (0.5, 0.848, 2):
        scaled = [factor * bpp for bpp in BPP]
        assert metrics.bd_rate((BPP, PSNR), (scaled, PSNR), method) == pytest.approx(100 * (factor - 1))


def test_bd_rate_does_not_care_for_the_order_or_number_of_points():
    scaled = [0.5 * bpp for bpp in BPP]
    assert metrics.bd_rate((BPP, PSNR), (scaled[::-1], PSNR[::-1])) == pytest.approx(-50)
    # On log-linear curves every subset of points gives the same interpolation.
    line = [10 ** (psnr / 20) for psnr in PSNR]
    half = [bpp / 2 for bpp in (line[0], *line[2:])]
    assert metrics.bd_rate((line, PSNR), (half, (PSNR[0], *PSNR[2:]))) == pytest.approx(-50)


def test_bd_psnr_of_shifted_curves_is_the_shift():
    """A curve moved up by 0.5 dB has a BD-PSNR of 0.5 dB, whatever the interpolation."""
    shifted = [value + 0.5 for value in PSNR]
    for method in ("pchip", "akima"):
        assert metrics.bd_psnr((BPP, PSNR), (BPP, shifted), method) == pytest.approx(0.5)
    with pytest.raises(UserError, match="use pchip or akima"):
        metrics.bd_rate((BPP, PSNR), (BPP, PSNR), "cubic")
    with pytest.raises(UserError, match="no rate in common"):
        metrics.bd_psnr((BPP, PSNR), ([1000 * value for value in BPP], PSNR))


@pytest.mark.parametrize(
    ("bpp", "psnr", "message"),
    [
        (BPP[:3], PSNR[:3], "at least four points"),
        ((0, *BPP[1:]), PSNR, "positive bpp"),
        (BPP, (math.nan, *PSNR[1:]), "finite PSNR"),
        (BPP, (*PSNR[:4], 34), "grows with the bpp"),
        ((BPP[1], *BPP[1:]), PSNR, "grows with the bpp"),
        (BPP, [psnr + 20 for psnr in PSNR], "no PSNR in common"),
    ],
)
def test_bd_rate_refuses_what_is_no_curve(bpp, psnr, message):
    with pytest.raises(UserError, match=message):
        metrics.bd_rate((BPP, PSNR), (bpp, psnr))
    with pytest.raises(UserError, match=message):
        metrics.bd_rate((bpp, psnr), (BPP, PSNR))


def test_one_image_is_a_batch_of_one_and_uint8_counts_to_255():
    x = torch.randint(0, 256, (3, 170, 170), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = (x.float() / 255 + 0.01).clamp(0, 1)
    for measure in (metrics.mse, metrics.psnr, metrics.psnr_8bit, metrics.ms_ssim):
        wanted = measure(x[None].float() / 255, y[None])
        for pair in ((x, y), (x.numpy(), y.numpy()), (x[None], y.double()), (x, y.clone().requires_grad_())):
            found = measure(*pair)
            assert found.shape == (1,)
            torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(metrics.to_8bit(x), x.float() / 255)
    assert metrics.to_8bit(y.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8), r"\(1, 3, 8, 8\) and \(2, 3, 8, 8\)"),
        (torch.rand(3, 8, 8), torch.rand(3, 8, 9), "one shape"),
        (torch.rand(8, 8), torch.rand(8, 8), r"\(8, 8\)"),
        (torch.rand(3, 0, 8), torch.rand(3, 0, 8), "one shape"),
        (torch.ones(3, 8, 8, dtype=torch.int64), torch.rand(3, 8, 8), "original holds int64"),
        (torch.rand(3, 8, 8), torch.ones(3, 8, 8, dtype=torch.bool), "reconstruction holds bool"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(x, y, reason):
    for measure in (metrics.mse, metrics.psnr, metrics.ms_ssim):
        with pytest.raises(UserError, match=reason):
            measure(x, y)
