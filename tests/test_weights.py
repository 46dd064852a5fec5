"""Codecs from the package, from the zoo and from checkpoints, and everything that can be wrong with them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from compressai.zoo import image, image_vbr
from safetensors.torch import load_file

from sgaplus import bitstream, hardware, io, refine
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import zoo
from sgaplus.codecs.checkpoints import REFINABLE, build, read_safetensors
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import listing, load_codec
from sgaplus.codecs.zoo import fetch as fetch_zoo
from sgaplus.data import downloads
from sgaplus.distortion import LAMBDAS
from sgaplus.errors import SystemFault, UserError
from sgaplus.studies import stored
from sgaplus.training import publishing
from tests import test_models
from tests.conftest import WIDTHS, untrained, write_codec
from tests.test_checkpoints import assert_same_parameters, write_checkpoint

ZOO = "mbt2018-mean"
VARIABLE = "mbt2018-mean-vbr"


# Bundled codecs


def test_a_bundled_codec_is_what_was_saved(bundled):
    codec = load_codec("mshyper-s", 0.01, device="cpu", dtype="float32")
    assert (codec.name, codec.lmbda, codec.card["kodak"]["psnr"]) == ("mshyper-s", 0.01, 30.0)
    assert codec.sha256 == io.sha256(bundled / "mshyper-s_lambda0.01.safetensors")
    assert_same_parameters(codec, load_file(bundled / "mshyper-s_lambda0.01.safetensors"))
    assert not any(parameter.requires_grad for parameter in codec.model.parameters())
    assert load_codec("mshyper-s").sha256 == codec.sha256


def test_one_of_several_lambda_is_chosen(bundled):
    write_codec(bundled, lmbda=0.05, seed=1)
    assert [card.lmbda for card in shipped.cards()] == [0.01, 0.05]
    assert load_codec("mshyper-s", 0.05).lmbda == 0.05
    assert load_codec("mshyper-s").lmbda == 0.01
    (bundled / "mshyper-s_lambda0.01.json").unlink()
    write_codec(bundled, lmbda=0.02, seed=1)
    with pytest.raises(UserError, match=r"choose one of 0\.02, 0\.05"):
        load_codec("mshyper-s")
    (bundled / "mshyper-s_lambda0.02.json").unlink()
    write_codec(bundled)
    with pytest.raises(UserError, match=r"lambda 0\.02: choose one of 0\.01, 0\.05"):
        load_codec("mshyper-s", 0.02)


def test_damaged_weights_are_refused(bundled):
    path = bundled / "mshyper-s_lambda0.01.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"lambda0\.01\.safetensors is damaged \(SHA-256 .*restore it"):
        load_codec("mshyper-s")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(UserError, match="git lfs pull"):
        load_codec("mshyper-s")
    path.unlink()
    with pytest.raises(SystemFault, match="is missing: install sgaplus again"):
        load_codec("mshyper-s")
    assert listing()[0]["where"] == "missing"


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "mshyper-s"}'])
def test_a_broken_card_is_named(bundled, content):
    (bundled / "broken.json").write_text(content)
    with pytest.raises(UserError, match=r"broken\.json is not the card of a codec"):
        shipped.cards()


def test_unknown_codecs(bundled):
    with pytest.raises(UserError, match=r"unknown codec 'mshyper': use mshyper-s .*mbt2018-mean"):
        load_codec("mshyper")
    with pytest.raises(UserError, match="lambda must be a finite number greater than 0"):
        load_codec("mshyper-s", float("nan"))
    with pytest.raises(UserError, match="only codecs of the zoo have a quality"):
        load_codec("mshyper-s", quality=3)
    with pytest.raises(UserError, match=r"mshyper-s has no scale.*mbt2018-mean-vbr"):
        load_codec("mshyper-s", scale=0.3)
    with pytest.raises(UserError, match=r"mbt2018-mean has no scale.*mbt2018-mean-vbr"):
        load_codec("mbt2018-mean", scale=0.3)


@pytest.mark.slow
def test_every_codec_that_comes_with_the_package():
    cards = shipped.cards()
    folder = shipped.bundled_folder()
    assert cards
    assert {path.stem for path in folder.glob("*.json")} == {c.path.stem for c in cards}
    assert {path.stem for path in folder.glob("*.safetensors")} == {p.stem for p in folder.glob("*.json")}
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for card in cards:
        path = card.path
        assert io.sha256(path) == card.file_sha256
        for name, value in read_safetensors(path).items():
            small = name.startswith(("entropy_bottleneck", "gains."))
            exact = torch.float64 if name == "gains.lmbda" else torch.float32
            assert value.dtype == (exact if small else torch.float16), name
        codec = load_codec(card.name, card.lmbda, device="cpu", dtype="float32")
        assert card.kodak["images"] == 24
        assert refine(codec, [image], "ssl", iterations=0).rows["loss"].notna().all()


def small_cards():
    return [card for card in shipped.cards() if card.name == "mshyper-s"]


def test_the_cards_say_what_the_stored_rows_have_on_kodak():
    """A card's point is the mean over the 24 photographs, as the rows of an unrefined codec have it."""
    rows = stored.stored_rows("rd", "cpu")
    rows = rows[rows["image"].str.fullmatch(r"kodim\d\d") & (rows["iteration"] == 0)]
    for card in small_cards():
        of_codec = rows[rows["codec_sha256"] == card.sha256].drop_duplicates("image")
        assert len(of_codec) == card.kodak["images"] == 24
        found = of_codec[["bpp", "psnr_8bit", "loss"]].mean().rename({"psnr_8bit": "psnr"}).to_dict()
        assert found == pytest.approx({name: card.kodak[name] for name in found}, rel=1e-4)


@pytest.mark.slow
def test_a_codec_reaches_what_the_stored_row_of_a_photograph_has(data_set):
    [image] = data_set("kodak", images=["kodim05"])
    card = small_cards()[0]
    codec = load_codec(card.name, card.lmbda, device="cpu", dtype="float32")
    rows = stored.stored_rows("rd", "cpu")
    of_image = rows[(rows["codec_sha256"] == card.sha256) & (rows["image"] == image.name)]
    row = of_image[of_image["iteration"] == 0].iloc[0]
    point = publishing.rd_point(codec, [image.read()])
    expected = {"images": 1, "bpp": row["bpp"], "psnr": row["psnr_8bit"], "loss": row["loss"]}
    assert point == pytest.approx(expected, rel=1e-4)


# The zoo, from a server on this machine


@pytest.fixture
def zoo_file(server, monkeypatch, no_zoo) -> Path:
    """A small checkpoint that is served as the zoo's mbt2018-mean of quality 1."""
    source = write_checkpoint(server.folder / "source.pth.tar", untrained().state_dict())
    path = source.rename(server.folder / f"{ZOO}-1-{io.sha256(source)[:8]}.pth.tar")
    monkeypatch.setitem(zoo.URLS[ZOO]["mse"], 1, f"{server.url}/{path.name}")
    row = zoo.published()[ZOO, 1] | dict(zip("NM", WIDTHS, strict=True))
    monkeypatch.setitem(zoo.published(), (ZOO, 1), row)
    return path


def test_zoo_weights_are_fetched_once(server, zoo_file, no_zoo):
    codec = load_codec(ZOO, quality=1, dtype="float32")
    assert (codec.lmbda, codec.card["quality"]) == (0.0018, 1)
    assert_same_parameters(codec, dict(untrained().named_parameters()))
    assert load_codec(ZOO, 0.0018).sha256 == codec.sha256
    assert server.asked == [f"/{zoo_file.name}"]
    assert [path.name for path in no_zoo.iterdir()] == [zoo_file.name]
    (row,) = [row for row in listing() if (row["name"], row["quality"]) == (ZOO, 1)]
    assert (row["where"], row["bytes"]) == ("cached", zoo_file.stat().st_size)


def test_downloads_that_fail_leave_nothing(zoo_file, no_zoo, monkeypatch):
    """`tests.test_datasets` has the other ways in which they do."""
    zoo_file.write_bytes(b"something else")
    with pytest.raises(SystemFault, match="wrong checksum"):
        fetch_zoo(ZOO, 1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "_bring", full)
    with pytest.raises(SystemFault, match="the disk is full"):
        fetch_zoo(ZOO, 1)
    assert list(no_zoo.iterdir()) == []


def test_every_zoo_codec_has_a_hash_and_a_lambda(bundled, no_zoo):
    rows = listing()
    assert {"name": "mshyper-s", "where": "bundled", "lmbda": 0.01, "kodak_psnr": 30}.items() <= rows[
        0
    ].items()
    found = [row for row in rows if row["name"] == ZOO]
    assert [row["quality"] for row in found] == list(range(1, 9))
    assert [row["lmbda"] for row in found] == sorted(LAMBDAS["mse"])
    assert all(row["where"] == "downloadable" and row["bytes"] > 28e6 for row in found)
    assert json.loads(json.dumps(rows)) == rows


def downloaded(name: str, folder: Path, monkeypatch) -> Path:
    """Weights of an untrained model as if they were downloaded, the same for every quality."""
    folder.mkdir()
    source = folder / "source.pth.tar"
    torch.save({"state_dict": test_models.untrained(name).state_dict()}, source)
    file = f"{name}-1-{io.sha256(source)[:8]}.pth.tar"
    urls = {"mse": dict.fromkeys(range(1, 9), f"https://example.org/{file}")}
    monkeypatch.setitem(zoo.URLS, name, urls)
    return source.rename(folder / file)


@pytest.fixture
def variable_zoo(no_zoo, monkeypatch) -> Path:
    """The downloaded weights of a codec of variable rate."""
    return downloaded(VARIABLE, no_zoo, monkeypatch)


@torch.no_grad()
def test_a_codec_of_variable_rate_has_the_rate_that_is_asked_for(variable_zoo, tmp_path):
    """By quality, λ or scale, from the zoo and from a copy of its file; another rate is another codec."""
    of_quality = load_codec(VARIABLE, quality=4, dtype="float32")
    gains = of_quality.model.Gain.tolist()
    assert (of_quality.lmbda, of_quality.model.rate.scale) == (0.0130, gains[3])
    between = load_codec(VARIABLE, 0.017, dtype="float32")
    assert gains[3] < between.model.rate.scale < gains[4]
    scale = between.model.rate.scale
    assert load_codec(VARIABLE, scale=scale).lmbda == pytest.approx(0.017, rel=1e-5)
    assert load_codec(VARIABLE, scale=gains[3]).sha256 == of_quality.sha256 != between.sha256
    copy = shutil.copy(variable_zoo, tmp_path / "copy.pth.tar")
    for own in (load_codec(copy, 0.0130), load_codec(copy, scale=gains[3])):
        assert own.sha256 == of_quality.sha256
    (row,) = [row for row in listing() if (row["name"], row["quality"]) == (VARIABLE, 4)]
    assert (row["where"], row["lmbda"]) == ("cached", 0.0130)
    assert series(VARIABLE).member(0.0130).sha256 == of_quality.sha256


@torch.no_grad()
def test_files_of_variable_rates(variable_zoo):
    """A file says its rate, by which its codec is found again."""
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(1))
    for rate in ({"lmbda": 0.017}, {"quality": 2}):
        codec = load_codec(VARIABLE, **rate, dtype="float32")
        decoded = codec.decode(codec.analyse(x))
        data = bitstream.encode(codec, decoded.latents, (64, 128))
        assert bitstream.find_codec(data).sha256 == codec.sha256
        torch.testing.assert_close(bitstream.reconstruction(data)[None], decoded.x_hat, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match=VARIABLE):
        bitstream.decode(data, load_codec(VARIABLE, 0.017))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (ZOO, {}, "give quality=1"),
        (ZOO, {"quality": 9}, "no mbt2018-mean of quality 9 for mse: it has 1 to 8"),
        (ZOO, {"quality": 1, "metric": "vmaf"}, "for vmaf: it has weights for mse and ms-ssim"),
        (ZOO, {"quality": 1, "lmbda": 0.01}, r"quality 1 was trained with lambda 0\.0018, not 0\.01"),
        (ZOO, {"lmbda": 0.01}, r"no codec of lambda 0\.01: choose one of 0\.0018"),
        (VARIABLE, {"scale": 0.3, "quality": 2}, "once"),
        (VARIABLE, {"scale": 0.3, "lmbda": 0.01}, "once"),
        (VARIABLE, {"scale": 0}, "the scale"),
        (VARIABLE, {"quality": 9}, "no mbt2018-mean-vbr of quality 9"),
    ],
)
def test_what_the_zoo_does_not_have(zoo_file, variable_zoo, name, arguments, message):
    with pytest.raises(UserError, match=message):
        load_codec(name, **arguments)


@pytest.mark.slow
def test_the_table_of_the_zoo():
    """Files, widths and parameters against CompressAI's."""
    variable = {
        name: {metric: dict.fromkeys(range(1, 9), url) for metric, url in urls.items()}
        for name, urls in image_vbr.model_urls.items()
    }
    assert image.model_urls | variable == zoo.URLS and tuple(variable) == zoo.VARIABLE
    assert tuple(name for name in REFINABLE if name in zoo.URLS) == zoo.ZOO
    with (io.PACKAGE / "codecs" / "zoo.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {(row["name"], int(row["quality"])) for row in rows} == {
        (name, quality) for name in zoo.URLS for quality in zoo.URLS[name]["mse"]
    }
    counted = {}
    for row in rows:
        name, quality = row["name"], int(row["quality"])
        widths = zoo.widths(name, quality)
        given = image_vbr.cfgs[name] if name in variable else image.cfgs[name][quality]
        assert widths == (given[0], given[-1])
        if widths[0] == 128:  # the wider ones take long to build
            with torch.random.fork_rng(devices=[]):
                model = build(row["name"], widths[0], widths[-1])
            counted[row["name"]] = sum(parameter.numel() for parameter in model.parameters())
            assert int(row["parameters"]) == counted[row["name"]], row["name"]


def test_a_codec_trained_for_ms_ssim_has_the_lambda_of_that_metric(zoo_file, monkeypatch):
    monkeypatch.setitem(zoo.URLS[ZOO], "ms-ssim", {1: zoo.URLS[ZOO]["mse"][1]})
    for choice in ({"quality": 1}, {"lmbda": 2.4}):
        codec = load_codec(ZOO, metric="ms-ssim", **choice)
        assert (codec.lmbda, codec.metric) == (2.4, "ms-ssim")
    assert load_codec(ZOO, quality=1).metric == "mse"
    assert load_codec(f"{ZOO}@1", metric="ms-ssim").metric == "ms-ssim"


@pytest.mark.parametrize("name", ["mshyper-s", ZOO])
def test_loading_a_codec_leaves_the_process_as_it_is(bundled, zoo_file, monkeypatch, name):
    """No setting of the allocator, and no number drawn from the global generator."""
    monkeypatch.setattr(hardware, "keep_freed_memory", lambda: pytest.fail("the allocator was set"))
    state = torch.random.get_rng_state()
    load_codec(name, quality=1 if name == ZOO else None)
    load_codec(bundled / "mshyper-s_lambda0.01.safetensors", 0.01)
    assert torch.equal(torch.random.get_rng_state(), state)
