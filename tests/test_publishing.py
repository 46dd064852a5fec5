"""Published weights, their card, their training curve and their Kodak point."""

import dataclasses
import json

import pandas as pd
import pytest
import torch

from sgaplus import hardware, io, metrics
from sgaplus.codecs import checkpoints, gains, weights
from sgaplus.codecs.codec import Codec, freeze, hard
from sgaplus.errors import SystemFault
from sgaplus.training.evaluation import rd_point
from sgaplus.training.lineage import CURVE, curve_path, lineage_of
from sgaplus.training.publishing import publish, publishable, start_from
from sgaplus.training.recipes import Recipe
from sgaplus.training.run import Run
from tests.conftest import untrained, write_network

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


def rows(step, *lmbdas, seconds=10.0):
    return [
        {"step": step, "seconds": seconds, "lmbda": lmbda, "loss": 1 + lmbda, "bpp": 0.5, "psnr": 30.0}
        for lmbda in lmbdas
    ]


def card_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_a_published_codec_loads_with_a_card_that_tells_its_story(tmp_path, monkeypatch):
    run = Run.start(TINY, "cpu", "float32")
    run.step, run.seconds, run.log = 6, 12.4, rows(6, 0.02)
    kodak = pictures((64, 64), (70, 66))
    path = publish(run, tmp_path, "2 made-up images", kodak)
    assert path.name == "tiny_lambda0.02.safetensors"
    assert sorted(p.name.removeprefix(path.stem) for p in tmp_path.iterdir()) == [
        ".json",
        ".safetensors",
        ".training.csv",
    ]
    card = card_of(path)
    assert card["sha256"] == io.sha256(path)
    assert (card["N"], card["M"], card["architecture"]) == (8, 12, "mbt2018-mean")
    assert (card["training"]["data"], card["training"]["optimizer"]) == ("2 made-up images", "SOAP")
    (stage,) = card["training"]["stages"]
    assert (stage["start"], stage["seconds"], stage["steps"], stage["last"]) == ("", 12, 6, rows(6, 0.02))
    assert Recipe(**stage["recipe"]) == TINY
    assert (stage["hardware"], stage["torch"], stage["dtype"]) == (
        hardware.describe(torch.device("cpu")),
        torch.__version__,
        "float32",
    )

    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: tmp_path)
    codec = weights.load_codec("tiny", dtype="float32")
    assert card["kodak"] == [pytest.approx(rd_point(codec, kodak))]
    # The medians' quantiles were solved for, not trained: each tail holds about one part in 10⁹.
    bottleneck = codec.model.entropy_bottleneck
    tails = torch.sigmoid(bottleneck._logits_cumulative(bottleneck.quantiles, stop_gradient=True))
    torch.testing.assert_close(tails[:, 0, 1], torch.full((8,), 0.5), atol=1e-4, rtol=0)
    assert (tails[:, 0, 0] < 1e-8).all()


@pytest.mark.slow
def test_a_family_is_published_as_one_network(tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, family=(0.04, 0.01, 0.02))
    run = Run.start(recipe, "cpu", "float32")
    with torch.no_grad():
        run.gains.z += 0.3
        run.average = [value.detach().clone() for value in run.parameters()]
    # Means of λ in logs need not be exact.
    run.log = [*rows(100, 0.01, 0.02 * (1 + 1e-14)), *rows(200, 0.01, 0.04)]
    path = publish(run, tmp_path, "nothing", pictures((64, 64)))
    assert path.name == "tiny_lambda0.01-0.04.safetensors"
    card, curve = card_of(path), pd.read_csv(curve_path(path))
    (stage,) = card["training"]["stages"]
    assert Recipe(**stage["recipe"]) == recipe
    assert [(row["lmbda"], row["step"]) for row in stage["last"]] == [(0.01, 200), (0.02, 100), (0.04, 200)]
    assert card["lmbdas"] == [0.01, 0.02, 0.04] and card["sha256"] == io.sha256(path)
    assert tuple(curve.columns) == CURVE and set(curve["stage"]) == {1}
    assert curve["lmbda"].tolist() == [0.01, 0.02, 0.01, 0.04]
    assert curve["step"].tolist() == [100, 100, 200, 200]

    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: tmp_path)
    expected = run.weights()
    for lmbda, point in zip(card["lmbdas"], card["kodak"], strict=True):
        codec = weights.load_codec("tiny", lmbda, device="cpu", dtype="float32")
        assert point == pytest.approx(rd_point(codec, pictures((64, 64))))
        for name, value in codec.model.named_parameters():
            torch.testing.assert_close(value, expected[lmbda][name], atol=1e-3, rtol=1e-3, msg=name)


def test_the_next_stage_tells_the_earlier_ones(tmp_path):
    family = dataclasses.replace(TINY, family=(0.01, 0.02))
    run = Run.start(family, "cpu", "float32")
    run.log, run.step = [*rows(100, 0.01, 0.02), *rows(200, 0.02)], 200
    start = publish(run, tmp_path / "family", "many photographs")
    lineage = lineage_of(start)
    assert (lineage.start, lineage.lmbda) == ("tiny_lambda0.01-0.02.safetensors", None)
    run = start_from(start, TINY, "cpu", "float32", lineage)
    run.log, run.step = rows(6, 0.02), 6
    run.save(tmp_path / "run.pt")
    path = publish(Run.resume(tmp_path / "run.pt", TINY, "cpu", "float32"), tmp_path, "few photographs")
    training = card_of(path)["training"]
    first, second = training["stages"]
    assert training["data"] == "few photographs"
    assert first == card_of(start)["training"]["stages"][0] | {"data": "many photographs"}
    assert (second["start"], second["steps"], "data" in second) == (start.name, 6, False)
    curve = pd.read_csv(curve_path(path))
    assert curve[["stage", "step", "lmbda"]].to_numpy().tolist() == [
        [1, 100, 0.01],
        [1, 100, 0.02],
        [1, 200, 0.02],
        [2, 6, 0.02],
    ]
    # Data that all stages share are told once.
    path = publish(run, tmp_path, "many photographs")
    assert "data" not in card_of(path)["training"]["stages"][0]


def test_a_run_starts_from_a_network_with_its_gains(tmp_path):
    """Of a family with other λ it interpolates them; wider channels get the others' mean."""
    path = write_network(tmp_path, "tiny", (0.005, 0.02))
    network = checkpoints.read_safetensors(path)
    recipe = dataclasses.replace(TINY, M=16, family=(0.02, 0.01))
    run = start_from(path, recipe, "cpu", "float32")
    y = run.gains.y.detach()
    assert torch.equal(y[0, :12], network["gains.y"][1])
    torch.testing.assert_close(y[1, :12], network["gains.y"].mean(0))
    assert torch.allclose(y[:, 12:], y[:, :12].mean(1, keepdim=True))
    own = run.codec.model.g_a[0].weight.detach().cpu()
    torch.testing.assert_close(own, network["g_a.0.weight"].float())
    alone = start_from(path, TINY, "cpu", "float32")
    expected = gains.at(network, TINY.lmbda)["g_a.6.weight"]
    torch.testing.assert_close(alone.codec.model.g_a[6].weight.detach(), expected)


def test_without_kodak_the_card_has_no_point(tmp_path):
    path = publish(Run.start(TINY, "cpu", "float32"), tmp_path, "nothing")
    assert card_of(path)["kodak"] == []
    (stage,) = card_of(path)["training"]["stages"]
    assert stage["last"] == []
    assert pd.read_csv(curve_path(path)).empty


def test_a_full_disk_while_publishing(tmp_path, file_size_limit):
    run = Run.start(TINY, "cpu", "float32")
    publish(run, tmp_path, "before")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with file_size_limit(2000), pytest.raises(SystemFault, match=r"could not write .*safetensors"):
        publish(run, tmp_path, "after")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


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
