"""Studies as they are written: one YAML file each in ``data/studies``, checked before anything is computed.

A study has *profiles* (``paper``: the paper's protocol; ``cpu``: the same, reduced), a profile has *grids* in
the order of their worth. A grid is the product of its images, methods, schedules, λ and seeds.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import model_validator as validator_of_model

from .. import io, plans, rounding
from ..codecs import zoo
from ..codecs.series import SUFFIXES, Series, Spec, families, series
from ..data.datasets import NAMES
from ..errors import UserError
from ..parsing import number
from ..plans import BASE, Plan

SUFFIX = ".yaml"
_NAME = "(?!streams$)[a-z0-9][a-z0-9-]*"  # a folder of the results, in which files are beside the studies

ProfileName = Literal["paper", "cpu"]


def folder() -> Path:
    """Where the studies are: ``data/studies`` of the checkout."""
    return io.CHECKOUT / "data" / "studies"


def _among(value: str, choices: Sequence[str], what: str) -> str:
    if value in choices:
        return value
    raise UserError(f"unknown {what} '{value}': {_hint(value, choices)}")


def _hint(value: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, choices, n=1)
    return f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(choices) or 'none'}"


def _codec(value: Any) -> Any:
    """Names are checked now, paths of checkpoints when their weights are needed."""
    if isinstance(value, str):
        name = re.split("[:@]", value)[0]
        if not re.search(r"[/\\=]", value) and not value.endswith(SUFFIXES):
            _among(name, [*families(), *zoo.ZOO], "codec (a folder of checkpoints is written ./folder)")
            series(value)
    elif not isinstance(value, list | dict) or not value:
        raise UserError("a codec is a name, a folder of checkpoints, or a list of them with their λ")
    return value


def _method(value: str) -> str:
    if value != BASE and value not in plans.PRESETS:
        rounding.parse(value)
    return value


def _different(values: tuple) -> tuple:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise UserError(f"{twice[0]!r} is given twice: give each value once")
    return values


_Different = AfterValidator(_different)
_Text = Annotated[str, Field(min_length=1)]
_Whole = Annotated[int, Field(ge=0, lt=2**63, strict=True)]  # as columns of rows hold
_Iterations = Annotated[int, Field(ge=1, le=plans.MOST_ITERATIONS, strict=True)]
_Codec = Annotated[Any, BeforeValidator(_codec)]
_Lambda = Annotated[float, BeforeValidator(lambda value: number(value, "lambda"))]
_Method = Annotated[str, AfterValidator(_method)]
_Schedule = Annotated[str, BeforeValidator(str)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grid(_Strict):
    """The product of images, methods, schedules, λ and seeds.

    Attributes:
        codec: in place of the profile's.
        dataset: a name in `datasets.NAMES`.
        images: of it only these, in this order; all where left out.
        crop: of each only the centre of so many pixels a side; the whole photograph where left out.
        methods: specifications as `rounding.parse` takes them; presets, which bring schedules and an
            optimiser of their own; and ``base``, the codec without refinement.
        temperatures, lrs: specifications of schedules, each of them for every method but ``base``; a method's
            published one where left out.
        train_lmbdas: λ of the codecs.
        test_lmbdas: λ of the refinement, each of them with every codec; the codec's own where left out.
        distortions: in the loss, each of them with everything else.
        iterations: the optimiser's steps.
        read_offs: iterations that are results, beside 0 and the last.
        trace_every: iterations between two true losses.
        seeds: of the rounding noise.
        streams: whether the files of the last iteration are kept beside the rows. It is no part of a job.
    """

    codec: _Codec = None
    dataset: Annotated[str, AfterValidator(lambda value: _among(value, NAMES, "data set"))]
    images: Annotated[tuple[_Text, ...], Field(min_length=1), _Different] | None = None
    crop: Annotated[int, Field(ge=64, le=65535, strict=True)] | None = None
    methods: Annotated[tuple[_Method, ...], Field(min_length=1), _Different]
    temperatures: Annotated[tuple[_Schedule, ...], _Different] = ()
    lrs: Annotated[tuple[_Schedule, ...], _Different] = ()
    train_lmbdas: Annotated[tuple[_Lambda, ...], Field(min_length=1), _Different]
    test_lmbdas: Annotated[tuple[_Lambda, ...], _Different] = ()
    distortions: Annotated[tuple[Literal["mse", "ms-ssim"], ...], Field(min_length=1), _Different] = ("mse",)
    iterations: _Iterations
    read_offs: Annotated[tuple[_Whole, ...], _Different] = ()
    trace_every: _Iterations
    seeds: Annotated[tuple[_Whole, ...], Field(min_length=1), _Different] = (0,)
    streams: Annotated[bool, Field(strict=True)] = False

    @validator_of_model(mode="after")
    def _read_offs_are_reached(self) -> Grid:
        beyond = [t for t in self.read_offs if t > self.iterations]
        if beyond:
            raise UserError(f"read-off {beyond[0]} is beyond the {self.iterations} iterations: leave it out")
        return self

    @validator_of_model(mode="after")
    def _plans_are_right(self) -> Grid:
        self.plans()
        return self

    def plans(self) -> list[tuple[Plan, int]]:
        """What is compared: plans and their iterations.

        Raises:
            UserError: a schedule is wrong, or not for a method.
        """
        found = []
        for spec in self.methods:
            if spec == BASE:
                found.append((plans.plan("map"), 0))  # without iterations any method gives the same
                continue
            for temperature, lr in itertools.product(self.temperatures or [None], self.lrs or [None]):
                plan = plans.plan(spec, self.iterations, temperature=temperature, lr=lr)
                found.append((plan, self.iterations))
        return found


class Profile(_Strict):
    """One way to run a study.

    Attributes:
        about: one sentence for the pages: how it differs from the paper's protocol, with numbers.
        device: the kind for which it is meant, ``cpu`` or ``cuda``; it runs on the other too.
        codec: a series as `codecs.series` takes it; what the pages show. Paths are relative to the study.
        dtype: number format of the loop. It is part of every job, so it does not depend on the machine.
        grids: in the order in which they are computed.
    """

    about: _Text
    device: Literal["cpu", "cuda"]
    codec: _Codec
    dtype: Literal["float32", "bfloat16"]
    grids: Annotated[tuple[Grid, ...], Field(min_length=1)]


class Study(_Strict):
    """A study.

    Attributes:
        name: its file's name without the ending.
        path: its file.
        title: for the pages.
        shows: figures and tables of the paper that it gives.
        profiles: by name.
    """

    name: str
    path: Path
    title: _Text
    shows: Annotated[tuple[_Text, ...], Field(min_length=1), _Different]
    profiles: dict[ProfileName, Profile] = Field(min_length=1)

    @property
    def ours(self) -> bool:
        """Whether it is one of the checkout's own studies."""
        return self.path.resolve().parent == folder().resolve()

    def profile(self, name: str) -> Profile:
        """The profile of that name.

        Raises:
            UserError: the study has none.
        """
        if name not in self.profiles:
            raise UserError(f"study {self.name} has no profile '{name}': use {' or '.join(self.profiles)}")
        return self.profiles[name]

    def series(self, profile: str, codec: Spec | Series | None = None) -> Series:
        """The codecs of a profile, or those that stand in their place.

        Raises:
            UserError: there is no such profile or series.
        """
        return series(self.profile(profile).codec if codec is None else codec, folder=self.path.parent)


def load_study(name: str | Path) -> Study:
    """A study by its name in `folder`, or by its file, whose name ends in .yaml.

    Raises:
        UserError: there is no such study, or the file is wrong; the message says where in it.
    """
    path = Path(name) if Path(name).suffix == SUFFIX else folder() / f"{name}{SUFFIX}"
    if not path.is_file():
        hint = _hint(str(name), [file.stem for file in _files()])
        raise UserError(f"there is no study '{name}' ({path}): {hint}")
    return _read(path)


def load_studies() -> list[Study]:
    """All studies in `folder`, by name.

    Raises:
        UserError: there are none, or a file is wrong.
    """
    found = [_read(path) for path in _files()]
    if not found:
        raise UserError(
            f"there are no studies in {folder()}: work in a checkout of the repository, or name the file of a"
            " study"
        )
    return found


def _files() -> list[Path]:
    return sorted(folder().glob(f"[!.]*{SUFFIX}"))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML itself takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if (key.tag, key.value) in {(other.tag, other.value) for other in keys[:index]}:
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: the key '{key.value}' is given twice: keep one")
        return super().construct_mapping(node, deep)


def _read(path: Path) -> Study:
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _Loader)
    except OSError as error:
        raise io.unreadable(path, error) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as of a day that there is not
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not describe a study: it needs title, shows and profiles")
    if not re.fullmatch(_NAME, path.stem):
        raise UserError(
            f"{path}: a study is called by its file: rename it, in a-z, 0-9 and hyphens, not 'streams'"
        )
    for key in ("name", "path"):
        if key in content:
            raise UserError(f"{path}: a study's {key} is that of its file: leave the key '{key}' out")
    try:
        return Study(name=path.stem, path=path, **content)
    except TypeError as error:  # a key that is no string
        raise UserError(f"{path} does not describe a study: {error}") from error
    except ValidationError as error:
        tree = yaml.compose(text, _Loader)
        problems = "; ".join(_sentence(tree, problem) for problem in _innermost(error.errors()))
        raise UserError(f"{path}: {problems}") from error


def _innermost(problems: Sequence[Any]) -> list[Any]:
    """Without those of lists that are too short only because something in them is wrong."""
    places = [problem["loc"] for problem in problems]
    return [p for p in problems if not any(p["loc"] == place[: len(p["loc"])] != place for place in places)]


def _sentence(tree: Any, problem: Any) -> str:
    """One problem with its place, such as ``line 12 (profiles.cpu.codec): unknown codec …``."""
    loc = problem["loc"]
    reason = problem["msg"].replace("tuple", "list").replace("Tuple", "List")
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
    if problem["type"] == "extra_forbidden":
        reason = f"there is no setting '{loc[-1]}': remove it or mend its spelling"
    where = ".".join(map(str, loc))
    return f"line {_line(tree, loc)} ({where}): {reason}" if where else str(reason)


def _line(node: Any, loc: Sequence[str | int]) -> int:
    """The line, from 1, of the deepest node on the way to ``loc``."""
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == str(step)), None) or node
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
    return node.start_mark.line + 1
