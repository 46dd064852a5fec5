"""``sgaplus encode``, ``decode``, ``info``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import bitstream, files
from ..bitstream.container import MAX_BYTES, MAX_PIXELS
from ..codecs import weights
from ..codecs.codec import Codec
from ..data import images
from ..errors import UserError
from ..refine import refine as refine_images
from ..rounding import parse
from ..specs import number
from . import terminal
from .app import CODEC, HARDWARE, CodecLmbda, CodecName, Device, Dtype, Quality, app
from .terminal import option

_REFINEMENT = "Refinement"
_SUFFIX = ".sga"

File = Annotated[Path, typer.Argument(help="A file that `sgaplus encode` wrote.", show_default=False)]


@app.command()
@terminal.enough_memory("scale the photograph down")
def encode(
    photo: Annotated[Path, typer.Argument(help="The photograph.", show_default=False)],
    out: Annotated[Path, option("The file to write; it ends in .sga.", None, "--out", "-o")],
    codec: CodecName = "mshyper-s",
    lmbda: CodecLmbda = None,
    quality: Quality = None,
    method: Annotated[
        str, option("What stands for rounding while optimising, as in `sgaplus refine`.", _REFINEMENT)
    ] = "ssl",
    iterations: Annotated[
        int, option("Optimisation steps; 0 writes the codec's own latents, at once.", _REFINEMENT)
    ] = 500,
    seed: Annotated[int, option("Of the random numbers.", _REFINEMENT)] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Refine a photograph and write it as a file.

    The file holds 32 bytes on itself and the refined latents, in CompressAI's entropy code. It decodes to the
    same latents on every machine, and encoding ends with decoding it for a check.

    - `sgaplus encode photo.png -o photo.sga`
    - `sgaplus encode photo.png -o photo.sga --iterations 0`
    """
    _check_target(out, _SUFFIX)
    chosen = parse(method)
    image = images.read_image(photo)
    loaded = weights.load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    bitstream.check(loaded)
    with terminal.bar("refining") as bar:
        task = bar.add_task("", total=iterations)
        run = refine_images(
            loaded,
            [image],
            chosen,
            iterations=iterations,
            seed=seed,
            names=[photo.stem],
            progress=lambda done, total: bar.update(task, completed=done),
        )
    height, width = image.shape[1:]
    data = bitstream.encode(loaded, run.latents[0], (height, width))
    with files.atomic(out) as temporary:
        temporary.write_bytes(data)
    best = run.best.iloc[0]
    terminal.show(
        f"{out}: {len(data)} bytes, {8 * len(data) / (height * width):.4f} bpp (estimated: {best['bpp']:.4f}), "
        f"PSNR {best['psnr_8bit']:.2f} dB"
    )


@app.command()
@terminal.enough_memory("decode it on a machine with more")
def decode(
    file: File,
    out: Annotated[Path, option("The photograph to write; it ends in .png.", None, "--out", "-o")],
    codec: Annotated[
        str | None,
        option("By default the file's own; name it to download it, or if it is a checkpoint.", CODEC),
    ] = None,
    lmbda: Annotated[float | None, option("λ it was trained with, for a checkpoint.", CODEC)] = None,
    quality: Annotated[int | None, option("Of a downloadable codec.", CODEC)] = None,
    max_megapixels: Annotated[
        float, option("Refuse larger photographs: the file may not be one's own.")
    ] = MAX_PIXELS / 1e6,
    device: Device = "auto",
    dtype: Annotated[
        str, option("Number format of the synthesis: float32, bfloat16 or auto.", HARDWARE)
    ] = "float32",
) -> None:
    """Decode a file to a photograph.

    - `sgaplus decode photo.sga -o photo.png`
    """
    _check_target(out, ".png")
    limit = int(1e6 * number(max_megapixels, "--max-megapixels"))
    data = _read(file)
    picture = bitstream.decode(data, _codec(data, codec, lmbda, quality).to(device, dtype), max_pixels=limit)
    images.write_image(out, picture)
    terminal.show(f"{out}: {picture.shape[2]}×{picture.shape[1]} pixels from {len(data)} bytes")


@app.command()
def info(file: File) -> None:
    """Show what a file says of itself.

    - `sgaplus info photo.sga`
    """
    found = bitstream.info(_read(file))
    terminal.show(f"codec: {found['codec'] or 'a checkpoint'}, λ = {found['lmbda']:.6g}")
    terminal.show(f"weights: SHA-256 {found['weights']}…")
    terminal.show(f"photograph: {found['width']}×{found['height']} pixels")
    terminal.show(
        f"bytes: {found['bytes']} ({found['header_bytes']} header, {found['z_bytes']} z, {found['y_bytes']} y), "
        f"{found['bpp']:.4f} bpp"
    )


def _codec(data: bytes, name: str | None, lmbda: float | None, quality: int | None) -> Codec:
    if name is not None:
        return weights.load_codec(name, lmbda, quality=quality)
    if lmbda is not None or quality is not None:
        raise UserError("--lmbda and --quality belong to a --codec: name one, or leave them away")
    return bitstream.find_codec(data)


def _check_target(out: Path, suffix: str) -> None:
    """Make sure, before any work is done, that ``out`` can be written and looks like what it will be.

    Raises:
        UserError: it cannot, or does not.
    """
    if out.suffix.lower() != suffix:
        raise UserError(f"cannot write {out}: use a name that ends in {suffix}")
    if out.is_dir():
        raise UserError(f"cannot write {out}: it is a folder")
    files.check_folder(out.parent)


def _read(path: Path) -> bytes:
    """The content of a file, unless it is larger than any that can be decoded.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file: give one that `sgaplus encode` wrote")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than any file that `sgaplus encode` writes")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
