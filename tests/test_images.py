"""Photographs in every state in which a user may hand one over."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sgaplus.data.images import ImageNote, read_image, to_uint8, write_image
from sgaplus.errors import UserError

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


def test_one_pixel(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(COLOUR[:1, :1]).save(path)
    assert torch.equal(read_image(path), as_tensor(COLOUR[:1, :1]))


def test_greyscale_is_repeated(tmp_path):
    Image.fromarray(COLOUR[..., 0]).save(tmp_path / "grey.png")
    with pytest.warns(ImageNote, match="greyscale is converted"):
        x = read_image(tmp_path / "grey.png")
    assert torch.equal(x, as_tensor(COLOUR[..., :1]).expand(3, -1, -1))


def test_transparency_is_laid_on_white(tmp_path):
    alpha = np.zeros((7, 5, 1), dtype=np.uint8)
    alpha[0] = 255
    Image.fromarray(np.concatenate([COLOUR, alpha], axis=2)).save(tmp_path / "alpha.png")
    with pytest.warns(ImageNote, match="laid on white"):
        x = read_image(tmp_path / "alpha.png")
    assert torch.equal(x[:, 0], as_tensor(COLOUR)[:, 0])
    assert torch.equal(x[:, 1:], torch.ones(3, 6, 5))


def test_an_opaque_alpha_channel_needs_no_note(tmp_path):
    opaque = np.full((7, 5, 1), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate([COLOUR, opaque], axis=2)).save(tmp_path / "opaque.png")
    assert torch.equal(read_image(tmp_path / "opaque.png"), as_tensor(COLOUR))


def test_grey_with_alpha_says_both(tmp_path):
    Image.fromarray(COLOUR[..., :2]).convert("LA").save(tmp_path / "la.png")
    with pytest.warns(ImageNote, match="laid on white; greyscale is converted"):
        assert read_image(tmp_path / "la.png").shape == (3, 7, 5)


def test_palette(tmp_path):
    image = Image.fromarray(COLOUR).quantize(256)
    image.save(tmp_path / "palette.png")
    with pytest.warns(ImageNote, match="a palette is converted"):
        x = read_image(tmp_path / "palette.png")
    assert torch.equal(x, as_tensor(np.asarray(image.convert("RGB"))))


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "palette.png", transparency=1)
    with pytest.warns(ImageNote, match="laid on white; a palette"):
        x = read_image(tmp_path / "palette.png")
    assert to_uint8(x)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_deep_grey_keeps_its_precision(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    deep = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)
    Image.fromarray(deep).save(path)
    with pytest.warns(ImageNote, match="16-bit greyscale"):
        x = read_image(path)
    assert torch.allclose(x, torch.from_numpy(deep.astype(np.float32) / 65535).expand(3, -1, -1), atol=1e-7)


def test_deep_colour_is_read_with_eight_bits(tmp_path):
    deep = RNG.integers(0, 65536, (7, 5, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    with pytest.warns(ImageNote, match="16-bit colour is read with 8 bits"):
        x = read_image(tmp_path / "deep.tif")
    assert (x - torch.from_numpy(deep / 65535).permute(2, 0, 1)).abs().max() < 1 / 255


def test_cmyk(tmp_path):
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    with pytest.warns(ImageNote, match="CMYK is converted"):
        x = read_image(tmp_path / "print.tif")
    assert torch.equal(x[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_camera_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored rows run from right to left
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    with pytest.warns(ImageNote, match="turned upright"):
        x = read_image(tmp_path / "turned.png")
    assert torch.equal(x, as_tensor(np.rot90(COLOUR, -1).copy()))


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
    for name, reason in {
        "none.png": "there is no file",
        ".": "is a folder",
        "empty.png": "is empty",
        "text.png": "not an image",
    }.items():
        with pytest.raises(UserError, match=reason):
            read_image(tmp_path / name)


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


def test_to_uint8_clamps_and_rounds():
    x = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert to_uint8(x).dtype == torch.uint8


def test_every_level_survives_a_round_trip(tmp_path):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    write_image(tmp_path / "new" / "levels.PNG", levels.float() / 255)
    assert torch.equal(to_uint8(read_image(tmp_path / "new" / "levels.PNG")), levels)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["levels.PNG"]


def test_bfloat16_is_written_as_the_float32_of_the_same_values(tmp_path):
    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(to_uint8(x), to_uint8(x.float()))


@pytest.mark.parametrize(
    ("name", "x", "reason"),
    [
        ("x.jpg", torch.zeros(3, 2, 2), "ends in .png"),
        ("x", torch.zeros(3, 2, 2), "ends in .png"),
        ("x.png", torch.zeros(1, 3, 2, 2), r"\(3, H, W\)"),
        ("x.png", torch.zeros(3, 0, 2), r"\(3, H, W\)"),
        ("x.png", torch.full((3, 2, 2), float("nan")), "not finite"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path, name, x, reason):
    with pytest.raises(UserError, match=reason):
        write_image(tmp_path / name, x)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_image(tmp_path / "folder.png", torch.zeros(3, 2, 2))
