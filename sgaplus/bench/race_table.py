"""The tables that `race` writes."""

from pathlib import Path

import pandas as pd

from .. import io
from ..errors import UserError

# What makes two races the same one.
IDENTITY = ["codec", "codec_lmbda", "codec_sha256", "image_sha256", "reference", "reference_iterations"]
IDENTITY += ["preset", "plan", "iterations", "dtype", "device", "seed"]
MEASURED = ["base_loss", "reference_loss", "loss", "reference_seconds", "seconds"]
CPU = ["reference_cpu_seconds", "cpu_seconds"]
_TEXTS = ["image", "codec", "codec_sha256", "image_sha256", "reference", "preset", "plan", "dtype", "device"]
COLUMNS = [*IDENTITY, "image", "width", "height", "lmbda", *MEASURED]


def read(path: str | Path) -> pd.DataFrame:
    """The races in a file that `race.run` has written, a line for each.

    Raises:
        UserError: it is no such file, or may not be read.
        SystemFault: the disk fails, or too many files are open.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), **io.CSV)
        missing = [name for name in COLUMNS if name not in table]
    except OSError as error:
        raise io.unreadable(path, error) from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a table of races ({error}): name another file") from error
    if missing or table[COLUMNS].isna().any(axis=None):
        raise UserError(
            f"{path} is no table of races (it lacks {', '.join(missing) or 'values'}): name another file"
        )
    return table


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Races with ``ratio``, that of the two times, and ``change``, that of the true loss in percent."""
    return table.assign(
        ratio=table["reference_seconds"] / table["seconds"],
        change=100 * (table["loss"] / table["reference_loss"] - 1),
    )
