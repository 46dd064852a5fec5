"""One pretrained codec by its name and λ, and a list of those that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..parsing import number, six_digits, whole
from . import bundled, zoo
from .series import Member, Series, Spec, families, series

if TYPE_CHECKING:
    from .codec import Codec

# Of a bundled family where none is named: that of the paper's ablations.
DEFAULT_LMBDA = 0.01


def load_codec(
    name: Spec,
    lmbda: float | None = None,
    *,
    quality: int | None = None,
    scale: float | None = None,
    metric: str = "mse",
    device: str = "auto",
    dtype: str = "auto",
) -> Codec:
    """Load a pretrained codec, frozen and ready for refinement.

    Args:
        name: a bundled family (``"mshyper-s"``), a CompressAI zoo name (``"mbt2018-mean"`` or
            ``"mbt2018-mean@3"``, downloaded on first use), the path of a checkpoint (.safetensors, .pt, .pth,
            .pth.tar), or another series of several codecs (`codecs.series`).
        lmbda: the λ it was trained with; needed for a checkpoint whose name does not say it. Of a bundled
            family with several it is 0.01 by default. Of a series it chooses the member. A family of networks
            with several λ each has those in between too, interpolated (`gains.at`); between two networks the
            one with the nearest trained λ is extrapolated. A codec of variable rate (``"mbt2018-mean-vbr"``)
            takes any λ, which is its rate.
        quality: 1 … 8, of a zoo model (1 … 6 of those of Cheng et al. 2020).
        scale: instead of λ the rate of a codec of variable rate: the reciprocal of the step of y's grid. Its
            λ follows, see `codecs.families.vbr`.
        metric: ``"mse"`` or ``"ms-ssim"``, what a zoo model was trained for. λ is that of this metric, and
            refinement minimises the same one unless told otherwise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        dtype: of the convolutions while refining: ``"auto"``, ``"float32"`` or ``"bfloat16"``.

    Raises:
        UserError: no such codec, or a file that does not fit.
        SystemFault: a download failed.
    """
    if lmbda is not None:
        lmbda = number(lmbda, "lambda")
    if quality is not None:
        quality = whole(quality, "the quality", 1)
    if scale is not None:
        lmbda = _lambda_at(name, number(scale, "the scale"), (lmbda, quality))
    base, at, qualities = str(name).partition("@")
    if metric != "mse" and base in zoo.ZOO:
        name = f"{base}:{metric}{at}{qualities}"
    found = series(name, lmbda)
    if metric not in ("mse", found.members[0].metric):
        raise UserError(
            f"only codecs of the zoo come for several metrics: load {found.spec} without one, and give"
            f" {metric} to the refinement as its distortion"
        )
    if quality is not None:
        found = _of_quality(found, quality)
    return _chosen(found, lmbda, quality).load(device, dtype)


def _lambda_at(name: Spec, scale: float, others: tuple[float | None, int | None]) -> float:
    """λ of a codec of variable rate at a scale."""
    if others != (None, None):
        raise UserError("the rate is given once: by a scale, by lambda or by a quality")
    from .families import vbr

    member = series(name).members[0]
    fixed = member.quality is not None and member.name not in zoo.VARIABLE  # and not worth a download
    if fixed or not vbr.is_variable(model := member.load("cpu").model):
        known = ", ".join(zoo.VARIABLE)
        raise UserError(f"{name} has no scale, which only codecs of variable rate have ({known})")
    return vbr.lmbda_at(model.Gain, scale)


def _of_quality(found: Series, quality: int) -> Series:
    first = found.members[0]
    if first.quality is None:
        raise UserError(
            f"only codecs of the zoo have a quality ({', '.join(zoo.ZOO)}): name {found.spec} by its lambda"
        )
    zoo.check_quality(first.name, quality, first.metric)
    chosen = tuple(member for member in found.members if member.quality == quality)
    if not chosen:
        raise UserError(f"{found.spec} has no quality {quality}: leave the quality out of its name")
    return Series(found.name, found.spec, chosen)


def _chosen(found: Series, lmbda: float | None, quality: int | None) -> Member:
    if quality is not None and lmbda is not None and six_digits(lmbda) != six_digits(found.lmbdas[0]):
        raise UserError(
            f"{found.name} of quality {quality} was trained with lambda {found.lmbdas[0]:g}, not {lmbda:g}: "
            "give the quality alone, and lmbda to the refinement"
        )
    if len(found.members) == 1 and lmbda is None:
        return found.members[0]
    if found.members[0].quality and lmbda is None:
        last = found.members[-1].quality
        raise UserError(f"{found.name} comes from the zoo in several qualities: give quality=1 … {last}")
    return found.member(DEFAULT_LMBDA if lmbda is None else lmbda)


def listing() -> list[dict[str, Any]]:
    """One row per codec that `load_codec` knows: where it is, its size in bytes, its λ and Kodak point.

    ``where`` is bundled, cached, downloadable or missing (bundled weights that are gone); ``quality`` is None
    for a bundled codec. The size of what is not here yet is that of its parameters in float32. The Kodak
    points of the zoo are those that CompressAI publishes, with the bytes of a real coder; not all are.
    """
    points = {(card.name, card.lmbda): card.kodak for card in bundled.cards()}
    rows = []
    for name in (*families(), *zoo.ZOO):
        for member in series(name).members:
            if member.quality is None:
                where, kodak = "missing" if member.size is None else "bundled", points[name, member.lmbda]
            else:
                where = "cached" if member.sha256 else "downloadable"
                published = zoo.published()[name, member.quality]
                kodak = {key: float(published[f"kodak_{key}"] or "nan") for key in ("bpp", "psnr")}
            row = {"name": name, "where": where, "lmbda": member.lmbda, "quality": member.quality}
            known = {f"kodak_{key}": value for key, value in kodak.items() if value == value}
            rows.append(row | {"bytes": member.size} | known)
    return rows
