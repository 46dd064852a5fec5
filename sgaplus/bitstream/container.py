"""The container: a header, then the two strings of CompressAI's entropy coder.

| offset | bytes | content |
|---|---|---|
| 0 | 4 | magic: ``8F 53 47 41`` |
| 4 | 1 | version of the format: 1; 2 for codecs with a context model or of variable rate |
| 5 | 1 | name of the codec, as a code of `NAMES`; 0: a checkpoint without a name |
| 6 | 4 | λ of the codec, float32 |
| 10 | 8 | first bytes of the SHA-256 of the codec's weights (`Codec.sha256`) |
| 18 | 2 | height of the photograph in pixels |
| 20 | 2 | width in pixels |
| 22 | 3 | length of the hyperprior's string z, in words of 4 bytes; 0 for a codec without one |
| 25 | 3 | length of the string y, in words of 4 bytes |
| 28 | 0 or 4 | only in version 2: step of the grid of y, float32; 1 unless the codec is of variable rate |
| 28 or 32 | 4 | CRC-32 (of zlib and PNG) of all other bytes of the file |
| 32 or 36 | | z, then y, and nothing behind them |

Numbers are unsigned and big-endian. Strings of version 1 are those of CompressAI: `model.decompress` takes
them as ``[[y], [z]]`` with the shape that `Container.shape` gives (see `coder` for the weights it needs).
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import UserError

MAGIC = b"\x8fSGA"
# Codes are never reused: a name may be added, none may change its code.
NAMES = {
    1: "mshyper-s",
    2: "mshyper",
    3: "bmshj2018-factorized",
    4: "bmshj2018-factorized-relu",
    5: "bmshj2018-hyperprior",
    6: "mbt2018-mean",
    7: "mbt2018",
    8: "cheng2020-anchor",
    9: "cheng2020-attn",
    10: "bmshj2018-hyperprior-vbr",
    11: "mbt2018-mean-vbr",
    12: "mbt2018-vbr",
}
MAX_PIXELS = 100_000_000

_FIELDS = struct.Struct(">4sBBf8sHH")
_STEP = struct.Struct(">f")
_CRC = struct.Struct(">I")
_WORD, _COUNT = 4, 3
# Bytes of the header in each version of the format.
HEADERS = {version: _FIELDS.size + 2 * _COUNT + step + _CRC.size for version, step in ((1, 0), (2, 4))}
MAX_SIDE = 2**16 - 1
_MAX_WORDS = 2 ** (8 * _COUNT) - 1
# No file is longer.
MAX_BYTES = max(HEADERS.values()) + 2 * _WORD * _MAX_WORDS


@dataclass(frozen=True)
class Container:
    """What a file says.

    Attributes:
        name: of the codec; empty for a checkpoint.
        lmbda: λ of the codec, rounded to float32.
        weights: first 8 bytes of the SHA-256 of the codec's weights.
        height, width: of the photograph, in pixels.
        z, y: the strings; z is empty for a codec without a hyperprior.
        step: of the grid of y, a float32; None in version 1, where it is 1.
    """

    name: str
    lmbda: float
    weights: bytes
    height: int
    width: int
    z: bytes = field(repr=False)
    y: bytes = field(repr=False)
    step: float | None = None

    @property
    def version(self) -> int:
        """Of the format."""
        return 1 if self.step is None else 2

    @property
    def header_bytes(self) -> int:
        return HEADERS[self.version]

    @property
    def pixels(self) -> int:
        """Of the photograph."""
        return self.height * self.width

    def shape(self, stride: int) -> tuple[int, int]:
        """Height and width of the latent that is decoded first, for a codec of this stride."""
        return math.ceil(self.height / stride), math.ceil(self.width / stride)

    @property
    def codec(self) -> str:
        """The codec in words."""
        name = self.name or "a checkpoint without a name"
        return f"{name}, λ = {self.lmbda:.6g}, weights {self.weights.hex()}…"


def check_size(size: Sequence[int]) -> None:
    """Refuse a photograph's height and width that the format cannot say."""
    for side in size:
        if not 1 <= side <= MAX_SIDE:
            raise UserError(f"a file holds photographs of 1 to {MAX_SIDE} pixels a side, not {side}: crop it")


def pack(container: Container) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: the photograph or a string is larger than the format can say.
    """
    codes = {name: code for code, name in NAMES.items()}
    size = container.height, container.width
    check_size(size)
    code = codes.get(container.name, 0)
    head = _FIELDS.pack(MAGIC, container.version, code, container.lmbda, container.weights, *size)
    for string in (container.z, container.y):
        words, rest = divmod(len(string), _WORD)
        if words > _MAX_WORDS:
            raise UserError(f"a file holds strings of at most {_WORD * _MAX_WORDS} bytes: crop the image")
        assert rest == 0, "the coder writes whole words"
        head += words.to_bytes(_COUNT, "big")
    if container.step is not None:
        head += _STEP.pack(container.step)
    crc = zlib.crc32(container.y, zlib.crc32(container.z, zlib.crc32(head)))
    return head + _CRC.pack(crc) + container.z + container.y


def unpack(data: bytes) -> Container:
    """What a file says, after everything that can be checked without its codec was checked.

    Raises:
        UserError: the bytes are no file of this format, of a newer version of it, or damaged.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UserError(f"a file's content must be given as bytes, not as {type(data).__name__}")
    data = bytes(data)
    if data[: len(MAGIC)] != MAGIC:
        raise UserError("this is not a file that `sgaplus encode` wrote (it does not begin as one)")
    if len(data) < min(HEADERS.values()):
        raise UserError(f"the file is incomplete ({len(data)} bytes): get it again")
    _, version, code, lmbda, weights, height, width = _FIELDS.unpack_from(data)
    if version not in HEADERS:
        raise UserError(f"version {version} of the format is none of 1 to {max(HEADERS)}: update sgaplus")
    header, counts = HEADERS[version], data[_FIELDS.size :]
    z_end = header + _WORD * int.from_bytes(counts[:_COUNT], "big")
    y_end = z_end + _WORD * int.from_bytes(counts[_COUNT : 2 * _COUNT], "big")
    if len(data) != y_end:
        what = "is incomplete" if len(data) < y_end else "has something behind its end"
        raise UserError(f"the file {what} ({len(data)} bytes instead of {y_end}): get it again")
    (crc,) = _CRC.unpack_from(data, header - _CRC.size)
    if crc != zlib.crc32(data[header:], zlib.crc32(data[: header - _CRC.size])):
        raise UserError("the file is damaged (its checksum does not match): get it again")
    # The checksum is right, so a file that fails below was crafted.
    step = None if version == 1 else _STEP.unpack_from(counts, 2 * _COUNT)[0]
    if height == 0 or width == 0 or not 0 < lmbda < math.inf or not (step is None or 0 < step < math.inf):
        has_step = "" if step is None else f", step {step:g}"
        raise UserError(f"the file has an invalid header ({width}×{height} pixels, λ = {lmbda:g}{has_step})")
    if code not in (0, *NAMES):
        raise UserError(f"the file is for a codec that is not known here (number {code}): update sgaplus")
    z, y = data[header:z_end], data[z_end:]
    return Container(NAMES.get(code, ""), lmbda, weights, height, width, z, y, step)
