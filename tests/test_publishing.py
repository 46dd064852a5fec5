"""Published weights, their card and their Kodak point."""

import json

import pytest
import torch

from sgaplus import files, metrics, weights
from sgaplus.codecs import Codec, freeze, hard
from sgaplus.errors import SystemFault
from sgaplus.publishing import publish, publishable, rd_point
from sgaplus.training import Recipe, Run

from .conftest import untrained

TINY = Recipe(name="tiny", N=8, M=12, lmbda=0.02, steps=6, cooldown=2, warmup=2, crop=64)


def pictures(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *shape, generator=generator) for shape in shapes]


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
