"""``sgaplus encode``, ``decode`` and ``info``: what they write and say, and what they refuse."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sgaplus import bitstream, target_rate
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import weights
from sgaplus.data import images
from sgaplus.refinement import refine
from tests.conftest import POSIX, assert_refused, write_codec


@pytest.fixture
def coded(call, photo):
    """A photograph of 70×66 as a file in the working folder, and its content."""
    code, _, _ = call("encode", photo, "-o", "photo.sga", "--iterations", 0)
    assert code == 0
    return Path("photo.sga").read_bytes()


def test_there_and_back(call, photo, tmp_path):
    code, out, _ = call("encode", photo, "--out", "deeper/photo.sga", "--iterations", 3, "--seed", 1)
    data = Path("deeper/photo.sga").read_bytes()
    assert code == 0
    assert re.search(rf"photo.sga: {len(data)} bytes, [\d.]+ bpp \(estimated: [\d.]+\), PSNR [\d.]+ dB", out)
    code, out, _ = call("decode", "deeper/photo.sga", "-o", "back.png")
    assert (code, out) == (0, f"back.png: 70×66 pixels from {len(data)} bytes\n")
    decoded = bitstream.decode(data)
    with Image.open("back.png") as image:
        assert (image.size, image.mode) == ((70, 66), "RGB")
    assert torch.equal(images.to_uint8(images.read_image("back.png")), images.to_uint8(decoded))
    code, out, _ = call("info", "deeper/photo.sga")
    found = bitstream.info(data)
    for words in ("mshyper-s, λ = 0.01", "70×66", f"{len(data)} (32 header", f"{found['bpp']:.4f} bpp"):
        assert words in out


@POSIX
def test_a_tilde_that_no_shell_expands_is_a_home_folder(call, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, _, err = call("encode", photo, "--out=~/photo.sga", "--iterations", 0)
    assert code == 0, err
    assert call("decode", "~/photo.sga", "-o", "~/photo.png")[0] == 0
    assert images.read_image("~/photo.png").shape == (3, 66, 70)
    assert list(Path().iterdir()) == []


def test_decoding_replaces_no_picture_but_its_own(call, coded, photo):
    before = photo.read_bytes()
    code, out, err = call("decode", "photo.sga", "-o", photo)
    assert (code, out, photo.read_bytes()) == (2, "", before) and "use another name" in err
    assert [call("decode", "photo.sga", "-o", "back.png")[0] for _ in range(2)] == [0, 0]


def test_without_iterations_the_codecs_own_latents_are_written(call, coded, photo):
    codec = weights.load_codec("mshyper-s", dtype="float32")
    with torch.no_grad():
        latents = codec.analyse(codec.pad(images.read_image(photo)[None]))
    assert coded == bitstream.encode(codec, latents, (66, 70))


@pytest.mark.parametrize("name", ["encode", "refine"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("fast", 50)),
        (["--method", "fast"], ("fast", 50)),
        (["--method", "atanh"], ("atanh (SGA)", 500)),
        (["--iterations", 7], ("fast", 7)),
    ],
)
def test_defaults_of_both_commands(call, photo, monkeypatch, name, options, expected):
    seen = []

    def spy(codec, pictures, plan, *, iterations, names=None, **_):
        seen.append((plan.label, iterations))
        run = refine(codec, pictures, "map", iterations=0, names=names)
        return replace(run, rows=run.rows.assign(iteration=iterations))  # as if it had not been interrupted

    monkeypatch.setattr("sgaplus.refinement.refine", spy)
    assert call(name, photo, *(["-o", "p.sga"] if name == "encode" else []), *options)[0] == 0
    assert seen == [expected]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--target-bpp", 0.5], {"bpp": 0.5, "label": "fast", "iterations": 50}),
        (["--target-psnr", 31], {"psnr": 31, "label": "fast", "iterations": 50}),
        (
            ["--max-bytes", 9, "--method", "ssl"],
            {"max_bytes": 9, "label": "SSL (a = 2.3)", "iterations": 500},
        ),
    ],
)
def test_a_target_reaches_the_search(call, photo, monkeypatch, options, expected):
    met = "bpp" in expected
    file = target_rate.File(0.01, 0.0123, 0.75, 0.74, 30.25, b"content")
    seen = {}

    def spy(codecs, image, plan, **settings):
        seen.update(settings, label=plan.label, lambdas=[codec.lmbda for codec in codecs])
        settings["progress"](1, 8)
        settings["report"](file)
        return target_rate.Result(file, met, "9 bytes", [file, file], 14)

    monkeypatch.setattr(target_rate, "encode_to", spy)
    write_codec(shipped.bundled_folder(), lmbda=0.04)
    code, out, err = call("encode", photo, "-o", "p.sga", *options)
    assert code == (0 if met else 1)
    assert Path("p.sga").read_bytes() == b"content"
    assert expected.items() <= seen.items()
    assert seen["lambdas"] == [0.01, 0.04]
    assert "7 bytes, 0.7500 bpp (estimated: 0.7400), PSNR 30.25 dB" in out
    assert "mshyper-s, codec of λ = 0.01 with λ = 0.0123; 14 steps in 2 refinements" in out
    assert "codec of λ = 0.01 with λ = 0.0123: 7 bytes" in err
    assert ("9 bytes was missed" in err) is not met


def test_a_checkpoint_is_named_on_both_sides(call, photo, tmp_path):
    path = write_codec(tmp_path / "mine", seed=5)
    assert call("encode", photo, "-o", "p.sga", "--iterations", 0, "--codec", path, "--lmbda", 0.02)[0] == 0
    code, out, err = call("decode", "p.sga", "-o", "p.png")
    assert (code, out) == (2, "")
    assert "a checkpoint without a name, λ = 0.02" in err
    for given in ([path], [path, "--lmbda", 0.02]):  # the file says it too
        assert call("decode", "p.sga", "-o", "p.png", "--codec", *given)[0] == 0
    code, _, err = call("decode", "p.sga", "-o", "q.png", "--codec", "mshyper-s")
    assert code == 2
    assert "not with mshyper-s" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "PHOTO", "-o", "photo.png"], "ends in .sga"),
        (["encode", "PHOTO"], "Missing option"),
        (["encode", "missing.png", "-o", "p.sga"], "there is no file missing.png"),
        (["encode", "PHOTO", "-o", "p.sga", "--method", "guess"], "unknown method"),
        (["encode", "PHOTO", "-o", "p.sga", "--target-bpp", 1, "--max-bytes", 9], "exactly one target"),
        (["encode", "PHOTO", "-o", "p.sga", "--target-psnr", 30, "--lmbda", 0.07], "choose one of 0.01"),
        (["decode", "missing.sga", "-o", "p.png"], "there is no file missing.sga"),
        (["decode", "PHOTO", "-o", "p.jpg"], "ends in .png"),
        (["decode", "PHOTO", "-o", "p.png"], "does not begin as one"),
        (["decode", "PHOTO", "-o", "p.png", "--max-megapixels", 0], "--max-megapixels must be"),
        (["decode", ".", "-o", "p.png"], "not a regular file"),
        (["info", "PHOTO"], "does not begin as one"),
        (["info", "missing.sga"], "there is no file missing.sga"),
    ],
)
def test_what_cannot_be(call, photo, arguments, message):
    assert_refused(call(*[photo if word == "PHOTO" else word for word in arguments]), message)


def test_a_photograph_larger_than_allowed(call, coded, monkeypatch):
    """Refused by its header alone, before a codec is loaded or downloaded."""
    monkeypatch.setattr(weights, "load_codec", lambda *_, **__: pytest.fail("a codec was loaded"))
    for codec in ([], ["--codec", "mbt2018-mean", "--quality", 1]):
        code, out, err = call("decode", "photo.sga", "-o", "p.png", "--max-megapixels", "0.004", *codec)
        assert (code, out) == (2, "")
        assert "more than the 0.004 that are allowed" in err
