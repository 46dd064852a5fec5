"""From an empty cache to a page of the book, with a server on this machine in place of the network."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from sgaplus.data import sources
from sgaplus.errors import SystemFault
from sgaplus.studies import reproduce, schema
from tests.conftest import WIDTHS, assert_refused, untrained, write_photo
from tests.test_build import write_pages, write_template
from tests.test_checkpoints import write_checkpoint
from tests.test_studies import TINY, write_study

REPOSITORY = Path(__file__).parents[1]
LAMBDAS = [0.013, 0.0035]
PAPER = {"about": "The paper's protocol.", "device": "cuda", "codec": "mbt2018-mean", "dtype": "float32"}
SETTINGS = {"methods": ["base", "atanh", "ssl"], "iterations": 4, "read_offs": [2], "trace_every": 2}


def serve_codecs(folder: Path) -> dict[int, str]:
    """Small untrained models under names as the zoo's files have them, by quality."""
    names = {}
    for quality in range(1, 9):
        path = write_checkpoint(folder / "new", untrained(seed=quality).state_dict())
        names[quality] = f"mbt2018-mean-{quality}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth.tar"
        path.rename(folder / names[quality])
    return names


@pytest.fixture
def checkout(tmp_path, server):
    """A checkout with copies of the code, whose zoo and data sets are small ones on the server."""
    folder, url = server.folder, server.url
    root = tmp_path / "checkout"
    for package in ("sgaplus", "book/lib/companion"):
        shutil.copytree(REPOSITORY / package, root / package)
    codecs = serve_codecs(folder)
    with (root / "sgaplus" / "codecs" / "zoo.py").open("a", encoding="utf-8") as code:
        code.write(
            f"\n\n_URLS = {{quality: '{url}/' + name for quality, name in {codecs!r}.items()}}\n"
            "URLS['mbt2018-mean']['mse'] = _URLS\n"
            "for _quality in _URLS:\n"
            f"    published()['mbt2018-mean', _quality] |= dict(zip('NM', {WIDTHS}))\n"
        )
    photos = [write_photo(folder / f"kodim{number}.png", (64, 64), seed=number) for number in (1, 2, 3)]
    sums = [f"{hashlib.sha256(photo.read_bytes()).hexdigest()}  {photo.name}\n" for photo in photos]
    (root / "sgaplus" / "data" / "registry" / "kodak.sha256").write_text("".join(sums))
    with (root / "sgaplus" / "data" / "sources.py").open("a", encoding="utf-8") as code:
        code.write(f"""SOURCES["kodak"] = Source("small", 3, (64, 64), "", ("{url}/{{file}}",))\n""")
    (root / "data" / "studies").mkdir(parents=True)
    for name, lmbdas in (("rd", LAMBDAS), ("clic", LAMBDAS[:1])):
        grids = [SETTINGS | {"dataset": "kodak", "train_lmbdas": lmbdas}]
        study = TINY | {"profiles": {"paper": PAPER | {"grids": grids}}}
        write_study(root / "data" / "studies", study, name)
    (root / "notebooks").mkdir()
    shows = "rows = provenance.load('rd', profile)\nprint(provenance.about('rd', profile), {*rows['codec']})"
    write_template(root, f"from companion import provenance\n\n{shows}", declared="profile = 'cpu'")
    write_pages(root, {"name": "curves", "template": "tiny"})
    (root / "requirements.lock").touch()
    return root


@pytest.mark.slow
def test_the_whole_path_from_an_empty_cache_to_a_page(checkout, server, tmp_path):
    paths = (checkout, checkout / "book" / "lib")
    environment = {name: value for name, value in os.environ.items() if name != "SGAPLUS_DATA"}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment |= {"NO_PROXY": "127.0.0.1", "COLUMNS": "200"}
    command = [sys.executable, "-W", "ignore", "-m", "sgaplus", "reproduce", "--profile", "paper"]
    done = subprocess.run(
        [*command, "--device", "cpu"], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # What it takes is said before, what is fetched is whole, what is computed is stored.
    assert re.search(r"hours .*GB to download \(mbt2018-mean, kodak\).*memory", done.stdout)
    assert len(list((tmp_path / "cache").rglob("mbt2018-mean-*.pth.tar"))) == 8
    assert len(server.asked) == len(set(server.asked)) == 8 + 3
    results = checkout / "data" / "results"
    curves = pd.read_parquet(results / "rd" / "paper" / "rows.parquet")
    assert set(curves["codec_lmbda"]) == set(LAMBDAS) and set(curves["codec"]) == {"mbt2018-mean"}
    assert curves["key"].nunique() == 3 * 2 * 3
    assert curves["codec_sha256"].nunique() == 2
    others = pd.read_parquet(results / "clic" / "paper" / "rows.parquet")
    assert others["key"].nunique() == 3 * 3
    # The page is that of the profile and says so.
    page = json.loads((checkout / "book" / "executed" / "curves.ipynb").read_text())
    text = json.dumps(page, ensure_ascii=False)
    assert "The paper's protocol." in text and "mbt2018-mean" in text
    assert "There is no page of profile" not in text
    assert page["metadata"]["sgaplus"]["parameters"]["profile"] == "paper"


# What it takes


@pytest.fixture
def studies(tmp_path, monkeypatch, bundled, no_zoo):
    """Two studies of Kodak, which is not here, one with a codec that is not here either."""
    monkeypatch.setenv("SGAPLUS_DATA", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(schema, "folder", lambda: tmp_path / "studies")
    (tmp_path / "studies").mkdir()
    grid = SETTINGS | {"dataset": "kodak", "iterations": 2000, "trace_every": 100}
    for name, codec, lmbda in (("ssl-a", "mshyper-s", 0.01), ("rd", "mbt2018-mean", 0.013)):
        content = PAPER | {"codec": codec, "grids": [grid | {"train_lmbdas": [lmbda]}]}
        write_study(tmp_path / "studies", TINY | {"profiles": {"paper": content}}, name)
    return tmp_path / "results"


def test_what_a_profile_takes(studies):
    chosen = reproduce.studies_of("paper")
    assert [study.name for study in chosen] == ["rd", "ssl-a"], "in the order of their worth"
    gpu = reproduce.need(chosen, "paper", "cuda", studies)
    assert gpu.table["jobs"].tolist() == [72, 72] and gpu.table["stored"].tolist() == [0, 0]
    assert gpu.hours == pytest.approx(gpu.table["hours"].sum()) and gpu.hours > 0 and not gpu.measured
    assert [one.spec for one in gpu.series] == ["mbt2018-mean"] and gpu.datasets == ["kodak"]
    assert gpu.gigabytes == pytest.approx(0.39 + 0.014, abs=0.01)
    # 24 photographs of Kodak are refined together on a GPU, four on a CPU.
    cpu = reproduce.need(chosen, "paper", "cpu", studies)
    assert gpu.memory == pytest.approx(6 * cpu.memory) and cpu.hours > 10 * gpu.hours


def test_a_dry_run_does_nothing(studies, command, monkeypatch):
    """Workers elsewhere have GPUs that this computer lacks."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, where in (("cuda", "GPU"), ("auto", "GPU"), ("cpu", "CPU")):
        arguments = ("--scheduler", "tcp://127.0.0.1:1", "--results", studies, "--device", device)
        code, out, err = command("reproduce", *arguments, "--dry-run")
        assert (code, err) == (0, "") and f"profile paper on a {where}" in out
        assert out.index(" rd ") < out.index(" ssl-a ")
        assert re.search(r"about [\d.]+ hours .*, 0\.4 GB to download \(mbt2018-mean, kodak\)", out)
    assert not studies.exists() and not sources.folder_of("kodak").exists()


def test_a_profile_that_no_study_has(studies, command):
    assert_refused(command("reproduce", "--profile", "gpu"), "no study has a profile 'gpu'")


def test_what_cannot_be_fetched_is_left_out(studies, command, monkeypatch):
    monkeypatch.setattr("sgaplus.cli.reproducing._make_pages", lambda profile: None)
    for module in ("codecs.zoo", "data.downloads"):
        monkeypatch.setattr(f"sgaplus.{module}.download", mock.Mock(side_effect=SystemFault("no network")))
    code, _, error = command("reproduce", "--device", "cpu", "--results", studies)
    assert code == 1
    assert "note: mbt2018-mean is left out for now: no network" in error
    assert "note: kodak is left out for now: no network" in error
    assert "2 of 2 studies are not complete (rd, ssl-a)" in error
