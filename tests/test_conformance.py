"""A model of one's own: registered, checked, refined, written, and every mistake in one sentence."""

from dataclasses import replace

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel, MeanScaleHyperprior
from torch import nn

import sgaplus
from sgaplus import bitstream
from sgaplus.codecs import conformance, families, register
from sgaplus.codecs.bits import factorized_bits, gaussian_bits
from sgaplus.codecs.checkpoints import content_hash
from sgaplus.codecs.choice import mean
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.families import Family
from sgaplus.codecs.families.factorized import factorized_hat
from sgaplus.codecs.models import FAMILIES, Decoded
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.errors import UserError
from tests import test_models


class Own(CompressionModel):
    """A mean-scale hyperprior of a stride of 16, with transforms of two layers and names of its own."""

    def __init__(self, N: int = 8):
        super().__init__()
        self.N = N
        self.encoder = nn.Sequential(nn.Conv2d(3, N, 9, 4, 4), nn.ReLU(), nn.Conv2d(N, N, 5, 2, 2))
        self.g_s = nn.Sequential(
            nn.ConvTranspose2d(N, N, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(N, 3, 9, 4, 4, 3)
        )
        self.h_a = nn.Conv2d(N, N, 5, 2, 2)
        self.h_s = nn.ConvTranspose2d(N, 2 * N, 5, 2, 2, 1)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)

    def forward(self, x):
        y = self.encoder(x)
        z_hat, z = self.entropy_bottleneck(self.h_a(y))
        scales, means = self.h_s(z_hat).chunk(2, 1)
        y_hat, y_likelihoods = self.gaussian_conditional(y, scales, means)
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": y_likelihoods, "z": z}}

    @classmethod
    def from_state_dict(cls, state_dict):
        model = cls(len(state_dict["encoder.0.weight"]))
        model.load_state_dict(state_dict)
        return model


def analyse(codec, x):
    y = codec.run("encoder", x)
    return {"y": y, "z": codec.run("h_a", y)}


def decode(codec, latents, quantise):
    model = codec.model
    z_hat = factorized_hat(model.entropy_bottleneck, latents["z"], "z", quantise)
    scales, means = codec.run("h_s", mean(z_hat)).chunk(2, 1)
    centred = quantise(latents["y"] - means, "y")
    y_hat = mean(centred) + means
    bits = {
        "y": gaussian_bits(model.gaussian_conditional, centred, scales),
        "z": factorized_bits(model.entropy_bottleneck, z_hat),
    }
    return Decoded(codec.run("g_s", y_hat), bits, {"y": y_hat, "z": mean(z_hat)})


FAMILY = Family(analyse, decode, ("h_s", "g_s"), stride=16, decoding=families.MEAN_SCALE_HYPERPRIOR.decoding)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What is registered here is registered nowhere else."""
    for cls in list(FAMILIES):
        monkeypatch.setitem(FAMILIES, cls, FAMILIES[cls])
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


def own_model() -> Own:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = Own()
        model.encoder[-1].weight *= 20
        model.h_s.bias[: model.N] += 1
        model.entropy_bottleneck.quantiles += torch.rand_like(model.entropy_bottleneck.quantiles) - 0.5
    model.update(force=True)
    return model.eval()


def own_codec(family: Family = FAMILY) -> Codec:
    register(Own, family)
    model = own_model()
    return Codec("own", 0.001, freeze(model), content_hash(model))


def test_a_model_of_ones_own_is_registered_checked_refined_and_written(tmp_path):
    codec = own_codec()
    found = conformance.check(codec)
    assert found["x_hat"] < 1e-4 and found["bits_y"] < 1e-5 and found["bits_z"] < 1e-5
    assert found["loss_after"] < found["loss_before"]
    path = tmp_path / "own.pth"
    torch.save({"state_dict": codec.model.state_dict()}, path)
    loaded = load_codec(path, 0.001, dtype="float32")
    assert (type(loaded.model), loaded.sha256) == (Own, codec.sha256)
    (member,) = series(path, 0.001).members
    assert (member.sha256, member.effort.width) == (codec.sha256, 8)
    image = torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(1))
    run = sgaplus.refine(loaded, [image], "ssl", iterations=2)
    data = bitstream.encode(loaded, run.latents[0], (50, 70))
    torch.testing.assert_close(
        bitstream.reconstruction(data, codec), run.reconstructions[0], atol=1e-4, rtol=0
    )


def after(change):
    """A `decode` whose result is another one."""

    def changed(codec, latents, quantise):
        decoded = decode(codec, latents, quantise)
        return replace(decoded, **change(decoded))

    return {"decode": changed}


def twice(codec, latents, quantise):
    quantise(latents["y"], "y")
    return decode(codec, latents, quantise)


def blind(codec, latents, quantise):
    return decode(codec, {**latents, "z": latents["z"].detach()}, quantise)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            after(lambda d: {"bits": {**d.bits, "y": 1.001 * d.bits["y"]}}),
            r"Own: y costs .* bits, where the model's own",
        ),
        (
            after(lambda d: {"latents": {**d.latents, "y": d.latents["y"] + 0.7}}),
            "Own: hard latents y, decoded once more",
        ),
        (after(lambda d: {"x_hat": d.x_hat + 0.01}), r"Own: .*reconstruction by up to 0\.01"),
        ({"decode": twice}, "Own: decode calls quantise 2 times for y"),
        ({"decode": blind}, "Own: no finite gradient reaches z"),
        ({"analyse": lambda codec, x: {"z": analyse(codec, x)["z"]}}, "Own: analyse returns .* y among them"),
        ({"stride": 1}, "Own: .*stride"),
    ],
)
def test_what_is_wrong_with_a_codec_is_said(changes, words):
    with pytest.raises(UserError, match=words):
        conformance.check(own_codec(replace(FAMILY, **changes)))


def test_what_cannot_be_registered():
    with pytest.raises(UserError, match=r"Own .*give a subclass .*type\(model\)"):
        register(own_model(), FAMILY)
    with pytest.raises(UserError, match=r"Linear .*CompressionModel"):
        register(nn.Linear, FAMILY)
    with pytest.raises(UserError, match="Own is registered with a family"):
        register(Own, "mean-scale")
    with pytest.raises(UserError, match="decode of a family is a function, not None"):
        Family(analyse, None, ("g_s",))
    with pytest.raises(UserError, match="decoders"):
        Family(analyse, decode, "g_s")


def test_a_subclass_is_registered_with_the_family_of_its_base():
    class Derived(MeanScaleHyperprior):
        pass

    with torch.random.fork_rng(devices=[]):
        model = Derived(8, 12)
    model.update()
    with pytest.raises(UserError, match="Derived cannot be refined"):  # it may decode in another way
        Codec("derived", 0.01, freeze(model), "")
    register(Derived, families.MEAN_SCALE_HYPERPRIOR)
    assert Codec("derived", 0.01, freeze(model), content_hash(model)).stride == 64


@pytest.mark.slow
@pytest.mark.parametrize("architecture", test_models.EACH_FAMILY)
def test_all_of_compressais_families_conform(architecture, monkeypatch):
    monkeypatch.setattr(conformance, "STEPS", 8)
    model = test_models.untrained(architecture)
    codec = Codec(architecture, test_models.LMBDA, freeze(model), content_hash(model))
    evaluate = None
    if architecture in (*test_models.CONTEXT, *test_models.VARIABLE):

        def evaluate(x):
            return test_models.of_the_decoder(codec, x)

    found = conformance.check(codec, evaluate=evaluate)
    assert found["loss_after"] < found["loss_before"]
