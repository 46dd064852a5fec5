"""The folder of `sgaplus refine`: pictures that hold their rows and settings, and a table.

A picture is written in one piece as soon as its photograph is refined. So a run that ends at any moment loses
no more than the photographs in flight, the next one knows what is done, and what is no such picture is never
replaced. The table is put together from the pictures.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

from .. import hardware, io
from ..codecs.codec import Codec
from ..data import images
from ..data.datasets import ImageFile
from ..errors import SystemFault, UserError
from ..plans import Plan
from ..refinement import ALGORITHM, Run, batches
from . import terminal

# Names of the text in a PNG with a picture's record, and of the table's column that tells settings apart.
_RECORD, _SETTINGS = "sgaplus", "settings"
# A photograph may be called 007.
_CSV = io.CSV | {"dtype": dict.fromkeys(("image", "method", "codec", _SETTINGS), str)}
# Endings of the table.
SUFFIXES = (".csv", ".parquet")

Settings = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph that was read: its file, the SHA-256 that it had before, and its content (3, H, W)."""

    image: ImageFile
    sha256: str
    content: Tensor

    @property
    def name(self) -> str:
        """As tables have it."""
        return io.printable(self.image.name)


Refine = Callable[[Sequence[Photograph]], Run]


@dataclass(frozen=True)
class Folder:
    """Where pictures and table go, and the settings that they all have.

    Attributes:
        path: of the pictures.
        table: the table's file, .csv or .parquet.
        settings: everything that determines the numbers, JSON-able.
    """

    path: Path
    table: Path
    settings: Settings

    @property
    def key(self) -> str:
        """The settings, hashed."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def target(self, image: ImageFile) -> Path:
        """The picture's file."""
        return self.path / f"{image.name}.png"

    def rows_of(self, image: ImageFile) -> Rows | None:
        """The rows of a photograph, None where it is not refined yet; refuses a picture of something else."""
        target = self.target(image)
        if (record := _read_record(target)) is None:
            return None
        if record["settings"] != self.settings:
            differing = ", ".join(_differing(record["settings"], self.settings))
            raise UserError(f"{target} was made with other settings ({differing}): use another --out")
        if record["image_sha256"] != image.sha256:
            raise UserError(
                f"{target} was made from another photograph than {image.path} is now: use another --out"
            )
        return record["rows"]

    def keeps(self, image: ImageFile) -> bool:
        """Whether a picture that `rows_of` knows is whole; one that is not is renamed, with a note."""
        target = self.target(image)
        try:
            with Image.open(target) as picture:
                picture.verify()
            return True
        except (OSError, SyntaxError, ValueError, struct.error) as error:
            if isinstance(error, OSError) and error.errno:  # the system's, not Pillow's
                raise io.unreadable(target, error) from error
        aside = io.set_aside(target)
        terminal.note(f"{target} is damaged: it is kept as {aside.name}, and its photograph is refined again")
        return False

    def interrupted(self, rows: pd.DataFrame | Rows) -> bool:
        """Whether these rows are of a refinement that ended before its last iteration."""
        return bool(pd.DataFrame(rows)["iteration"].max() < self.settings["iterations"])

    def put(self, photograph: Photograph, picture: Tensor, rows: pd.DataFrame) -> Rows:
        """Write a photograph's picture with its rows, which are returned as they will be read.

        That of an interrupted refinement gets a name of its own, so that its photograph is not taken for
        refined; an older one is renamed. It goes when the refinement was repeated to its end.
        """
        self.rows_of(photograph.image)  # something else may have come to lie in its place
        content = {
            "settings": self.settings,
            "image_sha256": photograph.sha256,
            "rows": (
                rows.assign(codec=self.settings["codec"], codec_lmbda=self.settings["codec_lmbda"])
                .assign(**{_SETTINGS: self.key})
                .to_dict("records")
            ),
        }
        text = json.dumps(content)
        target = self.target(photograph.image)
        partial = io.beside(self.path / photograph.image.name, ".interrupted.png")
        if not self.interrupted(rows):
            images.write_image(target, picture, {_RECORD: text})
            with contextlib.suppress(UserError):
                record = _read_record(partial) or {}
                if {**record, "rows": []} == {**content, "rows": []}:
                    partial.unlink()
        else:
            if os.path.lexists(partial):
                io.set_aside(partial, "older")
            images.write_image(partial, picture, {_RECORD: text})
        return json.loads(text)["rows"]

    def stored_table(self) -> pd.DataFrame:
        """The table as it lies there, empty where there is none; refuses what is another's."""
        if not self.table.exists():
            return pd.DataFrame(columns=["image"])
        try:
            parquet = self.table.suffix == ".parquet"
            table = pd.read_parquet(self.table) if parquet else pd.read_csv(self.table, **_CSV)
            settings = set(table[_SETTINGS])
        except OSError as error:
            raise io.unreadable(self.table, error) from error
        except (KeyError, ValueError):  # what pandas and pyarrow raise for anything else derives from these
            raise UserError(
                f"{self.table} is there and not a table of this command: use another --rows or --out"
            ) from None
        if settings - {self.key}:
            raise UserError(f"{self.table} was made with other settings: use another --rows or --out")
        return table

    def write_table(self, results: Mapping[str, Rows | None]) -> pd.DataFrame:
        """Write these rows, in this order, which it returns, then those of other photographs that it had."""
        new = pd.DataFrame([row for rows in results.values() for row in rows or ()])
        if new.empty:
            return new
        stored = self.stored_table()
        others = stored[~stored["image"].isin(new["image"])]
        table = pd.concat([new, others], ignore_index=True) if len(others) else new
        content = table.to_parquet if self.table.suffix == ".parquet" else table.to_csv
        io.write(self.table, content(index=False))
        return new


def settings_of(codec: Codec, plan: Plan, lmbda: float, iterations: int, seed: int) -> Settings:
    """Everything that determines the numbers of a refinement beside the photograph."""
    settings = {
        "codec": codec.name,
        "codec_lmbda": codec.lmbda,
        "codec_sha256": codec.sha256,
        "lmbda": lmbda,
        **plan.as_dict(),
        "iterations": iterations,
        "dtype": codec.format,
        "seed": seed,
        "algorithm": ALGORITHM,
    }
    return json.loads(json.dumps(settings))


def check(folder: Path, photographs: Sequence[ImageFile]) -> None:
    """Refuse, before any work is done, a folder that cannot be written to, or where a photograph lies."""
    io.check_folder(folder)
    originals = {image.path.resolve() for image in photographs}
    for image in photographs:
        target = folder / f"{image.name}.png"
        if target.resolve() in originals:
            raise UserError(f"{target} is one of the photographs and would be overwritten: use another --out")


def format_in(folder: Path) -> str:
    """The number format of the pictures that are there, ``"auto"`` where there is none."""
    for path in sorted(folder.glob("[!.]*.png")):
        with contextlib.suppress(UserError, SystemFault):  # those of somebody else
            if record := _read_record(path):
                return str(record["settings"]["dtype"])
    return "auto"


def refine_all(
    folder: Folder, todo: Sequence[ImageFile], refine: Refine, most: Callable[[int], int]
) -> Iterator[tuple[ImageFile, Rows | Exception]]:
    """Refine photographs and write each one's picture as soon as it is refined; the table is the caller's.

    Args:
        refine: refines a batch.
        most: photographs of so many pixels in a batch.

    Yields:
        Each photograph with its rows, when its picture is written, or with why it cannot be read or refined;
        the others go on.

    Raises:
        UserError, SystemFault: the settings are to blame, or a picture cannot be written.
        KeyboardInterrupt: it ended the steps of a batch, of which the best so far is written.
    """
    for batch in batches([_size(image) for image in todo], most):
        read = []
        for image in (todo[index] for index in batch):
            try:
                read.append(Photograph(image, image.sha256, image.read()))
            except (UserError, SystemFault, MemoryError) as error:
                yield image, error
        for photograph, result in _refined(read, refine):
            if isinstance(result, Exception):
                yield photograph.image, result
            else:
                yield photograph.image, folder.put(photograph, *result)


def _size(image: ImageFile) -> tuple[int, int] | None:
    """Height and width, as the header says; None where it cannot be read, which is reported later."""
    try:
        return image.size
    except (UserError, SystemFault):
        return None


def _refined(
    batch: Sequence[Photograph], refine: Refine
) -> Iterator[tuple[Photograph, tuple[Tensor, pd.DataFrame] | Exception]]:
    """Each photograph of a batch with its picture and rows, or with why there are none; then Ctrl-C."""
    if not batch:
        return
    try:
        run = refine(batch)
        rows = dict(list(run.rows.groupby("image")))
        for photograph, picture in zip(batch, run.reconstructions, strict=True):
            yield photograph, (picture, rows[photograph.name])
        if run.stopped:
            raise KeyboardInterrupt
        return
    except (SystemFault, RuntimeError, MemoryError) as error:
        if not isinstance(error, SystemFault) and not hardware.memory_is_full(error):
            raise
        if len(batch) == 1:
            yield batch[0], error
            return
    # One of them is to blame, or all are too many; by now what the error held in memory is free.
    for photograph in batch:
        yield from _refined([photograph], refine)


def _read_record(path: Path) -> dict[str, Any] | None:
    """What a picture says of itself, None where there is no file; refuses what this command has not made."""
    if not os.path.lexists(path):
        return None
    text = images.text_of(path, _RECORD)
    try:
        record = json.loads(text or "")
        return {name: record[name] for name in ("settings", "image_sha256", "rows")}
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} is there and not a picture of this command, which does not replace it: use another --out"
        ) from None


def _differing(before: Settings, now: Settings) -> Iterator[str]:
    """What differs, in words; of hashes and specifications the name says enough."""
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if old != new:
            plain = not any(isinstance(value, dict) or name.endswith("sha256") for value in (old, new))
            yield f"{name} {old}, not {new}" if plain else name
