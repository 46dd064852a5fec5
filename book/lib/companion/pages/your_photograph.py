"""The page on a photograph of one's own: it runs the commands and says what each took."""

import html
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sgaplus import hardware
from sgaplus.errors import SystemFault

_OF_TERMINALS = ("FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@dataclass(frozen=True)
class Ran:
    """A command, what it wrote, its seconds by the clock and of all threads (``processor``), peak memory."""

    command: str
    output: str
    seconds: float
    processor: float
    gigabytes: float

    @property
    def took(self) -> str:
        """Time and memory in words."""
        return (
            f"{self.processor:.0f} s of processor time on {hardware.processor()} ({self.seconds:.0f} s by the"
            f" clock) and {self.gigabytes:.1f} GB of memory"
        )

    def _repr_html_(self) -> str:
        text = html.escape(f"$ {self.command}\n{self.output}")
        return f'<pre tabindex="0">{text}</pre><p><small>{self.took}.</small></p>'


def run(command: str, folder: Path) -> Ran:
    """Run a command ``sgaplus …`` in a folder."""
    # What a kernel sets makes commands draw bars and colours, as on a terminal.
    environment = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder, env=environment | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as stream:
        output = stream.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemFault(f"`{command}` failed: {output}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    processor = usage.ru_utime + usage.ru_stime
    return Ran(command, output, seconds, processor, usage.ru_maxrss * unit / 1e9)


def buttons() -> str:
    """HTML of links that open this page in Colab (the copy beside the published book, which installs the
    pinned packages first) and in Binder (as ``binder/`` says). Empty outside a workflow of the forge that
    publishes the book: elsewhere nobody knows where the repository is."""
    repository, edition = (
        os.environ.get(name, "").strip("/") for name in ("GITHUB_REPOSITORY", "SGAPLUS_BOOK_URL")
    )
    if not (repository and edition):
        return ""
    copy = f"blob/gh-pages/{edition.rsplit('/', 1)[-1]}/your-photograph.ipynb"
    commit = os.environ.get("SGAPLUS_BOOK_COMMIT", "HEAD")
    template = f"{commit}?labpath=notebooks%2Fyour_photograph.ipynb"
    where = {
        "Open in Colab": f"https://colab.research.google.com/github/{repository}/{copy}",
        "Open in Binder": f"https://mybinder.org/v2/gh/{repository}/{template}",
    }
    links = " ".join(f'<a href="{html.escape(url)}">{name}</a>' for name, url in where.items())
    return f'<p class="launch">{links}</p>'
