"""The store: whole jobs or none, never twice, never mixed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from sgaplus import plans, rounding
from sgaplus import store as results
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.data import datasets, images
from sgaplus.errors import SystemFault, UserError
from sgaplus.store import Store, refine_stored
from tests.test_codecs import untrained
from tests.test_refine import picture


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("untrained", 0.01, freeze(untrained(8, 8)), sha256="ab" * 32)


@pytest.fixture
def photographs(tmp_path) -> list[datasets.ImageFile]:
    for seed in range(3):
        images.write_image(tmp_path / "in" / f"p{seed}.png", picture(64, 64, seed))
    return datasets.list_images(tmp_path / "in")


def run(store: Store, codec: Codec, photographs, **changes) -> pd.DataFrame:
    arguments = {"plan": "ssl", "iterations": 2} | changes
    return refine_stored(store, codec, photographs, **arguments)


def test_a_second_call_computes_nothing(tmp_path, codec, photographs, monkeypatch):
    store = Store(tmp_path / "results")
    first = run(store, codec, photographs)
    monkeypatch.setattr(results, "refine", lambda *_, **__: pytest.fail("computed twice"))
    second = run(store, codec, photographs)
    pd.testing.assert_frame_equal(first, second)
    assert set(first["image"]) == {"p0", "p1", "p2"} and set(first["iteration"]) == {0, 1, 2}


def test_rows_know_where_they_come_from(tmp_path, codec, photographs):
    table = run(Store(tmp_path / "results"), codec, photographs[:1])
    row = table.iloc[-1]
    assert row["codec_sha256"] == codec.sha256
    assert row["image_sha256"] == photographs[0].sha256
    assert row["torch_version"] == torch.__version__
    assert rounding.parse(json.loads(row["method"])) == rounding.SSL()
    for column in ("git_commit", "sgaplus_version", "device", "written", "seconds", "dtype"):
        assert pd.notna(row[column]), column


def test_every_part_of_the_specification_changes_the_key():
    job = results.Job(
        codec="c",
        codec_lmbda=0.01,
        codec_sha256="0",
        image="i",
        image_sha256="1",
        method={"method": "ssl", "a": 2.3},
        temperature={"schedule": "constant", "value": 1.0},
        lr={"schedule": "constant", "value": 0.005},
        lmbda=0.01,
        iterations=10,
        read_offs=(5,),
        trace_every=5,
        dtype="float32",
        seed=0,
    )
    other = {
        "codec": "d",
        "codec_lmbda": 0.02,
        "codec_sha256": "2",
        "image_sha256": "3",
        "method": {"method": "ssl", "a": 2.4},
        "temperature": {"schedule": "constant", "value": 0.5},
        "lr": {"schedule": "constant", "value": 0.004},
        "lmbda": 0.02,
        "iterations": 11,
        "read_offs": (6,),
        "trace_every": 6,
        "dtype": "bfloat16",
        "seed": 1,
        "optimizer": "soap",
    }
    keys = {job.key} | {dataclasses.replace(job, **{name: value}).key for name, value in other.items()}
    assert len(keys) == len(other) + 1
    assert dataclasses.replace(job, image="renamed").key == job.key


def test_a_preset_is_stored_as_the_plan_it_stands_for(tmp_path, codec, photographs):
    store, plan = Store(tmp_path / "results"), plans.fast(2)
    table = run(store, codec, photographs[:1], plan="fast")
    row = table.iloc[-1]
    assert rounding.parse(json.loads(row["method"])) == plan.method
    assert json.loads(row["temperature"]) == plan.temperature.as_dict()
    assert json.loads(row["lr"]) == plan.lr.as_dict()
    assert row["optimizer"] == plan.optimizer
    again = run(store, codec, photographs[:1], plan=plan)
    pd.testing.assert_frame_equal(table, again)


def test_the_keys_of_stored_jobs_stay_as_they_are():
    """What is stored must not be computed again: this key is of the first version's `Job`."""
    job = results.Job(
        codec="mshyper-s",
        codec_lmbda=0.01,
        codec_sha256="ab" * 32,
        image="i",
        image_sha256="cd" * 32,
        **plans.plan("ssl").as_dict(),
        lmbda=0.01,
        iterations=500,
        read_offs=(50,),
        trace_every=25,
        dtype="bfloat16",
        seed=0,
    )
    assert job.key == "8f50ae88db2963bb5890b55916055bc8"
    assert dataclasses.replace(job, optimizer="soap").key != job.key


@pytest.mark.slow
def test_a_killed_run_resumes_without_losing_or_doubling_a_row(tmp_path, photographs):
    """A real process, killed with no chance to tidy up while it refines its second image."""
    program = textwrap.dedent(
        """
        import os, sys, signal
        from sgaplus.data import datasets
        from sgaplus import store as results
        from tests.test_store import run, untrained, Codec, freeze
        calls = 0
        def progress(done, total):
            global calls
            calls += 1
            if calls == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        codec = Codec("untrained", 0.01, freeze(untrained(8, 8)), sha256="ab" * 32)
        run(results.Store(sys.argv[1]), codec, datasets.list_images(sys.argv[2]), progress=progress)
        """
    )
    root, folder = tmp_path / "results", tmp_path / "in"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(root), str(folder)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    store = Store(root)
    assert len(store.keys()) == 1
    codec = Codec("untrained", 0.01, freeze(untrained(8, 8)), sha256="ab" * 32)
    table = run(store, codec, photographs)
    assert len(store.keys()) == 3
    assert not table.duplicated(["key", "iteration"]).any() and len(table) == 9


def test_packing_keeps_every_row(tmp_path, codec, photographs):
    store = Store(tmp_path / "results")
    before = run(store, codec, photographs)
    path = store.pack("all")
    assert [p.name for p in store.root.rglob("*.parquet")] == [path.name]
    after = run(store, codec, photographs)
    order = ["key", "iteration"]
    pd.testing.assert_frame_equal(
        before.sort_values(order, ignore_index=True), after.sort_values(order, ignore_index=True)
    )
    with pytest.raises(UserError, match="no job to pack"):
        store.pack("all")


def test_a_full_disk_leaves_no_file(tmp_path, codec, photographs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    store = Store(tmp_path / "results")
    with pytest.raises(SystemFault, match="disk is full"):
        run(store, codec, photographs[:1])
    assert not [p for p in store.root.rglob("*") if p.is_file()]


def test_a_damaged_file_is_named(tmp_path, codec, photographs):
    store = Store(tmp_path / "results")
    run(store, codec, photographs[:1])
    (path,) = store.root.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a whole Parquet file"):
        store.load()


def test_an_empty_store_is_empty(tmp_path):
    assert Store(tmp_path / "nowhere").keys() == set()
    assert Store(tmp_path / "nowhere").load().empty


def test_rows_of_other_weights_are_refused(tmp_path, codec, photographs, monkeypatch):
    store = Store(tmp_path / "results")
    with pytest.raises(UserError, match="holds no results"):
        store.of_bundled_codecs()
    table = run(store, codec, photographs[:1])
    monkeypatch.setattr(results, "cards", lambda: [SimpleNamespace(sha256="cd" * 32)])
    with pytest.raises(UserError, match="not the bundled one"):
        store.of_bundled_codecs()
    monkeypatch.setattr(results, "cards", lambda: [SimpleNamespace(sha256=codec.sha256)])
    pd.testing.assert_frame_equal(store.of_bundled_codecs(), table)


def written(store: Store, job: results.Job, codec: Codec, photograph, stream: str | None, seed: int = 0):
    """Store a job as `refine` gives it, with or without its file, which is not written here."""
    run = results.refine(
        codec,
        [photograph.read()],
        "ssl",
        iterations=2,
        seed=seed,
        names=[job.image],
        streams=stream is not None,
    )
    store.put(job, results.lines_of(job, run, codec.device, stream))
    return run


@pytest.fixture
def job(codec, photographs) -> results.Job:
    names = {"codec": codec.name, "codec_lmbda": codec.lmbda, "codec_sha256": codec.sha256}
    numbers = {"lmbda": 0.01, "iterations": 2, "read_offs": (), "trace_every": 1, "seed": 0}
    return results.job_of(plans.plan("ssl"), photographs[0], **names, **numbers, dtype="float32")


def test_lines_say_how_large_their_file_is_and_where(tmp_path, codec, photographs, job):
    store = Store(tmp_path / "results")
    run = written(store, job, codec, photographs[0], "streams/x.sga")
    written(store, dataclasses.replace(job, seed=1), codec, photographs[0], None)
    for table in (store.load(), (store.pack("all"), store.load())[1]):
        lines = table[table["key"] == job.key].set_index("iteration")
        assert lines.loc[[0, 2], "real_bytes"].tolist() == [len(run.streams[job.image, t]) for t in (0, 2)]
        assert lines.loc[[0, 2], "real_bpp"].tolist() == run.rows["real_bpp"].tolist()
        assert pd.isna(lines.loc[1, "real_bytes"]), "of a point of a curve there is no file"
        assert lines["stream"].dropna().to_dict() == {2: "streams/x.sga"}
        others = table[table["key"] != job.key]
        assert len(others) == 3 and others[["real_bytes", "real_bpp", "stream"]].isna().all(axis=None)


def test_lines_without_files_have_no_bytes(tmp_path, codec, photographs):
    table = run(Store(tmp_path / "results"), codec, photographs[:1])
    assert table[["real_bytes", "real_bpp", "stream"]].isna().all(axis=None)


def test_a_job_that_is_stored_again_takes_the_place_of_the_packed_one(tmp_path, codec, photographs, job):
    store = Store(tmp_path / "results")
    written(store, job, codec, photographs[0], None)
    store.pack("all")
    assert store.singles([job.key]).empty
    run = written(store, job, codec, photographs[0], "streams/x.sga", seed=5)
    assert len(store.singles([job.key, "absent"])) == 3
    for table in (store.load(), (store.pack("all"), store.load())[1]):
        table = table.sort_values("iteration")
        assert table["loss"].tolist() == run.trace["loss"].tolist()
        assert table["stream"].notna().tolist() == [False, False, True]
