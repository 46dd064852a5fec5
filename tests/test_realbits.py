"""The page on real bits: sizes against estimates, bits counted one by one, and what is said of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from compressai.models import FactorizedPrior

from companion.pages import bitledger, realbits
from sgaplus import bitstream
from sgaplus.bitstream import coder, lengths
from sgaplus.codecs.codec import Codec
from sgaplus.codecs.models import hard
from sgaplus.errors import UserError
from tests.test_coder import hard_latents, make, picture

PIXELS = 64 * 64
SSL = "SSL (a = 2.3)"


def rows(**changes) -> pd.DataFrame:
    """Rows of two images under two methods at two λ; estimated are 512 bytes, real are 520 and more."""
    lines = [
        {"image": image, "arm": arm, "lmbda": lmbda, "real_bytes": 520.0 + 4 * number + 12 * (arm == "base")}
        for lmbda in (0.001, 0.01)
        for arm in ("SSL (a = 2.3)", "base")
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


@pytest.fixture(scope="module")
def coded() -> tuple[Codec, bytes]:
    codec = make()
    # Scales about as wide as the latents, so that none of these is far out in the tails.
    bias = codec.model.h_s[-1].bias.detach()
    bias[:12], bias[12:] = torch.linspace(1, 6, 12), 0
    image = picture(128, 192)
    return codec, bitstream.encode(codec, hard_latents(codec, image), image.shape[1:])


@pytest.fixture(scope="module")
def symbols(coded) -> lengths.Symbols:
    return lengths.symbols_of(coded[1], coded[0])


# Sizes


def test_a_row_per_file(points):
    assert len(points) == 8
    assert points["arm"].tolist()[:4] == ["base", "base", "SSL (a = 2.3)", "SSL (a = 2.3)"]
    first = points.iloc[0]
    assert (first["estimated"], first["real"], first["excess"], first["pixels"]) == (512, 532, 20, PIXELS)
    assert first["percent"] == pytest.approx(100 * 20 / 512)
    assert first["allowed"] == pytest.approx(557.12) and first["slack"] == pytest.approx(25.12)
    with pytest.raises(UserError, match="no row of this study names a file"):
        realbits.points(rows().assign(stream=np.nan))


def test_summary(points):
    table = realbits.summary(points).set_index(["lmbda", "arm"])
    line = table.loc[0.01, "base"]
    assert (line["files"], line["estimated_bpp"], line["excess"]) == (2, 1.0, 22.0)
    assert line["percent"] == pytest.approx(100 * 22 / 512)
    assert line["worst"] == pytest.approx(100 * 24 / 512)
    assert line["slack"] == pytest.approx(21.12)
    assert "λ = 0.001" in realbits.summary_table(realbits.summary(points)).as_raw_html()


def test_the_words_on_sizes(points):
    text = realbits.describe_sizes(points)
    assert "All 8 files together have 4,224 bytes, +3.12 % against the estimate of 4,096" in text
    assert "+1.56 % (a, SSL (a = 2.3), λ = 0.001) to +4.69 % (b, base, λ = 0.001, 24 bytes)" in text
    assert "smaller" not in text
    points.loc[0, ["real", "excess", "percent"]] = [500, -12, -2.3]
    assert "1 of the files is smaller than estimated" in realbits.describe_sizes(points)


def test_the_words_on_what_is_allowed(points):
    text = realbits.describe_allowed(points)
    assert "At λ ≥ 0.0025, all 4 files have at most 1.010 × estimate + 40 bytes" in text
    assert "The worst is b, base, λ = 0.01: 536 bytes where 512 were estimated, 21 below that limit" in text
    assert "Of the 4 files of smaller λ, none is above it" in text
    points.loc[points["lmbda"] == 0.01, "slack"] = [-3.0, 1.0, -1.0, 2.0]
    points.loc[0, "slack"] = -1.0
    text = realbits.describe_allowed(points)
    assert "2 of 4 files have more than" in text and "3 above that limit" in text
    assert "Of the 4 files of smaller λ, 1 is above it" in text
    assert "no file of λ ≥ 0.0025" in realbits.describe_allowed(points[points["lmbda"] < 0.002])


def test_methods_are_compared_on_the_same_images(points):
    lines = realbits.describe_methods(points).splitlines()
    assert lines[1] == "- λ = 0.01, SSL (a = 2.3) against base: −12.0 [−12.0, −12.0] bytes on 2 images"
    assert realbits.paired(points[points["lmbda"] == 0.01]).to_numpy().tolist() == [[20, 8], [24, 12]]
    one = points[(points["arm"] == "base") | (points["image"] == "b")]
    assert list(realbits.paired(one[one["lmbda"] == 0.01]).index) == ["b"]
    base = points[points["arm"] == "base"]
    assert realbits.describe_methods(base) == "No image has files under several methods."
    with pytest.raises(UserError, match="run the study to its end"):
        realbits.paired_figure(base)


def test_the_figures_show_every_file(points):
    axes = realbits.excess_figure(points).axes[0]
    drawn = sorted(value for line in axes.lines[:4] for value in line.get_ydata())
    assert drawn == sorted(points["percent"])
    panels = realbits.paired_figure(points).axes
    assert [panel.get_title() for panel in panels] == ["λ = 0.001", "λ = 0.01"]
    assert panels[0].lines[0].get_ydata().tolist() == [20, 8]


def test_the_words_on_what_was_verified():
    table = pd.DataFrame(
        {
            "decoded": [True, True, False],
            "psnr_difference": [1e-6, np.nan, np.nan],
            "psnr_8bit_difference": [-2e-5, np.nan, np.nan],
        }
    )
    text = realbits.describe_verified(table)
    assert "of all 3 stored files" in text and "2 of the files were decoded" in text
    assert "1 of these were compared with the photographs" in text and "2.0e-05 dB at most" in text
    text = realbits.describe_verified(table[1:])
    assert "The photographs were not at hand" in text


def test_the_command_decodes_a_refined_file(points):
    first = points[points["arm"] != "base"].iloc[0]
    assert realbits.decode_command(points) == f"sgaplus decode data/results/{first['stream']} -o a.png"
    assert realbits.decode_command(points, "r").startswith("sgaplus decode r/streams/")


# Bits


def test_exact_bits_are_those_of_the_codec_in_float64(coded, symbols):
    codec, _ = coded
    with torch.no_grad():
        latents = codec.analyse(codec.pad(picture(128, 192)[None]))
        bits = codec.decode(latents, hard).bits
    assert symbols.z_bits.sum() == pytest.approx(bits["z"].item(), rel=1e-4)
    assert lengths.gaussian_bits(symbols.y, symbols.scales).sum() == pytest.approx(bits["y"].item(), rel=2e-3)


def test_a_string_is_hardly_longer_than_its_tables_say(coded, symbols):
    """rANS: a state of 63 bits at most and a word that is not full, for each of the two strings."""
    found = lengths.lengths(coded[1], symbols)
    assert 0 < found["strings"] - found["tables"] < 2 * (63 + 32)
    assert found["file"] - found["strings"] == 8 * 32


def test_escapes_are_counted():
    """Nibbles, as the coder writes them: strings of nothing but escapes have just these bits."""
    _, tables = coder.gaussian()
    values = np.array([300, -300, 5000, -70000, 31, -31] * 50)
    indexes = np.zeros(len(values), dtype=np.int64)
    string = bitstream.coder.rans.encode(values, indexes, tables)
    counted = lengths.table_bits(values, indexes, tables)
    assert 0 < 8 * len(string) - counted < 63 + 32


def test_the_tails_of_a_gaussian_do_not_underflow():
    bits = lengths.gaussian_bits(np.array([0, 100, -100]), np.array([1.0, 1.0, 1.0]))
    assert bits[0] == pytest.approx(-np.log2(0.3829249))
    assert bits[1] == bits[2] == pytest.approx(99.5**2 / 2 / np.log(2), rel=2e-3)


def test_other_tables_of_scales(symbols):
    exact = symbols.z_bits.sum() + lengths.gaussian_bits(symbols.y, symbols.scales).sum()
    scales = coder.gaussian()[0].numpy()[symbols.y_tables]
    levels = symbols.z_bits.sum() + lengths.gaussian_bits(symbols.y, scales).sum()
    assert lengths.with_levels(symbols, 64) == pytest.approx(levels, rel=1e-6)
    assert lengths.with_levels(symbols, 100_000) == pytest.approx(exact, rel=1e-4)


def test_the_nearest_scale_costs_less_where_the_model_is_right():
    """Symbols drawn from their own Gaussians: half the distance, a quarter of the cost."""
    rng = np.random.default_rng(0)
    scales = np.exp(rng.uniform(np.log(0.5), np.log(50), 200_000))
    drawn = np.round(rng.normal(0, scales) + rng.uniform(-0.5, 0.5, len(scales))).astype(int)
    none = np.zeros(0)
    symbols = lengths.Symbols(none, drawn, none, none, none, scales, None, None)
    exact = lengths.gaussian_bits(drawn, scales).sum()
    cost = {
        key: lengths.with_levels(symbols, *key) - exact for key in ((64, False), (64, True), (128, False))
    }
    assert cost[64, True] < 0.4 * cost[64, False]
    assert cost[128, False] < 0.4 * cost[64, False]


def test_a_codec_without_a_hyperprior_is_refused():
    codec = make(FactorizedPrior)
    data = bitstream.encode(codec, hard_latents(codec, picture(64, 64)), (64, 64))
    with pytest.raises(UserError, match="has no hyperprior"):
        lengths.symbols_of(data, codec)


@pytest.fixture
def counted(points, coded, tmp_path, monkeypatch) -> pd.DataFrame:
    """`bitledger.count` of files that are all the same."""
    codec, data = coded
    (tmp_path / "streams").mkdir()
    for stream in points["stream"]:
        (tmp_path / stream).write_bytes(data)
    monkeypatch.setattr(bitledger, "load_codec", lambda *_, **__: codec)
    with pytest.raises(UserError, match="no file is of c: name images of the study"):
        bitledger.count(points, ["c"], tmp_path)
    assert set(bitledger.count(points, ["b"], tmp_path)["image"]) == {"b"}
    table = bitledger.count(points, None, tmp_path)
    return table.assign(estimated=table["exact"] - 10)


def test_the_parts_add_up(counted):
    parts = bitledger.parts(counted)
    assert parts[list(bitledger.PARTS)].sum(axis=1).to_numpy() == pytest.approx(parts["total"].to_numpy())
    total = 100 * (counted["file"] / counted["estimated"] - 1)
    assert parts["total"].tolist() == pytest.approx([total.iloc[0]] * 4)
    assert parts["header"].tolist() == pytest.approx([25600 / counted["estimated"].iloc[0]] * 4)
    axes = bitledger.parts_figure(parts).axes[0]
    assert len(axes.patches) == 4 * len(bitledger.PARTS)
    assert "all together" in bitledger.parts_table(parts).as_raw_html()
    lines = bitledger.describe_parts(counted).splitlines()
    assert len(lines) == len(bitledger.PARTS)
    assert any(line.startswith("- header: **+") and "+256 to +256 bits" in line for line in lines)
    assert any("float64 in place of float32" in line and "+10 to +10 bits" in line for line in lines)


def test_constriction_agrees(counted):
    over = counted["check"] - counted["expected"]
    assert ((over > 0) & (over < 64)).all()
    assert counted["expected"].iloc[0] == pytest.approx(
        (counted["exact"] * counted["y_share"]).iloc[0], rel=0.01
    )
    assert "its coder writes +" in bitledger.describe_check(counted)


def test_the_words_on_the_table_of_scales():
    table = pd.DataFrame(
        {
            "lmbda": [0.001, 0.04],
            "arm": ["base", SSL],
            "64 (CompressAI)": [-0.1, 0.5],
            "64, nearest": [0.05, 0.1],
        }
    )
    table["256, nearest"] = 0.01
    text = bitledger.describe_levels(table)
    assert "cost −0.10 % (λ = 0.001, base) to +0.50 % (λ = 0.04, SSL (a = 2.3))" in text
    saved = "0.40 % with the nearest of 64 and 0.49 % with the nearest of 256."
    assert f"other tables would save: λ = 0.04, {SSL}, {saved}" in text
    assert "A negative cost is no mistake" in text
    text = bitledger.describe_levels(table.assign(**{"64 (CompressAI)": [0.1, 0.2]}))
    assert "nowhere more than 0.3 %" in text and "negative" not in text


def test_levels_are_costs_of_the_exact_bits(counted):
    table = bitledger.levels(counted)
    cost = 100 * (counted["levels"] / counted["exact"] - 1).iloc[0]
    assert table["64 (CompressAI)"].tolist() == pytest.approx([cost] * 4)
    assert "0.001" in bitledger.levels_table(table).as_raw_html()
