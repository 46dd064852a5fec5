"""Studies: what is written is checked, what is planned is what is stored, and a kill loses nothing."""

import collections
import copy
import functools
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from companion import provenance, unplanned
from sgaplus import bitstream, hardware, io, metrics, parquet, plans, rounding
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.data import datasets
from sgaplus.data.sources import published
from sgaplus.distortion import LAMBDAS
from sgaplus.errors import SystemFault, UserError
from sgaplus.store import Store
from sgaplus.studies import planning, schema, stored
from sgaplus.studies.execution import shards
from sgaplus.studies.running import run
from sgaplus.studies.schema import load_studies, load_study
from tests.conftest import untrained, write_codec
from tests.test_checkpoints import write_checkpoint
from tests.test_store import assert_same_rows, keys

ROOT = Path(__file__).parents[1]
OURS = set(series("mshyper-s").lmbdas)
# On photographs that come with scikit-image.
GRID = {
    "dataset": "sample",
    "images": ["astronaut", "coffee", "chelsea"],
    "crop": 64,
    "methods": ["base", "ssl", "atanh"],
    "train_lmbdas": [0.01],
    "iterations": 4,
    "read_offs": [2],
    "trace_every": 2,
}
TINY = {
    "title": "Tiny",
    "shows": ["nothing"],
    "profiles": {
        "cpu": {"about": "Tiny.", "device": "cpu", "codec": "mshyper-s", "dtype": "float32", "grids": [GRID]}
    },
}


def write_study(folder: Path, content: dict, name: str = "tiny") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def of_grids(folder: Path, *changes: dict, name: str = "tiny") -> schema.Study:
    """A study of 3 crops with these changes of its grid, each a grid."""
    content = copy.deepcopy(TINY)
    content["profiles"]["cpu"]["grids"] = [GRID | change for change in changes]
    return load_study(write_study(folder, content, name))


def tiny(folder: Path, name: str = "tiny", **changes) -> schema.Study:
    """The same with one grid."""
    return of_grids(folder, changes, name=name)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """24 uniform pictures of Kodak's size, and in a folder 23 for CLIC."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(24):
        Image.new("RGB", (768, 512), (number, 0, 0)).save(folder / f"kodim{number + 1:02}.png")
    (folder / "clic2025").mkdir()
    for number, name in enumerate(published("clic2025")):
        Image.new("RGB", (2048, 1365), (number, 1, 0)).save(folder / "clic2025" / name)
    return folder


@pytest.fixture(scope="module")
def planned(stand_ins):
    """The tasks of the repository's studies, with stand-ins for the data sets."""
    folders = {"kodak": stand_ins, "clic2025": stand_ins / "clic2025"}

    def list_planned(name, images=None, crop=None):
        if name in folders:
            return datasets.list_images(folders[name], images=images, crop=crop)
        return datasets.list_planned(name, images, crop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "list_planned", list_planned)
        yield functools.cache(lambda name, profile: planning.plan(load_study(name), profile))


# What is written


def test_every_item_of_the_paper_has_its_study():
    studies = [study for study in load_studies() if "Beyond the paper" not in study.shows]
    assert len(studies) == 9
    for study in studies:
        assert set(study.profiles) == {"paper", "cpu"}
        paper, cpu = study.profiles["paper"], study.profiles["cpu"]
        assert (paper.device, paper.codec) == ("cuda", "mbt2018-mean")
        assert (cpu.device, cpu.codec) == ("cpu", "mshyper-s")
        assert all(grid.iterations == 2000 and grid.read_offs == (500,) for grid in paper.grids)
        assert all(grid.crop is None for grid in paper.grids), "the paper has whole photographs"
        iterations = {grid.iterations for grid in cpu.grids}
        assert iterations <= {500, 2000} and all(str(t) in cpu.about for t in iterations)
        assert all(500 in grid.read_offs for grid in cpu.grids if grid.iterations == 2000)


@pytest.mark.slow
def test_the_paper_s_grids_are_complete(planned):
    counts = {study.name: len(planned(study.name, "paper")) for study in load_studies()}
    assert counts == {
        "rd": 12 * 8 * 24 + 3 * 6 * 24,
        "convergence": 7 * 24,
        "stability": 5 * 4 * 24 * 3,
        "ssl-a": 11 * 24 * 3,
        "learning-rate": 3 * 2 * 24 * 3,
        "semi-multi-rate": 3 * 8 * 3 * 24,
        "tecnick": 3 * 8 * 100,
        "clic": 3 * 8 * 41,
        "qualitative": 3,
        "fast": (3 + 6) * (24 + 41) + 7 * 24,
        "distortion": 2 * (2 + 1) * 8 * 24,
        "variable-rate": (15 + 7 + 6) * 24,
    }
    tasks = planned("rd", "paper")
    assert {task.job.codec_lmbda for task in tasks} == set(LAMBDAS["mse"])
    first = {task.cell[:3] for task in tasks[: 12 * 24]}
    assert first == {("mbt2018-mean", 0.013, 0.013)}, "breadth first at the ablations' λ"
    flexible = {task.job.codec_lmbda for task in tasks if task.job.codec == "cheng2020-anchor"}
    assert flexible == set(LAMBDAS["mse"][:6])
    slopes = {task.plan.method.a for task in planned("ssl-a", "paper")}
    assert slopes == {0.3, 0.65812, 0.8, 1, 4 / 3, 1.6, 2.25, 2.3, 3, 5, 10}
    tau = {task.plan.temperature.tau_max for task in planned("stability", "paper")}
    assert tau == {0.2, 0.4, 0.6, 0.8, 1.0}
    semi = {task.cell[1:3] for task in planned("semi-multi-rate", "paper")}
    assert semi == {(train, test) for train in (0.0035, 0.013, 0.0483) for test in LAMBDAS["mse"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["base", "sls"]}, r"line \d+ \(profiles.cpu.grids.0.methods.1\): unknown method 'sls'"),
        ({"methods": ["ssl:b=2"]}, "ssl has no parameter 'b'"),
        ({"methods": ["ssl", "ssl"]}, "'ssl' is given twice"),
        ({"methods": []}, "at least 1 item"),
        ({"dataset": "kodac"}, r"grids.0.dataset\): unknown data set 'kodac': did you mean 'kodak'"),
        ({"datasets": "kodak"}, "there is no setting 'datasets'"),
        ({"train_lmbdas": [-0.01]}, "lambda must be a finite number greater than 0, not -0.01"),
        ({"temperatures": ["constant:value=3"]}, "first temperature"),
        ({"read_offs": [5]}, "read-off 5 is beyond the 4 iterations"),
        ({"iterations": 2.5}, "iterations.*valid integer"),
        ({"iterations": 10**20, "trace_every": 1}, r"grids.0.iterations\): .*less than or equal to 1000000"),
        ({"iterations": 10**400}, r"grids.0.iterations\): .*less than or equal to 1000000"),
        ({"train_lmbdas": 0.01}, "train_lmbdas.*valid list"),
        ({"crop": 32}, "greater than or equal to 64"),
        ({"crop": 10**400}, r"grids.0.crop\): .*less than"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": [2**64]}, r"grids.0.seeds.0\): .*less than"),
        ({"streams": "yes"}, r"grids.0.streams\): .*valid boolean"),
        ({"methods": ["ssl", "fast"], "lrs": [0.01]}, "preset 'fast' has settings of its own: leave out lr"),
        ({"methods": ["ssl", "ste"], "temperatures": [0.5]}, r"grids.0\): STE has no temperature"),
        ({"lrs": ["none"]}, r"grids.0\): unknown schedule 'none'"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_place(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        tiny(tmp_path, **change)
    assert str(error.value).startswith(str(tmp_path / "tiny.yaml"))
    assert str(error.value).count("line ") == 1


def test_the_line_is_the_one_that_is_wrong(tmp_path):
    path = write_study(tmp_path, TINY)
    text = path.read_text().replace("codec: mshyper-s", "codec: mshiper")
    path.write_text(text)
    line = 1 + text.splitlines().index("    codec: mshiper")
    with pytest.raises(UserError, match=rf"line {line} \(profiles.cpu.codec\): .* did you mean 'mshyper'"):
        load_study(path)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["paper", "cpu"])
def test_files_are_kept_of_whole_photographs_under_the_methods_of_figure_4(planned, profile):
    tasks = planned("rd", profile)
    kept = [task for task in tasks if task.streams]
    assert {task.job.label for task in kept} == {"base", "atanh (SGA)", "SSL (a = 2.3)"}
    assert {task.image.crop for task in kept} == {None}
    images = collections.Counter((task.job.label, task.job.lmbda) for task in kept)
    assert len(images) == 3 * len(OURS if profile == "cpu" else LAMBDAS["mse"])
    assert set(images.values()) == {24}
    assert all(task.streams for task in planned("qualitative", profile))
    assert len({stored.stream_of(task) for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not describe a study"),
        *((text, "is not valid YAML") for text in ("title: [", "title: 2024-13-45", "title: !!int x")),
        ("name: x\ntitle: y", "leave the key 'name' out"),
        ("title: x\nshows: [y]", "profiles.*required"),
        ("title: x\nshows: [y]\nprofiles: {gpu: {}}", "'paper' or 'cpu'"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, text, message):
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_study(tmp_path / "tiny.yaml")


def test_studies_that_are_not_there_or_cannot_be_called_so(tmp_path, monkeypatch):
    for name in ("My study.yaml", "streams.yaml"):
        path = write_study(tmp_path, TINY).rename(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}.*rename it"):
            load_study(path)
    with pytest.raises(UserError, match=r"no study 'stabilty'.*did you mean 'stability'"):
        load_study("stabilty")

    monkeypatch.setattr(schema, "folder", lambda: tmp_path / "nowhere")
    with pytest.raises(UserError, match="checkout"):
        load_studies()


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    path = write_study(tmp_path, TINY)
    text = path.read_text()
    for line in ("      iterations: 4\n", "title: Tiny\n", "      crop: 64\n"):
        assert text.count(line) == 1
        path.write_text(text.replace(line, line + line.replace("4", "5")))
        number, key = 2 + text[: text.index(line)].count("\n"), line.split(":")[0].strip()
        with pytest.raises(UserError, match=f"line {number}: the key '{key}' is given twice"):
            load_study(path)


# What is planned


@pytest.mark.slow
def test_a_planned_key_is_the_stored_one(tmp_path, bundled):
    methods = ["ssl", "three-class:base=ssl,a=1.4"]
    study = of_grids(
        tmp_path,
        {"methods": methods, "lrs": [0.01], "temperatures": ["0.5"]},
        {"methods": ["fast", "ssl"], "iterations": 7, "images": ["astronaut"]},
    )
    tasks = planning.plan(study, "cpu")
    presets = {task.job.label: task for task in tasks if task.job.iterations == 7}
    assert list(presets) == ["fast", "SSL (a = 2.3)"] and presets["fast"].plan == plans.fast(7)
    assert [task.job.optimizer for task in presets.values()] == ["soap", "adam"]
    store = Store(tmp_path / "rows")
    codec = load_codec("mshyper-s", 0.01, device="cpu", dtype="float32")
    images = datasets.list_images("sample", images=GRID["images"], crop=64)
    settings = {"read_offs": [2], "trace_every": 2}
    for method in methods:
        plan = plans.plan(method, temperature=0.5, lr=0.01)
        unplanned.refine_stored(store, codec, images, plan, iterations=4, **settings)
    for plan in ("fast", rounding.SSL()):
        unplanned.refine_stored(store, codec, images[:1], plan, iterations=7, **settings)
    assert keys(store) == {task.job.key for task in tasks}


def test_a_file_is_kept_where_one_of_a_jobs_grids_says_so(tmp_path, bundled):
    tasks = planning.plan(of_grids(tmp_path, {}, {"methods": ["ssl", "cosine"], "streams": True}), "cpu")
    kept = {task.job.label: task.streams for task in tasks}
    wanted = [("base", False), ("SSL (a = 2.3)", True), ("atanh (SGA)", False), ("cosine", True)]
    assert list(kept.items()) == wanted
    plain = planning.plan(tiny(tmp_path, methods=["base", "ssl", "atanh", "cosine"]), "cpu")
    jobs = [{task.job.key: task.job for task in planned} for planned in (plain, tasks)]
    assert jobs[0] == jobs[1], "keeping files is no part of a job"


def test_the_order_is_seeds_then_lambdas_then_methods(tmp_path, bundled):
    study = tiny(tmp_path, seeds=[3, 1], train_lmbdas=[0.02, 0.01], methods=["atanh", "base", "ssl"])
    write_codec(bundled, lmbda=0.02)
    cells = list(dict.fromkeys(task.cell[1:] for task in planning.plan(study, "cpu")))
    names = ["atanh (SGA)", "base", "SSL (a = 2.3)"]
    expected = [(l, l, name, 4, seed) for seed in (3, 1) for l in (0.02, 0.01) for name in names]
    # The base has no randomness, so that all seeds share it.
    shared = [(*cell[:3], 0, 0) if cell[2] == "base" else cell for cell in expected]
    assert cells == list(dict.fromkeys(shared))


@pytest.mark.slow
def test_images_of_one_size_are_refined_together(planned):
    tasks = planned("rd", "cpu")
    groups = list(planning.together(tasks, planning.Room("cpu")))
    assert [task.job.key for group in groups for task in group] == [task.job.key for task in tasks]
    for group in groups:
        assert len({(task.cell, task.job.iterations, task.image.size) for task in group}) == 1
        assert sum(task.megapixels for task in group) <= 1.573
    assert {len(group) for group in groups} == {4, 24}
    on_gpu = planning.together(planned("convergence", "paper"), planning.Room("cuda"))
    assert {len(group) for group in on_gpu} == {24}


def test_time_is_measured_on_this_device_where_it_can_be(tmp_path, bundled):
    tasks, cpu = planning.plan(tiny(tmp_path), "cpu"), torch.device("cpu")
    job = tasks[-1].job
    row = {"codec": "mshyper-s", "codec_lmbda": 0.01, "dtype": "float32", "device": hardware.describe(cpu)}
    row |= {"image_sha256": job.image_sha256, "iteration": 4, "iterations": 4, "seconds": 3.0}
    others = [row | {"device": "another"}, row | {"dtype": "bfloat16"}, row | {"codec": "mshyper"}]
    others += [row | {"iteration": 2, "seconds": 1.0}, row | {"image_sha256": "0"}]

    def rate(rows, kind="cpu"):
        [found] = planning.rates(tasks, kind, pd.DataFrame(rows), cpu).values()
        return found

    found = rate([row, *others])
    assert found.measured and found.seconds == pytest.approx(3.0 / (4 * 64 * 64 / 1e6))
    assert not (rate(others).measured or rate([]).measured or rate([row], kind="cuda").measured)


# What is run


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def no_refinement(*_, **__):
    raise AssertionError("computed twice")


@pytest.mark.slow
def test_a_run_stores_every_job_once_and_packs_it(tmp_path, bundled, monkeypatch):
    study, events, steps = tiny(tmp_path), [], []
    root = tmp_path / "results"
    said = {"report": events.append, "progress": lambda done, total: steps.append((done, total))}
    assert run(study, "cpu", device="cpu", root=root, **said) == 0
    table = stored.stored_rows(study, "cpu", root)
    assert set(table["key"]) == {task.job.key for task in planning.plan(study, "cpu")}
    assert set(table["image"]) == {"astronaut@64", "coffee@64", "chelsea@64"}
    assert not table.duplicated(["key", "iteration"]).any()
    counts = table.groupby("key").size().value_counts().to_dict()
    assert counts == {1: 3, 3: 6}, "the base has iteration 0 alone, the others 0, 2 and 4"
    assert files_in(root) == ["rows.parquet"]
    assert [event.done for event in events] == [3, 6, 9] and {event.of for event in events} == {9}
    assert events[-1].seconds_left == pytest.approx(0, abs=1e-9) and events[0].seconds_left > 0
    assert "base" in events[0].what and "atanh" in events[2].what
    done, totals = zip(*steps, strict=True)
    assert list(done) == sorted(done) and done[-1] == pytest.approx(totals[-1])
    refine, calls = shards.refine, []
    monkeypatch.setattr(shards, "refine", no_refinement)
    assert run(study, "cpu", device="cpu", root=root) == 0
    found = stored.status(study, "cpu", root=root)
    assert (found.jobs, found.stored, found.elsewhere, found.minutes_left) == (9, 9, 0, 0)
    assert found.table["stored"].tolist() == found.table["jobs"].tolist() == [3, 3, 3]
    assert found.measured

    # Only what is missing is computed.
    wider = tiny(tmp_path, methods=["ssl", "linear"])
    found = stored.status(wider, "cpu", root=root)
    assert found.table.set_index("method")["missing"].to_dict() == {"SSL (a = 2.3)": 0, "linear": 3}
    assert found.minutes_left == pytest.approx(sum(found.minutes.values()) / 2)
    monkeypatch.setattr(shards, "refine", lambda *a, **k: calls.append(a[2].method.name) or refine(*a, **k))
    run(wider, "cpu", device="cpu", root=root)
    assert calls == ["linear"]
    assert stored.stored_rows(wider, "cpu", root)["key"].nunique() == 9 + 3


def files_of(root: Path, table: pd.DataFrame) -> dict[str, bytes]:
    """The files that lines name, by job."""
    named = table[table["stream"].notna()]
    return {key: (root / path).read_bytes() for key, path in zip(named["key"], named["stream"], strict=True)}


@pytest.mark.slow
def test_files_are_kept_beside_the_rows_and_copied_with_them(tmp_path, bundled, monkeypatch):
    study, root, events = tiny(tmp_path, streams=True), tmp_path / "results", []
    assert run(study, "cpu", device="cpu", root=root) == 0
    table = stored.stored_rows(study, "cpu", root)
    kept, codec = files_of(root, table), load_codec("mshyper-s", 0.01, device="cpu", dtype="float32")
    assert set(kept) == {task.job.key for task in planning.plan(study, "cpu")}
    assert len(files_in(root / "streams")) == 9
    folders = {"map": "base", "ssl": "ssl-a-2.3", "atanh": "atanh-sga"}
    for _, line in table[table["stream"].notna()].iterrows():
        assert line["iteration"] == line["iterations"]
        method = "base" if line["iterations"] == 0 else folders[yaml.safe_load(line["method"])["method"]]
        name = f"{line['image']}_{line['iterations']}_{line['key'][:8]}.sga"
        assert line["stream"] == f"streams/mshyper-s_lambda0.01/{method}/{name}"
        data = kept[line["key"]]
        assert line["real_bytes"] == len(data)
        x_hat = bitstream.decode(data, codec)
        [image] = datasets.list_images("sample", images=[line["image"][:-3]], crop=64)
        psnr = metrics.psnr_8bit(image.read()[None], x_hat[None]).item()
        assert line["psnr_8bit"] == pytest.approx(psnr, abs=1e-3)
    read_offs = table[table["read_off"]]
    assert set(read_offs["iteration"]) == {0, 2, 4} and read_offs["real_bytes"].notna().all()
    monkeypatch.setattr(shards, "refine", no_refinement)
    assert run(study, "cpu", device="cpu", root=root) == 0
    assert stored.status(study, "cpu", root=root).stored == 9

    second = tiny(tmp_path, "second", methods=["atanh"], streams=True)
    before = stored.status(second, "cpu", root=root)
    assert (before.stored, before.elsewhere, before.missing) == (0, 3, set())
    run(second, "cpu", device="cpu", root=root, report=events.append)
    assert [event.what for event in events] == ["3 jobs copied from other studies"]
    copied = stored.stored_rows(second, "cpu", root)
    assert len(copied) == 9 and len(files_of(root, copied)) == 3 and len(files_in(root / "streams")) == 9
    assert_same_rows(table[table["key"].isin(copied["key"])], copied)


@pytest.mark.slow
def test_a_job_without_its_file_counts_as_missing(tmp_path, bundled):
    """Stored by a study that keeps no files, packed or not, or its file was deleted since."""
    root, other = tmp_path / "results", tiny(tmp_path, "other", methods=["ssl"])
    run(other, "cpu", device="cpu", root=root)
    plain = stored.stored_rows(other, "cpu", root)
    run(tiny(tmp_path, methods=["ssl"]), "cpu", device="cpu", root=root)
    study = tiny(tmp_path, methods=["ssl"], streams=True)
    found = stored.status(study, "cpu", root=root)
    assert (found.stored, found.elsewhere, len(found.missing)) == (0, 0, 3)
    assert run(study, "cpu", device="cpu", root=root) == 0
    table = stored.stored_rows(study, "cpu", root)
    kept = files_of(root, table)
    assert len(kept) == 3 and not table.duplicated(["key", "iteration"]).any()
    order = ["key", "iteration"]
    losses = [t.sort_values(order)["loss"].to_numpy() for t in (plain, table)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5), "keeping a file does not change the numbers"
    path = root / table["stream"].dropna().iloc[0]
    before = path.read_bytes()
    path.unlink()
    assert stored.status(study, "cpu", root=root).stored == 2
    assert run(study, "cpu", device="cpu", root=root) == 0
    assert path.read_bytes() == before
    # One that is stored and not packed yet, as another process leaves it.
    store = stored.store_of(study, "cpu", root)
    (key,) = plain["key"].unique()[:1]
    lines = plain[plain["key"] == key].reset_index(drop=True)
    store.put(next(task.job for task in planning.plan(study, "cpu") if task.job.key == key), lines)
    assert stored.status(study, "cpu", root=root).stored == 2
    assert run(study, "cpu", device="cpu", root=root) == 0
    assert stored.status(study, "cpu", root=root).stored == 3


def test_files_of_a_codec_that_cannot_be_coded_are_refused_first(tmp_path, bundled, monkeypatch):
    def refuse(codec):
        raise UserError("latents of this codec cannot be written yet")

    monkeypatch.setattr(bitstream, "check", refuse)
    monkeypatch.setattr(shards, "refine", no_refinement)
    with pytest.raises(UserError, match="cannot be written"):
        run(of_grids(tmp_path, {}, {"streams": True}), "cpu", device="cpu", root=tmp_path / "results")


@pytest.mark.slow
def test_rows_of_other_weights_are_refused(tmp_path, bundled):
    study, root = tiny(tmp_path), tmp_path / "results"
    run(study, "cpu", device="cpu", root=root)
    write_codec(bundled, seed=1)
    for refused in (
        lambda: run(study, "cpu", device="cpu", root=root),
        lambda: stored.status(study, "cpu", root=root),
        lambda: stored.stored_rows(study, "cpu", root),
    ):
        with pytest.raises(UserError, match="not the one of today: rename the folder"):
            refused()
    # Another study neither copies them nor stumbles over them.
    other = tiny(tmp_path, "other")
    assert stored.status(other, "cpu", root=root).elsewhere == 0
    assert run(other, "cpu", device="cpu", root=root) == 0


def test_weights_that_change_during_a_run_are_noticed(tmp_path, bundled, monkeypatch):
    study = tiny(tmp_path)
    plan = planning.plan

    def plan_then_change(*arguments):
        tasks = plan(*arguments)
        write_codec(bundled, seed=1)
        return tasks

    monkeypatch.setattr(planning, "plan", plan_then_change)
    monkeypatch.setattr(shards, "_kept", {})
    with pytest.raises(UserError, match="have changed while the study ran"):
        run(study, "cpu", device="cpu", root=tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*.parquet"))


@pytest.mark.slow
def test_rows_of_several_series_stand_in_one_store(tmp_path, bundled):
    (tmp_path / "own").mkdir()
    for seed, lmbda in ((1, 0.02), (2, 0.01)):
        write_checkpoint(tmp_path / "own" / f"lambda{lmbda}.pth", untrained(seed=seed).state_dict())
    ours = {"methods": ["base", "ssl"]}
    study = of_grids(tmp_path, ours, ours | {"codec": "./own", "train_lmbdas": [0.02, 0.01]})
    root = tmp_path / "results"
    assert provenance.coverage(study, "cpu", root) == (0, 6)
    assert run(study, "cpu", device="cpu", root=root) == 0
    shown = stored.stored_rows(study, "cpu", root)
    assert set(shown["codec"]) == {"mshyper-s"} and shown["key"].nunique() == 6
    others = stored.stored_rows(study, "cpu", root, "./own")
    assert set(others["codec"]) == {"own"} and others["key"].nunique() == 12
    assert dict(zip(others["codec_lmbda"], others["codec_sha256"], strict=True)) == {
        member.lmbda: member.sha256 for member in study.series("cpu", "./own").members
    }
    assert provenance.coverage(study, "cpu", root) == (6, 6)
    assert provenance.coverage(study, "cpu", root, "./own") == (12, 12)
    # Other weights in the same place are another codec of that name and λ.
    write_checkpoint(tmp_path / "own" / "lambda0.01.pth", untrained(seed=3).state_dict())
    assert run(study, "cpu", device="cpu", root=root) == 0
    with pytest.raises(UserError, match=r"two codecs are stored as own at lambda 0\.01"):
        stored.stored_rows(study, "cpu", root, "./own")


def test_codecs_that_are_not_downloaded_yet_wait(tmp_path, bundled, no_zoo):
    study, root = tiny(tmp_path, codec="mbt2018-mean@1-4", train_lmbdas=[0.0018]), tmp_path / "results"
    found = stored.status(study, "cpu", root=root)
    assert (found.jobs, found.stored, len(found.missing)) == (9, 0, 9)
    [sentence] = found.needs
    assert "`sgaplus codecs fetch mbt2018-mean@1-4`" in sentence and "112 MB" in sentence
    with pytest.raises(UserError, match="sgaplus codecs fetch mbt2018-mean@1-4"):
        run(study, "cpu", device="cpu", root=root)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_takes_no_other_image_with_it(tmp_path, bundled, monkeypatch):
    study, root = tiny(tmp_path, methods=["ssl", "atanh"]), tmp_path / "results"
    refine = shards.refine

    def breaks(codec, images, plan, **settings):
        if "coffee@64" in settings["names"] and plan.method == rounding.SSL():
            raise SystemFault("the loss of coffee@64 is no longer finite")
        return refine(codec, images, plan, **settings)

    monkeypatch.setattr(shards, "refine", breaks)
    with pytest.raises(SystemFault, match=r"1 jobs of study tiny.*coffee@64 is no longer finite"):
        run(study, "cpu", device="cpu", root=root)
    table = stored.stored_rows(study, "cpu", root)
    assert table.groupby("label")["image"].nunique().to_dict() == {"SSL (a = 2.3)": 2, "atanh (SGA)": 3}


# Where rows are


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one study, ``tiny``."""
    folder = tmp_path / "checkout"
    monkeypatch.setattr(io, "CHECKOUT", folder)
    (folder / "data" / "studies").mkdir(parents=True)
    write_study(folder / "data" / "studies", TINY)
    return folder


def test_a_study_from_elsewhere_stores_beside_itself(checkout, tmp_path, bundled):
    """Also one that has the name of the checkout's own: its rows must not become those of the book."""
    ours = load_study("tiny")
    assert ours.ours and stored.store_of(ours, "cpu").root == checkout / "data" / "results" / "tiny" / "cpu"
    mine = tiny(tmp_path, methods=["base"])
    assert not mine.ours
    run(mine, "cpu", device="cpu")
    assert list(tmp_path.rglob("rows.parquet")) == [tmp_path / "results" / "tiny" / "cpu" / "rows.parquet"]
    assert len(stored.stored_rows(mine, "cpu")) == 3 and stored.status(mine, "cpu").stored == 3
    with pytest.raises(UserError, match="nothing of study tiny"):
        stored.stored_rows("tiny", "cpu")
    with pytest.raises(UserError, match=r"of this repository's study tiny: give .*another name"):
        run(mine, "cpu", device="cpu", root=checkout / "data" / "results")
    other = tiny(tmp_path, "other", methods=["base"])
    assert stored.results(other, checkout / "data" / "results") == checkout / "data" / "results"


def test_without_a_checkout_rows_are_no_part_of_the_installation(tmp_path, monkeypatch, bundled):
    site, work = tmp_path / "site-packages", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    monkeypatch.setattr(io, "CHECKOUT", site)
    monkeypatch.chdir(work)
    assert stored.results().resolve() == work / "results"
    mine = tiny(tmp_path, methods=["base"])
    run(mine, "cpu", device="cpu")
    assert not list(site.rglob("*")) and (tmp_path / "results" / "tiny" / "cpu" / "rows.parquet").is_file()


def test_tables_of_something_else_disturb_no_study(tmp_path, bundled):
    root, study = tmp_path / "results", tiny(tmp_path, methods=["base"])
    with pytest.raises(UserError, match=r"run `sgaplus study run .*tiny\.yaml --profile cpu`"):
        stored.stored_rows(study, "cpu", root)
    foreign = root / "mine" / "run1" / "rows.parquet"
    foreign.parent.mkdir(parents=True)
    pd.DataFrame({"image": ["a"], "loss": [1.0]}).to_parquet(foreign)
    run(study, "cpu", device="cpu", root=root)
    assert stored.status(study, "cpu", root=root).stored == 3
    assert stored.tables(root).keys() == {root / "tiny" / "cpu"}


@pytest.mark.slow
def test_other_iterations_are_other_rows_of_the_same_job(tmp_path, bundled, monkeypatch):
    """What is there with them is used; what lacks some runs again and keeps what it had, and its file."""
    root, calls = tmp_path / "results", []
    refine = shards.refine
    monkeypatch.setattr(shards, "refine", lambda *a, **k: calls.append(len(a[1])) or refine(*a, **k))
    grid = {"methods": ["ssl"], "iterations": 6}
    fine = tiny(tmp_path, "fine", **grid, read_offs=[], trace_every=1)
    run(fine, "cpu", device="cpu", root=root)
    study = tiny(tmp_path, **grid, read_offs=[4], trace_every=3)
    assert stored.status(study, "cpu", root=root).elsewhere == 3
    run(study, "cpu", device="cpu", root=root)
    assert sum(calls) == 3
    table = stored.stored_rows(study, "cpu", root)
    assert sorted(set(table["iteration"])) == [0, 3, 4, 6], "as a run of its own would have them"
    assert set(table.loc[table["read_off"], "iteration"]) == {0, 4, 6}
    assert set(stored.stored_rows(fine, "cpu", root)["iteration"]) == set(range(7))
    files = tiny(tmp_path, **grid, read_offs=[2], trace_every=6, streams=True)
    assert stored.status(files, "cpu", root=root).stored == 0
    run(files, "cpu", device="cpu", root=root)
    assert sum(calls) == 6
    table = stored.stored_rows(files, "cpu", root)
    assert set(table.loc[table["read_off"], "iteration"]) == {0, 2, 4, 6} and 3 in set(table["iteration"])
    assert table.loc[table["read_off"], "real_bytes"].notna().all()
    assert run(files, "cpu", device="cpu", root=root) == 0 and sum(calls) == 6


def test_a_job_of_two_grids_keeps_the_iterations_of_both(tmp_path, bundled):
    grids = {"read_offs": [1], "trace_every": 4}, {"read_offs": [3], "trace_every": 2}
    tasks = planning.plan(of_grids(tmp_path, *grids), "cpu")
    assert len(tasks) == 9
    assert {tuple(sorted(task.job.evaluated)) for task in tasks if task.job.iterations} == {(0, 1, 2, 3, 4)}


def test_studies_that_share_a_job_have_it_from_one_run():
    paths = (ROOT / "data" / "results").glob("*/cpu/rows.parquet")
    runs = pd.concat([parquet.read(path)[["key", "device", "written"]] for path in paths]).drop_duplicates()
    assert len(runs) > 1000 and not runs["key"].duplicated().any()


def test_a_mean_over_images_is_of_the_same_images_at_every_iteration():
    paths = (ROOT / "data" / "results").glob("*/cpu/rows.parquet")
    rows = pd.concat([parquet.read(path).assign(study=path.parts[-3]) for path in paths])
    rows["side"] = rows["image"].str.partition("@")[2]
    curve = ["study", "side", "codec", "codec_lmbda", "lmbda", "label", "iterations", "seed"]
    images = rows.groupby([*curve, "iteration"])["image"].nunique().groupby(curve)
    assert images.ngroups > 100 and (images.min() == images.max()).all()
