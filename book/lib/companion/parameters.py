"""A page's parameters: what its template declares, what papermill gave, and the command for the same."""

import ast
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sgaplus.errors import UserError
from sgaplus.io import CHECKOUT


@dataclass(frozen=True)
class Current:
    """The page that a kernel runs: its template, its parameters, and the command that makes it again."""

    template: str
    values: Mapping[str, Any]
    command: str


# What `check` found, for where the page says how it was made.
current: Current | None = None

# papermill's first line of the cell that it injects after the parameters.
_INJECTED = "# Parameters"


def _assignments(source: str) -> dict[str, tuple[Any, Any]]:
    """The type and the default value of each name that the top level of ``source`` assigns.

    The type is that of the annotation, which also allows None, else that of the default.
    """
    found = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.AnnAssign(target=ast.Name(name), annotation=annotation, value=value):
                found[name] = eval(ast.unparse(annotation), {}) | None, ast.literal_eval(value)
            case ast.Assign(targets=[ast.Name(name)], value=value):
                default = ast.literal_eval(value)
                found[name] = _type_of(default), default
    return found


def _type_of(value: Any) -> Any:
    if isinstance(value, list):
        return list[_type_of(value[0]) if value else Any]
    return type(value)


def declared(notebook: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Type and default value of each parameter that the cell tagged ``parameters`` declares, by name."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", []):
            return _assignments("".join(cell["source"]))
    return {}


def check(template: str) -> str:
    """Check the parameters that a notebook runs with; the first call of the cell after them. Returns the
    shell command that makes the same page, with all parameters that differ from the template's.

    papermill warns about an unknown parameter and runs on with the defaults, reads what ``-p`` is given as
    a number, a bool or text, and knows no other type. Here each parameter becomes what the template
    declares: 4.0 an int, "true" a bool, "ssl" or "[ssl, atanh]" a list.
    """
    global current
    from IPython import get_ipython

    path = CHECKOUT / "notebooks" / f"{template}.ipynb"
    known = declared(json.loads(path.read_text(encoding="utf-8")))
    values: dict[str, Any] = getattr(get_ipython(), "user_ns", {})
    for cell in values.get("In", []):
        injected = ast.parse(cell).body if cell.split("\n", 1)[0].strip() == _INJECTED else []
        names = {target.id for line in injected for target in getattr(line, "targets", [])}
        if unknown := sorted(names - set(known)):
            raise UserError(
                f"unknown parameter {', '.join(unknown)}: this notebook takes {', '.join(sorted(known))}"
            )
    fitting = {name: fitted(name, values.get(name, default), kind) for name, (kind, default) in known.items()}
    values.update(fitting)
    given = {name: value for name, value in fitting.items() if value != known[name][1]}
    current = Current(shown(path), fitting, papermill_command(shown(path), given))
    return current.command


def fitted(name: str, value: Any, kind: Any) -> Any:
    """The value of a parameter as one of type ``kind``; an error says how to give papermill such a value."""
    kinds = (kind, *get_args(kind))
    wants_list = any(get_origin(one) is list for one in kinds)
    try:
        if wants_list and not isinstance(value, list) and value is not None:
            written = isinstance(value, str) and value.lstrip().startswith("[")
            value = yaml.safe_load(value) if written else [value]
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("True and False do not fit")
        return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except (ValueError, yaml.YAMLError) as error:
        said = (
            error.errors()[0]["msg"] if isinstance(error, ValidationError) else " ".join(str(error).split())
        )
        remedy = f"; give a list with -y '{{{name}: [first, second]}}'" if wants_list else ""
        if str in kinds and not isinstance(value, str):
            remedy = f"; give text that looks like a number with -r {name} {value}"
        raise UserError(f"the parameter {name} cannot be {value!r}: {said}{remedy}") from None


def papermill_command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """The shell command that runs a notebook with these parameters, in YAML, which keeps their types."""
    words = ["papermill", notebook, "out.ipynb"]
    if parameters:
        written = yaml.safe_dump(dict(parameters), default_flow_style=True, width=1e9, allow_unicode=True)
        words += ["-y", written.strip()]
    return shlex.join(words)


def shown(path: Path) -> str:
    """A path for a shell command: relative where it can be, so that no page names a machine."""
    here = Path.cwd()
    inside = (way.relative_to(here) for way in (path.absolute(), path.resolve()) if way.is_relative_to(here))
    return next(inside, path.absolute()).as_posix()
