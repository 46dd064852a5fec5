"""Bundled networks: one file for several λ, whose gains fold away; any λ in between; files that name it."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgaplus import bitstream, io
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import checkpoints, gains
from sgaplus.codecs.codec import hard
from sgaplus.codecs.gains import at_rate
from sgaplus.codecs.series import is_outdated, series
from sgaplus.codecs.weights import listing, load_codec
from sgaplus.errors import UserError
from tests.conftest import write_network
from tests.test_gains import assert_decoded, with_gains

LOW, HIGH = (0.005, 0.01, 0.02), (0.04, 0.08)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bundled family of two networks."""
    folder = tmp_path / "networks"
    write_network(folder, lmbdas=LOW)
    write_network(folder, lmbdas=HIGH, seed=1)
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder)
    return folder


def load(lmbda, name="mshyper-s"):
    return load_codec(name, lmbda, device="cpu", dtype="float32")


def path_of(folder, lmbdas=LOW):
    return folder / f"{shipped.stem('mshyper-s', lmbdas)}.safetensors"


def picture(height=64, width=64):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def interpolated(weights, lmbda):
    """Log gains, linear in log λ, by their last names."""
    lmbdas = weights["gains.lmbda"]
    index = int((lmbdas[1:-1] < lmbda).sum())
    start, end = lmbdas[index : index + 2].log().tolist()
    part = (torch.tensor(lmbda, dtype=torch.float64).log().item() - start) / (end - start)
    stored = (weights[f"gains.{name}"].double() for name in ("y", "synthesis", "z"))
    return [torch.lerp(gains[index], gains[index + 1], part) for gains in stored]


@pytest.mark.parametrize("lmbda", [0.005, 0.007, 0.02, 0.025])
@torch.no_grad()
def test_folded_weights_are_the_network_with_gains_on_its_activations(folder, lmbda):
    weights, codec = load_file(path_of(folder)), load(lmbda)
    model = checkpoints.build("mbt2018-mean", 8, 12)
    checkpoints.load_parameters(model, {k: v for k, v in weights.items() if not k.startswith("gains.")})
    model = model.double()
    g_y, g_s, g_z = (gain.exp()[:, None, None] for gain in interpolated(weights, lmbda))
    x = picture()
    decoded = codec.decode(codec.analyse(x), hard)

    medians = g_z * model.entropy_bottleneck.quantiles[:, 0, 1].double()[:, None, None]
    assert_decoded(decoded, with_gains(model, g_y, g_s, g_z, medians, x))


def test_at_a_trained_lambda_the_gains_are_the_stored_ones(folder):
    weights = load_file(path_of(folder))
    for index, lmbda in enumerate(LOW):
        stored = [weights[name][index] for name in weights if "gains." in name]
        for value in gains.log_gains_at(weights, lmbda).values():
            assert any(torch.equal(value, one) for one in stored)


def test_an_identity_is_that_of_file_and_lambda(folder):
    file = io.sha256(path_of(folder))
    assert load(0.01).sha256 == at_rate(file, 0.01) != load(0.02).sha256
    assert load(0.007).sha256 == at_rate(file, 0.007) == series("mshyper-s").member(0.007).sha256
    assert (load(0.007).lmbda, load(0.007).card["kodak"], load(0.01).card["kodak"]["psnr"]) == (0.007, {}, 30)
    # Between two networks the one of the nearest trained λ goes on.
    high = io.sha256(path_of(folder, HIGH))
    assert (load(0.028).sha256, load(0.03).sha256) == (at_rate(file, 0.028), at_rate(high, 0.03))
    for lmbda, known in ((0.01, True), (0.007, True), (0.5, False)):
        assert is_outdated("mshyper-s", lmbda, at_rate(file, lmbda)) is not known
        assert is_outdated("mshyper-s", lmbda, at_rate(file, 0.011))


def test_a_family_of_networks_is_a_series_of_all_its_lambda(folder, tmp_path):
    found = series("mshyper-s")
    assert found.lmbdas == LOW + HIGH == tuple(row["lmbda"] for row in listing()[:5])
    member = pickle.loads(pickle.dumps(found.member(0.007)))
    assert (member.lmbda, member.sha256) == (0.007, found.member(0.007).sha256)
    assert member.load("cpu", "float32").sha256 == member.sha256


@pytest.mark.parametrize("lmbda", [0.0049, 0.081])
def test_lambda_out_of_range(folder, lmbda):
    with pytest.raises(UserError, match=rf"no lambda {lmbda:g}: choose one from 0\.005 to 0\.08"):
        load(lmbda)


@pytest.mark.parametrize("lmbda", [0.01, 0.0071234567, 0.025])
def test_a_file_finds_its_codec_at_any_lambda(folder, no_zoo, lmbda):
    codec, image = load(lmbda), picture(64, 80)
    latents = codec.decode(codec.analyse(codec.pad(image))).latents
    data = bitstream.encode(codec, latents, (64, 80))
    found = bitstream.find_codec(data)
    assert found.sha256 == codec.sha256
    for (name, own), (_, other) in zip(*(m.model.named_parameters() for m in (codec, found)), strict=True):
        assert torch.equal(own, other), name
    assert bitstream.decode(data).shape == (3, 64, 80)
    write_network(folder, lmbdas=LOW, seed=5)
    write_network(folder, lmbdas=HIGH, seed=5)
    with pytest.raises(UserError, match=f"mshyper-s, λ = {lmbda:.6g}, .*another version of sgaplus"):
        bitstream.decode(data)


def test_a_network_file_of_ones_own_is_a_series(folder, tmp_path, no_zoo):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path_of(folder).read_bytes())
    assert series(copy).lmbdas == LOW
    assert load(0.007, copy).sha256 == load(0.007).sha256
    own = write_network(tmp_path / "own", "mine", (0.01, 0.03), seed=7)
    assert series(own).lmbdas == series(tmp_path / "own").lmbdas == (0.01, 0.03)
    codec = load(0.02, own)
    assert len({codec.sha256, load(0.01, own).sha256, series(own).member(0.03).sha256}) == 3
    with pytest.raises(UserError, match=r"no lambda 0\.07: choose one from 0\.01 to 0\.03"):
        load(0.07, own)


def test_a_card_of_another_network_is_refused(folder):
    card = path_of(folder).with_suffix(".json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps(content | {"lmbdas": [0.005, 0.01, 0.03]}))
    with pytest.raises(UserError, match=r"holds lambda 0\.005, 0\.01, 0\.02, .*says 0\.005, 0\.01, 0\.03"):
        load(0.01)
    card.write_text(json.dumps(content | {"lmbdas": [0.005, 0.01]}))
    with pytest.raises(UserError, match="is not the card of a codec"):
        load(0.01)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("gains.y", torch.zeros(3, 4)),
        ("gains.z", torch.full((3, 8), torch.inf)),
        ("gains.lmbda", torch.tensor([0.02, 0.01, 0.005])),
        ("gains.synthesis", None),
        ("h_s.0.weight", None),
    ],
)
def test_gains_that_do_not_fit_are_named(folder, tmp_path, name, broken):
    weights = load_file(path_of(folder))
    del weights[name]
    save_file(weights | ({name: broken} if broken is not None else {}), tmp_path / "own.safetensors")
    with pytest.raises(UserError, match=name):
        load(0.01, tmp_path / "own.safetensors")
