"""The command line: ``sgaplus refine``, ``encode``, ``decode``, ``info``, ``codecs``, ``train``, …"""

import sys
from collections.abc import Sequence

try:
    from . import (  # noqa: F401  (each adds its commands)
        benchmarking,
        coding,
        listing,
        refining,
        reproducing,
        studying,
        terminal,
        training,
    )
except KeyboardInterrupt:  # what `terminal.run` says of one that comes later
    sys.stderr.write("error: stopped: no file was left half-written\n")
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; no mistake shows a traceback."""
    sys.exit(terminal.run(terminal.app, arguments))
