"""The pages of stored files: what is shown is what these decode to, sizes stand against their estimates."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from companion import provenance
from companion.configurations import described
from companion.pages import qualitative, realbits
from sgaplus import bitstream
from sgaplus.codecs.series import series
from sgaplus.data.images import to_uint8
from sgaplus.errors import UserError
from sgaplus.studies.running import run
from sgaplus.studies.stored import stored_rows
from tests.conftest import untrained, write_codec
from tests.test_studies import tiny

SSL = "SSL (a = 2.3)"


def versions(rows, *chosen, **settings):
    return qualitative.versions(rows, series("mshyper-s"), *chosen, **settings)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Folder and rows of a study that keeps files."""
    folder = tmp_path_factory.mktemp("qualitative")
    write_codec(folder / "bundled")
    study = tiny(folder, images=["astronaut", "coffee"], streams=True, lrs=[0.1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder / "bundled")
        run(study, "cpu", device="cpu", root=folder / "results")
        rows = described(stored_rows(study, "cpu", folder / "results"))
    rows["configuration"] = rows["configuration"].str.removesuffix(", lr 0.1")
    return folder, rows


@pytest.fixture
def found(computed, monkeypatch):
    folder, rows = computed
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder / "bundled")
    return versions(rows, "coffee@64", results=folder / "results", original=True)


@pytest.mark.slow
def test_pictures_are_those_of_the_files(computed, found):
    folder, _ = computed
    assert list(found) == ["original", "base", SSL, "atanh (SGA)"]
    for name, version in found.items():
        assert version.picture.shape == (3, 64, 64)
        if name == "original":
            assert version.row is None and version.caption == "not compressed"
            continue
        data = (folder / "results" / version.row["stream"]).read_bytes()
        assert torch.equal(version.picture, bitstream.decode(data))
        assert version.caption == f"{version.row['real_bpp']:.3f} bpp, {version.row['psnr_8bit']:.2f} dB"
        written = to_uint8(version.picture).double() - to_uint8(found["original"].picture).double()
        psnr = 10 * np.log10(255**2 / written.square().mean().item())
        assert version.row["psnr_8bit"] == pytest.approx(psnr, abs=1e-3)


@pytest.mark.slow
def test_what_is_shown_unless_something_else_is_asked_for(computed, monkeypatch):
    folder, rows = computed
    monkeypatch.setattr("sgaplus.codecs.bundled.bundled_folder", lambda: folder / "bundled")
    plain = versions(rows, results=folder / "results")
    assert list(plain) == ["base", SSL, "atanh (SGA)"], "the original is not among them"
    assert plain["base"].row["image"] == "astronaut@64"
    other = rows.assign(image_sha256="0" * 64)
    assert "original" not in versions(other, results=folder / "results", original=True)
    base = rows[rows["configuration"] == "base"]
    for table, *choice in ((rows, "rocket"), (rows, None, 0.5), (base,)):
        with pytest.raises(UserError, match="no files of the base and of a refinement"):
            versions(table, *choice, results=folder / "results")


def test_squares_are_where_the_picture_changes_most(found):
    found["base"].picture[:, 16:32, 48:64] += 5
    found["base"].picture[:, 0:16, 0:16] -= 3
    assert qualitative.squares(found, 16, 2) == [(16, 48), (0, 0)]
    assert qualitative.squares(found, 500, 3) == [(0, 0)]
    _, square = qualitative.cut(found, [(16, 48), (0, 0)], 16)[1]
    assert torch.equal(square, found["base"].picture[:, 16:32, 48:64])


def test_before_and_after_hold_both_pictures(computed, found, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: shown.append(data["text/html"]))
    qualitative.before_after(found, "x", computed[1])
    (markup,) = shown
    pictures = re.findall(r'data-side="(\w+)" src="data:image/webp;base64,([^"]+)"', markup)
    name = qualitative.best(found)
    assert name == min((SSL, "atanh (SGA)"), key=lambda name: found[name].row["loss"])
    for (side, content), shown_as in zip(pictures, ("base", name), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(picture, to_uint8(found[shown_as].picture))
        assert f'alt="coffee@64, {side}: {found[shown_as].caption}"' in markup
    assert 'data-kind="before-after"' in markup and 'id="fig-x"' in markup


def test_numbers_and_what_changed(found):
    table = qualitative.numbers(found)
    assert table["configuration"].tolist() == ["base", SSL, "atanh (SGA)"]
    assert table.loc[0, ["size", "gain"]].isna().all()
    table = qualitative.changes(table.assign(bytes=[1000.0, 900.0, 1100.0], psnr_8bit=[30.0, 30.5, 29.0]))
    assert table["size"].tolist()[1:] == pytest.approx([-10, 10])
    assert table["gain"].tolist()[1:] == pytest.approx([0.5, -1])


PIXELS = 64 * 64


def rows(**changes) -> pd.DataFrame:
    """Rows of two images under two methods at two λ; estimated are 512 bytes, real are 520 and more."""
    lines = [
        {
            "image": image,
            "configuration": name,
            "lmbda": lmbda,
            "real_bytes": 520.0 + 4 * number + 12 * (name == "base"),
        }
        for lmbda in (0.001, 0.01)
        for name in ("SSL (a = 2.3)", "base")
        for number, image in enumerate(("a", "b"))
    ]
    table = pd.DataFrame(lines).assign(codec="mshyper-s", bpp=1.0, **changes)
    table["codec_lmbda"] = table["lmbda"]
    table["real_bpp"] = 8 * table["real_bytes"] / PIXELS
    table["stream"] = [f"streams/{number}.sga" for number in range(len(table))]
    trace = table.assign(stream=np.nan, real_bytes=np.nan, real_bpp=np.nan)
    return pd.concat([table, trace], ignore_index=True)


@pytest.fixture
def points() -> pd.DataFrame:
    return realbits.points(rows())


def test_a_row_per_file(points):
    assert len(points) == 8
    assert points["configuration"].tolist()[:4] == ["base", "base", "SSL (a = 2.3)", "SSL (a = 2.3)"]
    first = points.iloc[0]
    assert (first["estimated"], first["real"], first["excess"], first["pixels"]) == (512, 532, 20, PIXELS)
    assert first["percent"] == pytest.approx(100 * 20 / 512)
    assert first["allowed"] == pytest.approx(557.12) and first["slack"] == pytest.approx(25.12)
    with pytest.raises(UserError, match="no row of this study names a file"):
        realbits.points(rows().assign(stream=np.nan))


def test_summary(points):
    table = realbits.summary(points).set_index(["lmbda", "configuration"])
    line = table.loc[0.01, "base"]
    assert (line["files"], line["estimated_bpp"], line["excess"]) == (2, 1.0, 22.0)
    assert line["percent"] == pytest.approx(100 * 22 / 512)
    assert line["worst"] == pytest.approx(100 * 24 / 512)
    assert line["slack"] == pytest.approx(21.12)


def test_methods_are_compared_on_the_same_images(points):
    table = realbits.against_base(points).set_index(["lmbda", "configuration"])
    line = table.loc[0.01, SSL]
    assert line[["change", "change_low", "change_high"]].tolist() == [-12, -12, -12]
    assert (line["images"], line["verdict"]) == (2, "lower")
    one = points[(points["configuration"] == "base") | (points["image"] == "b")]
    assert realbits.against_base(one)["images"].tolist() == [1, 1]
    assert realbits.against_base(points[points["configuration"] == "base"]).empty


def test_the_command_decodes_a_refined_file(points, tmp_path):
    first, ours = points[points["configuration"] != "base"].iloc[0], series("mshyper-s")
    assert realbits.example(points).equals(first)
    said = provenance.decode_command(first, ours)
    assert said == f"sgaplus decode data/results/{first['stream']} -o a.png"
    assert provenance.decode_command(first, ours, "r").startswith("sgaplus decode r/streams/")
    torch.save(untrained().state_dict(), tmp_path / "own.pth")
    own = series({tmp_path / "own.pth": first["codec_lmbda"]})
    named = f"--codec {tmp_path}/own.pth --lmbda {first['codec_lmbda']:g}"
    assert provenance.decode_command(first, own).endswith(named)


def test_files_that_are_too_large_are_counted_by_rate(points):
    large = points.assign(slack=points["slack"].where(points["image"] == "a", -1.0))
    found = realbits.sizes(large).set_index("λ")
    assert found[["files", "over", "under"]].to_numpy().tolist() == [[4, 2, 0], [4, 2, 0]]
    assert found.loc["smaller λ", "worst"].startswith("b, ") and len(realbits.sizes(large[:4])) == 1
