"""Races of the preset against the plain loop: what a line holds, that a race goes on, what the page says."""

import dataclasses

import pandas as pd
import pytest
import torch
from PIL import Image

from companion import tables
from companion.pages import races
from sgaplus import datasets, refine
from sgaplus.bench import baseline, race
from sgaplus.cli.terminal import app
from sgaplus.codecs.bundled import cards
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.series import series
from sgaplus.errors import UserError
from tests.conftest import untrained, write_photo

SHORT = race.Settings(iterations=3, reference_iterations=5)


def codec(dtype: str = "float32") -> Codec:
    return Codec("untrained", 0.01, freeze(untrained()), sha256="a" * 64).to("cpu", dtype)


@pytest.fixture
def photos(tmp_path) -> list[datasets.ImageFile]:
    for seed, name in enumerate("ab"):
        write_photo(tmp_path / "photos" / f"{name}.png", (128, 64), seed=seed)
    return datasets.list_images(tmp_path / "photos")


@pytest.fixture
def clock(monkeypatch) -> None:
    """A stopwatch that the plain loop moves on by 30 s a run, and ours by 2 s."""
    time = [0.0]
    monkeypatch.setattr(race, "now", lambda device: time[0])

    def wrap(function, seconds):
        def run(*arguments, **named):
            time[0] += seconds
            return function(*arguments, **named)

        return run

    monkeypatch.setattr(race, "reference_refine", wrap(baseline.reference_refine, 30))
    monkeypatch.setattr(race, "refine", wrap(refine, 2))


@pytest.mark.slow
def test_a_line_has_the_losses_of_both_loops(photos, tmp_path, clock):
    table = race.run(tmp_path / "race.csv", codec(), photos, SHORT)
    assert table["image"].tolist() == ["a", "b"]
    assert table["reference_seconds"].tolist() == [30, 30] and table["seconds"].tolist() == [2, 2]
    assert set(zip(table["width"], table["height"], strict=True)) == {(128, 64)}
    for image, line in zip(photos, table.itertuples(), strict=True):
        x = image.read()
        run = refine(codec(), [x], "fast", iterations=3, trace_every=3, seed=0)
        assert [line.base_loss, line.loss] == pytest.approx(run.rows["loss"].tolist(), rel=1e-12)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, true = baseline.reference_refine(baseline.plain_model(codec()), x[None], 0.01, 5)
        assert line.reference_loss == pytest.approx(true[-1], rel=1e-4)
    assert {"git_commit", "device", "torch_version", "written", "threads"} <= set(table)


@pytest.mark.slow
def test_a_race_goes_on_where_it_stopped(photos, tmp_path):
    path, calls, state = tmp_path / "race.csv", [], torch.random.get_rng_state()
    first = race.run(path, codec(), photos[:1], SHORT)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers stay"
    both = race.run(path, codec(), photos, SHORT, progress=lambda *done: calls.append(done))
    assert calls[-1] == (5, 5), "one photograph is left"
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    pd.testing.assert_frame_equal(both[:1], first, check_dtype=False)
    again = race.run(path, codec(), photos[::-1], SHORT)
    pd.testing.assert_frame_equal(again, both)
    other = race.run(path, codec(), photos[:1], race.Settings(4, 5))
    assert other["iterations"].tolist() == [4] and len(race.read(path)) == 3


def test_races_into_one_table_keep_each_others_lines(photos, tmp_path, monkeypatch):
    path, losses = tmp_path / "race.csv", dict(zip(race.MEASURED, (3, 2, 1, 3, 1), strict=True))

    def another_ends_first(*_):
        monkeypatch.setattr(race, "_race", lambda *_: losses)
        race.run(path, codec(), photos[1:], SHORT)
        return losses

    monkeypatch.setattr(race, "_race", another_ends_first)
    race.run(path, codec(), photos[:1], SHORT)
    assert sorted(race.read(path)["image"]) == ["a", "b"]


@pytest.mark.parametrize("name", ["NA", "007"])
def test_a_photograph_whose_name_looks_like_something_else(photos, tmp_path, monkeypatch, name):
    losses = dict(zip(race.MEASURED, (3, 0.1 + 0.2, 1, 3, 1), strict=True))
    monkeypatch.setattr(race, "_race", lambda *_: losses)
    image = dataclasses.replace(photos[0], name=name)
    race.run(tmp_path / "race.csv", codec(), [image], SHORT)
    monkeypatch.setattr(race, "_race", lambda *_: pytest.fail("raced again"))
    (line,) = race.run(tmp_path / "race.csv", codec(), [image], SHORT).itertuples()
    assert line.image == name and line.reference_loss == 0.1 + 0.2


def test_the_preset_runs_while_the_plain_loop_pauses(photos, tmp_path, monkeypatch):
    done, calls, ours = [], [], race._ours
    steps = race.Settings(iterations=2, reference_iterations=20)
    monkeypatch.setattr(race, "_ours", lambda *_: done.append(len(calls)) or ours(*_))
    table = race.run(tmp_path / "race.csv", codec(), photos[:1], steps, lambda *step: calls.append(step))
    (line,) = table.itertuples()
    assert done[-race.PAUSES :] == [1, 5, 9, 13, 17], "evenly, each before its step is reported"
    assert line.cpu_seconds > 0 and line.reference_cpu_seconds > 0


def test_what_cannot_race_is_refused(photos, tmp_path):
    Image.new("RGB", (100, 64)).save(tmp_path / "odd.png")
    with pytest.raises(UserError, match="sides of odd must be multiples of 64, not 100×64"):
        race.run(tmp_path / "race.csv", codec(), datasets.list_images(tmp_path / "odd.png"), SHORT)
    assert not (tmp_path / "race.csv").exists()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no table of races"):
        race.run(tmp_path / "other.csv", codec(), photos, SHORT)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        race.read(tmp_path / "empty.csv")
    with pytest.raises(UserError, match=r"nowhere\.csv cannot be read: No such file"):
        race.read(tmp_path / "nowhere.csv")
    for wrong in ({"iterations": 0}, {"reference_iterations": True}, {"preset": "slow"}):
        with pytest.raises(UserError):
            race.Settings(**wrong)


# The page


def stored(folder, codec_sha256: str, changes=(0.98, 0.99, 0.97)):
    folder.mkdir(exist_ok=True)
    lines = [
        dict.fromkeys(race.COLUMNS, "x")
        | {"codec": "mshyper", "codec_lmbda": 0.01, "codec_sha256": codec_sha256, "preset": "fast"}
        | {"plan": race.plan_text("fast", 100)}
        | {"iterations": 100, "reference_iterations": 500, "image": f"kodim{i:02d}", "device": "a processor"}
        | {"width": 768 - 256 * (i % 2), "height": 512 + 256 * (i % 2), "dtype": "bfloat16"}
        | {"base_loss": 1.2, "reference_loss": 1.0, "loss": change}
        | {"reference_seconds": 300.0 + 30 * i, "seconds": 10.0}
        for i, change in enumerate(changes)
    ]
    pd.DataFrame(lines).to_csv(folder / "races.csv", index=False)


def test_the_page_has_medians_and_an_interval(tmp_path, bundled):
    stored(tmp_path / "race", cards()[0].sha256)
    rows = races.load(tmp_path / "race")
    (line,) = races.summary(rows).to_dict("records")
    assert (line["images"], line["width"], line["height"]) == (3, 768, 512), "upright or not is one size"
    assert (line["ratio"], line["ratio_low"], line["ratio_high"]) == pytest.approx((33, 30, 36))
    assert line["change"] == pytest.approx(-2) and line["verdict"] == "lower"
    assert -3.01 <= line["change_low"] < -2 < line["change_high"] <= -0.99
    assert (line["reference_seconds"], line["seconds"]) == (330, 10)
    for frame, columns in ((races.summary(rows), "race-means"), (rows, "race")):
        html = tables.ci_table(frame, columns, row=races.KIND).as_raw_html()
        assert "100 iterations of fast against 500 steps" in html and "−2.00" in html


def test_the_first_page_has_the_largest_pictures_of_each_processor():
    lines = [("one", 300, 30.0), ("one", 200, 20.0), ("another", 210, 21.0)]
    kinds = pd.DataFrame(lines, columns=["device", "width", "ratio"])
    kinds = kinds.assign(height=kinds["width"], codec="mshyper")
    ours = series("mshyper-s")
    assert races.largest(kinds, ours)["ratio"].tolist() == [21, 30], "any bundled codec counts"
    assert races.largest(kinds.assign(codec="own"), ours).empty


def test_the_commands_are_those_of_the_kinds(tmp_path, bundled):
    stored(tmp_path / "race", cards()[0].sha256)
    rows = races.load(tmp_path / "race")
    crops = rows.assign(image=rows["image"] + "@256", width=256, height=256, iterations=400)
    other = crops.assign(image="0c49a5cce349020bbba2f97ae41e90ba@640", width=640, height=640)
    *commands, of_the_other = races.command(pd.concat([rows, crops, other]), "r.csv").split("; ")
    assert of_the_other.startswith("sgaplus race clic2025 --codec mshyper --lmbda 0.01 --crop 640 ")
    start = "sgaplus race kodak --codec mshyper --lmbda 0.01"
    assert commands == [
        f"{start}{crop} --preset fast --iterations {budget} --reference-iterations 500 --out r.csv"
        for crop, budget in (("", 100), (" --crop 256", 400))
    ]


def test_races_of_other_weights_are_not_shown(tmp_path, bundled):
    with pytest.raises(UserError, match="holds no races: run `sgaplus race"):
        races.load(tmp_path)
    stored(tmp_path / "race", "f" * 64)
    with pytest.raises(UserError, match="sha256 ffffffff…, which is not the bundled one"):
        races.load(tmp_path / "race")
    stored(tmp_path / "race", cards()[0].sha256)
    (tmp_path / "race/races.csv").write_text(
        (tmp_path / "race/races.csv").read_text().replace("soap", "adam")
    )
    with pytest.raises(UserError, match="races of an earlier fast, with 100 iterations: remove"):
        races.load(tmp_path / "race")


# The command


def test_the_command_races_and_says_who_was_sooner(tmp_path, photos, monkeypatch, capsys):
    monkeypatch.setattr("sgaplus.codecs.weights.load_codec", lambda *_, **__: codec())
    arguments = ["race", str(photos[0].path), "--out", str(tmp_path / "r.csv"), "--crop", "64"]
    app([*arguments, "--iterations", "3", "--reference-iterations", "5"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "5 steps" in said and "3 of fast" in said and "a@64" in said
    assert len(race.read(tmp_path / "r.csv")) == 1
    with pytest.raises(UserError, match=r"ends in \.csv"):
        app(["race", str(photos[0].path), "--out", str(tmp_path / "r.json")], standalone_mode=False)
