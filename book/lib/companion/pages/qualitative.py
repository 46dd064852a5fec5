"""The page with one photograph before and after refinement (paper, Figure 4), decoded from stored files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from sgaplus import bitstream
from sgaplus.codecs.series import Series
from sgaplus.data.images import to_uint8
from sgaplus.errors import UserError
from sgaplus.studies.stored import results as all_results
from sgaplus.studies.verify import find_photograph

from .. import moving, palette
from ..configurations import BASE

ORIGINAL = "original"


@dataclass(frozen=True, eq=False)
class Version:
    """A picture of the photograph, (3, H, W) in [0, 1], and the stored row whose file it was decoded from;
    None for the original."""

    picture: Tensor
    row: pd.Series | None

    @property
    def caption(self) -> str:
        """Rate of the file, and PSNR of the 8-bit picture."""
        if self.row is None:
            return "not compressed"
        return f"{self.row['real_bpp']:.3f} bpp, {self.row['psnr_8bit']:.2f} dB"


def versions(
    rows: pd.DataFrame,
    codecs: Series,
    image: str | None = None,
    lmbda: float | None = None,
    *,
    results: str | Path | None = None,
    original: bool = False,
) -> dict[str, Version]:
    """One photograph (the first where None) as each configuration's file at one λ of codec and refinement
    (the lowest where None) decodes to it: the base first, before it the ``original`` if that is wanted and on
    this computer."""
    kept = rows[rows["stream"].notna() & (rows["codec_lmbda"] == rows["lmbda"])]
    lmbda = kept["lmbda"].min() if lmbda is None else lmbda
    kept = kept[kept["lmbda"] == lmbda]
    image = kept["image"].min() if image is None and len(kept) else image
    kept = kept[kept["image"] == image].drop_duplicates("configuration")
    kept = kept.set_index("configuration", drop=False)
    if BASE not in kept.index or len(kept) < 2:
        raise UserError(
            f"{image} has no files of the base and of a refinement at λ = {lmbda}: run the study to its end"
        )
    found: dict[str, Version] = {}
    first = kept.loc[BASE]
    if original and (photograph := find_photograph(first["image"], first["image_sha256"])) is not None:
        found[ORIGINAL] = Version(photograph.read(), None)
    codec = codecs.member(lmbda).load("cpu", "float32")
    for name in palette.in_order(kept["configuration"]):
        data = (Path(results or all_results()) / kept.loc[name, "stream"]).read_bytes()
        found[name] = Version(bitstream.decode(data, codec), kept.loc[name])
    return found


def best(found: dict[str, Version]) -> str:
    """The refinement of lowest true loss."""
    losses = {name: v.row["loss"] for name, v in found.items() if v.row is not None and name != BASE}
    return min(losses, key=losses.__getitem__)


def squares(found: dict[str, Version], side: int, count: int) -> list[tuple[int, int]]:
    """Corners (top, left) of the squares in which refinement changes the picture most, none overlapping."""
    before, after = found[BASE].picture, found[best(found)].picture
    side = min(side, *before.shape[1:])
    change = (after - before).square().mean(0).unfold(0, side, side).unfold(1, side, side).mean((2, 3))
    order = change.flatten().argsort(descending=True)[:count].tolist()
    columns = change.shape[1]
    return [(side * (position // columns), side * (position % columns)) for position in order]


def cut(found: dict[str, Version], corners: Sequence[tuple[int, int]], side: int) -> list[tuple[str, Tensor]]:
    """Squares of every version with their titles, a row of versions for each corner."""
    return [
        (f"{name}\n{version.caption}", version.picture[:, top : top + side, left : left + side])
        for top, left in corners
        for name, version in found.items()
    ]


def before_after(found: dict[str, Version], name: str, source: pd.DataFrame) -> None:
    """Display the base's picture and the best refinement's, with a seam to drag and a loupe, which begins in
    the middle of the square that refinement changes most."""
    base, refined, ((top, left),) = found[BASE], best(found), squares(found, 48, 1)
    photograph = base.row["image"]
    pictures = {
        f"{side}: {version.caption}": to_uint8(version.picture)
        for side, version in ((BASE, base), ("refined", found[refined]))
    }
    caption = (
        f"{photograph} at λ = {base.row['lmbda']:g}, left by the codec without refinement, right refined with"
        f" {refined}. Rates are those of the files, PSNR is that of the 8-bit picture."
    )
    shown = [(photograph, photograph, (left + 24, top + 24), pictures)]
    data, twin = moving.seam(shown, caption, name=name, rows=source)
    data["pairs"][0]["shown"] = base.picture.shape[2]
    moving.show("before-after", data, twin)


def numbers(found: dict[str, Version]) -> pd.DataFrame:
    """Every file's row, and against the base (NaN for itself) size (percent) and gain (dB, 8-bit picture)."""
    columns = ["configuration", "real_bytes", "real_bpp", "bpp", "psnr_8bit", "psnr", "ms_ssim"]
    columns += ["loss", "stream"]
    table = pd.DataFrame([v.row for v in found.values() if v.row is not None])[columns]
    return changes(table.rename(columns={"real_bytes": "bytes"}).reset_index(drop=True))


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """`numbers` with size and gain, from bytes and psnr_8bit."""
    base, refined = table.set_index("configuration").loc[BASE], table["configuration"] != BASE
    size = (100 * (table["bytes"] / base["bytes"] - 1)).where(refined)
    return table.assign(size=size, gain=(table["psnr_8bit"] - base["psnr_8bit"]).where(refined))
