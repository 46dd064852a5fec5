"""``sgaplus encode``, ``decode``, ``info``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import io
from ..errors import SystemFault, UserError
from ..parsing import number, six_digits
from . import distorting, options, terminal
from .terminal import app, option

if TYPE_CHECKING:
    from torch import Tensor

    from ..codecs.codec import Codec
    from ..plans import Plan
    from ..target_rate import File as TargetFile

_TARGET = "Target"
# By which `sgaplus decode` knows its own pictures.
_MADE = {"Software": "sgaplus decode"}

File = Annotated[Path, typer.Argument(help="A file that `sgaplus encode` wrote.", show_default=False)]


@app.command()
@terminal.computing("scale the photograph down", long=True)
def encode(
    context: typer.Context,
    photo: Annotated[Path, typer.Argument(help="The photograph.", show_default=False)],
    out: Annotated[Path, option("The file to write; it ends in .sga.", None, "--out", "-o")],
    target_bpp: Annotated[float | None, option("Bits per pixel of the file, within 1 %.", _TARGET)] = None,
    target_psnr: Annotated[
        float | None, option("PSNR of the decoded photograph in dB, within 0.05 dB.", _TARGET)
    ] = None,
    max_bytes: Annotated[
        int | None, option("Maximum size in bytes; at least 99 % of it is used.", _TARGET)
    ] = None,
    codec: options.CodecName = "mshyper-s",
    lmbda: options.CodecLmbda = None,
    quality: options.Quality = None,
    method: options.Method = "fast",
    iterations: options.Iterations = None,
    seed: options.Seed = 0,
    distortion: distorting.Name = None,
    roi: distorting.Regions = None,
    roi_weight: distorting.Factor = 8,
    weights: distorting.Map = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Refine a photograph and write it as a file.

    The file has a short header and the refined latents, in CompressAI's entropy code. It decodes to the
    same latents on every machine, and encoding ends with decoding it as a check. 0 iterations write the
    codec's own latents.

    With a **target**, the command searches for the codec of that name and the λ that meet it. It takes at
    most 12 refinements, usually 2 to 5, and each continues the last one. If the target is missed, the closest
    file is written and the exit code is 1.

    - `sgaplus encode photo.png -o photo.sga`
    - `sgaplus encode photo.png -o photo.sga --method ssl --iterations 2000`
    - `sgaplus encode photo.png -o photo.sga --max-bytes 20000`
    - `sgaplus encode photo.png -o photo.sga --iterations 0`
    - `sgaplus encode portrait.png -o portrait.sga --max-bytes 20000 --roi 180,60,240,300`
    """
    from .. import target_rate
    from ..codecs.weights import load_codec
    from ..data import images
    from ..target_rate.targets import target

    terminal.check_target(out, ".sga")
    targets = {"bpp": target_bpp, "psnr": target_psnr, "max_bytes": max_bytes}
    wanted = {name: value for name, value in targets.items() if value is not None}
    plan, iterations = options.plan_of(method, iterations)
    weighed = distorting.chosen(context, distortion, roi, roi_weight, weights)
    image = images.read_image(photo)
    settings = {"iterations": iterations, "seed": seed, "distortion": weighed.of([image])}
    if wanted:
        target(1, **wanted)
        codecs = target_rate.series(codec, lmbda, quality=quality, device=device, dtype=dtype)
        data, lines, missed = _to_target(codecs, image, plan=plan, **wanted, **settings)
    else:
        loaded = load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
        missed = ""
        data, lines = _refined(loaded, image, photo.stem, plan, **settings)
    io.write(out, data)
    for line in lines:
        terminal.show(f"{out}: {line}")
    if missed:
        raise SystemFault(f"{missed}; {out} is the closest file found")


def _refined(codec: Codec, image: Tensor, name: str, plan: Plan, **settings: Any) -> tuple[bytes, list[str]]:
    """A file's content after one refinement, and what to say about it."""
    from .. import bitstream
    from ..refinement import refine as refine_images

    bitstream.check(codec, image)
    with terminal.counting("refining") as progress:
        run = refine_images(codec, [image], plan, names=[name], progress=progress, **settings)
    best, latents = run.best.iloc[0], run.latents[0]
    del run  # and with it the reconstruction, which is as large as the photograph
    with terminal.counting("encoding") as progress:
        data = bitstream.encode(codec, latents, image.shape[1:], progress=progress)
    bpp = 8 * len(data) / (image.shape[1] * image.shape[2])
    return data, [_size_and_quality(data, bpp, best["bpp"], best["psnr_8bit"])]


def _to_target(codecs: list[Codec], image: Tensor, **settings: Any) -> tuple[bytes, list[str], str]:
    """A file's content that meets a target, what to say about it, and what was missed."""
    from .. import target_rate

    with terminal.counting("searching, at most") as progress:

        def report(file: TargetFile) -> None:
            terminal.say(f"{_lambdas(file)}: {len(file.data)} bytes, {file.bpp:.4f} bpp, {file.psnr:.2f} dB")

        found = target_rate.encode_to(codecs, image, progress=progress, report=report, **settings)
    file = found.file
    lines = [
        _size_and_quality(file.data, file.bpp, file.estimated_bpp, file.psnr),
        f"{codecs[0].name}, {_lambdas(file)}; {found.steps} steps in {len(found.files)} refinements",
    ]
    missed = "" if found.met else f"the target of {found.wanted} was missed in {len(found.files)} refinements"
    return file.data, lines, missed


def _size_and_quality(data: bytes, bpp: float, estimated: float, psnr: float) -> str:
    return f"{len(data)} bytes, {bpp:.4f} bpp (estimated: {estimated:.4f}), PSNR {psnr:.2f} dB"


def _lambdas(file: TargetFile) -> str:
    return f"codec of λ = {file.codec_lmbda:g} with λ = {file.lmbda:.4g}"


@app.command()
@terminal.computing("decode it on a computer with more memory")
def decode(
    context: typer.Context,
    file: File,
    out: Annotated[Path, option("The photograph to write; it ends in .png.", None, "--out", "-o")],
    codec: Annotated[
        str | None,
        option(
            "Default: the codec named in the header. Needed for a checkpoint, whose λ is that of the header,"
            " or a codec not downloaded yet.",
            options.CODEC,
        ),
    ] = None,
    lmbda: options.CodecLmbda = None,
    quality: options.Quality = None,
    max_megapixels: Annotated[
        float, option("Refuse larger photographs, since the file may be untrusted.")
    ] = 100,
    device: options.Device = "auto",
    dtype: Annotated[
        str, option("Number format of the decoder network: float32, bfloat16 or auto.", options.HARDWARE)
    ] = "float32",
) -> None:
    """Decode a file to a photograph. It replaces no picture but its own.

    - `sgaplus decode photo.sga -o photo.png`
    """
    from .. import bitstream
    from ..codecs.weights import load_codec
    from ..data import images

    terminal.check_target(out, ".png")
    if os.path.lexists(out) and images.text_of(out, "Software") != _MADE["Software"]:
        raise UserError(f"{out} is there and not a picture of this command: use another name")
    if codec is None:
        terminal.refuse(context, "it describes a --codec, give its name too", "lmbda", "quality")
    limit = int(1e6 * number(max_megapixels, "--max-megapixels"))
    data = _read(file)
    content = bitstream.unpack(data, max_pixels=limit)
    same = codec == content.name and lmbda is None and quality is None
    if codec is None or same:
        loaded = bitstream.find_codec(content, fetch=same).to(device, dtype)
    else:
        if lmbda is None and os.path.lexists(io.user_path(codec)):  # checkpoints need not say it
            lmbda = six_digits(content.lmbda)
        loaded = load_codec(codec, lmbda, quality=quality, device=device, dtype=dtype)
    with terminal.counting("decoding") as progress:
        picture = bitstream.decode(content, loaded, progress=progress)
    images.write_image(out, picture, _MADE)
    terminal.show(f"{out}: {picture.shape[2]}×{picture.shape[1]} pixels from {len(data)} bytes")


@app.command()
def info(file: File) -> None:
    """Show the header of a file.

    - `sgaplus info photo.sga`
    """
    from .. import bitstream

    found = bitstream.info(_read(file))
    terminal.show(f"codec: {found['codec'] or 'a checkpoint'}, λ = {found['lmbda']:g}")
    terminal.show(f"weights: SHA-256 {found['weights']}…")
    terminal.show(f"photograph: {found['width']}×{found['height']} pixels")
    terminal.show(
        f"bytes: {found['bytes']} ({found['header_bytes']} header, {found['z_bytes']} z, {found['y_bytes']}"
        f" y), {found['bpp']:.4f} bpp"
    )


def _read(path: Path) -> bytes:
    """The content of a file, unless it is larger than any that can be decoded."""
    from ..bitstream.container import MAX_BYTES

    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file: give one that `sgaplus encode` wrote")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than any file that `sgaplus encode` writes")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise io.unreadable(path, error) from error
