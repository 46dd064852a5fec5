"""Preloaded by the workers of tests: files in a folder say what happens to them in the middle of a shard."""

import contextlib
import os
import time
from pathlib import Path

FOLDER = Path(os.environ.get("SGAPLUS_MOODS", "."))


def dask_setup(worker):
    from sgaplus.studies.execution import cluster, shards

    refine, identity = shards.refine, cluster.identity
    (FOLDER / f"pid-{worker.name}").write_text(str(os.getpid()))
    limit_files(None)

    def another():
        return identity() | ({"torch": "1.13.1"} if (FOLDER / f"other-{worker.name}").exists() else {})

    cluster.identity = another

    def moody(codec, images, *arguments, progress, **settings):
        limit_files(100 if (FOLDER / "disk").exists() else None)

        def held(done, total):
            if (FOLDER / f"slow-{worker.name}").exists():
                time.sleep(0.05)
            if (FOLDER / "hold").exists():
                (FOLDER / f"held-{worker.name}").write_text(str(os.getpid()))
                while (FOLDER / "hold").exists():
                    time.sleep(0.01)
            progress(done, total)

        return refine(codec, images, *arguments, progress=held, **settings)

    shards.refine = moody


def limit_files(size):
    """No file of this process can grow beyond so many bytes."""
    with contextlib.suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
