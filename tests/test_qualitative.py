"""The page with one photograph: what is shown is what the stored files decode to."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from companion.configurations import with_arms
from companion.pages import qualitative
from sgaplus import bitstream
from sgaplus.codecs import weights
from sgaplus.data.images import to_uint8
from sgaplus.errors import UserError
from sgaplus.studies.running import run
from sgaplus.studies.stored import stored_rows
from tests.conftest import write_codec
from tests.test_studies import tiny

SSL = "SSL (a = 2.3)"


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Folder and rows of a study that keeps files."""
    folder = tmp_path_factory.mktemp("qualitative")
    write_codec(folder / "bundled")
    study = tiny(folder, images=["astronaut", "coffee"], streams=True, lrs=[0.1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "bundled_folder", lambda: folder / "bundled")
        run(study, "cpu", device="cpu", root=folder / "results")
        rows = with_arms(stored_rows(study, "cpu", folder / "results"))
    rows["arm"] = rows["arm"].str.removesuffix(", lr 0.1")
    return folder, rows


@pytest.fixture
def found(computed, monkeypatch):
    folder, rows = computed
    monkeypatch.setattr(weights, "bundled_folder", lambda: folder / "bundled")
    return qualitative.versions(rows, "coffee@64", results=folder / "results", original=True)


@pytest.mark.slow
def test_pictures_are_those_of_the_files(computed, found):
    folder, _ = computed
    assert list(found) == ["original", "base", SSL, "atanh (SGA)"]
    for arm, version in found.items():
        assert version.picture.shape == (3, 64, 64)
        if arm == "original":
            assert version.row is None and version.caption == "not compressed"
            continue
        data = (folder / "results" / version.row["stream"]).read_bytes()
        assert torch.equal(version.picture, bitstream.decode(data))
        assert version.caption == f"{version.row['real_bpp']:.3f} bpp, {version.row['psnr_8bit']:.2f} dB"
        written = to_uint8(version.picture).double() - to_uint8(found["original"].picture).double()
        psnr = 10 * np.log10(255**2 / written.square().mean().item())
        assert version.row["psnr_8bit"] == pytest.approx(psnr, abs=1e-3)


def test_what_is_shown_unless_something_else_is_asked_for(computed, monkeypatch):
    folder, rows = computed
    monkeypatch.setattr(weights, "bundled_folder", lambda: folder / "bundled")
    plain = qualitative.versions(rows, results=folder / "results")
    assert list(plain) == ["base", SSL, "atanh (SGA)"], "the original is not among them"
    assert plain["base"].row["image"] == "astronaut@64"
    lacking = rows.assign(image_sha256="0" * 64)
    shown = qualitative.versions(lacking, results=folder / "results", original=True)
    assert "original" not in shown
    assert "sgaplus data fetch" in qualitative.describe_original(shown, "astronaut")
    for image, lmbda in (("rocket", None), (None, 0.5)):
        with pytest.raises(UserError, match="no files of the base and of a refinement"):
            qualitative.versions(rows, image, lmbda, results=folder / "results")
    with pytest.raises(UserError, match="no files of the base and of a refinement"):
        qualitative.versions(rows[rows["arm"] == "base"], results=folder / "results")


def test_squares_are_where_the_picture_changes_most(found):
    found["base"].picture[:, 16:32, 48:64] += 5
    found["base"].picture[:, 0:16, 0:16] -= 3
    assert qualitative.squares(found, 16, 2) == [(16, 48), (0, 0)]
    assert qualitative.squares(found, 500, 3) == [(0, 0)]
    figure = qualitative.squares_figure(found, [(16, 48), (0, 0)], 16)
    shown = figure.axes[1].images[0].get_array()
    expected = found["base"].picture[:, 16:32, 48:64].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.array_equal(shown, expected)
    assert figure.axes[1].get_title() == f"base\n{found['base'].caption}"


def test_whole_pictures(found):
    figure = qualitative.whole_figure(found)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{name}\n{version.caption}" for name, version in found.items()]
    assert qualitative.whole_figure({"base": found["base"]}).axes[1].get_title() == ""


def test_the_slider_holds_both_pictures_and_works_with_the_keyboard(found):
    markup = qualitative.slider(found)
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', markup)
    arm = qualitative.best(found)
    assert arm == min((SSL, "atanh (SGA)"), key=lambda name: found[name].row["loss"])
    for content, name in zip(pictures, ("base", arm), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(shown, to_uint8(found[name].picture))
    assert markup.count("alt=") == 2 and f"The picture by {arm}" in markup
    assert re.search(r'<input type="range" [^>]*aria-label="Left of the slider base', markup)
    assert "http" not in markup and "<script" not in markup


def test_numbers_and_words(found):
    table = qualitative.numbers(found)
    assert table["arm"].tolist() == ["base", SSL, "atanh (SGA)"]
    assert "true R-D loss" in qualitative.numbers_table(table).as_raw_html()
    table = table.assign(bytes=[1000.0, 900.0, 1100.0], psnr_8bit=[30.0, 30.5, 29.0])
    assert qualitative.describe_change(table).splitlines() == [
        f"- {SSL}: 900 bytes in place of 1,000 (−10.0 %), PSNR +0.50 dB: a smaller file and a better picture",
        "- atanh (SGA): 1,100 bytes in place of 1,000 (+10.0 %), PSNR −1.00 dB: neither a smaller file nor a "
        "better picture",
    ]
    table = table.assign(bytes=[1000.0, 900.0, 1100.0], psnr_8bit=[30.0, 29.5, 31.0])
    text = qualitative.describe_change(table)
    assert "a smaller file, and a picture that is no better in PSNR" in text
    assert "a better picture, in a file that is no smaller" in text
