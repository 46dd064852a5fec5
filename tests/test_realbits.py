"""The page on real bits: sizes of files against their estimates."""

import numpy as np
import pandas as pd
import pytest
import torch

from companion import provenance
from companion.pages import realbits
from sgaplus.codecs.series import series
from sgaplus.errors import UserError
from tests.conftest import untrained

PIXELS = 64 * 64
SSL = "SSL (a = 2.3)"


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
