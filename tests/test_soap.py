"""The optimiser of training against the library's, and a step's graph against what it records."""

import contextlib

import pytest
import pytorch_optimizer
import torch

from sgaplus.training import graphs
from sgaplus.training.soap import SOAP

# Directions whose moments have different eigenvalues, so that the bases are unique: elsewhere they depend on
# the library of linear algebra.
SHAPES = [(6, 5), (7,), (6, 5), (6, 6, 1, 1), (6, 6, 1, 1), (5, 5, 3, 1), (9, 3, 1)]


def trained(make, steps):
    """Parameters after noisy steps down quadratic forms of their own."""
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(shape, generator=generator) for shape in SHAPES]
    forms = [torch.randn(v.numel(), v.numel(), generator=generator) for v in draw]
    parameters = [torch.nn.Parameter(value) for value in draw]
    optimizer = make(parameters)
    for _ in range(steps):
        for p, form in zip(parameters, forms, strict=True):
            noise = torch.randn(p.numel(), generator=generator)
            p.grad = (form @ form.mT @ p.detach().flatten() / len(form) + noise).view_as(p)
        optimizer.step()
    return parameters


@pytest.mark.parametrize("steps", [1, 2, 45])
def test_parameters_of_one_shape_go_the_way_that_each_goes_alone(steps):
    settings = {"weight_decay": 0.0, "precondition_frequency": 20, "max_precondition_dim": 8}
    expected = trained(lambda p: pytorch_optimizer.SOAP(p, lr=0.01, betas=(0.95, 0.95), **settings), steps)
    found = trained(lambda p: SOAP(p, lr=0.01, every=20, largest=8), steps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    start = trained(lambda p: SOAP(p, lr=0.01), 0)
    moved = [not torch.equal(one, other) for one, other in zip(found, start, strict=True)]
    assert all(moved) if steps > 1 else not any(moved)


def test_a_kernel_s_positions_are_one_direction():
    """Its filters are those of a matrix with as many columns as the kernel has positions."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(4, 3, 2, 2, generator=generator)
    whole, flat = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.flatten(2).clone())
    optimizers = [SOAP([p], lr=0.1, every=5) for p in (whole, flat)]
    for _ in range(30):
        whole.grad = torch.randn(4, 3, 2, 2, generator=generator)
        flat.grad = whole.grad.flatten(2)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(whole.flatten(2), flat)
    assert (whole - start).abs().mean() > 0.1


def test_a_graph_gets_each_call_s_inputs_and_seed(monkeypatch):
    """On a CPU, where a stand-in runs again what a graph would have recorded."""
    weight = torch.nn.Parameter(torch.tensor([2.0]))

    def compute(x, noise):
        loss = (weight * x + torch.rand(1, generator=noise)).sum()
        loss.backward()
        return loss.detach()

    class Again:
        def register_generator_state(self, generator):
            self.noise = generator

        def replay(self):
            weight.grad = None
            graph._result = compute(*graph._inputs, self.noise)

    class Stream:
        def wait_stream(self, other):
            assert isinstance(other, Stream)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Again)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    for name in ("graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda recorded: contextlib.nullcontext())
    first = torch.tensor([1.0])
    graph = graphs.Graph(compute, [first], [weight])
    assert weight.grad.item() == 1.0  # of the recording alone: those of the runs before it are gone
    for value, seed in ((3.0, 5), (4.0, 6), (3.0, 5)):
        drawn = torch.rand(1, generator=torch.Generator().manual_seed(seed))
        found = graph([torch.tensor([value])], seed)
        assert found.item() == pytest.approx((2 * value + drawn).item())
        assert weight.grad.item() == value
    assert first.item() == 1.0
