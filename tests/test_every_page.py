"""The pages take the rows and files of any series of codecs, here of untrained ones of every class, and say
what these rows say: here the opposite of ours."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from companion import cells, equal_bytes, statistics
from companion.pages import realbits
from companion.parameters import declared
from sgaplus import parquet
from sgaplus.codecs.series import series
from sgaplus.data.datasets import list_images
from sgaplus.studies import planning, running, stored
from tests.conftest import write_photo
from tests.test_context_files import PLAIN
from tests.test_models import VARIABLE, untrained
from tests.test_studies import TINY, load_study, write_study

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LAMBDAS = series("mshyper-s").lmbdas
# What a page computes itself takes fewer steps here.
SHORTER = {"distortion": {"iterations": 4}, "first": {"image": "coffee"}}
# Of Kodak a few photographs, whole and as crops, say as much as all.
LEFT_OUT = "kodim(?!01|07|13|19)"
# Those that decode files, which need a study that kept them.
FILES = {"first", "qualitative", "real_bits"}
TEMPLATES = [
    path.stem
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    if {"codec", "results"} <= declared(json.loads(path.read_text(encoding="utf-8"))).keys()
]


@pytest.fixture(scope="module")
def opposite(tmp_path_factory):
    """A folder of untrained checkpoints, and another with our rows of a few images as if they were of
    these, turned round."""
    folder = tmp_path_factory.mktemp("opposite")
    codecs = folder / "own"
    codecs.mkdir()
    model = untrained("mbt2018")
    for lmbda in LAMBDAS:
        with torch.no_grad():
            next(model.parameters()).mul_(1.001)
        torch.save({"state_dict": model.state_dict()}, codecs / f"own_lambda{lmbda:g}.pth")
    hashes = {member.lmbda: member.sha256 for member in series(codecs).members}
    for path in stored.results().glob("*/cpu/rows.parquet"):
        rows = pd.read_parquet(path)
        rows = rows[(rows["codec"] == "mshyper-s") & ~rows["image"].str.match(LEFT_OUT)]
        if len(rows):
            target = folder / "results" / path.relative_to(stored.results())
            target.parent.mkdir(parents=True)
            labels = {"codec": "own", "codec_sha256": rows["codec_lmbda"].map(hashes), "stream": None}
            parquet.write(target, turned(rows).assign(**labels))
    return codecs, folder / "results"


def turned(rows):
    """What refinement lowers is raised by the same factor or difference, and the other way round."""
    start = rows[rows["iteration"] == 0].drop_duplicates(["codec_lmbda", "image"])
    start = start.set_index(["codec_lmbda", "image"])
    at = pd.MultiIndex.from_frame(rows[["codec_lmbda", "image"]])
    for name in ("bpp", "mse", "psnr", "psnr_8bit"):
        base = start[name].reindex(at).to_numpy()
        other = base**2 / rows[name] if name in ("bpp", "mse") else 2 * base - rows[name]
        rows = rows.assign(**{name: other})
    return rows.assign(loss=rows["lmbda"] * 255**2 * rows["mse"] + rows["bpp"])


def laid_out(figure, photo):
    """In place of an image: the layout finds every mistake, and takes a fraction of the time."""
    figure.draw_without_rendering()
    plt.close(figure)
    return 'src=""'


@pytest.mark.slow
@pytest.mark.parametrize("template", sorted(set(TEMPLATES) - FILES))
def test_a_page_says_what_its_rows_say(opposite, template, monkeypatch):
    run_page(template, opposite, monkeypatch)


def run_page(template, own, monkeypatch):
    """What a page shows of a series of codecs and a folder of results."""
    monkeypatch.setattr(statistics, "RESAMPLES", 20)
    monkeypatch.setattr(cells, "_image", laid_out)
    notebook = json.loads((NOTEBOOKS / f"{template}.ipynb").read_text(encoding="utf-8"))
    shell, shown = InteractiveShell.instance(), []
    shell.reset(new_session=True)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        with capture_output() as captured:
            result = shell.run_cell("".join(cell["source"]))
        result.raise_error()
        kinds = "text/html", "text/markdown", "text/plain"
        found = [
            next(output.data[kind] for kind in kinds if kind in output.data) for output in captured.outputs
        ]
        shown += [captured.stdout, *found, getattr(result.result, "data", "")]
        if "parameters" in cell["metadata"].get("tags", ()):
            shell.user_ns |= {"codec": str(own[0]), "results": str(own[1])} | SHORTER.get(template, {})
    plt.close("all")
    assert any(text.strip() for text in shown), "a page shows something"
    return "\n".join(shown)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Small ones with names of Kodak's."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, name in enumerate(("kodim07", "kodim19")):
        write_photo(folder / f"{name}.png", (64, 64), seed=number)
    return folder


def computed(architecture, folder, photographs):
    """A series of untrained codecs, and the results of small studies with it, files among them.

    A codec of variable rate is one checkpoint that names no λ, any other a folder of two.
    """
    (folder / "own").mkdir()
    model, lmbdas = untrained(architecture), [0.0018, 0.013]
    for lmbda in lmbdas:
        name = "own.pth" if architecture in VARIABLE else f"own_lambda{lmbda}.pth"
        torch.save({"state_dict": model.state_dict()}, folder / "own" / name)
        with torch.no_grad():
            next(model.parameters()).mul_(1.001)
    codecs = folder / "own" / "own.pth" if architecture in VARIABLE else folder / "own"
    grid = {"dataset": "kodak", "methods": ["base", "ssl"], "train_lmbdas": lmbdas}
    grid |= {"iterations": 3, "trace_every": 3, "streams": True}
    grids = {
        "rd": grid,
        "fast": grid | {"methods": ["fast"]},
        "qualitative": grid | {"images": ["kodim19"], "train_lmbdas": lmbdas[:1]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "list_planned", lambda _, *rest: list_images(photographs, *rest))
        for name, one in grids.items():
            cpu = TINY["profiles"]["cpu"] | {"codec": str(codecs), "grids": [one]}
            study = load_study(write_study(folder, TINY | {"profiles": {"cpu": cpu}}, name))
            assert running.run(study, "cpu", device="cpu", root=folder / "results") == 0
    return codecs, folder / "results"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "turn"),
    [
        ("bmshj2018-factorized", "qualitative"),
        ("mbt2018-mean", "qualitative"),
        ("mbt2018", "first"),
        ("mbt2018-mean-vbr", "first"),
    ],
)
def test_pages_decode_the_files_of_any_codec(architecture, turn, photographs, tmp_path, monkeypatch):
    """Of each kind of file; what the page of real bits counts depends on it."""
    own = computed(architecture, tmp_path, photographs)
    for template in (turn, "real_bits"):
        shown = run_page(template, own, monkeypatch)
        assert not re.search(r"\b(nan|inf)\b", re.sub('"data:[^"]*"', "", shown))
        assert "mshyper" not in shown, "codecs that are not shown"
        assert f"-p codec {own[0]}" in shown or f"codec: {own[0]}" in shown
        assert ("Squares of 64 × 64 pixels" in shown) == (template == "qualitative")
        if template != "real_bits":
            assert f"python -m companion.equal_bytes {own[0]} --results {own[1]}" in shown
            continue
        plain = architecture in PLAIN
        assert "all 12 stored files of own were found" in shown
        assert (
            f"a header of {32 if plain else 36} bytes and {'one' if 'factorized' in architecture else 'two'}"
            in shown
        )
        assert ("CompressAI does not read these strings" in shown) != plain
        assert shown.count(realbits.NO_SCALES) == (2 if "factorized" in architecture else 0)
        assert ("constriction writes" in shown) != ("factorized" in architecture)


@pytest.mark.slow
def test_pages_show_photographs_of_equal_bytes_of_their_own_codec(photographs, tmp_path, monkeypatch):
    own = computed("mbt2018-mean", tmp_path, photographs)
    monkeypatch.setattr(equal_bytes, "BOXES", {"coffee": ("coffee", "sample", (60, 20, 64, 64))})
    monkeypatch.setattr(equal_bytes, "ITERATIONS", 2)
    equal_bytes.compute(series(own[0]), own[1])
    shown = run_page("first", own, monkeypatch)
    assert 'data-kind="before-after"' in shown and "(own, λ = 0.0018)" in shown
