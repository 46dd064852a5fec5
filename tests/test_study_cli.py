"""``sgaplus study``: what it shows, and one sentence for every mistake."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sgaplus import refine
from sgaplus.studies import schema
from sgaplus.studies.execution import shards
from tests.conftest import write_codec
from tests.test_studies import GRID, TINY, tiny, write_study


@pytest.fixture
def call(call, monkeypatch, bundled, tmp_path):
    """Run a command line where two tiny studies are all there are; gives exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(schema, "folder", lambda: tmp_path / "studies")
    (tmp_path / "studies").mkdir()
    tiny(tmp_path / "studies")
    write_codec(bundled, lmbda=0.02, seed=1)
    tiny(tmp_path / "studies", "other", methods=["atanh"], train_lmbdas=[0.01, 0.02])
    return lambda *arguments, results="rows": call(
        "study", *arguments, *(["--results", results] if results else [])
    )


def columns(text: str, first: str) -> list[str]:
    """The cells of the row of a table that begins with ``first``."""
    (line,) = [line for line in text.splitlines() if re.match(rf"\s+{first} ", line)]
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.slow
def test_list_status_and_run(call, monkeypatch):
    code, out, err = call("list")
    assert code == 0
    assert columns(out, "tiny")[:5] == ["tiny", "cpu", "cpu", "9", "0"]
    assert columns(out, "tiny")[-1] == "assumed"
    assert columns(out, "other")[3:5] == ["6", "0"]
    assert re.search(r"cpu: 0 minutes, of which 0 are left", out)
    assert err == ""

    code, out, err = call("run", "tiny", "--device", "cpu")
    assert code == 0, err
    assert err.startswith("tiny, profile cpu: 9 of 9 jobs to do, about 0 minutes\n")
    assert "9 of 9 jobs, 0 minutes left: mshyper-s, λ 0.01, atanh (SGA), 4 iterations, seed 0" in err
    assert out == "tiny, profile cpu: rows are in rows/tiny/cpu\n"
    assert len(pd.read_parquet("rows/tiny/cpu/rows.parquet")) == 21

    code, out, err = call("status", "tiny")
    assert (code, err) == (0, "")
    assert columns(out, "mshyper-s  +0.01  +0.01  base")[-4:] == ["3", "3", "0", "0.0"]
    assert "9 of 9 jobs are stored; about 0 minutes are left" in out and "measured here" in out

    code, out, err = call("status", "other")
    assert code == 0
    assert "0 of 6 jobs are stored, 3 more by other studies" in out
    assert err == ""

    def follow(*arguments, compiled, **others):
        assert compiled
        return refine(*arguments, **others)

    monkeypatch.setattr(shards, "refine", follow)
    code, out, err = call("run", "tiny", "other", "--device", "cpu", "--compile")
    assert code == 0, err
    assert "tiny, profile cpu: 0 of 9 jobs to do" in err
    assert "3 of 6 jobs: 3 jobs copied from other studies" in err
    rows = pd.read_parquet("rows/other/cpu/rows.parquet")
    assert set(rows.loc[rows["device"].str.endswith(", compiled"), "codec_lmbda"]) == {0.02}
    code, out, err = call("list")
    assert columns(out, "other")[3:5] == ["6", "6"]
    assert columns(out, "tiny")[-1] == "measured"


def test_a_job_that_studies_share_counts_once_in_the_total(call, tmp_path):
    content = yaml.safe_load((tmp_path / "studies" / "tiny.yaml").read_text())
    content["profiles"]["cpu"]["grids"][0]["iterations"] = 600_000
    (tmp_path / "studies" / "other.yaml").unlink()
    write_study(tmp_path / "studies", content)
    _, out, _ = call("list")
    (once,) = re.findall(r"cpu: (\d+) minutes", out)
    assert int(once) > 1
    write_study(tmp_path / "studies", content, "twin")
    _, out, _ = call("list")
    assert f"cpu: {once} minutes" in out
    assert columns(out, "twin")[6] == columns(out, "tiny")[6] != "0.0"


def assert_refused(result, message, code=2):
    found, out, err = result
    assert (found, out) == (code, "")
    line = err.splitlines()[-1]
    assert line.startswith("error: ") and re.search(message, line), err
    assert "Traceback" not in err
    assert not list(Path().rglob("*.parquet"))


def test_mistakes_are_one_sentence(call, tmp_path):
    assert_refused(call("run", "tinny"), "there is no study 'tinny'.*did you mean 'tiny'")
    assert_refused(call("status", "nothing.yaml"), r"there is no study 'nothing.yaml'")
    assert_refused(call("run", "tiny", "--profile", "paper"), "has no profile 'paper': use cpu")
    assert_refused(call("run", "tiny", "other", "--profile", "gpu"), "has no profile 'gpu'")
    assert_refused(call("run", "tiny", "--device", "tpu"), "unknown device 'tpu'")
    tiny(tmp_path / "studies", "absent", train_lmbdas=[0.5])
    assert_refused(call("run", "absent", "--device", "cpu"), "lambda 0.5: choose one of 0.01, 0.02")
    tiny(tmp_path / "studies", "kodak", dataset="kodak", images=None)
    assert_refused(call("run", "kodak", "--device", "cpu"), "sgaplus data fetch kodak")
    write_study(
        tmp_path / "studies", TINY | {"profiles": {"cpu": {"grids": [GRID | {"methods": ["x"]}]}}}, "bad"
    )
    assert_refused(call("list"), r"bad.yaml: line \d+ .*unknown method 'x'")
    Path("file").write_text("in the way")
    assert_refused(call("run", "tiny", "--device", "cpu", results="file"), "cannot write")


def test_what_a_missing_data_set_would_take_is_in_the_list(call, tmp_path):
    for name in ("one", "two"):
        tiny(tmp_path / "studies", name, dataset="kodak", images=None)
    code, out, err = call("list")
    assert code == 0
    assert columns(out, "tiny")[3] == "9"
    assert columns(out, "one")[3:5] == [str(3 * 24), "0"]
    (line,) = [line for line in err.splitlines() if "data fetch kodak" in line]
    assert "24 of the 24 kodak images" in line


@pytest.mark.slow
def test_what_is_wrong_with_one_study_hides_no_other(call, bundled):
    assert call("run", "tiny", "other", "--device", "cpu")[0] == 0
    path = Path("rows/other/cpu/rows.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    code, out, err = call("list")
    assert code == 0
    assert columns(out, "tiny")[3:5] == ["9", "9"]
    assert "rows/other/cpu/rows.parquet is damaged" in err and "other (cpu)" in err
    code, out, err = call("status", "other")
    assert code == 1 and "rows.parquet is damaged" in err
    write_codec(bundled, seed=1)
    code, out, err = call("list")
    assert code == 0
    assert "tiny (cpu): " in err and "not the one of today: rename the folder" in err
