"""Whether the stored files are what the stored rows say of them.

A file *verifies* where it has as many bytes as its row says, its checksum is right, its header names the
row's codec, it decodes where the codec is on this computer, and what it decodes to has the row's PSNR where
the photograph is. Nothing is encoded again. A file that no row names does not verify, nor does a row whose
file is missing.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from .. import bitstream, io, metrics
from ..bitstream import container
from ..codecs import zoo
from ..codecs.codec import Codec
from ..codecs.series import Series, Spec, families, member_of
from ..codecs.series import series as series_of
from ..data import sources
from ..data.datasets import ImageFile, list_images
from ..errors import SystemFault, UserError
from .stored import STREAMS, of_series, results, tables

# Of PSNR, between the row and what is decoded. Both pictures are computed in float32, with another number of
# threads, batch or device perhaps. On a CPU that moves PSNR by some 1e-6 dB, and that of 8 bits, where a
# pixel lies halfway between two values, by some 1e-5 dB; other weights or photographs, by whole decibels.
TOLERANCE_DB = 1e-3
_PSNR = ("psnr", "psnr_8bit")
# The photographs of all data sets that are here, by name.
_Photographs = dict[str, list[ImageFile]]
_COLUMNS = ("stream", "codec", "codec_lmbda", "label", "image", "iteration")


def verify(
    root: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    codec: Spec | Series | None = None,
    decode: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Check every file that a row names, and look for files that none names.

    Args:
        root: the folder of results, as of `stored.results`.
        folder: only the files in this one, which lies in the folder of files; all where None.
        codec: only the files of this series; where None those of all. Checkpoints of one's own are decoded
            only where they are named here.
        decode: of how many files the picture is decoded and compared, spread evenly over the list; of all
            where None. Bytes, checksum and header are checked of all.
        progress: called with files done and in all.

    Returns:
        One row per file: stream (its path in the folder of results), codec, codec_lmbda, label (the plan in
        words), image, iteration, bytes, decoded, psnr_difference and psnr_8bit_difference (dB, decoded minus
        row; NaN where it was not decoded or the photograph is missing), problem (empty where it
        verifies).

    Raises:
        UserError: ``folder`` is none of stored files, or no row names a file in it, or one of the series.
    """
    root = Path(root or results()).resolve()
    within, series = _within(root, folder), None if codec is None else series_of(codec)
    named = rows = _named(root)
    if series is not None and len(rows):
        rows = of_series(rows, series)
    rows = rows[rows["stream"].str.startswith(within)].reset_index(drop=True)
    if rows.empty:
        of = f" of {series.spec}" if series else ""
        raise UserError(
            f"no row in {root} names a file{of} in {within.rstrip('/')}: run a study that keeps files, such"
            " as `sgaplus study run rd`"
        )
    count = len(rows) if decode is None else min(decode, len(rows))
    chosen = {position * len(rows) // count for position in range(count)}
    photographs, lines = _photographs(), []
    for index, (_, row) in enumerate(rows.iterrows()):
        found = _check(root, row, series, photographs, index in chosen)
        lines.append({name: row[name] for name in _COLUMNS} | found)
        if progress:
            progress(index + 1, len(rows))
    of_codecs = {"/".join(stream.split("/")[:2]) + "/" for stream in rows["stream"]} if series else {within}
    for place in sorted(of_codecs):
        lines += _orphans(root, max(place, within, key=len), set(named["stream"]))
    return pd.DataFrame(lines)


def require(table: pd.DataFrame) -> None:
    """Make sure that all files in `verify`'s table verify."""
    wrong = table[table["problem"] != ""]
    if len(wrong):
        first = wrong.iloc[0]
        raise SystemFault(
            f"{len(wrong)} of {len(table)} stored files do not verify; the first, {first['stream']}:"
            f" {first['problem']}"
        )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`verify`'s table by codec and method.

    Returns:
        One row per codec, λ and label: files, bytes (mean of a file), verified, decoded, compared (with the
        photograph), difference (largest of both kinds of PSNR, dB; NaN where none was compared).
    """
    differences = table[[f"{name}_difference" for name in _PSNR]].abs().max(axis=1)
    groups = table.assign(
        verified=table["problem"] == "", difference=differences, compared=differences.notna()
    ).groupby(["codec", "codec_lmbda", "label"], sort=False, dropna=False)
    return groups.agg(
        files=("stream", "size"),
        bytes=("bytes", "mean"),
        verified=("verified", "sum"),
        decoded=("decoded", "sum"),
        compared=("compared", "sum"),
        difference=("difference", "max"),
    ).reset_index()


def _within(root: Path, folder: str | Path | None) -> str:
    """The beginning of the paths of all files in question."""
    if folder is None:
        return f"{STREAMS}/"
    path = Path(folder).resolve()
    if not path.is_dir() or not path.is_relative_to(root / STREAMS):
        raise UserError(
            f"{folder} is no folder of stored files: give one in {root / STREAMS}, or leave it out for all"
        )
    return f"{path.relative_to(root).as_posix()}/"


def _named(root: Path) -> pd.DataFrame:
    """The rows that name a file, those that studies share once, in the order of the files."""
    found = [table for table in tables(root).values() if not table.empty]
    if not found:
        return pd.DataFrame(columns=["stream"], dtype=str)
    rows = pd.concat(found, ignore_index=True)
    rows = rows[rows["stream"].notna()]
    same = ["stream", "key", "real_bytes", *_PSNR]
    return rows.drop_duplicates(same).sort_values("stream", ignore_index=True)


def _orphans(root: Path, within: str, named: set[str]) -> Iterator[dict[str, object]]:
    for path in sorted((root / within).rglob("*")):
        stream = path.relative_to(root).as_posix()
        if path.is_file() and not path.name.startswith(".") and stream not in named:
            size = {"stream": stream, "bytes": path.stat().st_size, "decoded": False}
            yield size | {"problem": "no row names it"}


def _check(
    root: Path, row: pd.Series, series: Series | None, photographs: _Photographs, decode: bool
) -> dict[str, object]:
    """What is found out about one file: bytes, decoded, the differences of PSNR, problem."""
    differences = {f"{name}_difference": float("nan") for name in _PSNR}
    path = root / row["stream"]
    if not path.is_file():
        return {"bytes": None, "decoded": False, **differences, "problem": "the file is missing"}
    data, decoded = b"", False
    try:
        data = path.read_bytes()
        problem = _mismatch(data, row)
        if decode and not problem:
            codec = _codec(row["codec"], row["codec_lmbda"], row["codec_sha256"], series)
        if decode and not problem and codec is not None:
            found = bitstream.reconstruction(data, codec)
            decoded = True
            photograph = find_photograph(row["image"], row["image_sha256"], photographs)
            if photograph is not None:
                x = photograph.read()[None]
                for name in _PSNR:
                    value = getattr(metrics, name)(x, found[None]).item()
                    differences[f"{name}_difference"] = value - row[name]
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = str(io.unreadable(path, error))
    worst = max(differences.values(), key=abs)
    if not problem and abs(worst) > TOLERANCE_DB:
        problem = f"the decoded picture's PSNR differs from the row's by {worst:+.3g} dB"
    return {"bytes": len(data), "decoded": decoded, **differences, "problem": problem}


def _mismatch(data: bytes, row: pd.Series) -> str:
    """How the file's length and header differ from the row; empty where they agree."""
    if len(data) != row["real_bytes"]:
        return f"it has {len(data)} bytes, where the row says {row['real_bytes']:.0f}"
    content = container.unpack(data)
    if content.weights.hex() != row["codec_sha256"][: 2 * len(content.weights)]:
        return f"it was written with {content.codec}, where the row has weights {row['codec_sha256'][:16]}…"
    if abs(8 * len(data) / content.pixels - row["real_bpp"]) > 1e-9:
        return f"it is of {content.width}×{content.height} pixels, of which the row's bits per pixel are not"
    return ""


@functools.lru_cache(maxsize=1)
def _codec(name: str, lmbda: float, sha256: str, series: Series | None = None) -> Codec | None:
    """The codec with networks in float32 on the CPU, whatever refined; None where it is not here."""
    if series is None and name not in (*families(), *zoo.ZOO):
        return None
    member = series.member(lmbda) if series else member_of(name, lmbda)
    if not member.sha256:
        return None
    if member.sha256 != sha256:
        raise UserError(f"the row has weights {sha256[:16]}…, here are {member.sha256[:16]}…")
    return member.load("cpu", "float32")


def find_photograph(name: str, sha256: str, photographs: _Photographs | None = None) -> ImageFile | None:
    """The photograph, or the square in its centre, of a row; None where it is not on this computer.

    Args:
        photographs: those to search by name; those of all data sets that are here where None.
    """
    photographs = _photographs() if photographs is None else photographs
    stem, _, side = name.partition("@")
    for candidate in photographs.get(stem, []):
        image = candidate.centre(int(side)) if side else candidate
        if image.sha256 == sha256:
            return image
    return None


def _photographs() -> _Photographs:
    found: _Photographs = {}
    for name in sources.NAMES:
        here = None if name == "sample" else [path.stem for path in sources.present(name)]
        if here != []:
            for image in list_images(name, images=here):
                found.setdefault(image.name, []).append(image)
    return found
