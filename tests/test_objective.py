"""The loss as a compiled program: the same values, few programs, and a sentence where nothing can be
compiled."""

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.exc import InvalidCxxCompiler

from sgaplus import plans, refine, rounding
from sgaplus.errors import UserError
from sgaplus.refinement.batch import Batch
from tests.conftest import NEEDS_COMPILER
from tests.test_refinement import picture

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]


def steps(codec, method, compiled, taus=(1.0, 0.4), lmbda=0.01, size=(60, 50)):
    """Losses and gradients of some steps on two images that do not fill the padded one."""
    x = torch.stack([picture(*size, seed) for seed in (0, 1)])
    latents = {k: v.requires_grad_() for k, v in codec.analyse(codec.pad(x)).items()}
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    batch = Batch(codec, x, ["a", "b"], plans.plan(method), lmbda, latents, generators, compiled)
    for tau in taus:
        loss = batch.relaxed_loss(tau)
        yield [loss.detach(), *torch.autograd.grad(loss.sum(), latents.values())]


def test_compiled_losses_and_gradients_are_those_of_the_operators(codec):
    """With one program for all temperatures and λ; `tests.test_quadratic` has the other method."""
    before = programs()
    for lmbda in (0.01, 0.02):
        both = (steps(codec, "ssl", compiled, lmbda=lmbda) for compiled in (True, False))
        for found, expected in zip(*both, strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-4, atol=1e-6)
    assert programs() == before + 1


def programs() -> int:
    return counters["stats"]["unique_graphs"]


def test_another_shape_has_another_program(codec, traced_alone):
    before = programs()
    plan = plans.plan("map", lr=0.02)
    runs = [refine(codec, [picture(48, 64)], plan, iterations=3, compiled=c) for c in (True, False)]
    list(steps(codec, "map", True, taus=(1.0,)))
    assert programs() == before + 2
    losses = [run.trace["loss"].to_numpy() for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert (losses[0][1:] < losses[0][0]).all()


def test_without_a_compiler_there_is_one_sentence(codec, monkeypatch, tmp_path):
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def missing(**_):
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    with pytest.raises(UserError, match=r"cannot be compiled \(.*compiler.*install a C\+\+ comp") as caught:
        refine(codec, [picture(64, 64)], "ssl", iterations=2, compiled=True)
    assert "\n" not in str(caught.value)


def test_what_pytorch_cannot_take_is_one_sentence_too(codec):
    class Strange(rounding.MAP):
        def relax(self, v, tau=1.0, noise=None):
            torch._dynamo.graph_break()
            return v

    plan = plans.plan(Strange(), temperature=1.0, lr=0.02)
    with pytest.raises(UserError, match=r"cannot be compiled.*: go without compiling") as caught:
        refine(codec, [picture(64, 64)], plan, iterations=2, compiled=True)
    assert "\n" not in str(caught.value)


def test_the_command_line_passes_it_on(call, photo, monkeypatch):
    asked = []

    def follow(*arguments, compiled, **others):
        asked.append(compiled)
        return refine(*arguments, **others)

    monkeypatch.setattr("sgaplus.refinement.refine", follow)
    for flags in ([], ["--compile"]):
        assert call("refine", photo, "--iterations", 1, "--out", f"out{len(flags)}", *flags)[0] == 0
    assert asked == [False, True]
