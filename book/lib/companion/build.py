"""The book's pages: templates run by papermill, each again when something that it read has changed.

``book/pages.yml`` lists the pages. Each is a template of ``notebooks/`` with parameters; papermill writes
it to ``book/executed/<name>.ipynb``, the name in ``book/_toc.yml``. The executed notebook keeps the digests
of what its kernel read (`reads`): when one of these, the template, the entry in ``pages.yml`` or
the lock file has changed, the page is stale. The Sphinx extension runs every stale page before Sphinx reads
the sources, so that ``jupyter-book build book/`` publishes no stale page.

What the templates themselves call is in `cells`.
"""

import copy
import functools
import hashlib
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from sgaplus import io
from sgaplus.errors import SystemFault, UserError

from .cells import PROFILE_VARIABLE
from .parameters import declared
from .reads import digest, files_read, recording

Log = Callable[[str], Any]

_LOCK = "requirements.lock"


class Page(BaseModel):
    """One entry of ``book/pages.yml``.

    Attributes:
        name: of the page's file and address; lower-case letters, digits and hyphens.
        template: name of a notebook in ``notebooks/``, without its ending.
        title: the page's heading; the template's own when left out.
        parameters: values for the cell tagged ``parameters``.
        profiles: further ones by the profile for which the book is built.
        instead: the parameters of the page where those of the profile give none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    template: str = Field(pattern=r"^\w[\w-]*$")
    title: str | None = Field(default=None, min_length=1)
    parameters: dict[str, JsonValue] = {}
    profiles: dict[str, dict[str, JsonValue]] = {}
    instead: dict[str, JsonValue] | None = None


def load_pages(root: Path, profile: str | None = None) -> list[Page]:
    """The pages that ``book/pages.yml`` lists, in its order, each checked against its template; with a
    profile of the studies, or that of the variable SGAPLUS_PROFILE, else each shows its own."""
    path = root / "book" / "pages.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        pages = TypeAdapter(list[Page]).validate_python(entries)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path} does not describe pages: {problems}") from error
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} does not describe pages: {' '.join(str(error).split())}") from error
    names = [page.name for page in pages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} names a page twice: {', '.join(twice)}")
    for page in pages:
        parameters = declared(read_template(page, root))
        given = {name for values in (page.parameters, *page.profiles.values()) for name in values}
        if unknown := sorted(given - set(parameters)):
            known = ", ".join(sorted(parameters)) or "none"
            raise UserError(
                f"page '{page.name}' sets {', '.join(unknown)}, which its template "
                f"'{page.template}' does not declare (declared: {known})"
            )
    profile = profile or os.environ.get(PROFILE_VARIABLE)
    return [_for_profile(page, profile, root) for page in pages] if profile else pages


def _for_profile(page: Page, profile: str, root: Path) -> Page:
    known = declared(read_template(page, root))
    if known.get("profile", (None, profile))[1] == profile:
        return page
    changes = {"parameters": page.parameters | {"profile": profile} | page.profiles.get(profile, {})}
    return page.model_copy(update=changes | {"instead": page.parameters})


def output_path(page: Page, root: Path) -> Path:
    """Where the executed notebook of ``page`` lies."""
    return root / "book" / "executed" / f"{page.name}.ipynb"


def read_template(page: Page, root: Path) -> dict[str, Any]:
    """The template's notebook as plain JSON."""
    path = root / "notebooks" / f"{page.template}.ipynb"
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = notebook["cells"][0]
        heading = first["cell_type"] == "markdown" and _source(first).startswith("# ")
    except FileNotFoundError:
        raise UserError(f"page '{page.name}' wants the template {path}, which does not exist") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"the template {path} is not a notebook with cells") from error
    if not heading:
        raise UserError(f"the template {path} must begin with a Markdown cell '# Title'")
    return notebook


def _source(cell: Mapping[str, Any]) -> str:
    """A cell's text; nbformat stores it as one string or as a list of lines."""
    return "".join(cell["source"])


def template_digest(page: Page, root: Path) -> str:
    """SHA-256 (hexadecimal) of what ``book/pages.yml`` and the template without outputs say of a page."""
    cells = [[c["cell_type"], _source(c), c["metadata"]] for c in read_template(page, root)["cells"]]
    return hashlib.sha256(json.dumps([cells, page.title, page.parameters]).encode()).hexdigest()


def stale(page: Page, root: Path) -> str | None:
    """What makes ``page``'s executed notebook stale: the first changed input; None where it is fresh."""
    try:
        executed = json.loads(output_path(page, root).read_text(encoding="utf-8"))
        record = executed["metadata"]["sgaplus"]
        if record["template"] != template_digest(page, root):
            return f"notebooks/{page.template}.ipynb or its entry in book/pages.yml"
        return next((name for name, found in record["files"].items() if found != digest(root, name)), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "no executed notebook of today's form"


def execute(page: Page, root: Path, log: Log = print, threads: int | None = None) -> float:
    """Run the page's template with papermill, from the root of the repository; seconds that it took.

    What the notebook writes to stderr is handed to ``log`` and does not appear on the page. The executed
    notebook says in ``metadata.sgaplus`` what it was made from: digests of the template and of all files that
    it read, parameters, versions. When the run fails no page is left.

    Args:
        threads: of the kernel. Threads that wait for each other on processors that others use take many
            times as long.

    Raises:
        UserError: the notebook raised one, an unknown parameter for example.
        SystemFault: the notebook failed otherwise; the message ends with the traceback's last lines.
    """
    import nbformat

    template = template_digest(page, root)
    output_path(page, root).unlink(missing_ok=True)
    notebook = nbformat.reads(json.dumps(read_template(page, root)), as_version=4)
    if page.title:
        _, newline, rest = notebook.cells[0].source.partition("\n")
        notebook.cells[0].source = f"# {page.title}{newline}{rest}"
    with tempfile.TemporaryDirectory() as scratch:
        log_of_reads = Path(scratch) / "reads"
        started = time.perf_counter()
        environment = recording(log_of_reads, root) | {"TQDM_DISABLE": "1"}
        if threads:
            environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(threads))
        run = _papermill if page.instead is None else _papermill_or_instead
        executed = run(notebook, page, root, environment)
        seconds = time.perf_counter() - started
        files = {_LOCK: digest(root, _LOCK)} | files_read(log_of_reads, root)
    for cell in executed.cells:
        noise = [o for o in cell.get("outputs", []) if o.get("name") == "stderr"]
        for output in noise:
            log(f"{page.name}: {output.text.rstrip()}")
            cell.outputs.remove(output)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("remove-input")
    executed.metadata["sgaplus"] = {
        "template": template,
        "parameters": page.parameters,
        "files": {name: files[name] for name in sorted(files) if name != f"notebooks/{page.template}.ipynb"},
        "seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "compressai", "papermill")},
        },
    }
    with io.atomic(output_path(page, root)) as temporary:
        temporary.write_text(nbformat.writes(executed), encoding="utf-8")
    return seconds


def _papermill_or_instead(notebook: Any, page: Page, root: Path, environment: Mapping[str, str]) -> Any:
    """`_papermill`; where a profile has no page yet, that of the page's own parameters, which says so."""
    import nbformat

    profile, fresh = str(page.parameters["profile"]), copy.deepcopy(notebook)
    try:
        return _papermill(notebook, page, root, {**environment, PROFILE_VARIABLE: profile})
    except (UserError, SystemFault) as error:
        reason = str(error).partition("\n")[0].removeprefix(f"page '{page.name}': ")
    text = f"```{{warning}}\nThere is no page of profile `{profile}` yet: {reason}\n```"
    fresh.cells.insert(1, nbformat.v4.new_markdown_cell(text))
    own = page.model_copy(update={"parameters": page.instead})
    return _papermill(fresh, own, root, {**environment, PROFILE_VARIABLE: ""})


def _papermill(notebook: Any, page: Page, root: Path, environment: Mapping[str, str]) -> Any:
    """The executed notebook; papermill is given and returns objects, so that no half page is ever written."""
    import papermill
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    class OwnKernel(AsyncKernelManager):
        """The running interpreter, whichever kernel specifications are installed on the machine."""

        @property
        def kernel_spec(self) -> KernelSpec:
            # The values are templates, in which a dollar sign stands twice.
            env = {name: value.replace("$", "$$") for name, value in environment.items()}
            return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]) | {"env": env})

    bar = {"desc": page.name, "leave": False} if sys.stderr.isatty() else False
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    try:
        return papermill.execute_notebook(
            notebook, None, parameters=dict(page.parameters), kernel_name="python3", language="python",
            progress_bar=bar, cwd=str(root), kernel_manager_class=OwnKernel,
        )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == UserError.__name__:
            raise UserError(f"page '{page.name}': {error.evalue}") from None
        lines = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).rstrip().split("\n")
        raise SystemFault(
            f"page '{page.name}' failed with {error.ename}: {error.evalue}\n" + "\n".join(lines[-12:])
        ) from None
    except DeadKernelError as error:
        raise SystemFault(f"page '{page.name}' failed: its kernel died, perhaps out of memory") from error


def execute_all(
    root: Path = Path(), log: Log = print, at_once: int | None = None, profile: str | None = None
) -> int:
    """Run every stale page of the book, several at once, and return how many there were.

    A line says what made each stale, one when it is done. The first page that fails raises; pages that run at
    that moment still end. By default one page runs on each processor, at most four at once.
    """
    pages = load_pages(root, profile)
    due = [(page, reason) for page in pages if (reason := stale(page, root))]
    log(f"{len(pages) - len(due)} of {len(pages)} pages are up to date")
    for page, reason in due:
        if output_path(page, root).exists():
            log(f"{page.name} is stale: {reason}")
    workers = min(at_once or min(os.cpu_count() or 1, 4), len(due))
    if workers < 1:
        return 0
    # A process each: an interrupt on the terminal reaches them all, and with them their kernels.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        run = functools.partial(_executed, root=root, threads=max(1, (os.cpu_count() or 1) // workers))
        running = {pool.submit(run, page): page for page, _ in due}
        try:
            for number, future in enumerate(as_completed(running), start=1):
                seconds, lines = future.result()
                for line in (*lines, f"[{number}/{len(due)}] {running[future].name} … {seconds:.0f} s"):
                    log(line)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(due)


def _executed(page: Page, root: Path, threads: int) -> tuple[float, list[str]]:
    """Seconds that a page took, and what it said; runs in a process of its own."""
    lines: list[str] = []
    return execute(page, root, lines.append, threads), lines
