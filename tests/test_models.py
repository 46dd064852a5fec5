"""Every kind of model against CompressAI's own forward pass, its own likelihoods and its own bitstreams."""

from typing import Any

import pytest
import torch
from compressai.entropy_models import EntropyBottleneckVbr
from compressai.registry import MODELS

from sgaplus import rounding
from sgaplus.codecs.checkpoints import REFINABLE
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.families import vbr
from sgaplus.codecs.models import FAMILIES, hard
from sgaplus.distortion import MSE
from sgaplus.errors import UserError
from sgaplus.refinement import objective as relaxed

# Their forward pass in evaluation mode is not what a decoder sees.
CONTEXT = ("mbt2018", "cheng2020-anchor", "cheng2020-attn")
VARIABLE = tuple(name for name in REFINABLE if name.endswith("-vbr"))
# One model of each family, for what takes any of them as `test_conformance` checks them all.
EACH_FAMILY = tuple({id(FAMILIES[MODELS[name]]): name for name in reversed(REFINABLE)}.values())
# One of the eight λ of variable rate.
LMBDA, LEVEL = 0.0130, 3


def make(architecture: str, N: int = 8, M: int = 12) -> Any:
    cls = MODELS[architecture]
    if architecture.startswith("cheng2020"):
        return cls(N)
    if architecture.startswith("elic2022"):
        return cls(N, M, groups=[2, 4, M - 6])
    if architecture in ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr"):
        return cls(N, M, vr_entbttlnck=True)
    return cls(N, M)


def untrained(architecture: str, N: int = 8, M: int = 12) -> Any:
    """A model with latents of a few units and medians off the integers, as a trained one has."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = make(architecture, N, M)
        last = model.g_a[-2] if architecture.startswith("elic") else model.g_a[-1]
        for parameter in last.parameters():
            parameter *= 40 if "attn" not in architecture else 3
        # Scales of about one, clear of their lower bound.
        for name, bias in model.named_parameters():
            if (
                name.endswith(("h_s.4.bias", "entropy_parameters.4.bias"))
                and "factorized" not in architecture
            ):
                scales = bias.chunk(2)[architecture == "elic2022-chandelier"]
                if architecture.startswith("bmshj2018"):
                    scales = bias
                scales += 1
        for name, quantiles in model.named_parameters():
            if name.endswith("quantiles"):
                quantiles += torch.rand_like(quantiles) - 0.5
    model.update(force=True)
    return model.eval()


def own(model: Any, x: torch.Tensor) -> dict[str, Any]:
    """The model's own forward pass in evaluation mode."""
    return model(x, stage=2, s=LEVEL) if hasattr(model, "Gain") else model(x)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=REFINABLE)
def codec(request) -> Codec:
    return Codec(request.param, LMBDA, freeze(untrained(request.param)), sha256="")


def entropy_model(codec: Codec, latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Likelihoods of an autoregressive model's latents from CompressAI's own modules in evaluation mode."""
    model: Any = codec.model
    z_hat, z = model.entropy_bottleneck(latents["z"])
    both = torch.cat([model.h_s(z_hat), model.context_prediction(latents["y"])], 1)
    scales, means = model.entropy_parameters(both).chunk(2, 1)
    return {"y": model.gaussian_conditional(latents["y"], scales, means)[1], "z": z}


def of_the_decoder(codec: Codec, x: torch.Tensor) -> dict[str, Any]:
    """x̂ of the decoder, which is that of the model's own bitstream, as is tested below, and the likelihoods
    of its latents, where `forward` has others."""
    decoded = codec.decode(codec.analyse(x))
    if codec.name in CONTEXT:
        return {"x_hat": decoded.x_hat, "likelihoods": entropy_model(codec, decoded.latents)}
    result = own(codec.model, x)
    if isinstance(codec.model.entropy_bottleneck, EntropyBottleneckVbr):
        result["likelihoods"]["z"] = of_the_coder(codec.model, decoded.latents["z"])
    return result


def bits(likelihoods: torch.Tensor) -> torch.Tensor:
    return -likelihoods.double().log2().flatten(1).sum(1)


def test_all_of_compressais_image_models_are_here():
    assert {MODELS[name] for name in REFINABLE} == set(FAMILIES) and len(REFINABLE) == 13


def of_the_coder(model: Any, z: torch.Tensor) -> torch.Tensor:
    """Likelihoods of z by the function with which a bottleneck of variable rate makes its coding tables."""
    step = model.lower_bound_zqstep(model.gayn2zqstep(1 / model.Gain[LEVEL].view(1)))
    values = (z * step).transpose(0, 1)
    likelihood, _, _ = model.entropy_bottleneck._likelihood_variable(values.flatten(1)[:, None], qs=step)
    return likelihood.reshape(values.shape).transpose(0, 1).clamp_min(1e-9)


@torch.no_grad()
def test_hard_latents_are_what_a_bitstream_decodes_to(codec, images):
    decoded = codec.decode(codec.analyse(images))
    rate = {"stage": 2, "s": LEVEL} if codec.name in VARIABLE else {}
    model: Any = codec.model
    stream = model.compress(images, **rate)
    opened = model.decompress(stream["strings"], stream["shape"], **rate)
    torch.testing.assert_close(decoded.x_hat.clamp(0, 1), opened["x_hat"], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("architecture", VARIABLE)
def test_a_rate_between_those_that_were_trained(architecture, images):
    lmbda = 0.017
    codec = Codec(architecture, lmbda, freeze(untrained(architecture)), sha256="")
    model: Any = codec.model
    low, scale, high = model.Gain[LEVEL].item(), model.rate.scale, model.Gain[LEVEL + 1].item()
    assert low < scale < high
    assert vbr.lmbda_at(model.Gain, scale) == pytest.approx(lmbda, rel=1e-5)
    expected = model(images, stage=2, inputscale=torch.tensor(scale))
    decoded = codec.decode(codec.analyse(images))
    torch.testing.assert_close(decoded.x_hat, expected["x_hat"], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        decoded.bits["y"].double(), bits(expected["likelihoods"]["y"]), rtol=1e-4, atol=0
    )


def test_lmbda_says_the_scale_and_the_scale_lmbda():
    model = untrained("mbt2018-vbr")
    gains = model.Gain.tolist()
    for lmbda, gain in zip(model.lmbda, gains, strict=True):
        vbr.set_rate(model, lmbda)
        assert model.rate.scale == gain
        assert vbr.lmbda_at(model.Gain, gain) == lmbda
    for lmbda, scale in ((model.lmbda[0] / 4, gains[0] / 2), (model.lmbda[-1] * 9, gains[-1] * 3)):
        vbr.set_rate(model, lmbda)
        assert model.rate.scale == pytest.approx(scale)
        assert vbr.lmbda_at(model.Gain, scale) == pytest.approx(lmbda)


def test_rates_that_cannot_be():
    model = untrained("mbt2018-vbr")
    vbr.set_rate(model, LMBDA)
    with pytest.raises(UserError, match=r"0\.013, not 0\.02"):
        Codec("x", 0.02, freeze(model), "")
    with torch.no_grad():
        model.Gain[2] = 5
    with pytest.raises(UserError, match="gains do not rise"):
        vbr.set_rate(model, LMBDA)


def test_on_the_grid_the_parallel_pass_is_the_decoders(codec, images):
    """What the refinement loop evaluates turns into the true loss where its rounding is hard.

    But for an autoregressive model of variable rate, whose context has offsets that y does not have.
    """
    near = {"rtol": 1e-2, "atol": 0.02} if codec.name == "mbt2018-vbr" else {"rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        decoded = codec.decode(codec.analyse(images))
        again = codec.decode(decoded.latents, lambda v, name: torch.round(v))
    for name, value in decoded.bits.items():
        torch.testing.assert_close(again.bits[name], value, rtol=near["rtol"], atol=0)
    torch.testing.assert_close(again.x_hat, decoded.x_hat, **near)


def test_relaxed_latents_get_right_gradients(codec, images):
    """Against central differences along random directions, distortion and bits each by themselves."""
    x, step = images[:1], 0.02

    def losses(latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        decoded = codec.decode(latents, lambda v, name: v + 0.2 * torch.sin(v))
        distortion = (decoded.x_hat - x).double().square().sum()
        return {"distortion": distortion, "bits": sum(b.double().sum() for b in decoded.bits.values())}

    latents = codec.analyse(x)
    generator = torch.Generator().manual_seed(2)
    for part, name in (("distortion", "y"), *(("bits", name) for name in latents)):
        leaf = latents[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(losses({**latents, name: leaf})[part], leaf)
        direction = gradient / gradient.norm() + torch.randn(leaf.shape, generator=generator) / leaf.numel()
        with torch.no_grad():
            ends = [losses({**latents, name: leaf + side * step * direction})[part] for side in (1, -1)]
        expected = (gradient.double() * direction).sum().item()
        # The networks are in float32: their rounding, a few units in the last place on some processors, hides
        # small parts of a slope.
        noise = 4 * torch.finfo(torch.float32).eps * ends[0].item() / (2 * step)
        assert (ends[0] - ends[1]).item() / (2 * step) == pytest.approx(expected, rel=0.05, abs=noise)


@torch.no_grad()
def test_without_synthesis_latents_cost_the_same(codec, images):
    """Beside a reconstruction everything is as it is with one."""
    latents = codec.analyse(images)
    priced, decoded = codec.price(latents, hard), codec.decode(latents, hard)
    assert priced.bits.keys() == decoded.bits.keys()
    assert torch.equal(priced.all_bits, decoded.all_bits)
    assert torch.equal(codec.run("g_s", priced.x_hat), decoded.x_hat)


@pytest.mark.slow
@pytest.mark.parametrize("codec", EACH_FAMILY, indirect=True)
def test_the_loss_is_one_graph_that_looks_at_no_value(codec, images):
    """What `torch.compile` takes of a step: all of it, or this fails, without a value read on the host."""
    graphs = []

    def keep(module, inputs):
        graphs.append(module.graph)
        return module

    method = rounding.parse("ssl")
    latents = {name: value.requires_grad_() for name, value in codec.analyse(images).items()}
    noise = {name: method.of(name).draw(tuple(value.shape)) for name, value in latents.items()}
    rest = torch.tensor(0.5), noise, images, torch.tensor(0.01), MSE
    codec.prepare()
    program = torch.compile(relaxed._whole, fullgraph=True, dynamic=False, backend=keep)
    torch.compiler.reset()  # PyTorch limits the programs of one function
    found = program(codec, method, latents, *rest)
    torch.testing.assert_close(found, relaxed._whole(codec, method, latents, *rest))
    (graph,) = graphs
    assert "item" not in {node.target for node in graph.nodes}
