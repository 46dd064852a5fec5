"""Steps between two syntheses: what stands for the distortion there, and what they compute."""

import pytest
import torch

from sgaplus import plans, refine, rounding
from sgaplus.codecs.codec import Codec
from sgaplus.refinement.batch import Batch
from sgaplus.refinement.curvature import Curvature
from tests.test_refinement import picture

TAU = 0.7


def batch_of(codec: Codec, method: rounding.Method) -> Batch:
    x = torch.stack([picture(64, 64, seed) for seed in (0, 1)])
    latents = {name: value.requires_grad_() for name, value in codec.analyse(x).items()}
    batch = Batch(codec, x, ["a", "b"], plans.plan(method), 0.01, latents, [])
    again(batch)
    return batch


def again(batch: Batch) -> None:
    """The next step draws the same noise, and knows the exact Hessian of a linear synthesis."""
    batch.generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    kernels = batch.codec.model.g_s.weight.flatten(1)
    gram = kernels @ kernels.T
    diagonal = gram.diagonal().reshape(1, -1, 1, 1)
    batch.curvature.value = diagonal.expand_as(batch.latents["y"])
    root = gram.diagonal().sqrt()
    batch.curvature.coupling = (gram / root / root[:, None]).expand(2, -1, -1)
    batch.curvature.steps = 1


def with_gradients(loss: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss.sum(), list(batch.latents.values()))]


def test_of_a_linear_synthesis_the_inner_loss_is_the_expected_one(linear_codec):
    """Its rate, variances and distortion, with latents in other cells of the grid too."""
    inner, whole = (batch_of(linear_codec, rounding.Quadratic()) for _ in range(2))
    inner.relaxed_loss(TAU)
    torch.manual_seed(0)
    for move in (0.0, 0.3, 2.0):
        moves = {name: move * torch.randn_like(value) for name, value in whole.latents.items()}
        for batch in (inner, whole):
            again(batch)
            with torch.no_grad():
                for name, value in batch.latents.items():
                    value += moves[name]
        found, expected = (
            with_gradients(loss, batch)
            for loss, batch in ((inner.inner_loss(TAU), inner), (whole.relaxed_loss(TAU), whole))
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_coupling_is_the_channels_correlation(linear_codec):
    x = picture(256, 256)[None]
    y = linear_codec.analyse(x)["y"].requires_grad_()
    curvature = Curvature()
    generators = [torch.Generator().manual_seed(0)]
    for _ in range(40):
        curvature.steps = 0
        curvature(linear_codec.run("g_s", y), y, generators)
    kernels = linear_codec.model.g_s.weight.flatten(1)
    exact = torch.corrcoef(torch.cat([kernels, -kernels], 1))  # about zero
    torch.testing.assert_close(curvature.coupling[0], exact, rtol=0, atol=0.2)
    assert torch.linalg.eigvalsh(curvature.coupling[0].double()).min() > -1e-6


def test_an_iteration_has_one_synthesis(linear_codec, monkeypatch):
    networks, run = [], Codec.run

    def noted(self, network, x):
        networks.append(network)
        return run(self, network, x)

    monkeypatch.setattr(Codec, "run", noted)
    refine(linear_codec, [picture(64, 64)], "quadratic:inner=3", iterations=4, trace_every=4)
    assert networks.count("g_s") == 2 + 4  # the true losses, and the iterations
    assert networks.count("h_s") == 2 + 4 * (1 + 3)


@pytest.mark.slow
def test_compiled_steps_are_those_of_the_operators(linear_codec, traced_alone):
    """`tests.test_objective` has the real compiler."""
    runs = [
        refine(linear_codec, [picture(60, 50)], "quadratic:inner=2", iterations=3, trace_every=1, compiled=c)
        for c in (True, False)
    ]
    for column in ("method_loss", "loss"):
        first, second = (run.trace[column].iloc[1:].to_numpy() for run in runs)
        assert first == pytest.approx(second, rel=1e-4)
