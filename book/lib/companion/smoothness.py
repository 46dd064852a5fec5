"""How smoothly the true loss falls over the iterations, and how far the method's own loss is from it."""

from __future__ import annotations

import pandas as pd

from sgaplus.errors import UserError


def smoothness(rows: pd.DataFrame, until: int | None = None) -> pd.DataFrame:
    """How much of the way each run's true loss goes upwards.

    All runs are looked at with one spacing, the widest among them: a finer look finds more movement.

    Args:
        rows: as `configurations.with_arms` returns them, with the points between the read-offs.
        until: the last iteration that counts; the last of each run where None.

    Returns:
        One line per refined run that has it: arm, image, lmbda, codec_lmbda, seed, key, spacing (iterations),
        and ``upward``, the sum of all rises of the true loss in percent of its value at iteration 0.

    Raises:
        UserError: no run has two points.
    """
    refined = rows[rows["iterations"] > 0]
    spacing = int(refined["trace_every"].max()) if len(refined) else 0
    seen = refined[refined["iteration"] % max(spacing, 1) == 0]
    if until is not None:
        seen = seen[(seen["iteration"] <= until) & (seen["iterations"] >= until)]
    lines = []
    for key, run in seen.drop_duplicates(["key", "iteration"]).groupby("key", sort=False):
        run = run.sort_values("iteration")
        if len(run) < 2 or run["iteration"].iloc[0] != 0:
            continue
        steps = run["loss"].diff().iloc[1:]
        line = {name: run[name].iloc[0] for name in ("arm", "image", "lmbda", "codec_lmbda", "seed")}
        upward = 100 * steps.clip(lower=0).sum() / run["loss"].iloc[0]
        lines.append({**line, "key": key, "spacing": spacing, "upward": upward})
    if not lines:
        raise UserError("no run has two points of its curve: compute one with a smaller trace_every")
    return pd.DataFrame(lines)


def with_gap(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``gap``, the method's loss − the true loss, and ``gap_size``, |gap| in percent of the
    latter.

    The method's loss is one sample of its relaxed loss; both are NaN at iteration 0.
    """
    gap = rows["method_loss"] - rows["loss"]
    return rows.assign(gap=gap, gap_size=100 * gap.abs() / rows["loss"])
