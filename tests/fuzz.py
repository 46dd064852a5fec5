"""Damaged and made-up files, thrown at the decoder: ``python -m tests.fuzz --files 100000``.

Almost every damage ends at the checksum. *Crafted* files have theirs put right, and their lengths with it, so
that the entropy decoder gets to read them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save

from sgaplus.bitstream.container import HEADERS
from sgaplus.bitstream.stream import decode, encode
from sgaplus.codecs.checkpoints import REFINABLE
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from tests.test_models import untrained

_HEADER = min(HEADERS.values())


@dataclass
class Outcome:
    """What became of the files.

    Attributes:
        files: how many were tried.
        refused: with a `UserError`.
        same: decoded to the photograph of the file that was damaged.
        other: decoded to another photograph; for a file that is not crafted, this must not happen.
        slowest: seconds of the slowest one.
    """

    files: int = 0
    refused: int = 0
    same: int = 0
    other: int = 0
    slowest: float = 0.0


def _span(data: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(data))
    return slice(start, min(len(data), start + rng.choice((1, 2, 4, 16, 64))))


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    span = _span(data, rng)
    data[span] = rng.choice((bytes, rng.randbytes, lambda n: b"\xff" * n))(span.stop - span.start)
    return data


def _swap(data: bytearray, rng: random.Random) -> bytearray:
    first, second = _span(data, rng), _span(data, rng)
    data[first], data[second] = data[second], data[first]
    return data


def _tail(data: bytearray, rng: random.Random) -> bytearray:
    return data[: min(_HEADER, len(data))] + rng.randbytes(4 * rng.randrange(200))


_MUTATIONS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    _flip,
    _overwrite,
    _swap,
    _tail,
    lambda data, rng: data[: rng.randrange(len(data))],  # truncated
    lambda data, rng: data + rng.randbytes(rng.randrange(1, 64)),  # something behind the end
    lambda data, rng: data[: _HEADER + 4] + data[_HEADER + 4 :][_span(data, rng)],  # most of it cut out
    lambda data, rng: bytearray(rng.randbytes(rng.randrange(300))),  # nothing of it left
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to three kinds of damage."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if result:
            result = rng.choice(_MUTATIONS)(result, rng)
    return bytes(result)


def craft(data: bytes, original: bytes, rng: random.Random) -> bytes:
    """``data`` with the magic, version, codec, lengths and checksum of a file that can be decoded.

    Its size is the original's in half of the cases, since most others say at once that the strings are wrong.
    """
    header = HEADERS[original[4]]
    head = bytearray(data[: header - 4].ljust(header - 4, b"\0"))
    body = data[header:]
    body += bytes(-len(body) % 4)
    head[:18] = original[:18]
    if rng.random() < 0.9:
        head[28:] = original[28 : header - 4]
    if rng.random() < 0.5:
        head[18:22] = original[18:22]
    words = len(body) // 4
    z_words = int.from_bytes(original[22:25], "big")
    if z_words > words or rng.random() < 0.2:
        z_words = rng.randint(0, words)
    head[22:28] = z_words.to_bytes(3, "big") + (words - z_words).to_bytes(3, "big")
    crc = zlib.crc32(body, zlib.crc32(bytes(head)))
    return bytes(head) + crc.to_bytes(4, "big") + body


def fuzz(
    codec: Codec,
    files: Sequence[bytes],
    count: int,
    *,
    seed: int = 0,
    crafted: bool = False,
    max_pixels: int = 2**14,
) -> Outcome:
    """Decode ``count`` damaged versions of ``files``, which ``codec`` decodes.

    Raises:
        Exception: whatever the decoder raises besides `UserError`; the file is in the exception's note.
    """
    rng = random.Random(seed)
    pictures = [decode(data, codec, max_pixels=max_pixels) for data in files]
    outcome = Outcome()
    for _ in range(count):
        chosen = rng.randrange(len(files))
        data = mutate(files[chosen], rng)
        if crafted:
            data = craft(data, files[chosen], rng)
        started = time.perf_counter()
        try:
            picture = decode(data, codec, max_pixels=max_pixels)
        except UserError:
            outcome.refused += 1
        except Exception as error:
            error.add_note(f"the file was {data.hex()}")
            raise
        else:
            same = torch.equal(picture, pictures[chosen])
            outcome.same += same
            outcome.other += not same
        outcome.files += 1
        outcome.slowest = max(outcome.slowest, time.perf_counter() - started)
    return outcome


def small_codec(architecture: str = "mbt2018-mean") -> Codec:
    """An untrained codec, small enough to decode thousands of files in minutes."""
    model = untrained(architecture, 4, 10)
    sha256 = hashlib.sha256(save(model.state_dict())).hexdigest()
    return Codec("small", 0.01, freeze(model), sha256)


def small_files(codec: Codec) -> list[bytes]:
    """Two files of noise, 64×64 and 40×90."""
    files = []
    for height, width in ((64, 64), (40, 90)):
        x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            latents = codec.decode(codec.analyse(codec.pad(x))).latents
        files.append(encode(codec, latents, (height, width)))
    return files


def main() -> None:
    """Fuzz small codecs, half of the files crafted, and print what became of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="for each codec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codecs", nargs="+", default=["mbt2018-mean"], choices=REFINABLE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.codecs:
        codec = small_codec(name)
        files = small_files(codec)
        for crafted in (False, True):
            outcome = fuzz(codec, files, arguments.files // 2, seed=arguments.seed, crafted=crafted)
            print(name, "crafted" if crafted else "damaged", outcome, flush=True)


if __name__ == "__main__":
    main()
