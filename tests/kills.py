"""Random kills during one study on two workers: ``python -m tests.kills FOLDER [KILLS]``.

Workers, the scheduler and whoever asks are killed with kill -9 and started again, until the study is done;
its rows and files have to be those of an undisturbed run.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from sgaplus.studies.execution import cluster
from sgaplus.studies.running import run
from sgaplus.studies.schema import load_study
from tests.farm import Farm
from tests.forked import ROOT
from tests.test_cluster import content, write

GRID = {"methods": ["base", "ssl", "atanh", "linear", "cosine", "fast"], "iterations": 60, "seeds": [0, 1, 2]}

# Seconds between two kills, at most.
PAUSE = 8.0


def ask(path: str, root: str, address: str) -> None:
    """One run, which a kill may end."""
    cluster.CONNECTING = cluster.WORKERS = cluster.REVIVING = 300.0
    with cluster.connected(address) as engine:
        run(load_study(Path(path)), "cpu", device="cpu", root=Path(root), engine=engine, saving=0.5)


def asker(path: Path, root: Path, address: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "tests.kills", "ask", path, root, address]
    with (root.parent / "asker.log").open("ab") as log:
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=os.environ, stdout=log, stderr=log)


def main(folder: str, kills: int = 50, seed: int = 0) -> None:
    place, rng, done = Path(folder), random.Random(seed), Counter()
    path = place / "study" / "tiny.yaml"
    if not path.exists():  # what was computed for another call is used again
        path = write(place / "study", **GRID)
    run(load_study(path), "cpu", device="cpu", root=place / "expected")
    farm = Farm(place / "farm")
    process = asker(path, place / "found", farm.address)
    try:
        while process.poll() != 0:
            time.sleep(rng.uniform(0, PAUSE))
            if process.poll() is None and done.total() < kills:
                name = rng.choice([*farm.names, "asker"])
                process.kill() if name == "asker" else farm.kill(name)
                done[name] += 1
                print(f"{name} killed, {done.total()} of {kills}", flush=True)
            farm.supervise()
            if process.poll() not in (None, 0):
                process = asker(path, place / "found", farm.address)
    finally:
        farm.close()
    (rows, files), (wanted, kept) = content(place / "found"), content(place / "expected")
    assert files.keys() == kept.keys(), f"files differ: {sorted(files.keys() ^ kept.keys())}"
    others = [path for path in files if files[path] != kept[path]]
    assert not others, f"files have other content: {others}"
    pd.testing.assert_frame_equal(rows, wanted, check_exact=True)
    print(f"{done.total()} kills ({dict(done)}), {len(rows)} rows and {len(files)} files are equal")


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(*sys.argv[2:])
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
