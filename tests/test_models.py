"""Every kind of model against CompressAI's own forward pass, its own likelihoods and its own bitstreams."""

import pytest
import torch
from compressai.zoo.image import model_architectures
from torch import nn

from sgaplus import plans, rounding
from sgaplus.codecs.checkpoints import REFINABLE, build
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.models import FAMILIES, hard
from sgaplus.refinement import objective as relaxed
from sgaplus.refinement import refine

CONTEXT = ("mbt2018", "cheng2020-anchor", "cheng2020-attn")
PARALLEL = tuple(name for name in REFINABLE if name not in CONTEXT)


def untrained(architecture: str, N: int = 8, M: int = 12) -> nn.Module:
    """A model with latents of a few units and medians off the integers, as a trained one has."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = build(architecture, N, M)
        for parameter in model.g_a[-1].parameters():
            parameter *= 40 if "attn" not in architecture else 3
        # Scales of about one, clear of their lower bound.
        last = {"mbt2018-mean": "h_s.4", "bmshj2018-hyperprior": "h_s.4"}.get(
            architecture, "entropy_parameters.4"
        )
        if "factorized" not in architecture:
            model.get_submodule(last).bias[: model.M] += 1
        quantiles = model.entropy_bottleneck.quantiles
        quantiles += torch.rand_like(quantiles) - 0.5
    model.update(force=True)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=REFINABLE)
def codec(request) -> Codec:
    return Codec(request.param, 0.01, freeze(untrained(request.param)), sha256="")


def entropy_model(codec: Codec, latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bits of hard latents, put together from CompressAI's own modules and likelihoods in evaluation mode."""
    model = codec.model
    if "z" not in latents:
        return {"y": model.entropy_bottleneck(latents["y"])[1]}
    z_hat, z = model.entropy_bottleneck(latents["z"])
    parameters = model.h_s(z_hat)
    if codec.name in CONTEXT:
        context = model.context_prediction(latents["y"])
        parameters = model.entropy_parameters(torch.cat([parameters, context], 1))
    scales, means = (parameters, None) if codec.name == "bmshj2018-hyperprior" else parameters.chunk(2, 1)
    return {"y": model.gaussian_conditional(latents["y"], scales, means)[1], "z": z}


def bits(likelihoods: torch.Tensor) -> torch.Tensor:
    return -likelihoods.double().log2().flatten(1).sum(1)


def test_all_of_the_zoo_is_here():
    assert set(REFINABLE) == set(model_architectures)
    assert {model_architectures[name] for name in REFINABLE} == set(FAMILIES)


@torch.no_grad()
@pytest.mark.parametrize("architecture", PARALLEL)
def test_hard_latents_cost_what_the_forward_pass_says(architecture, images):
    model = untrained(architecture)
    expected = model(images)
    codec = Codec(architecture, 0.01, freeze(model), sha256="")
    decoded = codec.decode(codec.analyse(images))
    assert decoded.bits.keys() == expected["likelihoods"].keys()
    for name, found in decoded.bits.items():
        torch.testing.assert_close(
            found.double(), bits(expected["likelihoods"][name]), rtol=1e-5, atol=0, msg=name
        )
    torch.testing.assert_close(decoded.x_hat, expected["x_hat"], atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_hard_latents_cost_what_the_models_own_entropy_model_says(codec, images):
    decoded = codec.decode(codec.analyse(images))
    own = entropy_model(codec, decoded.latents)
    assert own.keys() == decoded.bits.keys()
    for name, found in decoded.bits.items():
        torch.testing.assert_close(found.double(), bits(own[name]), rtol=1e-4, atol=0, msg=name)


@torch.no_grad()
def test_hard_latents_are_what_a_bitstream_decodes_to(codec, images):
    decoded = codec.decode(codec.analyse(images))
    stream = codec.model.compress(images)
    opened = codec.model.decompress(stream["strings"], stream["shape"])
    torch.testing.assert_close(decoded.x_hat.clamp(0, 1), opened["x_hat"], atol=1e-4, rtol=0)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("architecture", CONTEXT)
def test_a_context_models_hard_latents_depend_on_those_before_alone(architecture, images):
    codec = Codec(architecture, 0.01, freeze(untrained(architecture)), sha256="")
    latents = codec.analyse(images)
    y_hat = codec.decode(latents).latents["y"]
    row, column = 2, 3
    changed = latents["y"].clone()
    changed[..., row, column] += 5
    moved = (codec.decode({**latents, "y": changed}).latents["y"] != y_hat).any(1)[0]
    height, width = moved.shape
    order = torch.arange(height * width).reshape(height, width)
    assert moved[row, column]
    assert moved[order > order[row, column]].any()
    assert not moved[order < order[row, column]].any()


def test_on_the_grid_the_parallel_pass_is_the_decoders(codec, images):
    """What the refinement loop evaluates turns into the true loss where its rounding is hard."""
    with torch.no_grad():
        decoded = codec.decode(codec.analyse(images))
        again = codec.decode(decoded.latents, lambda v, name: torch.round(v))
    for name, value in decoded.bits.items():
        torch.testing.assert_close(again.bits[name], value, rtol=1e-4, atol=0)
    torch.testing.assert_close(again.x_hat, decoded.x_hat, atol=1e-4, rtol=1e-4)


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
        # The networks are in float32: their rounding hides small parts of a slope.
        noise = torch.finfo(torch.float32).eps * ends[0].item() / (2 * step)
        assert (ends[0] - ends[1]).item() / (2 * step) == pytest.approx(expected, rel=0.05, abs=noise)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["atanh", "expected"])
def test_refinement_lowers_the_true_loss(codec, images, method):
    run = refine(codec, [images[0]], plans.plan(method, lr=0.05), lmbda=1e-4, iterations=20)
    start, end = run.rows["loss"]
    assert start - end > 1e-3


def test_every_latent_is_quantised_and_only_those(codec, images):
    seen = []

    def spy(v, name):
        seen.append(name)
        return hard(v, name)

    codec.decode(codec.analyse(images), spy)
    assert sorted(seen) == (["y"] if "factorized" in codec.name else ["y", "z"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ssl", "expected"])
def test_the_loss_is_one_graph_that_looks_at_no_value(codec, images, method):
    """What `torch.compile` takes of a step: all of it, or this fails, without a value read on the host."""
    graphs = []

    def keep(module, inputs):
        graphs.append(module.graph)
        return module

    method = rounding.parse(method)
    latents = {name: value.requires_grad_() for name, value in codec.analyse(images).items()}
    noise = {name: method.of(name).draw(tuple(value.shape)) for name, value in latents.items()}
    rest = torch.tensor(0.5), noise, images, torch.tensor(0.01), torch.ones_like(latents["y"])
    codec.prepare()
    program = torch.compile(relaxed._whole, fullgraph=True, dynamic=False, backend=keep)
    torch.compiler.reset()  # PyTorch limits the programs of one function
    found = program(codec, method, latents, *rest)
    torch.testing.assert_close(found, relaxed._whole(codec, method, latents, *rest))
    (graph,) = graphs
    assert "item" not in {node.target for node in graph.nodes}
