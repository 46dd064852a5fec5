"""Series: codecs of several λ under one name, as studies, targets and pages take them.

A series is a bundled family (``mshyper-s``); a model of CompressAI's zoo, with all or some of its qualities
(``mbt2018-mean``, ``cheng2020-anchor@1-6``, ``mbt2018:ms-ssim@2,4``); a folder of checkpoints; or a list of
them, each with its λ (``["low.pth=0.01", "high.pth=0.02"]``, or the same with commas in one string). A
checkpoint says its λ in its name (``…_lambda0.01.pth``) or in a card beside it where the list does not.
One of variable rate that names no λ is a series of the eight λ of CompressAI's zoo, and has any other too. A
network with gains (`gains`) is a series of its λ and has those in between, as a bundled family of such has.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import io
from ..distortion import LAMBDAS
from ..errors import UserError
from ..parsing import number, six_digits
from . import bundled, gains, zoo

# CompressAI takes seconds to import: what needs it is imported when a codec or a checkpoint is used.
if TYPE_CHECKING:
    from .codec import Codec
    from .effort import Effort

# As users write a series.
Spec = str | Path | Sequence[str | Path] | Mapping[str, float]

SUFFIXES = (".safetensors", ".pt", ".pth", ".tar")
_ZOO_SPEC = re.compile(r"(?P<name>[^:@]+)(?::(?P<metric>[^@]+))?(?:@(?P<qualities>.+))?")


@dataclass(frozen=True, eq=False)
class Member:
    """One codec of a series; nothing is read before it is needed.

    Attributes:
        name: of the series, as stored rows have it.
        lmbda: the λ it was trained with.
        quality: of a codec of the zoo.
        metric: ``mse`` or ``ms-ssim``, what it was trained for.
        path: of a checkpoint.
    """

    name: str
    lmbda: float
    quality: int | None = None
    metric: str = "mse"
    path: Path | None = None
    _load: Callable[[], Codec] = field(kw_only=True, repr=False)
    _sha256: Callable[[], str] = field(kw_only=True, repr=False)
    _size: Callable[[], int | None] = field(kw_only=True, repr=False)
    _effort: Callable[[], Effort] = field(kw_only=True, repr=False)

    def __reduce__(self) -> tuple:
        """As another process finds it, which may have other folders."""
        return member_of, (self.name, self.lmbda, self.path)

    @property
    def sha256(self) -> str:
        """`Codec.sha256`; empty where the weights are not on this computer."""
        return self._sha256()

    @property
    def size(self) -> int | None:
        """Bytes of the weights' file; where it is not here yet, those to download; None where it is gone."""
        return self._size()

    @property
    def effort(self) -> Effort:
        """What a step takes."""
        return self._effort()

    def load(self, device: str = "auto", dtype: str = "auto") -> Codec:
        """The codec, downloaded if it is not here."""
        from .. import hardware

        with hardware.undisturbed():
            return replace(self._load(), name=self.name).to(device, dtype)


@dataclass(frozen=True, eq=False)
class Series:
    """Codecs of one name.

    Attributes:
        name: as stored rows have it.
        spec: as commands take it.
        members: by rising λ.
        at: of a codec of variable rate, or of networks of several λ, the member of any other λ.
    """

    name: str
    spec: str
    members: tuple[Member, ...]
    at: Callable[[float], Member] | None = None

    @property
    def lmbdas(self) -> tuple[float, ...]:
        """Those of the members."""
        return tuple(member.lmbda for member in self.members)

    def member(self, lmbda: float) -> Member:
        """The member of this λ, of which six digits count, as in a file's header.

        Raises:
            UserError: there is none.
        """
        for member in self.members:
            if six_digits(member.lmbda) == six_digits(lmbda):
                return member
        if self.at:
            return self.at(lmbda)
        choices = ", ".join(f"{value:g}" for value in self.lmbdas)
        raise UserError(f"{self.spec} has no codec of lambda {lmbda:g}: choose one of {choices}")

    def missing(self) -> list[Member]:
        """Those whose weights are to be downloaded."""
        return [member for member in self.members if member.quality and not member.sha256]

    def fetch(self, progress: bool = False) -> None:
        """Download what is missing; a run that was broken off goes on where it was.

        Raises:
            UserError: the cache folder cannot be written to.
            SystemFault: a download fails or its checksum does not match. What came before is kept.
        """
        for member in self.missing():
            zoo.fetch(member.name, member.quality or 0, member.metric, progress)

    @property
    def size_missing(self) -> int:
        """Bytes to download."""
        addresses = {
            zoo.URLS[member.name][member.metric][member.quality or 0]: member.size or 0
            for member in self.missing()
        }
        return sum(addresses.values())  # codecs of variable rate share one file

    def need(self) -> str:
        """One sentence that says how to get what is missing; empty where nothing is."""
        if not (missing := self.missing()):
            return ""
        return (
            f"{len(missing)} of {len(self.members)} codecs of {self.spec} are not on this computer: run"
            f" `sgaplus codecs fetch {self.spec}`, which downloads {self.size_missing / 1e6:.0f} MB"
        )


def series(spec: Spec | Series, lmbda: float | None = None, folder: Path | None = None) -> Series:
    """The series that a specification stands for (see this module); nothing is downloaded.

    Args:
        lmbda: of a checkpoint that is the only one.
        folder: to which the paths of checkpoints are relative; the working folder where None.

    Raises:
        UserError: there is no such codec, quality, metric or checkpoint, a λ is missing, or is that of two
            codecs.
    """
    if isinstance(spec, Series):
        return spec
    folder = Path() if folder is None else folder
    if isinstance(spec, Mapping):
        return _of_checkpoints({folder / io.user_path(path): value for path, value in spec.items()})
    if isinstance(spec, str) and "=" in spec and not os.path.lexists(folder / spec):
        spec = spec.split(",")
    if isinstance(spec, str | Path):
        return _named(spec, lmbda, folder)
    if not isinstance(spec, Sequence) or not spec or not all(isinstance(item, str | Path) for item in spec):
        raise UserError("a codec is named by a word or a path, several by a list of paths, each with its λ")
    paths: dict[Path, str | None] = {}
    for item in spec:
        path, _, value = str(item).rpartition("=")
        whole = not path or os.path.lexists(folder / item)  # a folder may be called lmbda=0.01
        paths[folder / (item if whole else path)] = None if whole else value
    return _of_checkpoints(paths)


def _named(spec: str | Path, lmbda: float | None, folder: Path) -> Series:
    name, path = str(spec), folder / io.user_path(spec)
    known = families()
    if name in known:
        return _of_family(name, known[name])
    found = _ZOO_SPEC.fullmatch(name)
    if found and found["name"] in zoo.ZOO:
        return _of_zoo(name, found["name"], found["metric"] or "mse", found["qualities"])
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and _counts(file))
        if not files:
            raise UserError(f"there is no checkpoint in {path}: they end in {', '.join(SUFFIXES)}")
        return _of_checkpoints(dict.fromkeys(files), path)
    if path.is_file():
        from . import own

        rates = own.rates(path) if lmbda is None else ()
        return _of_variable(path, rates) if rates else _of_checkpoints({path: lmbda}, path)
    raise UserError(
        f"unknown codec '{name}': use {', '.join(known) or 'none'} (bundled), {', '.join(zoo.ZOO)} (zoo), "
        "or the path of a checkpoint or of a folder of them"
    )


def _counts(file: Path) -> bool:
    """Whether a file in a folder is one of its checkpoints: none that `sgaplus train` has to go on from."""
    goes_on = file.with_suffix(".safetensors").is_file() or file.stem.endswith("_family")
    return file.is_file() and not file.name.startswith(".") and not (file.suffix == ".pt" and goes_on)


def families() -> dict[str, list[bundled.Card]]:
    """The cards of the bundled codecs by name."""
    return {name: [*cards] for name, cards in itertools.groupby(bundled.cards(), lambda card: card.name)}


def _of_family(name: str, cards: Sequence[bundled.Card]) -> Series:
    several = any(len(card.lmbdas) > 1 for card in cards)
    at = (lambda lmbda: _of_card(bundled.between(cards, lmbda))) if several else None
    return Series(name, name, tuple(map(_of_card, cards)), at)


def _of_card(card: bundled.Card) -> Member:
    return Member(
        card.name,
        card.lmbda,
        _load=lambda: bundled.load(card),
        _sha256=lambda: card.sha256,
        _size=lambda: card.path.stat().st_size if card.path.is_file() else None,
        _effort=lambda: _effort_of(card.architecture, card.N, card.M),
    )


def _effort_of(architecture: str, N: int, M: int) -> Effort:
    from . import effort

    return effort.of_architecture(architecture, N, M)


def _of_zoo(spec: str, name: str, metric: str, wanted: str | None) -> Series:
    known = zoo.qualities(name, metric)
    chosen = list(_numbers(wanted)) if wanted else known
    for quality in chosen:
        zoo.check_quality(name, quality, metric)

    def member(quality: int, rate: float | None = None) -> Member:
        lmbda = LAMBDAS[metric][quality - 1] if rate is None else rate
        return Member(
            name,
            lmbda,
            quality,
            metric,
            _load=lambda: zoo.load(name, quality, metric, rate),
            _sha256=lambda: zoo.identity(name, quality, metric, lmbda),
            _size=lambda: zoo.size(name, quality, metric),
            _effort=lambda: _effort_of(name, *zoo.widths(name, quality)),
        )

    at = (lambda lmbda: member(1, lmbda)) if name in zoo.VARIABLE and not wanted else None
    return Series(name, spec, tuple(member(quality) for quality in sorted(set(chosen))), at)


def _numbers(text: str) -> Iterable[int]:
    """The whole numbers of ``1-3,5``."""
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not found:
            raise UserError(f"'{text}' does not say which qualities: write them as 1-3 or 1,3,5")
        low, high = int(found[1]), int(found[2] or found[1])
        if low > high:
            raise UserError(f"'{text}' counts down: write {high}-{low}")
        yield from range(low, high + 1)


def _of_checkpoints(paths: Mapping[Path, Any], whole: Path | None = None) -> Series:
    """Args:
    paths: each with its λ, or None where the file or its card says it.
    whole: the folder or the only file that was named.
    """
    if not paths:
        raise UserError("a series needs at least one checkpoint: give its path and its λ")
    from . import own

    first = next(iter(paths))
    name = _own_name(first.stem if whole == first else (whole or first.absolute().parent).resolve().name)
    members: dict[float, Member] = {}
    where: dict[float, Path] = {}
    for path, given in paths.items():
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}: mend its path")
        for value in (given,) if given is not None else gains.lmbdas_of(path) or (own.lambda_of(path),):
            lmbda = number(value, f"the lambda of {path}")
            if lmbda in where:
                raise UserError(f"{where[lmbda]} and {path} are both of lambda {lmbda:g}: leave one out")
            members[lmbda], where[lmbda] = _of_file(name, path, lmbda), path
    spec = str(whole) if whole else ",".join(f"{path}={lmbda:g}" for lmbda, path in where.items())
    at = (lambda lmbda: _of_file(name, first, lmbda)) if len(paths) == 1 and gains.lmbdas_of(first) else None
    return Series(name, spec, tuple(members[lmbda] for lmbda in sorted(members)), at)


def _of_variable(path: Path, lmbdas: Sequence[float]) -> Series:
    name = _own_name(path.stem)
    members = tuple(_of_file(name, path, lmbda) for lmbda in lmbdas)
    return Series(name, str(path), members, lambda lmbda: _of_file(name, path, lmbda))


def _own_name(name: str) -> str:
    """That of a checkpoint's series, which never bears the name of other weights."""
    return f"own-{name}" if name in families() or name in zoo.ZOO else name


def _of_file(name: str, path: Path, lmbda: float) -> Member:
    from . import own

    path = path.absolute()  # the working folder may be another one when it is loaded
    return Member(
        name,
        lmbda,
        path=path,
        _load=lambda: own.load(path, lmbda),
        _sha256=lambda: own.about(path, lmbda)[0],
        _size=lambda: path.stat().st_size,
        _effort=lambda: own.about(path, lmbda)[1],
    )


def member_of(name: str, lmbda: float, path: Path | None = None) -> Member:
    """The codec of stored rows by its name and λ, which tell the zoo's two metrics apart.

    Args:
        path: of a checkpoint.

    Raises:
        UserError: it is neither bundled nor of the zoo, and there is no checkpoint.
    """
    if path is not None:
        return _of_file(name, path, lmbda)
    found = [series(f"{name}:{metric}") for metric in zoo.URLS.get(name, ())] or [series(name)]
    return next((one for one in found if lmbda in one.lmbdas), found[0]).member(lmbda)


def is_outdated(name: str, lmbda: float, sha256: str) -> bool:
    """Whether weights bear the name of a bundled family or of a codec of the zoo and are none of theirs."""
    if name in families():
        try:
            return series(name).member(lmbda).sha256 != sha256
        except UserError:  # it has no such λ
            return True
    return name in zoo.ZOO and name not in zoo.VARIABLE and not zoo.is_file_of_zoo(sha256)
