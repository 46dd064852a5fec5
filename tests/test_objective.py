"""The loss as a compiled program: the same values, few programs, and a sentence where nothing can be
compiled."""

import pytest
import torch
import torch._inductor.config
from compressai.entropy_models import EntropyBottleneck
from compressai.layers import GDN
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor.exc import InvalidCxxCompiler

from sgaplus import plans, refine, rounding
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from sgaplus.refinement.batch import Batch
from tests.conftest import NEEDS_COMPILER, untrained
from tests.test_refinement import picture

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]


@pytest.fixture(scope="module")
def small_codec():
    """A layer of each kind once, since every one of them has kernels of its own to compile."""
    model = untrained()
    torch.manual_seed(1)
    model.g_s = nn.Sequential(nn.ConvTranspose2d(12, 3, 16, stride=16), GDN(3, inverse=True))
    model.h_s = nn.Sequential(nn.ConvTranspose2d(8, 24, 4, stride=4), nn.LeakyReLU())
    model.entropy_bottleneck = EntropyBottleneck(8, filters=(3,))
    return Codec("small", 0.01, freeze(model), sha256="")


def steps(codec, method, compiled, taus=(1.0, 0.4), lmbda=0.01, size=(60, 50)):
    """Losses and gradients of some steps on two images that do not fill the padded one."""
    x = torch.stack([picture(*size, seed) for seed in (0, 1)])
    latents = {k: v.requires_grad_() for k, v in codec.analyse(codec.pad(x)).items()}
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    batch = Batch(codec, x, ["a", "b"], plans.plan(method), lmbda, latents, generators, compiled)
    for tau in taus:
        for of in (batch.relaxed_loss, batch.inner_loss)[: 1 + bool(batch.plan.method.inner)]:
            loss = of(tau)
            yield [loss.detach(), *torch.autograd.grad(loss.sum(), latents.values())]


def assert_compiled_as_operators(codec, method, count, rtol, **settings):
    """With ``count`` programs for all temperatures and λ."""
    before = programs()
    for lmbda in (0.01, 0.02):
        both = (steps(codec, method, compiled, lmbda=lmbda, **settings) for compiled in (True, False))
        for found, expected in zip(*both, strict=True):
            torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-6)
    assert programs() == before + count


def programs() -> int:
    return counters["stats"]["unique_graphs"]


def test_compiled_losses_and_gradients_are_those_of_the_operators(small_codec):
    """Of the synthesis and of the steps between two: together they have what any program has."""
    # The processor's vectors are taken as it names them, without trial programs.
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        assert_compiled_as_operators(small_codec, "quadratic:inner=2", 2, 2e-4, taus=(1.0, 0.7, 0.4))


def test_another_shape_has_another_program(codec, traced_alone):
    for size in ((60, 50), (48, 64)):
        assert_compiled_as_operators(codec, "ssl", 1, 1e-5, size=size)


def test_without_a_compiler_there_is_one_sentence(small_codec, monkeypatch, tmp_path):
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def missing(**_):
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    with pytest.raises(UserError, match=r"cannot be compiled \(.*compiler.*install a C\+\+ comp") as caught:
        refine(small_codec, [picture(64, 64)], "map", iterations=2, compiled=True)
    assert "\n" not in str(caught.value)


def test_what_pytorch_cannot_take_is_one_sentence_too(small_codec):
    class Strange(rounding.MAP):
        def relax(self, v, tau=1.0, noise=None):
            torch._dynamo.graph_break()
            return v

    plan = plans.plan(Strange(), temperature=1.0, lr=0.02)
    with pytest.raises(UserError, match=r"cannot be compiled.*: go without compiling") as caught:
        refine(small_codec, [picture(64, 64)], plan, iterations=2, compiled=True)
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
