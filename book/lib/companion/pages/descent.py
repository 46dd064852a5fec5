"""The true loss over the iterations, against the loss of the codec from which each refinement started."""

import pandas as pd

from sgaplus.errors import UserError

from .. import statistics

# Of these tables show those that are stored.
_MARKS = (25, 50, 100, 200, 500, 1000, 2000)


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of refinements with ``change``: the true loss against the job's own at iteration 0, in percent."""
    refined = rows[rows["iterations"] > 0].sort_values(["image", "iteration"], kind="stable")
    start = refined[refined["iteration"] == 0].set_index("key")["loss"]
    return refined.assign(change=100 * (refined["loss"] / refined["key"].map(start) - 1))


def iterations_of(rows: pd.DataFrame, by: str = "configuration") -> list[int]:
    """The iterations above 0 with a true loss in every configuration, in ascending order."""
    refined = rows[(rows["iterations"] > 0) & (rows["iteration"] > 0)]
    counts = refined.groupby("iteration")[by].nunique()
    shared = sorted(counts.index[counts == refined[by].nunique()])
    if not shared:
        raise UserError("these rows hold no iteration of all refinements: run the study to its end")
    return [int(t) for t in shared]


def marks(rows: pd.DataFrame) -> list[int]:
    """The iterations that tables show where no others are asked for: early ones, and the last."""
    known = iterations_of(rows)
    return [t for t in _MARKS if t in known and t < known[-1]] + [known[-1]]


def at(rows: pd.DataFrame, iteration: int | None, by: str = "configuration") -> pd.DataFrame:
    """Rows of all refinements at one iteration, a result or a point of a curve; the last where None."""
    known = iterations_of(rows, by)
    wanted = known[-1] if iteration is None else iteration
    if wanted not in known:
        raise UserError(f"not all rows have iteration {wanted}: use one of {', '.join(map(str, known))}")
    return statistics.at(rows[rows["iterations"] > 0], wanted)
