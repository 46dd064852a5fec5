"""Stored rows of pages that compute what no study plans."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

import sgaplus
from sgaplus import jobs, plans
from sgaplus.data.datasets import ImageFile
from sgaplus.errors import UserError
from sgaplus.store import Store, extended, holding
from sgaplus.studies.stored import rows_of


def rows(store: Store) -> pd.DataFrame:
    """All rows, as `sgaplus.studies.stored.rows_of` gives them; refused where nothing is stored."""
    table = rows_of(store)
    if table.empty:
        raise UserError(f"{store.root} holds no results: run the page's command, which computes them")
    return table


def refine_stored(
    store: Store,
    codec: sgaplus.Codec,
    images: Sequence[ImageFile],
    plan: Any,
    *,
    iterations: int = 500,
    read_offs: Iterable[int] = (),
    trace_every: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Refine (`sgaplus.refine`) and store what is not stored yet, image by image; all lines of these jobs.
    One that lacks an iteration runs again and keeps what it had."""
    chosen, held, asked = plans.plan(plan, iterations), store.load(), []
    own = {"codec": codec.name, "codec_lmbda": codec.lmbda, "codec_sha256": codec.sha256}
    how = {"iterations": iterations, "trace_every": trace_every or max(1, iterations // 20), "seed": seed}
    how["read_offs"] = tuple(sorted({t for t in read_offs if 0 < t < iterations}))
    for image in images:
        job = jobs.job_of(chosen, image, **own, **how, lmbda=codec.lmbda, dtype=codec.format)
        asked.append(job.key)
        if holding(held, [job]):
            continue
        job = extended(job, held)
        if not store.take(held, [job]):
            again = how | {"read_offs": job.read_offs, "trace_every": job.trace_every}
            run = sgaplus.refine(codec, [image.read()], chosen, **again, names=[image.name])
            store.put(job, jobs.rows_of_run(job, run, codec.device))
    table = store.load()
    return table[table["key"].isin(asked)].reset_index(drop=True)
