"""Photographs as the codec encodes them and as refinement does in at most as many bytes: what is stored of
them by codec, and how it is computed again (``python -m companion.equal_bytes CODEC``).

Both files of a photograph are of one codec; the refined one is the largest that λ makes within the bytes of
the base. No photograph of a data set is stored: where none comes with a package, an error map is, the mean
absolute error of the three channels.
"""

import argparse
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgaplus import bitstream, jobs, target_rate
from sgaplus.codecs.series import Series
from sgaplus.codecs.series import series as series_of
from sgaplus.data.datasets import list_images
from sgaplus.data.images import to_uint8
from sgaplus.errors import UserError
from sgaplus.studies.stored import results

from . import figures, parameters

# Of the codecs of a series the one with the nearest λ.
LMBDA, ITERATIONS, DTYPE = 0.0025, 100, "bfloat16"
# Left, top, width and height of what is shown.
BOXES = {
    "kodim23": ("parrots", "kodak", (100, 100, 480, 320)),
    "motorcycle_left": ("motorcycle", "sample", (130, 150, 480, 320)),
    "kodim19": ("lighthouse", "kodak", (16, 290, 480, 320)),
    "chelsea": ("cat", "sample", (0, 0, 451, 300)),
    "coffee": ("coffee", "sample", (60, 20, 480, 320)),
}
BASE, REFINED = "base", "refined"
SIDES = (BASE, REFINED)
ERROR_SCALE = 8  # an error map is so many times as bright as the error


@dataclass(frozen=True, eq=False)
class Pair:
    """One photograph before and after, with its line of ``rows.json``: either side's picture, (3, H, W)
    uint8, and error, (H, W) uint8, `ERROR_SCALE` times the mean absolute error of the channels; and the
    original of one that comes with scikit-image."""

    name: str
    about: dict[str, Any]
    pictures: dict[str, Tensor]
    errors: dict[str, np.ndarray]
    original: Tensor | None

    @property
    def title(self) -> str:
        """What it shows, in a word."""
        return BOXES[self.name][0]

    @property
    def centre(self) -> tuple[int, int]:
        """x and y of the middle of the square of 48 pixels that refinement brings nearest to the original."""
        gain = torch.from_numpy(self.errors[BASE].astype(np.float32) - self.errors[REFINED])
        places = torch.nn.functional.avg_pool2d(gain[None], 48, 8)[0]
        row, column = divmod(int(places.argmax()), places.shape[1])
        return 8 * column + 24, 8 * row + 24


def folder(codecs: Series, root: str | Path | None = None) -> Path:
    """Where the files of a series are; ``root`` is the folder of results, that of the checkout where None."""
    return Path(root or results()) / "equal-bytes" / codecs.name


def command(codecs: Series, root: str | Path | None = None) -> str:
    """The shell command that makes these files."""
    spec = parameters.shown(Path(codecs.spec)) if Path(codecs.spec).exists() else codecs.spec
    words = ["python", "-m", "companion.equal_bytes", spec]
    return shlex.join([*words, "--results", str(root)] if root else words)


def _photograph(name: str) -> Tensor:
    _, source, (left, top, width, height) = BOXES[name]
    file = next(image for image in list_images([source]) if image.name == name)
    return file.read()[:, top : top + height, left : left + width]


def _error(original: Tensor, picture: Tensor) -> np.ndarray:
    difference = (to_uint8(original).float() - to_uint8(picture).float()).abs().mean(0)
    return (ERROR_SCALE * difference).round().clamp(0, 255).byte().numpy()


def compute(codecs: Series, root: str | Path | None = None) -> None:
    """Encode and refine every photograph of `BOXES` and store files, error maps and ``rows.json``."""
    member = min(codecs.members, key=lambda member: abs(math.log(member.lmbda / LMBDA)))
    codec, fast, place = member.load("cpu", "float32"), member.load("cpu", DTYPE), folder(codecs, root)
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (_, source, box) in BOXES.items():
        image, start = _photograph(name), time.perf_counter()
        with torch.no_grad():
            own = codec.analyse(codec.pad(image[None]))
        files = {BASE: bitstream.encode(codec, own, image.shape[1:])}
        found = target_rate.encode_to([fast], image, max_bytes=len(files[BASE]), iterations=ITERATIONS)
        files[REFINED] = found.file.data
        row = {"image": name, "dataset": source, "box": box, "codec": codec.name, "codec_lmbda": codec.lmbda}
        row |= {"refined_lmbda": found.file.lmbda, "plan": "fast", "iterations": ITERATIONS, "dtype": DTYPE}
        for side, data in files.items():
            picture = bitstream.decode(data, codec)
            (place / f"{name}.{side}.sga").write_bytes(data)
            mse = (to_uint8(picture).double() - to_uint8(image).double()).square().mean() / 255**2
            row |= {f"{side}_bytes": len(data), f"{side}_psnr_8bit": float(-10 * mse.log10())}
            if source != "sample":
                error = Image.fromarray(_error(image, picture))
                error.save(place / f"{name}.{side}.error.webp", quality=60, method=6)
        seconds = round(time.perf_counter() - start, 1)
        rows.append(row | {"seconds": seconds} | jobs.provenance(codec.device))
        print(json.dumps(rows[-1]), file=sys.stderr)
        (place / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")


def load(codecs: Series, names: list[str] | None = None, root: str | Path | None = None) -> list[Pair]:
    """The stored photographs of a series, all where ``names`` is None, decoded from their files."""
    place = folder(codecs, root)
    if not (place / "rows.json").is_file():
        return []
    rows = {row["image"]: row for row in json.loads((place / "rows.json").read_text(encoding="utf-8"))}
    if unknown := set(names or ()) - set(rows):
        raise UserError(f"no files of {', '.join(unknown)} are stored: use some of {', '.join(rows)}")
    found = []
    for name in names or rows:
        row = rows[name]
        codec = codecs.member(row["codec_lmbda"]).load("cpu", "float32")
        files = {side: (place / f"{name}.{side}.sga").read_bytes() for side in SIDES}
        pictures = {side: bitstream.decode(data, codec) for side, data in files.items()}
        original = _photograph(name) if row["dataset"] == "sample" else None
        errors = {
            side: np.asarray(Image.open(place / f"{name}.{side}.error.webp").convert("L"))
            if original is None
            else _error(original, pictures[side])
            for side in SIDES
        }
        shown = {side: to_uint8(picture) for side, picture in pictures.items()}
        found.append(Pair(name, row, shown, errors, None if original is None else to_uint8(original)))
    return found


def picture(pair: Pair, path: str | Path, side: int = 160) -> None:
    """Write a square around the `Pair.centre` of a photograph whose original is there, before and after, as
    the README shows it; its PNG text ``Source`` is the pair's line of ``rows.json``."""
    assert pair.original is not None
    height, width = pair.original.shape[1:]
    x, y = pair.centre
    left, top = (min(max(at - side // 2, 0), end - side) for at, end in ((x, width), (y, height)))
    shown = {"original": pair.original}
    for name, title in ((BASE, "codec, not refined"), (REFINED, "refined")):
        size, psnr = pair.about[f"{name}_bytes"], pair.about[f"{name}_psnr_8bit"]
        shown[f"{title}\n{size:,} bytes, {psnr:.2f} dB"] = pair.pictures[name]
    squares = [(name, seen[:, top : top + side, left : left + side] / 255) for name, seen in shown.items()]
    figure = figures.pictures(squares, columns=3, side=4)
    figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Source": json.dumps(pair.about)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=compute.__doc__)
    parser.add_argument("codec", nargs="?", default="mshyper-s", type=series_of)
    parser.add_argument("--results", help="folder of the results")
    parser.add_argument("--picture", help="only draw the README's picture of the stored files")
    given = parser.parse_args()
    if given.picture:
        picture(*load(given.codec, ["chelsea"], given.results), given.picture)
    else:
        compute(given.codec, given.results)
