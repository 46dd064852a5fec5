"""Where a file's bits go, counted one by one, and a second coder's count."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from companion import lengths
from companion.pages import realbits
from sgaplus import bitstream
from sgaplus.bitstream import coder
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.models import hard
from sgaplus.errors import UserError
from tests.test_coder import hard_latents, make, picture
from tests.test_models import EACH_FAMILY, untrained


@pytest.fixture
def points() -> pd.DataFrame:
    """What `realbits.points` says of two images under two methods at two λ."""
    lines = [(x, name, image) for x in (0.001, 0.01) for name in ("base", "linear") for image in ("a", "b")]
    table = pd.DataFrame(lines, columns=["lmbda", "configuration", "image"])
    streams = [f"streams/{number}.sga" for number in range(len(table))]
    return table.assign(codec="mshyper-s", codec_lmbda=table["lmbda"], estimated=512.0, stream=streams)


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


def test_escapes_are_counted():
    """Nibbles, as the coder writes them: strings of nothing but escapes have just these bits."""
    _, tables = coder.gaussian()
    values = np.array([300, -300, 5000, -70000, 31, -31] * 50)
    indexes = np.zeros(len(values), dtype=np.int64)
    string = bitstream.coder.rans.encode(values, indexes, tables)
    counted = lengths.table_bits(values, indexes, tables)
    assert 0 < 8 * len(string) - counted < 63 + 32


def test_bits_far_out_do_not_underflow():
    bits = lengths.gaussian_bits(np.array([0, 100, -100]), np.array([1.0, 1.0, 1.0]))
    assert bits[0] == pytest.approx(-np.log2(0.3829249))
    assert bits[1] == bits[2] == pytest.approx(99.5**2 / 2 / np.log(2), rel=2e-3)
    codec = Codec("x", 0.01, freeze(untrained("bmshj2018-factorized")), "ab" * 32)
    y = codec.analyse(picture(64, 64)[None])["y"] + 1e4
    symbols = lengths.symbols_of(bitstream.encode(codec, {"y": y}, (64, 64)), codec)
    assert np.isfinite(symbols.first_bits).all() and symbols.first_bits.min() > 64


def test_other_tables_of_scales(symbols):
    exact = symbols.first_bits.sum() + lengths.gaussian_bits(symbols.y, symbols.scales).sum()
    scales = coder.gaussian()[0].numpy()[symbols.y_tables]
    levels = symbols.first_bits.sum() + lengths.gaussian_bits(symbols.y, scales).sum()
    assert lengths.with_levels(symbols, 64) == pytest.approx(levels, rel=1e-6)
    assert lengths.with_levels(symbols, 100_000) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("architecture", EACH_FAMILY)
def test_every_class_of_codecs_is_counted(architecture):
    codec = Codec(architecture, 0.01, freeze(untrained(architecture)), "ab" * 32)
    with torch.no_grad():
        decoded = codec.decode(codec.analyse(picture(64, 128)[None]), hard)
    data = bitstream.encode(codec, decoded.latents, (64, 128))
    symbols = lengths.symbols_of(data, codec)
    found = lengths.lengths(data, symbols)
    without = "factorized" in architecture
    each = symbols.first_bits, lengths.gaussian_bits(symbols.y, symbols.scales)
    bounded = sum(np.minimum(bits, -np.log2(1e-9)).sum() for bits in each)
    assert bounded == pytest.approx(decoded.all_bits.item(), rel=1e-3)
    assert found["exact"] == pytest.approx(sum(bits.sum() for bits in each))
    assert 0 < found["strings"] - found["tables"] < (63 + 32) * (1 if without else 2)
    assert found["file"] - found["strings"] == 8 * bitstream.info(data)["header_bytes"]
    assert (len(symbols.y) == 0) == (found["levels"] == found["exact"]) == without


@pytest.fixture
def counted(points, coded, tmp_path) -> pd.DataFrame:
    """`realbits.count` of files that are all the same."""
    codec, data = coded
    (tmp_path / "streams").mkdir()
    for stream in points["stream"]:
        (tmp_path / stream).write_bytes(data)
    codecs = SimpleNamespace(member=lambda _: SimpleNamespace(load=lambda *_: codec))
    with pytest.raises(UserError, match="no file is of c: name images of the study"):
        realbits.count(points, codecs, ["c"], tmp_path)
    assert set(realbits.count(points, codecs, ["b"], tmp_path)["image"]) == {"b"}
    table = realbits.count(points, codecs, None, tmp_path)
    return table.assign(estimated=table["exact"] - 10)


def test_the_parts_add_up(counted):
    parts = realbits.parts(counted)
    assert parts[list(realbits.PARTS)].sum(axis=1).to_numpy() == pytest.approx(parts["total"].to_numpy())
    total = 100 * (counted["file"] / counted["estimated"] - 1)
    assert parts["total"].tolist() == pytest.approx([total.iloc[0]] * 4)
    assert parts["header"].tolist() == pytest.approx([25600 / counted["estimated"].iloc[0]] * 4)
    shares = realbits.shares(counted).set_index("part")
    assert list(shares["share"].abs()) == sorted(shares["share"].abs(), reverse=True)
    assert shares.loc["header", ["least", "most"]].tolist() == [256, 256]
    assert shares.loc["float64 in place of float32, any probability", ["least", "most"]].tolist() == [10, 10]
    assert shares["share"].sum() == pytest.approx(total.iloc[0])
    cost = 100 * (counted["levels"] / counted["exact"] - 1).iloc[0]
    assert realbits.levels(counted)["64"].tolist() == pytest.approx([cost] * 4)


def test_constriction_agrees(counted):
    over = counted["check"] - counted["expected"]
    assert ((over > 0) & (over < 64)).all()
    assert counted["expected"].iloc[0] == pytest.approx(
        (counted["exact"] * counted["y_share"]).iloc[0], rel=0.01
    )
    found = realbits.check(counted)
    assert (found["least"], found["most"]) == (over.min(), over.max())
    assert 0 < found["relative"] < 1 and abs(found["floor"]) < 1
