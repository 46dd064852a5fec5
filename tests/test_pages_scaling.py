"""The page on scaling: its estimate is what a schedule by hand gives, and its tables say what is stored."""

import pandas as pd
import pytest

from companion.pages import scaling
from sgaplus.errors import UserError
from sgaplus.studies.execution.journal import Journal
from sgaplus.studies.execution.shards import Done

COLUMNS = ["study", "jobs", "megapixel_iterations", "operations", "count"]
LINES = [("rd", 24, 10.0, 4e9, 2), ("rd", 6, 5.0, 2e9, 1), ("clic", 1, 1.0, 1e9, 3)]
PROTOCOL = pd.DataFrame(LINES, columns=COLUMNS)


def test_shards_go_to_whichever_gpu_is_free():
    seconds = scaling.shards(PROTOCOL, 1e9)
    assert seconds == [4, 4, 2, 1, 1, 1]
    assert [scaling.makespan(seconds, gpus) for gpus in (1, 2, 3, 64)] == [13, 7, 5, 4]


def test_the_estimate_counts_idle_gpus():
    table = scaling.estimate(PROTOCOL, 1e9 / 3600, 500.0, [1, 2, 64]).set_index("gpus")
    assert table["hours"].tolist() == pytest.approx([13, 7, 4])
    assert table["busy"].tolist() == pytest.approx([100, 100 * 13 / 14, 100 * 13 / 256])
    assert table["energy"].tolist() == pytest.approx([6.5, 7, 128])


def test_the_overhead_of_a_shard_is_what_one_worker_takes_beyond_one_process(tmp_path):
    columns = {"jobs": 12, "shards": 4, "idle": 0.1, "load": 1.0}
    walls = {(0, 20.5, 20.0), (1, 22.0, 19.5), (2, 11.0, 20.0)}
    table = pd.DataFrame([{"workers": n, "wall": wall, "busy": busy} | columns for n, wall, busy in walls])
    table.to_csv(tmp_path / "measure.csv", index=False)
    found = scaling.measured(tmp_path)
    assert found["outside"].tolist() == pytest.approx([0.5, 2.5, 1.0])
    assert scaling.overhead(found) == pytest.approx(0.5)


def test_a_table_that_is_not_stored_names_its_command(tmp_path):
    with pytest.raises(UserError, match=r"python -m companion\.scaling_runs simulate"):
        scaling.load(tmp_path, "simulate")


def test_idle_time_is_what_workers_did_not_compute(monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("sgaplus.studies.execution.journal.time.monotonic", lambda: next(clock))
    journal = Journal()
    journal.look(2)
    journal.done(Done("a", 12.0))
    journal.done(Done("b", 6.0))
    journal.look(1)
    summary = journal.summary()
    assert summary.idle == pytest.approx(1 - 18 / 30)
    assert summary.seconds == {"a": 12.0, "b": 6.0}
