"""Published weights, their card and their Kodak point; growing a codec to more latent channels."""

import json

import pytest
import torch
from compressai.models import MeanScaleHyperprior

from sgaplus import files, metrics, weights
from sgaplus.codecs import Codec, freeze, hard
from sgaplus.errors import SystemFault, UserError
from sgaplus.publishing import publish, publishable, rd_point, widen
from sgaplus.training import Recipe, Run

from .conftest import untrained

TINY = Recipe(name="tiny", N=8, M=12, lmbda=0.02, steps=6, cooldown=2, warmup=2, crop=64)


def pictures(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *shape, generator=generator) for shape in shapes]


def loaded(parameters, n, m):
    model = MeanScaleHyperprior(n, m)
    weights.load_parameters(model, parameters)
    return model.eval()


# Publishing


def test_published_weights_are_the_parameters_in_half_precision():
    model = untrained()
    published = publishable(model)
    assert set(published) == dict(model.named_parameters()).keys()
    for name, value in model.named_parameters():
        expected = value if name.startswith("entropy_bottleneck") else value.half()
        assert torch.equal(published[name], expected), name
        assert published[name].dtype == expected.dtype


def test_weights_beyond_half_precision_are_not_published():
    model = untrained()
    with torch.no_grad():
        model.g_a[0].weight[0, 0, 0, 0] = 1e5
    with pytest.raises(SystemFault, match=r"g_a\.0\.weight .*float16"):
        publishable(model)


def test_a_published_codec_loads_with_a_card_that_tells_its_story(tmp_path, monkeypatch):
    run = Run.start(TINY, "cpu", "float32")
    run.step, run.seconds, run.log = 6, 12.4, [{"step": 6, "loss": 1.5}]
    kodak = pictures((64, 64), (70, 66))
    path = publish(run, tmp_path, "2 made-up images", kodak)
    assert path.name == "tiny_lambda0.02.safetensors"
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == files.sha256(path)
    assert (card["N"], card["M"], card["architecture"]) == (8, 12, "mbt2018-mean")
    story = card["training"]
    assert (story["data"], story["seconds"], story["last"]["loss"]) == ("2 made-up images", 12, 1.5)
    assert Recipe(**story["recipe"]) == TINY
    assert (story["hardware"], story["torch"], story["dtype"]) != ("", "", "")

    monkeypatch.setattr(weights, "bundled_folder", lambda: tmp_path)
    codec = weights.load_codec("tiny", dtype="float32")
    assert card["kodak"] == pytest.approx(rd_point(codec, kodak))
    # The medians' quantiles were solved for, not trained: each tail holds about one part in 10⁹.
    bottleneck = codec.model.entropy_bottleneck
    tails = torch.sigmoid(bottleneck._logits_cumulative(bottleneck.quantiles, stop_gradient=True))
    torch.testing.assert_close(tails[:, 0, 1], torch.full((8,), 0.5), atol=1e-4, rtol=0)
    assert (tails[:, 0, 0] < 1e-8).all()


def test_without_kodak_the_card_has_no_point(tmp_path):
    path = publish(Run.start(TINY, "cpu", "float32"), tmp_path, "nothing")
    assert json.loads(path.with_suffix(".json").read_text())["kodak"] == {}


def test_the_point_is_the_mean_of_the_images_points():
    codec = Codec("tiny", 0.02, freeze(untrained()), "")
    first, second = pictures((64, 64), (70, 130))
    point = rd_point(codec, [first, second])
    assert point["images"] == 2
    singles = [rd_point(codec, [image]) for image in (first, second)]
    for key in ("bpp", "psnr", "loss"):
        assert point[key] == pytest.approx((singles[0][key] + singles[1][key]) / 2)
    # Padding counts for neither pixels nor distortion.
    with torch.no_grad():
        decoded = codec.decode(codec.analyse(codec.pad(second[None])), hard)
    x_hat = decoded.x_hat[..., :70, :130]
    bpp = sum(bits.item() for bits in decoded.bits.values()) / (70 * 130)
    mse = (x_hat - second).double().square().mean().item()
    assert singles[1]["bpp"] == pytest.approx(bpp)
    assert singles[1]["loss"] == pytest.approx(0.02 * 255**2 * mse + bpp)
    assert singles[1]["psnr"] == pytest.approx(metrics.psnr_8bit(second[None], x_hat).item())


# Widening


def test_a_wider_codec_codes_the_old_channels_as_before():
    narrow = untrained(8, 12).eval()
    wide = loaded(widen(publishable(narrow), 8, 20, seed=1), 8, 20)
    narrow = loaded(publishable(narrow), 8, 12)
    z = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(0)) * 5
    with torch.no_grad():
        scales, means = wide.h_s(z).chunk(2, 1)
        old_scales, old_means = narrow.h_s(z).chunk(2, 1)
    torch.testing.assert_close(scales[:, :12], old_scales, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(means[:, :12], old_means, atol=1e-5, rtol=1e-5)
    assert scales[:, 12:].std() > 0
    assert scales[:, 12:].mean().item() == pytest.approx(1, abs=0.5)
    # Both hidden layers' new units are alive, or they could not learn.
    assert wide.h_s[4].weight[12:20, 18:].abs().sum() > 0
    assert wide.h_s[2].weight[12:, 18:].abs().sum() > 0


def test_a_wider_codec_without_its_new_channels_is_the_old_one():
    parameters = publishable(untrained(8, 12))
    narrow, wide = loaded(parameters, 8, 12), loaded(widen(parameters, 8, 20), 8, 20)
    (image,) = pictures((64, 128))
    with torch.no_grad():
        y, old_y = wide.g_a(image[None]), narrow.g_a(image[None])
        torch.testing.assert_close(y[:, :12], old_y, atol=1e-5, rtol=1e-5)
        assert y[:, 12:].std() > 0
        silent = torch.cat([y[:, :12], torch.zeros_like(y[:, 12:])], 1)
        torch.testing.assert_close(wide.g_s(silent), narrow.g_s(old_y), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(wide.h_a(silent), narrow.h_a(old_y), atol=1e-4, rtol=1e-4)
        # The new channels are heard, though faintly: that is how their gradient starts.
        difference = (wide.g_s(y) - narrow.g_s(old_y)).std()
        assert 0 < difference < 0.5 * narrow.g_s(old_y).std()


def test_widening_to_the_same_width_changes_nothing():
    parameters = publishable(untrained(8, 12))
    same = widen(parameters, 8, 12)
    assert set(same) == set(parameters)
    for name, value in same.items():
        assert torch.equal(value, parameters[name].float()), name


def test_widening_is_reproducible_and_leaves_torch_s_random_numbers_alone():
    parameters = publishable(untrained(8, 12))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = widen(parameters, 8, 16, seed=1)
    assert torch.equal(torch.rand(1), expected)
    again, other = widen(parameters, 8, 16, seed=1), widen(parameters, 8, 16, seed=2)
    assert torch.equal(first["g_a.6.weight"], again["g_a.6.weight"])
    assert not torch.equal(first["g_a.6.weight"], other["g_a.6.weight"])


@pytest.mark.parametrize(("n", "m"), [(16, 20), (8, 10)])
def test_widths_that_do_not_fit(n, m):
    with pytest.raises(UserError, match=f"N = 8 and M = 12 cannot start a model with N = {n} and M = {m}"):
        widen(publishable(untrained(8, 12)), n, m)


def test_weights_of_something_else_cannot_be_widened():
    with pytest.raises(UserError, match="not those of a mean-scale hyperprior"):
        widen({"weight": torch.zeros(2)}, 8, 12)
    incomplete = publishable(untrained(8, 12))
    del incomplete["h_s.2.bias"]
    with pytest.raises(UserError, match=r"h_s\.2\.bias among them"):
        widen(incomplete, 8, 16)
