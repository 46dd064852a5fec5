"""The optimisers: SOAP over channels against what defines it."""

import pytest
import torch

from sgaplus.optimizers import OPTIMIZERS, ChannelSOAP

SHAPE = 3, 5, 4, 6


def coupled(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A target, and a badly conditioned symmetric matrix that couples the channels."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(SHAPE[1], SHAPE[1], generator=generator, dtype=torch.float64))[0]
    scales = torch.logspace(0, 1.3, SHAPE[1], dtype=torch.float64)
    target = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return target, rotation @ scales.diag() @ rotation.T


def descend(optimizer, target, matrix, start=None, steps=200, lr=0.1) -> tuple[torch.Tensor, list[float]]:
    """The end of a descent of ½·dᵀMd, d being the distance from the target, and the loss on its way."""
    p = torch.zeros_like(target) if start is None else start.clone()
    p.requires_grad_()
    made, losses = optimizer([p], lr), []
    for step in range(steps):
        made.param_groups[0]["lr"] = lr * (1 - step / steps)
        made.zero_grad()
        d = p - target
        loss = (d * torch.einsum("cd,bdhw->bchw", matrix, d)).sum() / 2
        loss.backward()
        made.step()
        losses.append(loss.item())
    return p.detach(), losses


def test_soap_does_not_depend_on_the_channels_axes():
    target, matrix = coupled()
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]

    def turn(v):
        return torch.einsum("cd,bdhw->bchw", rotation, v)

    wanted, _ = descend(ChannelSOAP, target, matrix, steps=8)
    turned, _ = descend(ChannelSOAP, turn(target), rotation @ matrix @ rotation.T, steps=8)
    torch.testing.assert_close(turned, turn(wanted), atol=0.01, rtol=0)
    plain, _ = descend(OPTIMIZERS["adam"], target, matrix, steps=8)
    turned, _ = descend(OPTIMIZERS["adam"], turn(target), rotation @ matrix @ rotation.T, steps=8)
    assert (turned - turn(plain)).abs().max() > 0.05


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_gradient_no_movement(name):
    p = torch.ones(2, 4, 3, 3).requires_grad_()
    optimizer = OPTIMIZERS[name]([p], 0.1)
    for value in (0.0, 1.0):
        p.grad = torch.zeros_like(p)
        p.grad[1] = value
        optimizer.step()
    assert p[0].eq(1).all() and p[1].ne(1).all() and p.isfinite().all()
