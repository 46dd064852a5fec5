"""Photographs in every state in which a user may hand one over."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import struct
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, PngImagePlugin

from sgaplus.data import images
from sgaplus.data.images import (
    SUFFIXES,
    ImageNote,
    read_image,
    readable_suffixes,
    stored_size,
    to_uint8,
    write_image,
)
from sgaplus.errors import SystemFault, UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) as the float32 (3, H, W) that reading it should give."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(COLOUR).save(path)
    return path


def test_colour_is_read_exactly_and_without_a_note(photo):
    x = read_image(photo)
    assert x.dtype == torch.float32
    assert x.shape == (3, 7, 5)
    assert x.is_contiguous()
    assert torch.equal(x, as_tensor(COLOUR))
    assert torch.equal(read_image(str(photo)), x)


def with_alpha(opaque_rows: int) -> Image.Image:
    alpha = np.zeros((7, 5, 1), dtype=np.uint8)
    alpha[:opaque_rows] = 255
    return Image.fromarray(np.concatenate([COLOUR, alpha], axis=2))


def half_transparent_palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.info["transparency"] = 1
    return image


WHITE = np.full((7, 5, 3), 255, np.uint8)
PALETTE = Image.fromarray(COLOUR).quantize(256)
# Picture, note and colours.
CONVERTED = {
    "grey.png": (Image.fromarray(COLOUR[..., 0]), "greyscale is converted", COLOUR[..., :1].repeat(3, 2)),
    "alpha.png": (with_alpha(1), "laid on white", np.concatenate([COLOUR[:1], WHITE[1:]])),
    "opaque.png": (with_alpha(7), None, COLOUR),
    "grey-alpha.png": (with_alpha(0).convert("LA"), "laid on white; greyscale is converted", WHITE),
    "palette.png": (PALETTE, "a palette is converted", np.asarray(PALETTE.convert("RGB"))),
    "clear.png": (half_transparent_palette(), "laid on white; a palette", [[[10, 20, 30], [255] * 3]]),
    "print.tif": (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "CMYK is converted", [[[255, 0, 0]]]),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_other_kinds_of_pictures_are_converted_with_a_note(tmp_path, name):
    image, note, expected = CONVERTED[name]
    image.save(tmp_path / name)
    with pytest.warns(ImageNote, match=note) if note else contextlib.nullcontext():
        x = read_image(tmp_path / name)
    assert torch.equal(x, as_tensor(np.asarray(expected, np.uint8)))


def test_deep_colour_is_read_with_eight_bits(tmp_path):
    deep = RNG.integers(0, 65536, (7, 5, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    (tmp_path / "deep.ppm").write_bytes(b"P6 5 7 65535\n" + deep.astype(">u2").tobytes())
    for name in ("deep.tif", "deep.ppm"):
        with pytest.warns(ImageNote, match="16-bit colour is read with 8 bits"):
            x = read_image(tmp_path / name)
        assert (x - torch.from_numpy(deep / 65535).permute(2, 0, 1)).abs().max() < 1 / 255


def test_transparency_of_deep_grey_is_laid_on_white(tmp_path):
    deep = np.array([[1000, 2000, 60000]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=2000)
    with pytest.warns(ImageNote, match="transparency is laid on white"):
        x = read_image(tmp_path / "deep.png")
    assert torch.equal(x[0, 0], torch.tensor([1000 / 65535, 1.0, 60000 / 65535]))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_only_a_turn_that_was_made_is_noted(tmp_path, orientation, suffix):
    exif, path = Image.Exif(), tmp_path / f"photo.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(np.kron(COLOUR[:2, :3], np.ones((16, 16, 1), np.uint8))).save(
        path, exif=exif, lossless=True
    )
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        x = read_image(path)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))  # Pillow turns a TIFF by itself
    turned = 2 <= orientation <= 8
    assert [str(w.message).count("turned upright") for w in issued] == [1] * turned
    ways = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2)}
    ways |= {6: np.rot90(stored, -1), 7: np.rot90(stored, 2).transpose(1, 0, 2), 8: np.rot90(stored)}
    expected = stored if suffix == "tif" else ways.get(orientation, stored)
    assert torch.equal(x, as_tensor(expected.copy()))


def exif_beyond_its_end() -> bytes:
    """An EXIF block whose GPS table lies behind its end."""
    entries = (0x112, 3, 1, struct.pack(">HH", 6, 0)), (0x8825, 4, 1, struct.pack(">I", 99999))
    body = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    return body + b"".join(struct.pack(">HHI", t, y, n) + v for t, y, n, v in entries) + bytes(4)


@pytest.mark.parametrize("exif", [exif_beyond_its_end(), b"MM\0*\0\0\0\x08", b"no EXIF at all", bytes(40)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_is_not_the_picture(tmp_path, exif, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(COLOUR).save(path, exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        x = read_image(path)
    assert {w.category for w in issued} <= {ImageNote}
    assert sorted(x.shape[1:]) == [5, 7]


def test_nothing_of_pillow_s_is_said_or_logged(tmp_path, photo, monkeypatch, capfd):
    def talkative(image, mode=None, **settings):
        warnings.warn("Corrupt EXIF data", stacklevel=1)
        logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded")
        return original(image, mode, **settings)

    original = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", talkative)
    before = list(logging.getLogger("PIL").handlers)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert read_image(photo).shape == (3, 7, 5)
    assert logging.getLogger("PIL").handlers == before
    assert capfd.readouterr() == ("", "")


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("where", ["before the pixels", "after them"])
@pytest.mark.parametrize("megabytes", [3, 80])
def test_a_png_with_megabytes_of_text_is_read(tmp_path, photo, where, megabytes):
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    text = zlib.compress(bytes(megabytes << 20))
    whole, name = photo.read_bytes(), b"history\0\0"
    if where == "after them":
        end = with_chunk(bytes(33), b"zTXt", name + text)[33:]
        content = whole[:-12] + end + whole[-12:]
    else:
        content = with_chunk(with_chunk(whole, b"zTXt", name + text), b"iTXt", b"XML\0\1\0\0\0" + text)
    (tmp_path / "long.png").write_bytes(content)
    assert torch.equal(read_image(tmp_path / "long.png"), as_tensor(COLOUR))
    assert stored_size(tmp_path / "long.png") == (7, 5)
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


def test_an_icc_profile_of_megabytes_is_left_out(tmp_path, photo):
    long = with_chunk(photo.read_bytes(), b"iCCP", b"profile\0\0" + zlib.compress(bytes(3 << 20)))
    (tmp_path / "long.png").write_bytes(long)
    with pytest.warns(ImageNote, match="ICC profile is damaged and is ignored"):
        assert torch.equal(read_image(tmp_path / "long.png"), as_tensor(COLOUR))


# Colours


SRGB = ImageCms.createProfile("sRGB")


def profile(primaries: Mapping[bytes, Sequence[float]]) -> bytes:
    """sRGB's ICC profile with other primaries and the name Gary; without any it is of linear grey."""
    icc = ImageCms.ImageCmsProfile(SRGB).tobytes()
    icc = bytearray(icc.replace("sRGB".encode("utf-16-be"), "Gary".encode("utf-16-be")))
    tags = range(132, 132 + 12 * icc[131], 12)
    start = {bytes(icc[tag : tag + 4]): int.from_bytes(icc[tag + 4 : tag + 8], "big") for tag in tags}
    for name, values in primaries.items():
        icc[start[name] + 8 : start[name] + 20] = struct.pack(">3i", *(round(65536 * x) for x in values))
    if not primaries:
        icc[16:20], icc[start[b"rTRC"] + 8 : start[b"rTRC"] + 16] = b"GRAY", struct.pack(">2i", 0, 65536)
        icc = icc.replace(b"rTRC", b"kTRC")
    return bytes(icc)


GREY = profile({})
ADOBE = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087)}
ADOBE = profile(ADOBE | {b"bXYZ": (0.14919, 0.06322, 0.74457)})
SMOOTH = np.stack(np.mgrid[30:200:34, 40:220:20], -1).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH, 255 - SMOOTH[..., :1]], axis=2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_wide_gamut_is_converted_as_a_viewer_does(tmp_path, mode, suffix):
    original = Image.fromarray(SMOOTH)
    wide = ImageCms.profileToProfile(
        original, SRGB, ImageCms.ImageCmsProfile(io.BytesIO(ADOBE)), outputMode="RGB"
    )
    assert np.abs(np.asarray(wide, int) - SMOOTH).max() > 10
    path = tmp_path / f"wide.{suffix}"
    stored = wide.quantize(256) if mode == "P" else wide.convert(mode)
    stored.save(path, icc_profile=ADOBE, lossless=True)
    with pytest.warns(ImageNote, match="Gary.* to sRGB|converted to sRGB.*Gary"):
        x = read_image(path)
    assert (x - as_tensor(SMOOTH)).abs().mean() < 1 / 255


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_profiles_that_are_srgb_change_no_pixel(tmp_path, suffix):
    plain, tagged = tmp_path / f"plain.{suffix}", tmp_path / f"tagged.{suffix}"
    Image.fromarray(COLOUR).save(plain)
    Image.fromarray(COLOUR).save(tagged, icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes())
    assert torch.equal(read_image(tagged), read_image(plain))


def of_linear(values: np.ndarray) -> np.ndarray:
    """Linear values in [0, 1] in sRGB."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def test_a_profile_of_grey(tmp_path):
    grey = Image.fromarray(COLOUR[..., 0])
    grey.save(tmp_path / "linear.png", icc_profile=GREY)
    with pytest.warns(ImageNote, match=r"ICC profile \(Gary.*greyscale"):
        x = read_image(tmp_path / "linear.png")
    expected = of_linear(COLOUR[..., :1] / 255)
    assert (x - torch.from_numpy(expected).permute(2, 0, 1)).abs().mean() < 1 / 255


@pytest.mark.parametrize(
    ("icc", "reason"), [(b"no profile", "damaged"), (ADOBE[:200], "ignored"), (GREY, "for GRAY")]
)
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(tmp_path, icc, reason):
    Image.fromarray(COLOUR).save(tmp_path / "odd.png", icc_profile=icc)
    with pytest.warns(ImageNote, match=f"ICC profile .*{reason}"):
        assert torch.equal(read_image(tmp_path / "odd.png"), as_tensor(COLOUR))


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_the_gamma_of_a_png_is_converted(tmp_path, mode):
    path = tmp_path / "linear.png"
    grey = np.linspace(0, 65535, 35).round().astype(np.uint16).reshape(7, 5)
    samples = {"RGB": COLOUR, "L": COLOUR[..., 0], "I;16": grey}[mode]
    Image.fromarray(samples).save(path)
    path.write_bytes(with_chunk(path.read_bytes(), b"gAMA", struct.pack(">I", 100_000)))
    with pytest.warns(ImageNote, match=r"gamma \(1\)"):
        x = read_image(path)
    expected = of_linear(samples / (65535 if mode == "I;16" else 255))
    expected = expected if expected.ndim == 3 else expected[..., None].repeat(3, 2)
    assert (x - torch.from_numpy(expected).permute(2, 0, 1)).abs().max() < (
        1e-6 if mode == "I;16" else 0.6 / 255
    )


@pytest.mark.parametrize(
    "chunks",
    [[(b"gAMA", struct.pack(">I", 45455))], [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")]],
)
def test_pngs_that_say_srgb_change_no_pixel(tmp_path, photo, chunks):
    content = photo.read_bytes()
    for name, value in chunks:
        content = with_chunk(content, name, value)
    (tmp_path / "srgb.png").write_bytes(content)
    assert torch.equal(read_image(tmp_path / "srgb.png"), as_tensor(COLOUR))


def test_other_primaries_are_noted(tmp_path, photo):
    wide = struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
    (tmp_path / "wide.png").write_bytes(with_chunk(photo.read_bytes(), b"cHRM", wide))
    with pytest.warns(ImageNote, match="primaries"):
        read_image(tmp_path / "wide.png")


def test_cie_lab(tmp_path):
    lab = ImageCms.profileToProfile(
        Image.fromarray(SMOOTH), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "lab.tif")
    with pytest.warns(ImageNote, match="CIE Lab"):
        assert (read_image(tmp_path / "lab.tif") - as_tensor(SMOOTH)).abs().mean() < 4 / 255


# Samples of more than 8 bits


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("bits", [1, 10, 12, 16])
def test_the_range_of_deep_grey_is_noted_and_can_be_stretched(tmp_path, suffix, bits):
    path, top = tmp_path / f"deep.{suffix}", 2**bits - 1
    deep = np.array([[0, top], [top // 2, top]], dtype=np.uint16)
    Image.fromarray(deep).save(path)
    with pytest.warns(ImageNote, match=f"values 0 to {top}, white is 65535" + ".*stretch=True" * (bits < 16)):
        x = read_image(path)
    assert torch.allclose(x, torch.from_numpy(deep / 65535).float().expand(3, -1, -1), atol=1e-7)
    with pytest.warns(ImageNote, match=f"white is {top}, as in {bits} bits"):
        stretched = read_image(path, stretch=True)
    assert torch.allclose(stretched[0], torch.from_numpy(deep / top).float())


def test_first_of_several_frames(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.new("RGB", (5, 7))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with pytest.warns(ImageNote, match="first of its 2 frames"):
        x = read_image(tmp_path / "pages.tif")
    assert torch.equal(x, as_tensor(COLOUR))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_samples_without_a_white_level_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "raw.tif", COLOUR[..., 0].astype(dtype))
    with pytest.raises(UserError, match="white level"):
        read_image(tmp_path / "raw.tif")


def test_missing_folder_empty_and_text(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image at all\n")
    (tmp_path / "pointer.png").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    (tmp_path / "page.png").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    for name, reason in {
        "none.png": "there is no file",
        ".": "is a folder",
        "empty.png": "an empty file",
        "text.png": "not an image",
        "pointer.png": "git lfs pull",
        "page.png": "a web page",
        "phone.heic": r"\.heic.*convert it",
    }.items():
        with pytest.raises(UserError, match=reason):
            read_image(tmp_path / name)


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, UserError), (errno.EIO, SystemFault)])
def test_what_the_system_refuses_is_not_called_damaged(photo, monkeypatch, number, kind):
    def refused(*arguments, **settings):
        raise OSError(number, "the reason of the system")

    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(kind, match=r"photo\.png cannot be read: ") as refused:
        read_image(photo)
    assert "damaged" not in str(refused.value)


def test_suffixes_that_can_be_read_are_those_of_pillow(monkeypatch):
    assert {".png", ".jpg", ".tif", ".webp"} <= readable_suffixes() <= set(SUFFIXES)
    assert ".cr2" in set(SUFFIXES) - readable_suffixes()
    # A plug-in that reads another kind adds it.
    Image.init()
    monkeypatch.setitem(Image.EXTENSION, ".cr2", "PNG")
    assert ".cr2" in readable_suffixes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_truncated(tmp_path, suffix):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"damaged or incomplete|not an image"):
        read_image(cut)


def test_damaged_bytes_never_escape_as_another_error(tmp_path, photo):
    data = bytearray(photo.read_bytes())
    path = tmp_path / "damaged.png"
    outcomes = set()
    for position in range(8, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageNote)
            try:
                read_image(path)
                outcomes.add("read")
            except UserError:
                outcomes.add("refused")
    assert "refused" in outcomes


def test_too_many_pixels(photo, monkeypatch):
    for limit in (20, 10):  # Pillow warns above its limit and raises above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match="more than 0 megapixels"):
            read_image(photo)


def test_every_level_survives_a_round_trip(tmp_path):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    noise = torch.tensor([-0.4, 0.4]).repeat(128).reshape(1, 16, 16)  # also below black and above white
    write_image(tmp_path / "new" / "levels.PNG", (levels + noise) / 255)
    assert torch.equal(to_uint8(read_image(tmp_path / "new" / "levels.PNG")), levels)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["levels.PNG"]


@pytest.mark.parametrize(
    ("name", "x", "reason"),
    [
        ("x.jpg", torch.zeros(3, 2, 2), "ends in .png"),
        ("x", torch.zeros(3, 2, 2), "ends in .png"),
        ("x.png", torch.zeros(2, 3, 2, 2), r"\(3, H, W\)"),
        ("x.png", torch.zeros(3, 0, 2), r"\(3, H, W\)"),
        ("x.png", torch.full((3, 2, 2), float("nan")), "not finite"),
        ("x.png", torch.ones(3, 2, 2, dtype=torch.int64), "white level"),
        ("x.png", torch.ones(3, 2, 2, dtype=torch.bool), "white level"),
        ("x.png", "photo.png", "read_image"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path, name, x, reason):
    with pytest.raises(UserError, match=reason):
        write_image(tmp_path / name, x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["uint8", "uint8 array", "float64", "bfloat16", "batch"])
def test_every_plain_form_is_written(tmp_path, kind):
    levels = torch.from_numpy(COLOUR).permute(2, 0, 1)
    forms = {"uint8": levels, "uint8 array": levels.numpy(), "float64": levels.double() / 255}
    forms |= {"bfloat16": (levels.float() / 255).bfloat16(), "batch": levels[None] / 255}
    write_image(tmp_path / "x.png", forms[kind])
    wanted = forms[kind].float() if kind == "bfloat16" else levels
    assert torch.equal(to_uint8(read_image(tmp_path / "x.png")), to_uint8(wanted))


def test_reading_in_threads_leaves_the_filters_of_warnings(photo, monkeypatch):
    check, moments, before = images._check_file, iter([0.1, 0.3]), list(warnings.filters)

    def slow(path):
        time.sleep(next(moments))
        check(path)

    monkeypatch.setattr(images, "_check_file", slow)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(images.read_image, [photo, photo]))
    assert warnings.filters == before
