"""What README.md says: its numbers, its folders, its example."""

import re
from pathlib import Path

import bjontegaard
import pandas as pd
import pytest

import sgaplus
from companion import statistics
from sgaplus.studies import stored
from tests.conftest import write_photo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = " ".join(README.split())


def test_the_saving_is_that_of_the_stored_rows():
    [said] = re.findall(r"(\d+) iterations of SSL save ([\d.]+) % of the bits at equal PSNR", PROSE)
    rows = stored.stored_rows("rd", "cpu")
    rows = rows[rows["image"].str.fullmatch(r"kodim\d\d")]
    curves = []
    for method, iteration in (('{"method": "map"}', 0), ('{"method": "ssl", "a": 2.3}', int(said[0]))):
        chosen = rows[(rows["method"] == method) & (rows["iteration"] == iteration)]
        assert chosen["image"].nunique() == 24
        means = chosen.groupby("codec_lmbda")[["bpp", "psnr"]].mean()
        curves += [means["bpp"].to_numpy(), means["psnr"].to_numpy()]
    assert bjontegaard.bd_rate(*curves, method="pchip") == pytest.approx(-float(said[1]), abs=0.05)


def test_the_preset_reaches_a_lower_loss_in_fewer_iterations():
    [said] = re.findall(
        r"method, iterations=(\d+).*\n.*iterations=(\d+)\)  # a preset; reaches a lower loss than that",
        README,
    )
    parts = []
    for study, method, iterations in (("fast", "quadratic", said[1]), ("rd", "ssl", said[0])):
        rows = stored.stored_rows(study, "cpu")
        rows = rows[rows["image"].str.fullmatch(r"kodim\d\d") & rows["method"].str.contains(f'"{method}"')]
        rows = rows[(rows["iterations"] == int(iterations)) & (rows["iteration"] == int(iterations))]
        parts.append(rows.assign(configuration=study))
    found = statistics.paired_means(pd.concat(parts), "loss", "rd", ["lmbda"]).set_index("lmbda")
    [(lower, alike, percent, higher)] = re.findall(
        r"from λ = ([\d.]+) on, one that is not significantly different at ([\d.]+), and a (\d) % higher"
        r" one at (\d\.\d+)",
        PROSE,
    )
    assert len(found) == 7 and (found["images"] == 24).all()
    assert (found.loc[float(lower) :, "verdict"] == "lower").all()
    assert found.loc[float(alike), "verdict"] == "not significantly different"
    assert found.loc[float(higher), "verdict"] == "higher" and len(found.loc[float(lower) :]) == 5
    assert round(found.loc[float(higher), "change"]) == int(percent)


def test_the_files_grow_at_as_many_lambda_as_the_stored_rows_say():
    rows = stored.stored_rows("rd", "cpu")
    rows = rows[rows["image"].str.fullmatch(r"kodim\d\d")]
    base, refined = (
        rows[rows["method"].str.contains(name) & (rows["iteration"] == at)]
        .groupby("codec_lmbda")["bpp"]
        .mean()
        for name, at in (('"map"', 0), ('"ssl"', 500))
    )
    [said] = re.findall(r"at three of (\w+) λ the files even grow", PROSE)
    assert said == "seven" and len(base) == 7 and (refined > base).sum() == 3


def test_the_preset_is_as_much_sooner_as_the_stored_races_say():
    [said] = re.findall(
        r"A plain loop takes (\d+) to (\d+) times as long .* AMD EPYC without matrix tiles, and"
        r" (\d+) to (\d+) times on one of an Intel Xeon with them",
        PROSE,
    )
    races = pd.read_csv(ROOT / "data/results/race/photographs.csv")
    devices = ["AMD EPYC, 1 thread", "Intel(R) Xeon(R) Processor, 1 thread"]
    assert sorted(set(races["device"])) == devices and set(races["preset"]) == {"fast"}
    assert set(races["iterations"]) == {25} and set(races["reference_iterations"]) == {500}
    ratios = races["reference_seconds"] / races["seconds"]
    medians = ratios.groupby([races["device"], races["width"]]).agg(["median", "size"])
    assert (medians["size"] == 4).all()
    for device, named in zip(devices, (said[:2], said[2:]), strict=True):
        assert sorted(medians.loc[device, "median"].round()) == [float(ratio) for ratio in named]


def test_every_folder_of_the_table_is_there():
    named = re.findall(r"`([\w/]+/)`", README.split("## What is where")[1])
    assert {"sgaplus/refinement/", "book/lib/companion/", "tests/"} <= set(named)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    folders = {f"sgaplus/{path.parent.name}/" for path in ROOT.glob("sgaplus/*/__init__.py")}
    assert folders <= set(named), "no folder of the package is left out"


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "photo.png")
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found: dict = {}
    exec(re.sub(r"iterations=\d+", "iterations=2", code), found)
    assert found["run"].rows["iteration"].tolist() == [0, 2]
    assert sgaplus.decode(found["data"]).shape == found["image"].shape
