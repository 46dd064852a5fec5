"""Published weights with their card, training curve and Kodak point, and a run that starts from them."""

import dataclasses
import errno
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from sgaplus import hardware, io, refine
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import checkpoints, gains, weights
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import SystemFault, UserError
from sgaplus.training.lineage import CURVE, Lineage, curve_path, lineage_of, write_curve
from sgaplus.training.objective import rd_point
from sgaplus.training.publishing import publish, publishable, start_from
from sgaplus.training.recipes import Recipe
from sgaplus.training.run import Run
from tests.conftest import untrained, write_codec, write_network

TINY = Recipe(name="tiny", N=8, M=12, lmbda=0.02, steps=6, cooldown=2, warmup=2, crop=64)
ROW = {"stage": 2, "step": 1234567, "seconds": 11.5, "lmbda": 0.01, "loss": 1.25, "bpp": 0.5, "psnr": 30.0}
ROW |= {"lr": 1e-3}
HELD_OUT = {"held_out_loss": 1.25, "held_out_bpp": 0.5, "held_out_psnr": 31.5}


def pictures(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *shape, generator=generator) for shape in shapes]


def start(**changes):
    return Run.start(dataclasses.replace(TINY, **changes), "cpu", "float32")


def rows(step, *lmbdas):
    row = {"step": step, "seconds": 10.0, "bpp": 0.5, "psnr": 30.0}
    return [row | {"lmbda": lmbda, "loss": 1 + lmbda} for lmbda in lmbdas]


def card_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def edit_card(path, **changes):
    path.with_suffix(".json").write_text(json.dumps(card_of(path) | changes))


# Publishing


def test_published_weights_are_the_parameters_in_half_precision():
    model = untrained()
    published = publishable(model)
    assert set(published) == dict(model.named_parameters()).keys()
    for name, value in model.named_parameters():
        expected = value if name.startswith("entropy_bottleneck") else value.half()
        assert torch.equal(published[name], expected), name
        assert published[name].dtype == expected.dtype
    with torch.no_grad():
        model.g_a[0].weight[0, 0, 0, 0] = 1e5
    with pytest.raises(SystemFault, match=r"g_a\.0\.weight .*float16"):
        publishable(model)


def test_a_published_codec_loads_with_a_card_that_tells_its_story(tmp_path, monkeypatch):
    run = start()
    run.step, run.seconds, run.log = 6, 12.4, rows(6, 0.02)
    kodak = pictures((64, 64), (70, 66))
    path = publish(run, tmp_path, "2 made-up images", kodak)
    names = {f"tiny_lambda0.02{suffix}" for suffix in (".json", ".safetensors", ".training.csv")}
    assert {file.name for file in tmp_path.iterdir()} == names
    card = card_of(path)
    assert card["sha256"] == io.sha256(path)
    assert (card["N"], card["M"], card["architecture"]) == (8, 12, "mbt2018-mean")
    assert (card["training"]["data"], card["training"]["optimizer"]) == ("2 made-up images", "SOAP")
    (stage,) = card["training"]["stages"]
    assert Recipe(**stage.pop("recipe")) == TINY
    assert stage == {"start": "", "seconds": 12, "steps": 6, "last": rows(6, 0.02), "dtype": "float32"} | {
        "hardware": hardware.describe(torch.device("cpu")),
        "torch": torch.__version__,
    }
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: tmp_path)
    codec = weights.load_codec("tiny", dtype="float32")
    assert card["kodak"] == [pytest.approx(rd_point(codec, kodak))]


@pytest.mark.slow
def test_a_family_is_published_as_one_network(tmp_path, monkeypatch):
    run = start(family=(0.04, 0.01, 0.02))
    with torch.no_grad():
        run.gains.z += 0.3
        run.average = [value.detach().clone() for value in run.parameters()]
    run.log = [*rows(100, 0.01, 0.02), *rows(200, 0.01, 0.04)]
    path = publish(run, tmp_path, "nothing", pictures((64, 64)))
    assert path.name == "tiny_lambda0.01-0.04.safetensors"
    card, curve = card_of(path), pd.read_csv(curve_path(path))
    (stage,) = card["training"]["stages"]
    assert Recipe(**stage["recipe"]) == run.recipe
    assert [(row["lmbda"], row["step"]) for row in stage["last"]] == [(0.01, 200), (0.02, 100), (0.04, 200)]
    assert card["lmbdas"] == [0.01, 0.02, 0.04] and card["sha256"] == io.sha256(path)
    assert tuple(curve.columns) == CURVE and set(curve["stage"]) == {1}
    assert list(zip(curve["step"], curve["lmbda"], strict=True)) == [
        (row["step"], row["lmbda"]) for row in run.log
    ]
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: tmp_path)
    expected = run.weights()
    for lmbda, point in zip(card["lmbdas"], card["kodak"], strict=True):
        codec = weights.load_codec("tiny", lmbda, device="cpu", dtype="float32")
        assert point == pytest.approx(rd_point(codec, pictures((64, 64))))
        for name, value in codec.model.named_parameters():
            torch.testing.assert_close(value, expected[lmbda][name], atol=1e-3, rtol=1e-3, msg=name)


def test_the_next_stage_tells_the_earlier_ones(tmp_path):
    run = start(family=(0.01, 0.02))
    run.log, run.step = [*rows(100, 0.01, 0.02), *rows(200, 0.02)], 200
    first_path = publish(run, tmp_path / "family", "many photographs")
    lineage = lineage_of(first_path)
    assert (lineage.start, lineage.lmbda) == ("tiny_lambda0.01-0.02.safetensors", None)
    run = start_from(first_path, TINY, "cpu", "float32", lineage)
    run.log, run.step = rows(6, 0.02), 6
    run.save(tmp_path / "run.pt")
    path = publish(Run.resume(tmp_path / "run.pt", TINY, "cpu", "float32"), tmp_path, "few photographs")
    training = card_of(path)["training"]
    first, second = training["stages"]
    assert (training["data"], card_of(path)["kodak"]) == ("few photographs", [])
    assert first == card_of(first_path)["training"]["stages"][0] | {"data": "many photographs"}
    assert (second["start"], second["steps"], "data" in second) == (first_path.name, 6, False)
    curve = pd.read_csv(curve_path(path))[["stage", "step", "lmbda"]].to_numpy().tolist()
    assert curve == [[1, 100, 0.01], [1, 100, 0.02], [1, 200, 0.02], [2, 6, 0.02]]
    # Data that all stages share are told once.
    path = publish(run, tmp_path, "many photographs")
    assert "data" not in card_of(path)["training"]["stages"][0]


def test_a_run_starts_from_a_network_with_its_gains(tmp_path):
    """Of a family with other λ it interpolates them."""
    path = write_network(tmp_path, "tiny", (0.005, 0.02))
    network = checkpoints.read_safetensors(path)
    run = start_from(path, dataclasses.replace(TINY, family=(0.02, 0.01)), "cpu", "float32")
    assert torch.equal(run.gains.y[0], network["gains.y"][1])
    torch.testing.assert_close(run.gains.y[1].detach(), network["gains.y"].mean(0))
    torch.testing.assert_close(run.codec.model.g_a[0].weight.detach(), network["g_a.0.weight"].float())
    alone = start_from(path, TINY, "cpu", "float32")
    expected = gains.at(network, TINY.lmbda)["g_a.6.weight"]
    torch.testing.assert_close(alone.codec.model.g_a[6].weight.detach(), expected)


@pytest.mark.parametrize("widths", [{"N": 12}, {"M": 20}, {"N": 6, "M": 10}])
def test_a_run_starts_from_no_weights_of_another_shape(tmp_path, widths):
    recipe = dataclasses.replace(TINY, **widths)
    message = f"N = 8 and M = 12, .* N = {recipe.N} and M = {recipe.M}: give --N 8 --M 12"
    for path in (write_codec(tmp_path), write_network(tmp_path)):
        with pytest.raises(UserError, match=message):
            start_from(path, recipe, "cpu", "float32")


def test_a_full_disk_while_publishing(tmp_path, file_size_limit):
    run = start()
    publish(run, tmp_path, "before")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with file_size_limit(2000), pytest.raises(SystemFault, match=r"could not write .*safetensors"):
        publish(run, tmp_path, "after")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_point_is_the_mean_of_that_from_which_refinements_start():
    """One photograph is padded."""
    codec, images = Codec("tiny", 0.02, freeze(untrained()), ""), pictures((64, 64), (70, 130))
    means = refine(codec, images, "map", iterations=0).rows[["bpp", "psnr_8bit", "loss"]].mean()
    point = rd_point(codec, images)
    assert point.pop("images") == 2
    assert point == pytest.approx(means.rename({"psnr_8bit": "psnr"}).to_dict(), rel=1e-5)


# What the card and the curve beside weights tell of earlier stages


def test_stages_bring_their_data_and_weights_without_a_card_have_none(tmp_path):
    path = write_codec(tmp_path)
    training = {"data": "these", "optimizer": "SOAP", "stages": [{"data": "those", "steps": 1}, {"steps": 2}]}
    edit_card(path, training=training)
    assert lineage_of(path).stages == [{"data": "those", "steps": 1}, {"data": "these", "steps": 2}]
    edit_card(path, training={})
    assert lineage_of(path).stages == []
    path.with_suffix(".json").unlink()
    assert lineage_of(path) == Lineage(path.name)


@pytest.mark.parametrize("rows", [[ROW], [ROW, ROW | {"step": 200} | HELD_OUT]])
def test_a_curve_is_read_as_it_was_written(tmp_path, rows):
    path = write_codec(tmp_path)
    write_curve(curve_path(path), rows)
    assert lineage_of(path).curve == rows
    assert curve_path(path).name == f"{path.stem}.training.csv"
    assert tuple(pd.read_csv(curve_path(path)).columns) == (*CURVE, *(HELD_OUT if len(rows) > 1 else ()))


def test_the_bundled_curves_are_read():
    paths = sorted(shipped.bundled_folder().glob("*.safetensors"))
    assert paths == sorted({card.path for card in shipped.cards()})
    for curve in (lineage_of(path).curve for path in paths):
        assert len(curve) > 10 and set(curve[0]) >= set(CURVE)


@pytest.mark.parametrize("suffix", [".json", ".training.csv"])
def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch, suffix):
    path = write_codec(tmp_path)
    write_curve(curve_path(path), [ROW])

    def refused(self, *arguments, **settings):
        if self.name.endswith(suffix):
            raise OSError(errno.EMFILE, "the system's reason")
        return opened(self, *arguments, **settings)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SystemFault, match=f"{suffix} cannot be read"):
        lineage_of(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"stages": [{}]}}, "json is not the card of a codec"),
        ({"training": {"data": "", "stages": [1]}}, "json is not the card of a codec"),
        ({"training": [1]}, "json is not the card of a codec"),
        ("{", "json is not the card of a codec"),
        ({"sha256": "0" * 64}, "not the card of .*safetensors, which has changed"),
    ],
)
def test_a_card_that_is_none_or_of_other_weights(tmp_path, changes, message):
    path = write_codec(tmp_path)
    edit_card(path, **changes) if isinstance(changes, dict) else path.with_suffix(".json").write_text(changes)
    with pytest.raises(UserError, match=message):
        lineage_of(path)


@pytest.mark.parametrize("content", ["stage,step\n1,2\n", "\0", "stage\n", ",".join(ROW) + "\n1,many"])
def test_a_curve_that_is_none(tmp_path, content):
    path = write_codec(tmp_path)
    curve_path(path).write_text(content)
    with pytest.raises(UserError, match="no training curve"):
        lineage_of(path)
