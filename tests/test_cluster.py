"""Studies on a cluster: the same rows as here, whatever happens to its processes."""

import contextlib
import copy
import json
import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import psutil
import pytest
from distributed import LocalCluster

from sgaplus.errors import SystemFault, UserError
from sgaplus.studies import planning
from sgaplus.studies.execution import cluster, shards
from sgaplus.studies.running import run
from sgaplus.studies.schema import load_study
from sgaplus.studies.stored import status
from tests import forked
from tests.conftest import POSIX, untrained
from tests.farm import Farm, free_port
from tests.test_checkpoints import write_checkpoint
from tests.test_studies import GRID, TINY, write_study

pytestmark = [
    pytest.mark.slow,
    POSIX,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
CHANGES = {
    "methods": ["base", "ssl", "atanh"],
    "train_lmbdas": [0.01, 0.02],
    "iterations": 6,
    "streams": True,
}
JOBS = 3 * 3 * 2
RUNS = ThreadPoolExecutor()


def write(folder: Path, **changes) -> Path:
    """A study of codecs in a folder beside it, which workers find by their path."""
    (folder / "own").mkdir(parents=True)
    for seed, lmbda in ((1, 0.02), (2, 0.01)):
        write_checkpoint(folder / "own" / f"lambda{lmbda}.pth", untrained(seed=seed).state_dict())
    content = copy.deepcopy(TINY)
    content["profiles"]["cpu"] |= {"codec": "./own", "grids": [GRID | CHANGES | changes]}
    return write_study(folder, content)


@pytest.fixture(scope="module", autouse=True)
def left_open(request):
    """Dask leaves sockets to processes that were killed; Python finds some of them during later tests."""
    request.config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study's file and the results of a run in this process."""
    folder = tmp_path_factory.mktemp("study")
    path = write(folder)
    assert run(load_study(path), "cpu", device="cpu", root=folder / "expected") == 0
    return path, folder / "expected"


@pytest.fixture(scope="module")
def shared_farm(tmp_path_factory):
    patience = cluster.CONNECTING, cluster.WORKERS, cluster.LOOKS
    cluster.CONNECTING, cluster.WORKERS, cluster.LOOKS = 120.0, 120.0, 0.2  # however slow the computer is
    farm = Farm(tmp_path_factory.mktemp("farm"))
    try:
        with cluster.connected(farm.address) as engine:
            engine._client.wait_for_workers(2, timeout=120)
        yield farm
    finally:
        farm.close()
        cluster.CONNECTING, cluster.WORKERS, cluster.LOOKS = patience


@pytest.fixture
def farm(shared_farm):
    yield shared_farm
    for name in ("disk", "slow-worker-0", "other-worker-1"):
        shared_farm.mood(name, False)
    shared_farm.release()


@pytest.fixture
def study(undisturbed):
    return load_study(undisturbed[0])


def content(root: Path) -> tuple[pd.DataFrame, dict[Path, bytes]]:
    """All rows and files, without what another run has otherwise."""
    rows = pd.read_parquet(root / "tiny" / "cpu" / "rows.parquet")
    rows = rows.drop(columns=["seconds", "written", "device", "git_commit"])
    rows = rows.sort_values(["key", "iteration"], ignore_index=True)
    files = (root / "streams").rglob("*.sga")
    return rows, {path.relative_to(root): path.read_bytes() for path in files}


def assert_undisturbed(root: Path, undisturbed) -> None:
    """Nothing is lost, nothing doubled, nothing else, and nothing is left lying about."""
    (rows, files), (wanted, kept) = content(root), content(undisturbed[1])
    pd.testing.assert_frame_equal(rows, wanted, check_exact=True)
    assert files == kept and len(files) == JOBS
    assert [path.name for path in (root / "tiny").rglob("*") if path.is_file()] == ["rows.parquet"]


def started(study, root, address, engine=cluster.connected, **settings) -> Future:
    """A run in the background of a test, which disturbs it meanwhile; with what it said, and its summary."""
    said, summaries = [], []
    settings |= {"report": lambda event: said.append(event.what), "summarise": summaries.append}

    def work():
        with engine(address) as workers:
            return run(study, "cpu", root=root, device="cpu", engine=workers, saving=0.0, **settings)

    future = RUNS.submit(work)
    future.said, future.summaries = said, summaries
    return future


def test_rows_and_files_are_those_of_one_process(farm, study, undisturbed, tmp_path):
    """One of the two workers has another torch."""
    farm.mood("other-worker-1")
    log = tmp_path / "log" / "jobs.jsonl"
    background = started(study, tmp_path / "results", farm.address, log=log)
    assert background.result() == 0
    assert any("takes no part: it has torch 1.13.1" in what for what in background.said)
    assert_undisturbed(tmp_path / "results", undisturbed)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    keys = [task.job.key for task in planning.plan(study, "cpu")]
    assert sorted(line["key"] for line in lines) == sorted(keys)
    assert {line["status"] for line in lines} == {"stored"} and all(line["seconds"] > 0 for line in lines)
    [summary] = background.summaries
    assert summary.stored == JOBS and not summary.failures and 0 <= summary.idle < 1
    assert set(summary.seconds) == {line["worker"] for line in lines} and len(summary.seconds) == 1


def test_workers_that_are_killed_or_hang_are_started_again(farm, study, undisturbed, tmp_path, monkeypatch):
    """In the middle of a shard each."""
    farm.mood("hold")
    background = started(study, tmp_path, farm.address)
    held = farm.held(2)
    os.kill(held["worker-0"], signal.SIGKILL)
    os.kill(held["worker-1"], signal.SIGSTOP)
    farm.release()
    monkeypatch.setattr(cluster.Cluster, "patience", 1.0)
    while psutil.pid_exists(held["worker-1"]):
        farm.supervise("worker-0")
        time.sleep(0.05)
    monkeypatch.undo()
    assert background.result() == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_a_full_disk_ends_the_run_and_loses_nothing(farm, study, undisturbed, tmp_path):
    farm.mood("disk")
    with pytest.raises(SystemFault, match="could not write"):
        started(study, tmp_path, farm.address).result()
    farm.mood("disk", False)
    assert started(study, tmp_path, farm.address).result() == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_two_runs_share_a_study_and_a_cluster_with_a_slow_worker(farm, study, undisturbed, tmp_path):
    """Two processes, since a process shares its claims with itself."""
    farm.mood("slow-worker-0")
    logs = [tmp_path / f"{number}.jsonl" for number in range(2)]
    root = tmp_path / "results"
    farm.mood("hold")
    other = client(undisturbed[0], root, "--scheduler", farm.address, "--log", str(logs[0]))
    farm.held()
    background = started(study, root, farm.address, log=logs[1])
    farm.release()
    other.join()
    assert other.exitcode == 0, root.with_suffix(".log").read_text()
    background.result()  # what the other one computes may be missing by now
    lines = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len({line["key"] for line in lines}) == JOBS, "no job is computed twice"
    assert_undisturbed(root, undisturbed)


def test_a_folder_that_is_not_shared(farm, study, undisturbed, tmp_path):
    """As workers elsewhere see it: the file that would show it is not there."""

    class Elsewhere(cluster.Cluster):
        def prepare(self, order):
            order.mark.unlink()
            return super().prepare(order)

    @contextlib.contextmanager
    def connected(address):
        engine = Elsewhere(address)
        yield engine
        engine.close()

    background = started(study, tmp_path, farm.address, connected)
    assert background.result() == 0
    assert_undisturbed(tmp_path, undisturbed)
    assert any("send their rows back" in what for what in background.said)


def client(path: Path, root: Path, *options: str) -> BaseProcess:
    command = ["study", "run", path, "--device", "cpu", "--results", root, *options]
    return forked.start("sgaplus", *command, log=root.with_suffix(".log"))


def test_a_client_that_is_killed_goes_on(farm, study, undisturbed, tmp_path):
    """What its workers were at is stored all the same."""
    farm.mood("hold")
    process = client(undisturbed[0], tmp_path, "--scheduler", farm.address)
    farm.held(2)
    process.kill()
    process.join()
    farm.release()
    jobs = tmp_path / "tiny" / "cpu" / "jobs"
    until = time.monotonic() + 120
    while len(list(jobs.glob("[!.]*.parquet"))) < 6 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(list(jobs.glob("[!.]*.parquet"))) >= 6, "both shards in flight are stored"
    assert started(study, tmp_path, farm.address).result() == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_a_scheduler_that_is_killed_and_comes_back(undisturbed, study, farm, tmp_path):
    """With one of its workers."""
    farm.mood("hold")
    background = started(study, tmp_path, farm.address)
    farm.held(2)
    farm.kill("scheduler")
    farm.release()
    while not background.done():
        farm.supervise("scheduler", "worker-0")
        time.sleep(0.05)
    assert background.result() == 0
    assert_undisturbed(tmp_path, undisturbed)


def test_workers_without_the_weights_say_so(farm, tmp_path):
    path = write(tmp_path / "study", methods=["ssl"], train_lmbdas=[0.01])
    # Weights that no worker has loaded for another test.
    write_checkpoint(path.parent / "own" / "lambda0.01.pth", untrained(seed=9).state_dict())
    study = load_study(path)

    class Moves(cluster.Cluster):
        def submit(self, *arguments):
            if (path.parent / "own").exists():
                (path.parent / "own").rename(path.parent / "gone")
            return super().submit(*arguments)

    with pytest.raises(UserError, match=r"no worker .*can take part.*own at lambda 0\.01 cannot be loaded"):
        run(study, "cpu", root=tmp_path / "results", device="cpu", engine=Moves(farm.address))
    assert list((tmp_path / "results").rglob("*.parquet")) == []
    (path.parent / "gone").rename(path.parent / "own")
    assert started(study, tmp_path / "results", farm.address).result() == 0


def test_a_cluster_of_this_computer_that_is_killed_as_a_whole(undisturbed, study, tmp_path, monkeypatch):
    """What it has stored is not computed again, and what it left half-written goes."""
    process = client(undisturbed[0], tmp_path, "--workers", "1")
    jobs = tmp_path / "tiny" / "cpu" / "jobs"
    while not list(jobs.glob("[!.]*.parquet")):
        assert process.is_alive(), tmp_path.with_suffix(".log").read_text()
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone and not alive, "its workers end with it"
    (jobs / ".half-written.parquet").write_bytes(b"PAR1")
    stored = len(list(jobs.glob("[!.]*.parquet")))
    assert status(study, "cpu", root=tmp_path).stored == stored
    refine, counts = shards.refine, []
    monkeypatch.setattr(shards, "refine", lambda *a, **k: counts.append(len(a[1])) or refine(*a, **k))
    assert run(study, "cpu", device="cpu", root=tmp_path) == 0
    assert sum(counts) == JOBS - stored < JOBS
    assert_undisturbed(tmp_path, undisturbed)


def test_a_scheduler_that_is_not_there(undisturbed, study, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECTING", 0.2)
    address = f"tcp://127.0.0.1:{free_port()}"
    for where in (address, "nowhere.json", "strange"):
        with pytest.raises(UserError, match=f"no scheduler answers at {where}"):
            cluster.Cluster(where)


def test_a_cluster_without_workers(monkeypatch):
    monkeypatch.setattr(cluster, "WORKERS", 0.2)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(UserError, match="has no workers"),
    ):
        cluster.Cluster(empty.scheduler_address)
