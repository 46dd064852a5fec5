"""The search for a target: one codec of the series after the other, one refinement after the other.

A series has codecs of a few λ, and a photograph's file is where its λ puts it. Refinement with another λ than
the codec's moves along the R-D curve without another model (arXiv 2401.17789, semi-multi-rate), so that codec
and λ together reach every point in between. It has to be searched, since a file is known only after refining:

1. Every codec's own latents are measured, which takes one pass through each. The codec whose point is nearest
   to the target is taken.
2. Its latents are refined with a first guess of λ, written as a file and compared with the target, and so on
   with the next λ (`targets.next_log_lmbda`). Each refinement starts where the last one stopped, from its
   continuous latents: at hard ones the rounding methods have no gradient.
3. Where λ comes to the end of `REACH`, the neighbour in the series takes over.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import bitstream, plans
from ..codecs.codec import Codec, codec_of
from ..codecs.models import Latents
from ..codecs.series import Spec
from ..codecs.series import series as codec_series
from ..codecs.weights import load_codec
from ..distortion import Distortion, each_of, together
from ..errors import UserError
from ..hardware import undisturbed
from ..parsing import whole
from ..plans import Plan
from ..refinement.batch import Batch
from ..refinement.inputs import images_of
from ..refinement.loop import refine_batch
from ..refinement.run import Progress, image_seed, lambda_of, refine
from ..rounding import Method
from .targets import LONGEST_STEP, Target, next_log_lmbda, target

# A search ends after this many refinements.
MOST_REFINEMENTS = 12
# Files that are written of a refinement's last steps.
CANDIDATES = 4
# λ of a refinement is at most so many times that of the codec, and at least that divided by it.
REACH = 16.0


@dataclass(frozen=True)
class File:
    """A file that the search wrote.

    Attributes:
        codec_lmbda: λ that its codec was trained with.
        lmbda: λ of the refinement.
        bpp: bits per pixel, of all its bytes.
        estimated_bpp: what the codec's probability model estimates.
        psnr: of the clamped 8-bit picture that it decodes to, in dB.
        data: its content.
    """

    codec_lmbda: float
    lmbda: float
    bpp: float
    estimated_bpp: float
    psnr: float
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        file: the file; the nearest one where none meets the target.
        met: whether it meets the target.
        wanted: the target in words.
        files: of every refinement, in their order.
        steps: of all refinements together.
    """

    file: File
    met: bool
    wanted: str
    files: list[File]
    steps: int


def series(
    name: Spec,
    lmbda: float | None = None,
    *,
    quality: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> list[Codec]:
    """The codecs of a series (`codecs.series`) by rising λ.

    Args:
        lmbda, quality: of one of them, which then is the only one; needed for a checkpoint.

    Raises:
        UserError: there is no such series, or it is not on this computer.
        SystemFault: a download failed.
    """
    if lmbda is not None or quality is not None:
        return [load_codec(name, lmbda, quality=quality, device=device, dtype=dtype)]
    found = codec_series(name)
    if found.missing():
        raise UserError(found.need())
    return [member.load(device, dtype) for member in found.members]


class _Walk:
    """Refinements of one photograph under one codec, along λ, each from where the last one stopped."""

    def __init__(
        self,
        codec: Codec,
        image: Tensor,
        plan: Plan,
        iterations: int,
        seed: int,
        distortion: Distortion,
        guess: float,
    ) -> None:
        self.codec, self.size, self.plan = codec, image.shape[1:], plan
        self.distortion = together([distortion], codec.device)
        self.iterations, self.seed = iterations, image_seed(seed, image)
        centre, reach = math.log(lambda_of(codec, None, distortion.metric)), math.log(REACH)
        self.log_lmbda = centre + guess
        self.bounds = centre - reach, centre + reach
        self.points: list[tuple[float, float]] = []
        self.x = image[None].to(codec.device)
        with torch.no_grad():
            self.latents = codec.to(dtype="float32").analyse(codec.pad(self.x))

    def refine(self, advance: Callable[[int], None]) -> list[File]:
        """Files of the λ to look at, of its refinement's last steps; the last one counts most."""
        lmbda = math.exp(self.log_lmbda)
        generator = torch.Generator(self.codec.device).manual_seed(self.seed)
        batch = Batch(
            *(self.codec, self.x, ["photograph"], self.plan, lmbda, self.latents, [generator]),
            distortion=self.distortion,
        )
        late = {self.iterations - k * self.iterations // 20 for k in range(CANDIDATES)}
        data: dict[int, bytes] = {}

        def write(iteration: int, latents: Latents) -> None:
            # Not the best: where λ hardly changes that may be the start, and the search would stand still.
            if iteration in late:
                data[iteration] = bitstream.encode(self.codec, latents, self.size)

        table, *_ = refine_batch(batch, self.iterations, late, advance, write)
        self.latents = {name: latent.detach() for name, latent in batch.latents.items()}
        rows = table.set_index("iteration").loc[sorted(late)]
        return [
            File(self.codec.lmbda, lmbda, 8 * len(data[t]) / batch.pixels, bpp, psnr, data[t])
            for t, bpp, psnr in zip(rows.index, rows["bpp"], rows["psnr_8bit"], strict=True)
        ]

    def learn(self, value: float, wanted: Target) -> int:
        """Take in the last file's value and move λ (0), or say where the series has to go on (−1 or 1)."""
        low, high = self.bounds
        if value < wanted.aim and self.log_lmbda >= high:
            return 1
        if value > wanted.aim and self.log_lmbda <= low:
            return -1
        self.points.append((self.log_lmbda, value))
        self.log_lmbda = next_log_lmbda(self.points, wanted, self.bounds)
        return 0


@undisturbed()
def encode_to(
    codecs: Codec | Sequence[Codec],
    image: Tensor,
    *,
    bpp: float | None = None,
    psnr: float | None = None,
    max_bytes: int | None = None,
    plan: Plan | Method | str = "fast",
    iterations: int = 50,
    seed: int = 0,
    distortion: Any = None,
    progress: Progress | None = None,
    report: Callable[[File], None] | None = None,
) -> Result:
    """Refine a photograph so that its file has the wanted rate, quality or size.

    Args:
        codecs: one, or several as `series` gives them.
        image: one, as `refine` takes it.
        bpp, psnr, max_bytes: exactly one, met as `targets.target` says.
        plan: as of `refine`.
        iterations: of each refinement, of which there are at most `MOST_REFINEMENTS`.
        seed: of the rounding noise.
        distortion: as of `refine`, but no function, for which λ cannot be guessed.
        progress: called with (steps done, most steps that there can be).
        report: called with the file of every refinement.

    Raises:
        UserError: the target is out of their reach (``max_bytes``: below it), or an argument is out
            of range.
    """
    codecs = [codec_of(codec) for codec in ([codecs] if isinstance(codecs, Codec | str) else codecs)]
    if not codecs:
        raise UserError("a target needs at least one codec")
    image, *others = images_of(image)
    if others:
        raise UserError(f"a target is that of one photograph, not of {1 + len(others)}")
    iterations = whole(iterations, "iterations", 1)
    chosen_plan = plans.plan(plan, iterations)
    codecs = sorted(codecs, key=lambda codec: codec.lmbda)
    for codec in codecs:
        bitstream.check(codec, image)
    (weighed,) = each_of(distortion, [image], codecs[0].metric)
    wanted = target(image.shape[-2] * image.shape[-1], bpp=bpp, psnr=psnr, max_bytes=max_bytes)
    missing = [_missing(codec, image, wanted) for codec in codecs]
    chosen = min(range(len(codecs)), key=lambda i: abs(missing[i]))
    walks: dict[int, _Walk] = {}
    files: list[File] = []

    def advance(step: int) -> None:
        if progress:
            progress(len(files) * iterations + step, MOST_REFINEMENTS * iterations)

    while len(files) < MOST_REFINEMENTS:
        if chosen not in walks:
            guess = min(max(missing[chosen] / wanted.slope, -LONGEST_STEP), LONGEST_STEP)
            walks[chosen] = _Walk(codecs[chosen], image, chosen_plan, iterations, seed, weighed, guess)
        *_, last = candidates = walks[chosen].refine(advance)
        # A file varies by a few bytes from step to step, as the target's tolerance for a small photograph.
        met = [
            file
            for file in candidates
            if wanted.low <= wanted.value(len(file.data), file.psnr) <= wanted.high
        ]
        file = met[-1] if met else last
        files.append(file)
        if report:
            report(file)
        if met:
            return Result(file, True, wanted.text, files, len(files) * iterations)
        direction = walks[chosen].learn(wanted.value(len(last.data), last.psnr), wanted)
        chosen += direction
        if chosen not in range(len(codecs)):
            _check_reach(wanted, file)
            break
        if direction and chosen in walks:
            break  # the target lies between the ends of two neighbours
    return Result(_nearest(wanted, files), False, wanted.text, files, len(files) * iterations)


def _missing(codec: Codec, image: Tensor, wanted: Target) -> float:
    """By how much refinement with the codec's own λ would miss the target, as its own latents suggest."""
    row = refine(codec, [image], "map", distortion="mse", iterations=0).best.iloc[0]
    size = row["bpp"] * image.shape[-2] * image.shape[-1] / 8
    return wanted.aim - wanted.gain - wanted.value(size, row["psnr_8bit"])


def _check_reach(wanted: Target, last: File) -> None:
    """Refuse a target beyond the ``last`` file of the series; a limit above it is kept."""
    if wanted.limit and math.log(len(last.data)) <= wanted.high:
        return
    found = f"{len(last.data)} bytes, {last.bpp:.4g} bpp" if wanted.rate else f"{last.psnr:.2f} dB"
    raise UserError(
        f"{wanted.text} is out of these codecs' reach for this photograph: λ = {last.lmbda:.3g} with the"
        f" codec of λ = {last.codec_lmbda:g} gives {found}, and is as far as they go"
    )


def _nearest(wanted: Target, files: list[File]) -> File:
    """The file nearest to the target, of those within the limit if it is one."""
    allowed = [f for f in files if not wanted.limit or math.log(len(f.data)) <= wanted.high]
    if not allowed:
        smallest = min(len(file.data) for file in files)
        raise UserError(f"no file of at most {wanted.text} was found: the smallest has {smallest} bytes")
    return min(allowed, key=lambda f: abs(wanted.value(len(f.data), f.psnr) - wanted.aim))
