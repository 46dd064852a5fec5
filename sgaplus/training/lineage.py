"""Where weights come from: the stages of training that led to them, and their training curve.

A codec's card lists its stages under ``training``, and the curve lies beside it as ``<stem>.training.csv``. A
run that starts from a codec takes both over, so that its own codecs document the whole history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .. import io
from ..codecs.bundled import read_cards
from ..errors import UserError

CURVE = ("stage", "step", "seconds", "lmbda", "loss", "bpp", "psnr", "lr")
# Further columns of runs that held photographs out; older stages have none.
HELD_OUT = ("held_out_loss", "held_out_bpp", "held_out_psnr")
_MEND = "restore it, or rename it to do without"


@dataclass(frozen=True)
class Lineage:
    """What came before a run; plain values throughout, so that a checkpoint can hold it.

    Attributes:
        start: file name of the weights it starts from; empty for random ones.
        lmbda: the λ that these were trained for; None if unknown, and for a network of several.
        stages: the earlier stages, as `publishing.publish` writes them, each with its ``data`` in words.
        curve: their training curve, one row (`CURVE`, and `HELD_OUT` where there is) per 100 steps.
    """

    start: str = ""
    lmbda: float | None = None
    stages: Sequence[dict[str, Any]] = ()
    curve: Sequence[dict[str, float]] = ()


# The lineage of random weights.
UNTRAINED = Lineage()


def curve_path(weights: Path) -> Path:
    """Where the training curve of the codec in ``weights`` lies."""
    return weights.with_suffix(".training.csv")


def lineage_of(weights: Path) -> Lineage:
    """The lineage of a run that starts from the file ``weights``, read from the card and curve beside it.

    Raises:
        UserError: what lies beside it is no card or no curve, or the card is that of other weights.
    """
    path = weights.with_suffix(".json")
    if not path.is_file():
        return Lineage(weights.name)
    try:
        card = read_cards(path)[0]
        stages = [{"data": card.training["data"]} | stage for stage in card.training.get("stages", ())]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not the card of a codec ({error}): {_MEND}") from error
    if card.file_sha256 != io.sha256(weights):
        raise UserError(f"{path} is not the card of {weights.name}, which has changed: {_MEND}")
    path = curve_path(weights)
    try:
        curve = _read_curve(path) if path.is_file() else []
    except OSError as error:
        raise io.unreadable(path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no training curve ({error}): {_MEND}") from error
    return Lineage(weights.name, card.lmbda if len(card.lmbdas) == 1 else None, stages, curve)


def _read_curve(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8") as file:
        table = pd.read_csv(file, float_precision="round_trip")
    table = table[[*CURVE, *(key for key in HELD_OUT if key in table)]].astype(float)
    rows = table.astype({"stage": int, "step": int}).astype(object).to_dict("records")
    return [{str(key): value for key, value in row.items() if pd.notna(value)} for row in rows]


def write_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write a training curve, with columns of held-out photographs where a row has them."""
    columns = [*CURVE, *(key for key in HELD_OUT if any(key in row for row in rows))]
    table = pd.DataFrame(rows, columns=columns)
    io.write(path, table.to_csv(index=False, float_format="%.7g", lineterminator="\n"))
