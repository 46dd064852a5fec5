"""Series of codecs and bundled networks: what a name stands for, any λ in between, files."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgaplus import bitstream, io
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import checkpoints
from sgaplus.codecs.codec import hard
from sgaplus.codecs.gains import at_rate
from sgaplus.codecs.series import is_outdated, series
from sgaplus.codecs.weights import listing, load_codec
from sgaplus.distortion import LAMBDAS
from sgaplus.errors import UserError
from sgaplus.parsing import six_digits
from tests import test_models
from tests.conftest import untrained, write_codec, write_network
from tests.test_checkpoints import write_checkpoint
from tests.test_gains import assert_decoded, with_gains

ZOO = "mbt2018-mean"


def test_a_bundled_family(bundled):
    write_codec(bundled, lmbda=0.05, seed=1)
    found = series("mshyper-s")
    assert (found.name, found.lmbdas, found.missing(), found.need()) == ("mshyper-s", (0.01, 0.05), [], "")
    for member in found.members:
        codec = member.load("cpu", "float32")
        assert (codec.name, codec.lmbda, codec.sha256) == ("mshyper-s", member.lmbda, member.sha256)


@pytest.mark.parametrize(
    ("spec", "qualities", "metric"),
    [
        (ZOO, list(range(1, 9)), "mse"),
        (f"{ZOO}@3", [3], "mse"),
        (f"{ZOO}@5,1-3,2", [1, 2, 3, 5], "mse"),
        ("cheng2020-anchor@1-6", list(range(1, 7)), "mse"),
        (f"{ZOO}:ms-ssim@2,4", [2, 4], "ms-ssim"),
        (f"{ZOO}:mse", list(range(1, 9)), "mse"),
    ],
)
def test_a_series_of_the_zoo(no_zoo, spec, qualities, metric):
    found = series(spec)
    assert [member.quality for member in found.members] == qualities
    assert [member.lmbda for member in found.members] == [LAMBDAS[metric][q - 1] for q in qualities]
    assert [member.sha256 for member in found.members] == [""] * len(qualities)
    assert f"`sgaplus codecs fetch {spec}`" in found.need()


@pytest.mark.parametrize("lmbda", [*LAMBDAS["mse"], *LAMBDAS["ms-ssim"], 0.0123456, 123456.0])
def test_six_digits_of_a_lambda_survive_a_files_header(lmbda):
    (stored,) = struct.unpack(">f", struct.pack(">f", lmbda))
    assert six_digits(stored) == six_digits(lmbda * (1 + 1e-9)) == lmbda


def test_checkpoints_in_a_folder(tmp_path):
    (tmp_path / "own").mkdir()
    first = write_checkpoint(tmp_path / "own" / "low_lambda0.004.pth", untrained().state_dict())
    second = write_codec(tmp_path / "own", "trained", 0.02, seed=1)  # its card says its λ
    found = series(tmp_path / "own")
    assert (found.name, found.lmbdas) == ("own", (0.004, 0.02))
    assert [member.sha256 for member in found.members] == [
        load_codec(path, lmbda, device="cpu").sha256 for path, lmbda in ((first, 0.004), (second, 0.02))
    ]
    assert load_codec(tmp_path / "own", 0.02, device="cpu").name == "own"


@pytest.mark.parametrize("write", [write_codec, write_network])
def test_the_folder_of_a_training_run_is_a_series(tmp_path, write):
    """Beside the published weights lies what the run goes on from; and systems leave files behind."""
    path = write(tmp_path / "trained")
    for name in (f"{path.stem}.pt", "mshyper-s_family.pt", f"._{path.name}"):
        (path.parent / name).touch()
    found = series(path.parent)
    assert found.lmbdas == series(path).lmbdas
    assert found.member(0.01).sha256 == series(path).member(0.01).sha256
    if write is write_network:
        assert found.member(0.007).sha256 == series(path).member(0.007).sha256


def test_a_list_of_checkpoints(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    low, high = (
        write_checkpoint(tmp_path / "own" / f"{name}.pth", untrained(seed=seed).state_dict())
        for seed, name in enumerate(("low", "high"))
    )
    specs = [{str(high): 0.02, str(low): 0.01}, [f"{low}=0.01", f"{high}=0.02"], f"{low}=0.01,{high}=0.02"]
    found = [series(spec) for spec in specs]
    found.append(series(["own/low.pth=0.01", "own/high.pth=0.02"], folder=tmp_path))
    assert {(one.name, one.lmbdas) for one in found} == {("own", (0.01, 0.02))}
    assert len({member.sha256 for one in found for member in one.members}) == 2


def test_checkpoints_in_folders_of_a_sweep(tmp_path, monkeypatch):
    """Hydra calls them lmbda=0.01; and what is loaded later is where it was when it was named."""
    names = [f"lr=0.1/model_lambda{lmbda}.pth" for lmbda in (0.01, 0.02)]
    for seed, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_checkpoint(tmp_path / name, untrained(seed=seed).state_dict())
    monkeypatch.chdir(tmp_path)
    found = [series(names), series([Path(name) for name in names]), series(",".join(names))]
    monkeypatch.chdir("/")
    for one in found:
        assert one.lmbdas == (0.01, 0.02) and len({member.sha256 for member in one.members}) == 2


def test_a_list_may_be_longer_than_a_files_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lmbdas = (0.01, 0.02, 0.03)
    for lmbda in lmbdas:
        Path(f"{lmbda:x>99}.pth").touch()
    assert series(",".join(f"{lmbda:x>99}.pth={lmbda}" for lmbda in lmbdas)).lmbdas == lmbdas


@pytest.mark.parametrize(
    ("spec", "facts"),
    [
        (f"{ZOO}@9", ["quality 9", "1 to 8"]),
        ("cheng2020-anchor@7", ["quality 7", "1 to 6"]),
        (f"{ZOO}@0-2", ["quality 0", "1 to 8"]),
        (f"{ZOO}@4-2", ["2-4"]),
        (f"{ZOO}@a", ["'a'", "1-3"]),
        (f"{ZOO}:vmaf", ["vmaf", "mse and ms-ssim"]),
        ("mbt2018-maen", ["unknown codec 'mbt2018-maen'", ZOO, "mshyper-s"]),
        ([], ["list of paths"]),
        ({}, ["at least one checkpoint"]),
        ({1: 0.01}, ["by its path"]),
        (3, ["by a word or a path"]),
        (["a.pth=0.01", "nowhere.pth=0.02"], ["nowhere.pth"]),
        (["a.pth=0.01", "b.pth=0.01"], ["a.pth", "b.pth", "lambda 0.01"]),
        (["a.pth=0.01", "b.pth"], ["b.pth", "lambda"]),
        (["a.pth=0.01", "b.pth=no"], ["b.pth", "'no'"]),
        ({"a.pth": -1}, ["a.pth", "-1"]),
        ("a.pth", ["a.pth", "does not say which lambda"]),
        ("empty", ["no checkpoint in empty"]),
    ],
)
def test_what_is_no_series(bundled, tmp_path, monkeypatch, spec, facts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for seed, name in enumerate(("a.pth", "b.pth")):
        write_checkpoint(tmp_path / name, untrained(seed=seed).state_dict())
    with pytest.raises(UserError) as error:
        series(spec)
    text = str(error.value)
    assert all(fact in text for fact in facts), text
    assert "\n" not in text


def test_a_checkpoint_never_bears_the_name_of_another_codec(tmp_path):
    path = write_checkpoint(tmp_path / f"{ZOO}.pth", untrained().state_dict())
    assert series(path, 0.01).name == f"own-{ZOO}"


def test_the_work_of_a_decoder_grows_with_its_width():
    small, paper, wide = (
        series(name).members[-1].effort.work for name in ("mshyper-s", f"{ZOO}@1", f"{ZOO}@8")
    )
    # 25 weights per kernel, four transposed convolutions (N, M) and GDN.
    assert small < paper < wide
    n, m = 128, 192
    convolutions = 25 * (m * n / 256 + n * n / 64 + n * n / 16 + 3 * n / 4)
    gdn = n * n * (1 / 64 + 1 / 16 + 1 / 4)
    assert paper == pytest.approx(convolutions + gdn, rel=0.01)


def test_a_checkpoint_of_variable_rate_has_every_lambda(tmp_path, no_zoo, monkeypatch):
    path = write_checkpoint(tmp_path / "own.pth", test_models.untrained("mbt2018-mean-vbr").state_dict())
    found = series(path)
    assert (found.name, found.lmbdas) == ("own", LAMBDAS["mse"])
    read, original = [], checkpoints.read
    monkeypatch.setattr(checkpoints, "read", lambda path: read.append(path) or original(path))
    assert len({(member.sha256, member.effort) for member in found.members}) == len(found.members)
    assert read == [path], "what is known of all rates takes one look"
    members = [found.member(0.0067), found.member(0.007)]
    assert [member.load("cpu", "float32").lmbda for member in members] == [0.0067, 0.007]
    assert len({member.sha256 for member in members}) == 2
    assert members[1].sha256 == load_codec(path, 0.007, device="cpu").sha256
    # One whose name says its rate is that one.
    [single] = series(path.rename(tmp_path / "own_lambda0.01")).members  # no ending
    assert single.lmbda == 0.01
    of_zoo = series("mbt2018-mean-vbr@1-3")
    with pytest.raises(UserError, match=r"no codec of lambda 0\.007"):
        of_zoo.member(0.007)


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
