"""The loop over shards, on an engine that goes wrong."""

import json
from concurrent.futures import CancelledError, Future

import pandas as pd
import pytest

from sgaplus import hardware
from sgaplus.errors import SystemFault, UserError
from sgaplus.studies import planning, stored
from sgaplus.studies.execution import dispatch, shards
from sgaplus.studies.execution.engines import Engine, Refusal, Sign
from sgaplus.studies.running import run
from tests.test_studies import tiny

METHODS = {"methods": ["base", "ssl"]}


def rows(study, root):
    table = stored.stored_rows(study, "cpu", root).drop(columns=["seconds", "written", "device"])
    return table.sort_values(["key", "iteration"], ignore_index=True)


@pytest.fixture
def study(tmp_path, bundled):
    return tiny(tmp_path, **METHODS)


@pytest.fixture
def expected(study, tmp_path):
    assert run(study, "cpu", device="cpu", root=tmp_path / "expected") == 0
    return rows(study, tmp_path / "expected")


class Troubled(Engine):
    """This process, in which a shard's first attempts end as they are told to."""

    losses = (ConnectionError,)
    workers = 2

    def __init__(self, *ends):
        super().__init__("cpu")
        self.slots, self.ends, self.asked, self.refused, self.revived = 2, list(ends), [], [], 0

    def submit(self, shard, order, hear):
        self.asked.append(len(shard.tasks))
        if not self.ends:
            return super().submit(shard, order, hear)
        end, future = self.ends.pop(0), Future()
        if isinstance(end, Refusal):
            future.set_result(end)
        else:
            hear(Sign(shard.number, "somewhere", -1.0))
            future.cancel() if isinstance(end, CancelledError) else future.set_exception(end)
        return future

    def refuse(self, refusal):
        self.refused.append(refusal)

    def revive(self):
        self.revived += 1


ENDS = {"lost": ConnectionError("gone"), "cut": CancelledError(), "unfit": Refusal("w", "another torch")}


def test_a_shard_that_was_lost_runs_again_as_it_is(study, expected, tmp_path):
    for name, end in ENDS.items():
        engine = Troubled(end)
        assert run(study, "cpu", device="cpu", root=tmp_path / name, engine=engine) == 0
        assert engine.asked == [3, 3, 3]
        assert (len(engine.refused), engine.revived) == (name == "unfit", name == "cut")
        pd.testing.assert_frame_equal(rows(study, tmp_path / name), expected, check_exact=True)


def test_a_shard_without_memory_is_halved_until_one_image_alone_fails(study, tmp_path, monkeypatch):
    engine = Troubled(MemoryError("full"), MemoryError("full"))
    log, found = tmp_path / "log.jsonl", []
    run(study, "cpu", device="cpu", root=tmp_path / "r", engine=engine, log=log, summarise=found.append)
    assert sorted(engine.asked) == [1, 1, 2, 2, 3, 3]
    [summary] = found
    assert summary.stored == 6 and not summary.failures

    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(shards, "refine", full)
    engine = Troubled()
    with pytest.raises(SystemFault, match=r"6 jobs of study tiny.*not enough memory"):
        run(study, "cpu", device="cpu", root=tmp_path / "s", engine=engine, log=log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines] == ["stored"] * 6 + ["failed"] * 6
    assert all("memory" in line["reason"] for line in lines[6:])


def test_a_job_that_kills_every_worker_is_given_up(study, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "_DEATHS", 3)
    engine = Troubled(*[ConnectionError("gone")] * 100)
    with pytest.raises(SystemFault, match=r"6 jobs .*gone, . times"):
        run(study, "cpu", device="cpu", root=tmp_path / "r", engine=engine)
    # Three times before a step is done: memory may be short, so each shard is halved; one image has as many.
    assert [engine.asked.count(size) for size in (3, 2)] == [6, 6] and set(engine.asked) == {1, 2, 3}


def test_no_worker_is_left(study, tmp_path):
    class Alone(Troubled):
        def refuse(self, refusal):
            raise UserError(f"no worker can take part: {refusal.reason}")

    with pytest.raises(UserError, match="another torch"):
        run(study, "cpu", device="cpu", root=tmp_path / "r", engine=Alone(Refusal("w", "another torch")))
    assert list((tmp_path / "r").rglob(".shared-*")) == []


def test_memory_is_learned_from_shards(study):
    task = planning.plan(study, "cpu")[0]
    pixels = 64 * 64
    room = planning.Room("cpu", free=4.5 * pixels * 1000)
    assert room.pixels(task.codec) > 3 * pixels, "by the table all three fit"
    room.learn(task.codec, 1000.0)
    groups = list(planning.together(planning.plan(study, "cpu"), room))
    assert [len(group) for group in groups] == [3, 3]
    room.learn(task.codec, 2000.0)
    room.learn(task.codec, 1000.0)
    assert [len(group) for group in planning.together(planning.plan(study, "cpu"), room)] == [1] * 6


def test_a_run_teaches_its_room(study, tmp_path, monkeypatch):
    learned = []
    monkeypatch.setattr(planning.Room, "learn", lambda room, codec, taken: learned.append(taken))
    monkeypatch.setattr(hardware, "_high_water", iter(range(0, 10**9, 10**6)).__next__)
    run(study, "cpu", device="cpu", root=tmp_path / "r")
    assert learned == [10**6 / (3 * 64 * 64)] * 2


def test_what_a_worker_lacks_is_said(study, tmp_path, monkeypatch):
    task = planning.plan(study, "cpu")[1]
    gone = task.image.path.with_name("gone.png")
    monkeypatch.setattr(shards, "find_photograph", lambda name, sha256: None)
    broken = shards.replace(task, image=shards.replace(task.image, path=gone))
    order = shards.Order(tmp_path, tmp_path, "0")
    with pytest.raises(shards.Unfit, match=r"gone\.png nor in a data set.*sgaplus data fetch"):
        shards.compute(shards.Shard((broken,), 0), order, lambda done: None)


def test_a_log_that_cannot_be_written_is_refused_first(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the log"):
        run(study, "cpu", device="cpu", root=tmp_path / "r", log=tmp_path / "file" / "log.jsonl")
    assert not (tmp_path / "r").exists()
