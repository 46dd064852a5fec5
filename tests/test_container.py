"""The container: what its header says, and that nothing else than its own bytes is taken for it."""

import dataclasses
import math
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgaplus.bitstream import container
from sgaplus.bitstream.container import HEADERS, NAMES, Container, pack, unpack
from sgaplus.codecs import bundled as shipped
from sgaplus.codecs import zoo
from sgaplus.errors import UserError

words = st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4])
sides = st.integers(1, container.MAX_SIDE)
containers = st.builds(
    Container,
    name=st.sampled_from(["", *NAMES.values()]),
    lmbda=st.floats(2**-20, 1e3, width=32),
    weights=st.binary(min_size=8, max_size=8),
    height=sides,
    width=sides,
    z=words,
    y=words,
    step=st.none() | st.floats(2**-20, 1e3, width=32),
)
EXAMPLE = Container("mshyper-s", 0.01, bytes(range(8)), 512, 768, b"zzzz", b"yyyyyyyy")


def sealed(data: bytes) -> bytes:
    """``data`` with its checksum put right."""
    header = HEADERS.get(data[4], HEADERS[1])
    crc = zlib.crc32(data[header:], zlib.crc32(data[: header - 4]))
    return data[: header - 4] + crc.to_bytes(4, "big") + data[header:]


@settings(deadline=None)
@given(containers)
def test_what_is_packed_is_unpacked(content):
    data = pack(content)
    assert len(data) == (32 if content.step is None else 36) + len(content.z) + len(content.y)
    assert unpack(data) == content


PAGE = Path(__file__).parents[1] / "book" / "file-format.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the page's table whose first column is ``heading``."""
    lines = PAGE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


@pytest.mark.parametrize("step", [None, 0.5])
def test_the_page_of_the_book_says_where_each_field_is(step):
    data = pack(dataclasses.replace(EXAMPLE, step=step))
    version = 1 if step is None else 2
    [code] = [code for code, name in NAMES.items() if name == EXAMPLE.name]
    size = *(512).to_bytes(2, "big"), *(768).to_bytes(2, "big")
    expected = {"magic": b"\x8fSGA", "version": [version], "codec": [code], "weights": range(8)}
    expected |= {"lmbda": struct.pack(">f", 0.01), "height": size[:2], "width": size[2:]}
    expected |= {"z_words": (0, 0, 1), "y_words": (0, 0, 2), "step": struct.pack(">f", step or 0)}
    position = 0
    for offset, width, name, _ in rows("offset")[:-1]:
        if name == "step" and step is None:
            continue
        assert str(position) in offset.split(" or ")
        found, position = data[position : position + int(width)], position + int(width)
        if name == "crc":
            assert int.from_bytes(found, "big") == zlib.crc32(data[: position - 4] + data[position:])
        else:
            assert found == bytes(expected.pop(name))
    assert data[position:] == EXAMPLE.z + EXAMPLE.y and expected.keys() <= {"step"}


def test_every_codec_has_a_name_that_the_page_of_the_book_has():
    assert {int(code): name for code, name in rows("codec") if code != "0"} == NAMES
    assert {card.name for card in shipped.cards()} | set(zoo.ZOO) <= set(NAMES.values())


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_anything_else_is_refused(data):
    for candidate in (data, b"\x8fSGA" + data, b"\x8fSGA\x01" + data, b"\x8fSGA\x02" + data):
        with pytest.raises(UserError):
            unpack(candidate)


@settings(deadline=None)
@given(containers, st.data())
def test_every_single_changed_bit_is_noticed(content, draw):
    data = bytearray(pack(content))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(UserError):
        unpack(bytes(data))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"\x89PNG", "not a file that `sgaplus encode` wrote"),
        (4, b"\x03", "version 3 of the format is none of 1 to 2"),
        (5, b"\xff", r"codec that is not known here \(number 255\)"),
        (6, b"\x7f\xc0\0\0", "λ = nan"),
        (6, b"\0\0\0\0", "λ = 0"),
        (18, b"\0\0", "768×0 pixels"),
        (20, b"\0\0", "0×512 pixels"),
        (22, b"\xff\xff\xff", "incomplete"),
        (25, b"\0\0\1", "something behind its end"),
        *((28, struct.pack(">f", step), "invalid header .*step") for step in (0, math.nan, math.inf, -1)),
        (33, b"!", "checksum"),
    ],
)
def test_fields_that_cannot_be(offset, value, message):
    data = pack(dataclasses.replace(EXAMPLE, step=0.5 if offset == 28 else None))
    changed = data[:offset] + value + data[offset + len(value) :]
    with pytest.raises(UserError, match=message):
        unpack(changed if "checksum" in message else sealed(changed))


def test_what_cannot_be_written(monkeypatch):
    for sides in ({"height": 0}, {"width": 65536}):
        with pytest.raises(UserError, match="1 to 65535 pixels a side"):
            pack(dataclasses.replace(EXAMPLE, **sides))
    monkeypatch.setattr(container, "_MAX_WORDS", 1)
    with pytest.raises(UserError, match="strings of at most 4 bytes"):
        pack(EXAMPLE)
