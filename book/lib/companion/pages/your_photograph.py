"""The page on a photograph of one's own: it runs the commands and says what each took."""

import html
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sgaplus.errors import SystemFault


@dataclass(frozen=True)
class Ran:
    """A command, what it wrote, and what it took.

    Attributes:
        gigabytes: the most memory that it had.
    """

    command: str
    output: str
    seconds: float
    gigabytes: float

    @property
    def took(self) -> str:
        """Time and memory in words."""
        time = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.1f} minutes"
        return f"{time}, {self.gigabytes:.1f} GB of memory"

    def _repr_html_(self) -> str:
        text = html.escape(f"$ {self.command}\n{self.output}")
        return f'<pre tabindex="0">{text}</pre><p><small>{self.took}.</small></p>'


def run(command: str, folder: Path) -> Ran:
    """Run a command ``sgaplus …`` in a folder.

    Raises:
        SystemFault: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder, env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}, text=True,
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
    return Ran(command, output, seconds, usage.ru_maxrss * unit / 1e9)
