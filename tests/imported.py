"""What the processes of `tests.forked` have imported, and those that a nanny of Dask forks."""

import importlib
import warnings

with warnings.catch_warnings(action="ignore"):
    for name in (
        "distributed.cli.dask_scheduler",
        "distributed.cli.dask_worker",
        "pyarrow.parquet",
        "sgaplus.cli",
        "sgaplus.bitstream.coder",
        "sgaplus.refinement.run",
        "sgaplus.studies.execution.cluster",
        "sgaplus.studies.running",
    ):
        importlib.import_module(name)


def dask_setup(nanny):
    from distributed.utils import get_mp_context

    get_mp_context().set_forkserver_preload([__name__])
