"""The application that the commands join: what it prints, and how it ends, every mistake in one sentence.

Exit codes: 0, 2 for what the user can mend, 1 for what is not the user's fault.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .. import __version__, io
from ..errors import ImageNote, SystemFault, UserError, first_line

if TYPE_CHECKING:
    import pandas as pd

# Typer has this class from click or as its own, depending on its version, and exports only a subclass.
_UsageError: Any = typer.BadParameter.__base__
# What Typer returns for Ctrl-C where it does not raise Abort, again depending on its version.
_INTERRUPTED = 130
_STOPPED = "stopped: no file was left half-written"

# What stands for characters that an output cannot encode; of others their number does.
_PLAIN = {"λ": "lambda", "τ": "tau", "×": "x", "–": "-", "−": "-", "…": "...", "·": "*", "²": "^2"}

# What is printed is plain text: a file's name may look like markup.
_PLAIN_TEXT: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
_out, _err = (Console(stderr=err, **_PLAIN_TEXT) for err in (False, True))
# For tables in a file, which can be searched where no line is folded.
_log = Console(width=10_000, **_PLAIN_TEXT)


def show(result: str | Table) -> None:
    """Print a result on standard output; a line is wrapped by the terminal alone, a table fits it."""
    console = _log if isinstance(result, Table) and not _out.is_terminal else _out
    console.print(result, soft_wrap=isinstance(result, str))


def say(message: str, style: str | None = None) -> None:
    """Print a line about what is going on, on standard error."""
    _err.print(message, style=style, soft_wrap=True)


def note(message: object) -> None:
    """Print something that the user should know, on standard error."""
    say(f"note: {message}", "yellow")


def table(frame: pd.DataFrame, **formats: str) -> Table:
    """A table for `show`, the columns in ``formats`` formatted; a dash for what is missing."""
    import pandas as pd

    result = Table(box=None, header_style="bold")
    columns = [str(column) for column in frame]
    for column in columns:
        is_number = frame[column].dtype.kind in "ifu"
        result.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in frame.astype(object).itertuples(index=False, name=None):
        cells = zip((formats.get(column, "{}") for column in columns), row, strict=True)
        result.add_row(*("–" if pd.isna(value) else shown.format(value) for shown, value in cells))
    return result


def bar(description: str) -> Progress:
    """A progress bar on standard error, gone when it is done; nothing where that is no terminal."""
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = _err.is_interactive and _err.file.isatty()  # FORCE_COLOR alone makes a file interactive
    return Progress(*columns, console=_err, transient=True, disable=not shown)


@contextlib.contextmanager
def counting(description: str) -> Iterator[Callable[[float, float], None]]:
    """A `bar` for what reports how much of how much is done."""
    with bar(description) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextlib.contextmanager
def computing(remedy: str, *, long: bool = False) -> Iterator[None]:
    """What a command that computes with networks runs in: it keeps freed memory for the next tensor.

    Args:
        long: whether it may run for long, so that the number of threads is worth a measurement.

    Raises:
        UserError: the memory of the GPU or of the computer is full; the message ends in ``remedy``.
    """
    from .. import hardware

    hardware.keep_freed_memory()
    if long and hardware.leave_busy_cores():
        note("other work keeps the cores busy, so that one thread is faster here than several")
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if hardware.memory_is_full(error):
            raise UserError(f"there is not enough memory: {remedy}") from error
        raise


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code, after what went wrong was said in one sentence.

    Args:
        arguments: those of the process where None.

    Raises:
        Exception: what is neither `UserError` nor `SystemFault`, if SGAPLUS_TRACEBACK is set.
    """
    _encode_anything()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("always", ImageNote)
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda message, *_, **__: note(message)
        message, code = _outcome(app, arguments)
    if message:
        say(f"error: {message}", "red")
    return code


def _encode_anything() -> None:
    """Let standard output and error take any text, whatever their encoding."""
    codecs.register_error("sgaplus", _in_plain_words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="sgaplus")


def _in_plain_words(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    words = [
        f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c  # a byte of a file's name
        for c in wrong
    ]
    text = "".join(_PLAIN.get(c, c) for c in words)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _outcome(app: typer.Typer, arguments: Sequence[str] | None) -> tuple[str, int]:
    try:
        if os.name != "nt":  # there click itself expands the words, as no shell does
            arguments = [_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
        code = app(args=arguments, standalone_mode=False, prog_name="sgaplus") or 0
    except (KeyboardInterrupt, typer.Abort):
        return _STOPPED, 2
    except _UsageError as error:
        message = error.format_message()
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return message and message.rstrip(".") + hint, 2  # without a message, help has been shown
    except UserError as error:
        return str(error), 2
    except SystemFault as error:
        return str(error), 1
    except OSError as error:
        return f"{error.filename or 'the system'}: {io.reason(error)}", 1
    except Exception as error:
        if os.environ.get("SGAPLUS_TRACEBACK"):
            raise
        what = f"unexpected {type(error).__name__} ({first_line(error)})"
        return f"{what}: set SGAPLUS_TRACEBACK=1 to see where it comes from, and please report it", 1
    return (_STOPPED, 2) if code == _INTERRUPTED else ("", code)


def _at_home(word: str) -> str:
    """``~`` at the start of a path is a home folder, which no shell says of it in ``--out=~/refined``."""
    option, equals, path = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{equals}{io.user_path(path)}" if path.startswith("~") else word


def check_target(out: Path, suffix: str) -> None:
    """Refuse, before any work is done, a file that cannot be written or has another ending."""
    if out.suffix.lower() != suffix:
        raise UserError(f"cannot write {out}: use a name that ends in {suffix}")
    if out.is_dir():
        raise UserError(f"cannot write {out}: it is a folder")
    io.check_folder(out.parent)


def option(text: str, panel: str | None = None, *names: str, **settings: Any) -> Any:
    """An option of a command: its help, its group in the help, and its names where they are not Typer's."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


def refuse(context: typer.Context, why: str, *names: str) -> None:
    """Refuse parameters that the command line gives although they would do nothing.

    Raises:
        UserError: one of ``names`` is given; ``why`` ends the message, with what to do.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source and source.name == "COMMANDLINE":
            raise UserError(f"{parameter.opts[0]} would do nothing: {why}")


app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, option("Show the version.", None, "--version")] = False) -> None:
    """Refine the latents of neural image codecs: fewer bits and better pictures for the same decoder.

    A neural codec turns a photograph into *latents*, the numbers stored in its file, by one pass through a
    network that was trained for all photographs. Refinement (the methods SGA and SGA+) then optimises these
    numbers for one photograph. It minimises λ · distortion + bits: a larger **λ** (lmbda) gives more weight
    to quality.

    - `sgaplus codecs` lists the codecs
    - `sgaplus refine photo.png` refines a photograph and writes the result to `refined/`
    - `sgaplus refine --help` explains every option
    """
    if version:
        show(f"sgaplus {__version__}")
        raise typer.Exit
