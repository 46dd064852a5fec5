"""Damaged and made-up files, thrown at the decoder: ``python -m tests.fuzz --files 100000``.

Almost every damage ends at the checksum. *Crafted* files have theirs put right, and their lengths with it, so
that the entropy decoder gets to read them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Sequence

import torch
from safetensors.torch import save

from sgaplus.bitstream.container import HEADERS
from sgaplus.bitstream.stream import decode, encode
from sgaplus.codecs.checkpoints import REFINABLE
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from tests.test_models import untrained

_HEADER = min(HEADERS.values())


def mutate(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to three kinds of damage."""

    def span() -> slice:
        start = rng.randrange(len(data))
        return slice(start, min(len(data), start + rng.choice((1, 2, 4, 16, 64))))

    for _ in range(rng.choice((1, 1, 2, 3)) if data else 0):
        changed, one, other = bytearray(data), span(), span()
        match rng.randrange(8):
            case 0:
                for _ in range(rng.choice((1, 1, 2, 8))):
                    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                changed[one] = rng.choice((bytes, rng.randbytes, lambda n: b"\xff" * n))(one.stop - one.start)
            case 2:
                changed[one], changed[other] = data[other], data[one]
            case 3:
                changed[_HEADER:] = rng.randbytes(4 * rng.randrange(200))
            case 4:
                del changed[rng.randrange(len(data)) :]
            case 5:
                changed += rng.randbytes(rng.randrange(1, 64))
            case 6:
                changed[_HEADER + 4 :] = data[_HEADER + 4 :][one]
            case 7:
                changed[:] = rng.randbytes(rng.randrange(300))
        data = bytes(changed)
        if not data:
            break
    return data


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
    codec: Codec, files: Sequence[bytes], count: int, *, seed: int = 0, crafted: bool = False
) -> Counter[str]:
    """Decode ``count`` damaged versions of ``files``, which ``codec`` decodes.

    Returns:
        how many were refused, gave the same picture, or another one, which only crafted files may.

    Raises:
        Exception: whatever the decoder raises besides `UserError`; the file is in the exception's note.
    """
    rng, outcome = random.Random(seed), Counter()
    pictures = [decode(data, codec) for data in files]
    for _ in range(count):
        chosen = rng.randrange(len(files))
        data = mutate(files[chosen], rng)
        if crafted:
            data = craft(data, files[chosen], rng)
        try:
            picture = decode(data, codec, max_pixels=2**14)
        except UserError:
            outcome["refused"] += 1
        except Exception as error:
            error.add_note(f"the file was {data.hex()}")
            raise
        else:
            outcome["same" if torch.equal(picture, pictures[chosen]) else "other"] += 1
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
