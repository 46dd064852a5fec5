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
from compressai.models import MeanScaleHyperprior
from safetensors.torch import save

from sgaplus.bitstream.container import HEADER, MAGIC, VERSION
from sgaplus.bitstream.stream import decode, encode
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError


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
    return data[: min(HEADER, len(data))] + rng.randbytes(4 * rng.randrange(200))


_MUTATIONS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    _flip,
    _overwrite,
    _swap,
    _tail,
    lambda data, rng: data[: rng.randrange(len(data))],  # truncated
    lambda data, rng: data + rng.randbytes(rng.randrange(1, 64)),  # something behind the end
    lambda data, rng: data[: HEADER + 4] + data[HEADER + 4 :][_span(data, rng)],  # most of it cut out
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
    """``data`` with the magic, codec, lengths and checksum of a file that can be decoded.

    Its size is the original's in half of the cases, since most others say at once that the strings are wrong.
    """
    head = bytearray(data[:HEADER].ljust(HEADER, b"\0"))
    body = data[HEADER:]
    body += bytes(-len(body) % 4)
    head[:18] = MAGIC + bytes([VERSION]) + original[5:18]
    if rng.random() < 0.5:
        head[18:22] = original[18:22]
    words = len(body) // 4
    z_words = int.from_bytes(original[22:25], "big")
    if z_words > words or rng.random() < 0.2:
        z_words = rng.randint(0, words)
    head[22:28] = z_words.to_bytes(3, "big") + (words - z_words).to_bytes(3, "big")
    crc = zlib.crc32(body, zlib.crc32(bytes(head[:28])))
    return bytes(head[:28]) + crc.to_bytes(4, "big") + body


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


def small_codec(seed: int = 0) -> Codec:
    """An untrained mean-scale hyperprior, small enough to decode thousands of files in a minute."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = MeanScaleHyperprior(4, 6)
        model.g_a[-1].weight *= 40
        model.update()
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
    """Fuzz a small codec, half of the files crafted, and print what became of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = small_codec()
    files = small_files(codec)
    for crafted in (False, True):
        print(fuzz(codec, files, arguments.files // 2, seed=arguments.seed, crafted=crafted))


if __name__ == "__main__":
    main()
