"""Training photographs, and random crops of them."""

import pytest
import torch

from sgaplus.data.images import ImageNote
from sgaplus.errors import UserError
from sgaplus.training.crops import generator_for, read_photographs, sample_crops
from tests.conftest import write_photo

# Crops


def test_crops_are_pieces_of_the_photographs_turned_and_mirrored():
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(120), indexing="ij")
    photographs = [torch.stack([rows, columns, torch.full_like(rows, k)]).to(torch.uint8) for k in range(3)]
    crops = 255 * sample_crops(photographs, 64, 32, generator_for(0, 0))
    assert crops.shape == (32, 3, 64, 64)
    assert crops[:, 2, 0, 0].unique().tolist() == pytest.approx([0, 1, 2], abs=1e-3)
    seen = set()
    for crop in crops.round().int():
        turned = bool(crop[0, 0, 0] != crop[0, 0, 1])
        crop = crop.transpose(1, 2) if turned else crop
        mirrored = bool(crop[1, 0, 0] > crop[1, 0, 1])
        crop = crop.flip(2) if mirrored else crop
        top, left = crop[:2, 0, 0].tolist()
        piece = photographs[crop[2, 0, 0]][:, top : top + 64, left : left + 64]
        assert torch.equal(crop, piece.int())
        seen.add((turned, mirrored))
    assert len(seen) == 4


def test_large_photographs_are_drawn_more_often():
    small, large = (
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.full((3, 128, 192), 255, dtype=torch.uint8),
    )
    crops = sample_crops([small, large], 64, 400, generator_for(0, 0))
    assert crops[:, 0, 0, 0].mean().item() == pytest.approx(6 / 7, abs=0.06)


# Photographs


def test_photographs_are_read_without_the_held_out_ones(tmp_path):
    for index in range(9):
        write_photo(tmp_path / "deep" / f"{index}.png", (70 + index, 66), seed=index)
    write_photo(tmp_path / "9-small.png", (200, 60))
    (tmp_path / "notes.txt").write_text("no photograph")
    (tmp_path / ".hidden.png").write_text("no photograph")
    write_photo(tmp_path / ".thumbnails" / "0.png", (70, 70))
    with pytest.warns(ImageNote, match="1 of 10 photographs have a side below 64 pixels and are left out"):
        everything = read_photographs(tmp_path, 64).training
    assert sorted(photo.shape[2] for photo in everything) == list(range(70, 79))
    assert {photo.dtype for photo in everything} == {torch.uint8}
    (tmp_path / "9-small.png").unlink()
    fewer = read_photographs(tmp_path, 64, holdout=4)
    assert sorted(photo.shape[2] for photo in fewer.training) == list(range(70, 75))
    held_out = {f"deep/{index}.png": (3, 66, 70 + index) for index in range(5, 9)}
    assert {name: tuple(photo.shape) for name, photo in fewer.held_out.items()} == held_out
    for holdout in (0, 5):  # as many as remain, or more
        photographs = read_photographs(tmp_path, 64, holdout)
        assert (len(photographs.training), photographs.held_out) == (9, {})


def test_held_out_photographs_that_are_all_too_small_are_noted(tmp_path):
    for name, side in (("a.png", 70), ("b.png", 80), ("c.png", 40)):
        write_photo(tmp_path / name, (side, side))
    with pytest.warns(ImageNote, match="no held-out photograph has 64 pixels"):
        photographs = read_photographs(tmp_path, 64, holdout=1)
    assert list(photographs.held_out) == ["c.png"] and len(photographs.training) == 2


def test_photographs_that_cannot_be_read_are_reported(tmp_path):
    write_photo(tmp_path / "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"ftypheic")
    with pytest.warns(ImageNote, match=r"1 of 2 photographs .*b.HEIC"):
        assert len(read_photographs(tmp_path, 64).training) == 1


def test_folders_without_photographs(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        read_photographs(tmp_path / "none", 64)
    with pytest.raises(UserError, match="there is no image in"):
        read_photographs(tmp_path, 64)
    write_photo(tmp_path / "small.png", (63, 200))
    with pytest.raises(UserError, match="holds no photograph of at least 64 pixels a side: add some"):
        read_photographs(tmp_path, 64)


def test_a_broken_photograph_is_named(tmp_path):
    write_photo(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.png is damaged"):
        read_photographs(tmp_path, 64)
