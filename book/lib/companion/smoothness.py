"""How smoothly the true loss falls over the iterations, and how far the method's own loss is from it."""

import pandas as pd

from sgaplus.errors import UserError


def smoothness(rows: pd.DataFrame, until: int) -> pd.DataFrame:
    """How much of the way each run's true loss goes upwards until an iteration.

    All runs are looked at with one spacing, the widest among them: a finer look finds more movement.

    Returns:
        One line per refined run that has it: configuration, image, lmbda, codec_lmbda, seed, key, spacing
        (iterations), and ``upward``, the sum of all rises of the true loss in percent of that at iteration 0.
    """
    refined = rows[rows["iterations"] >= max(until, 1)]
    spacing = int(refined["trace_every"].max()) if len(refined) else 1
    seen = refined[(refined["iteration"] % spacing == 0) & (refined["iteration"] <= until)]
    seen = seen.drop_duplicates(["key", "iteration"]).sort_values(["key", "iteration"])
    start = seen[seen["iteration"] == 0].set_index("key")
    rises = seen.groupby("key")["loss"].diff().clip(lower=0)
    upward = 100 * rises.groupby(seen["key"]).sum(min_count=1) / start["loss"]
    found = start.assign(spacing=spacing, upward=upward).dropna(subset=["upward"]).reset_index()
    if found.empty:
        raise UserError("no run has two points of its curve: compute one with a smaller trace_every")
    names = ["configuration", "image", "lmbda", "codec_lmbda", "seed", "key", "spacing", "upward"]
    return found[names]


def with_gap(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``gap``, the method's loss − the true loss, and ``gap_size``, |gap| in % of the latter.

    The method's loss is one sample of its relaxed loss; both are NaN at iteration 0.
    """
    gap = rows["method_loss"] - rows["loss"]
    return rows.assign(gap=gap, gap_size=100 * gap.abs() / rows["loss"])
