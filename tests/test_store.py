"""The store: whole jobs or none, never twice, never mixed."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

import sgaplus
from companion import unplanned
from sgaplus import jobs, plans
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.data import datasets, images
from sgaplus.errors import SystemFault, UserError
from sgaplus.store import Store, _rows
from tests.test_codecs import untrained
from tests.test_refinement import picture


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("untrained", 0.01, freeze(untrained(8, 8)), sha256="ab" * 32)


@pytest.fixture
def photographs(tmp_path) -> list[datasets.ImageFile]:
    for seed in range(3):
        images.write_image(tmp_path / "in" / f"p{seed}.png", picture(64, 64, seed))
    return datasets.list_images(tmp_path / "in")


def keys(store: Store) -> set[str]:
    return set(store.load().get("key", []))


def assert_same_rows(*tables: pd.DataFrame) -> None:
    """In whichever order."""
    one, other = (table.sort_values(["key", "iteration"], ignore_index=True) for table in tables)
    pd.testing.assert_frame_equal(one, other)


def run(store: Store, codec: Codec, photographs, **changes) -> pd.DataFrame:
    arguments = {"plan": "ssl", "iterations": 2} | changes
    return unplanned.refine_stored(store, codec, photographs, **arguments)


def test_rows_know_where_they_come_from_and_a_preset_is_the_plan_that_it_stands_for(
    tmp_path, codec, photographs
):
    store, plan = Store(tmp_path / "results"), plans.fast(2)
    table = run(store, codec, photographs[:1], plan="fast")
    row = table.iloc[-1]
    assert row["codec_sha256"] == codec.sha256
    assert row["image_sha256"] == photographs[0].sha256
    assert row["torch_version"] == torch.__version__
    for column in ("git_commit", "sgaplus_version", "device", "written", "seconds", "dtype"):
        assert pd.notna(row[column]), column
    assert table[["real_bytes", "real_bpp", "stream"]].isna().all(axis=None), "no file is kept"
    settings = [json.loads(row[name]) for name in ("method", "temperature", "lr")]
    assert plans.Plan(*settings, row["optimizer"]) == plan
    assert (row["label"], row["algorithm"]) == ("fast", 1)
    pd.testing.assert_frame_equal(table, run(store, codec, photographs[:1], plan=plan))
    assert set(run(store, codec, photographs[:1], iterations=0)["label"]) == {"base"}


def test_every_part_of_the_specification_changes_the_key(job):
    other = {"codec": "d", "codec_lmbda": 0.02, "codec_sha256": "2", "image_sha256": "3", "lmbda": 0.02}
    other |= {"method": {"method": "ssl", "a": 2.4}, "temperature": {"schedule": "constant", "value": 0.5}}
    other |= {"lr": {"schedule": "constant", "value": 0.004}, "iterations": 11, "dtype": "bfloat16"}
    other |= {"seed": 1, "optimizer": "soap", "algorithm": 2, "distortion": "ms-ssim"}
    found = {job.key} | {dataclasses.replace(job, **{name: value}).key for name, value in other.items()}
    assert len(found) == len(other) + 1
    same = {"image": "renamed", "label": "in other words", "read_offs": (6,), "trace_every": 6}
    assert set(other) | set(same) == {field.name for field in dataclasses.fields(job)}
    assert dataclasses.replace(job, **same).key == job.key


def test_the_keys_of_stored_jobs_stay_as_they_are(job):
    """What is stored must not be computed again: these keys are of the first rows."""
    names = {"codec": "mshyper-s", "codec_sha256": "ab" * 32, "image_sha256": "cd" * 32, "iterations": 500}
    job = dataclasses.replace(job, **names, dtype="bfloat16")
    assert job.key == "97b40ea1776598e224dd18297779ef72"
    assert dataclasses.replace(job, algorithm=1, optimizer="adam").key == job.key


def test_rows_with_keys_of_an_older_kind_are_found(tmp_path, codec, photographs, monkeypatch):
    """The first keys counted the read-offs too; then there was no column for optimiser, algorithm and
    label."""
    store = Store(tmp_path / "results")
    table = run(store, codec, photographs)
    for path in list(store.root.rglob("*.parquet")):
        rows = pd.read_parquet(path).drop(columns=["algorithm", "optimizer", "label"])
        rows["key"] = rows["key"].str[::-1]
        path.unlink()
        rows.to_parquet(path.with_stem(path.stem[::-1]))
    monkeypatch.setattr(sgaplus, "refine", lambda *_, **__: pytest.fail("computed twice"))
    assert_same_rows(run(store, codec, photographs)[table.columns], table)


@pytest.mark.slow
def test_rows_lacking_an_iteration_are_no_complete_job(tmp_path, codec, photographs, monkeypatch):
    store, calls = Store(tmp_path / "results"), []
    refine = sgaplus.refine
    monkeypatch.setattr(sgaplus, "refine", lambda *a, **k: calls.append(len(a[1])) or refine(*a, **k))

    def marks(**changes):
        table = run(store, codec, photographs, iterations=12, **changes)
        assert len(set(table["key"].value_counts())) == 1 and not table.duplicated(["key", "iteration"]).any()
        first = table[table["image"] == "p0"]
        return first["iteration"].tolist(), first.loc[first["read_off"], "iteration"].tolist()

    assert marks(read_offs=[], trace_every=6) == ([0, 6, 12], [0, 12])
    assert marks(read_offs=[6], trace_every=12) == ([0, 6, 12], [0, 6, 12])
    assert sum(calls) == 3, "iteration 6 was there, and is a result from now on"
    assert marks(read_offs=[5], trace_every=4) == ([0, 2, 4, 5, 6, 8, 10, 12], [0, 5, 6, 12])
    assert sum(calls) == 6, "what was there is computed with it, so that a job is of one run"
    store.pack("all")
    assert marks(read_offs=[5], trace_every=6) == ([0, 2, 4, 5, 6, 8, 10, 12], [0, 5, 6, 12])
    assert sum(calls) == 6


@pytest.mark.slow
def test_rows_of_an_older_algorithm_stay_but_are_not_shown(tmp_path, codec, photographs, monkeypatch):
    store = Store(tmp_path / "results")
    before = run(store, codec, photographs)
    monkeypatch.setattr(jobs, "ALGORITHM", 2)
    after = run(store, codec, photographs[:2])
    assert not set(before["key"]) & set(after["key"])
    assert keys(store) == {*before["key"], *after["key"]}
    shown = unplanned.rows(store)
    found = shown.groupby("image")["algorithm"].unique().map(list)
    assert found.to_dict() == {"p0": [2], "p1": [2], "p2": [1]}


def test_rows_are_waited_for_while_another_process_packs_many(tmp_path, codec, photographs, monkeypatch):
    """For two seconds, on a clock that the waiting moves."""
    store, clock = Store(tmp_path), [0.0]
    run(store, codec, photographs[:1])

    def vanishing(files):
        if clock[0] < gone:
            raise FileNotFoundError
        return _rows(files)

    monkeypatch.setattr("sgaplus.store._rows", vanishing)
    monkeypatch.setattr("sgaplus.store.time.sleep", lambda seconds: clock.append(clock.pop() + seconds))
    gone = 2.0
    assert len(keys(store)) == 1
    gone = 3600.0
    with pytest.raises(UserError, match="change all the time: wait until the other runs have ended"):
        store.load()


def test_rows_that_another_process_packs_meanwhile_are_found(tmp_path, codec, photographs, monkeypatch):
    store = Store(tmp_path / "results")
    before = run(store, codec, photographs[:1])
    ordinary = os.listdir

    def packed_after(folder):
        names = ordinary(folder)
        monkeypatch.setattr(os, "listdir", ordinary)
        store.pack("all")
        return names

    monkeypatch.setattr(os, "listdir", packed_after)
    assert_same_rows(before, store.load())


@pytest.mark.slow
def test_damage_is_noticed_and_nothing_has_to_be_deleted(tmp_path, codec, photographs):
    """Every bit of a sample is flipped in turn: the rows are refused, or they are still what was written."""
    store = Store(tmp_path / "results")
    table = run(store, codec, photographs[:1])
    (path,) = store.root.rglob("*.parquet")
    good = path.read_bytes()
    refused = 0
    for offset in range(0, len(good), 211):
        flipped = bytearray(good)
        flipped[offset] ^= 1 << offset % 8
        path.write_bytes(flipped)
        try:
            pd.testing.assert_frame_equal(store.load(), table)
        except SystemFault as fault:
            refused += 1
            assert "damaged" in str(fault) and f"rename it to {path.name}.damaged" in str(fault)
            assert "\n" not in str(fault)
    assert refused > len(good) / 211 / 3
    path.write_bytes(good[:-20])
    with pytest.raises(SystemFault, match=r"jobs.*\.parquet is damaged"):
        store.load()
    path.rename(path.with_suffix(".parquet.damaged"))
    pd.testing.assert_series_equal(run(store, codec, photographs[:1])["loss"], table["loss"])


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (PermissionError(13, "Permission denied"), UserError, "Permission denied"),
        (OSError(5, "Input/output error"), SystemFault, "input/output error"),
        (MemoryError("no memory"), MemoryError, "no memory"),
    ],
)
def test_what_is_no_damage_is_not_called_so(tmp_path, codec, photographs, monkeypatch, error, kind, said):
    store = Store(tmp_path / "results")
    run(store, codec, photographs[:1])

    def fails(self):
        raise error

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(kind, match=said) as caught:
        store.load()
    assert not {"damaged", "delete", "remove", "rename"} & set(str(caught.value).split())


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, UserError), (errno.EMFILE, SystemFault)])
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch, number, kind):
    def fails(top):
        raise OSError(number, os.strerror(number), str(top))

    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(kind, match="cannot be read"):
        Store(tmp_path).load()


def test_a_table_of_something_else_is_named(tmp_path, codec, photographs):
    store = Store(tmp_path / "results")
    run(store, codec, photographs[:1])
    # A value that is missing would give rows the keys of other jobs.
    gaps = store.load().assign(codec_lmbda=[None, *[0.01] * 2])
    for table in (pd.DataFrame({"image": ["a"], "loss": [1.0]}), gaps):
        table.to_parquet(store.root / "mine.parquet")
        with pytest.raises(UserError, match=r"mine\.parquet is no table.*codec_lmbda.*move it"):
            store.load()


def test_an_empty_store(tmp_path):
    store = Store(tmp_path / "results")
    assert keys(store) == set() and store.load().empty
    with pytest.raises(UserError, match="holds no results"):
        unplanned.rows(store)


def written(store: Store, job: jobs.Job, codec: Codec, photograph, stream: str | None, seed: int = 0):
    """Store a job as `refine` gives it, with or without its file, which is not written here."""
    settings = {"iterations": 2, "seed": seed, "streams": stream is not None}
    run = sgaplus.refine(codec, [photograph.read()], "ssl", names=[job.image], **settings)
    store.put(job, jobs.rows_of_run(job, run, codec.device, stream))
    return run


@pytest.fixture
def job(codec, photographs) -> jobs.Job:
    names = {"codec": codec.name, "codec_lmbda": codec.lmbda, "codec_sha256": codec.sha256}
    numbers = {"lmbda": 0.01, "iterations": 2, "read_offs": (), "trace_every": 1, "seed": 0}
    return jobs.job_of(plans.plan("ssl"), photographs[0], **names, **numbers, dtype="float32")


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
