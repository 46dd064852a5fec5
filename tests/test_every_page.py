"""The pages take the rows of any series of codecs, here of untrained ones of every class, and say what these
rows say: here the opposite of ours."""

import ast
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from companion import cells, statistics
from companion.parameters import declared
from sgaplus import parquet
from sgaplus.codecs.series import series
from sgaplus.studies import stored
from tests.test_models import REFINABLE, untrained

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LAMBDAS = series("mshyper-s").lmbdas
# What a page computes itself takes fewer steps here.
SHORTER = {"distortion": {"iterations": 4}}
# Those that decode files, for which rows alone do not do.
FILES = {"first", "qualitative", "real_bits"}
TEMPLATES = [
    path.stem
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    if {"codec", "results"} <= declared(json.loads(path.read_text(encoding="utf-8"))).keys()
]


@pytest.fixture(scope="module")
def turned_rows():
    """The stored rows of our codecs, by their place below the results, with every gain turned round."""
    found = {}
    for path in stored.results().glob("*/cpu/rows.parquet"):
        rows = pd.read_parquet(path)
        rows = rows[rows["codec"] == "mshyper-s"]
        if len(rows):
            found[path.relative_to(stored.results())] = turned(rows)
    return found


def relabelled(rows, architecture, folder):
    """A folder of untrained checkpoints of a class, and another with the rows as if they were of these."""
    codecs = folder / "own"
    codecs.mkdir()
    model = untrained(architecture)
    for lmbda in LAMBDAS:
        with torch.no_grad():
            next(model.parameters()).mul_(1.001)
        torch.save({"state_dict": model.state_dict()}, codecs / f"own_lambda{lmbda:g}.pth")
    hashes = {member.lmbda: member.sha256 for member in series(codecs).members}
    for path, table in rows.items():
        target = folder / "results" / path
        target.parent.mkdir(parents=True)
        labels = {"codec": "own", "codec_sha256": table["codec_lmbda"].map(hashes), "stream": None}
        parquet.write(target, table.assign(**labels))
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
@pytest.mark.parametrize(
    ("template", "architecture"),
    [*zip(sorted(set(TEMPLATES) - FILES), itertools.cycle(sorted(REFINABLE)), strict=False)],
)
def test_a_page_says_what_its_rows_say(turned_rows, template, architecture, tmp_path, monkeypatch):
    """The classes of models take turns."""
    own = relabelled(turned_rows, architecture, tmp_path)
    monkeypatch.setattr(statistics, "RESAMPLES", 20)
    monkeypatch.setattr(cells, "_image", laid_out)
    notebook = json.loads((NOTEBOOKS / f"{template}.ipynb").read_text(encoding="utf-8"))
    shell, shown = InteractiveShell.instance(), io.StringIO()
    shell.reset(new_session=True)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        with contextlib.redirect_stdout(shown):
            shell.run_cell("".join(cell["source"])).raise_error()
        if "parameters" in cell["metadata"].get("tags", ()):
            shell.user_ns |= {"codec": str(own[0]), "results": str(own[1])} | SHORTER.get(template, {})
    plt.close("all")
    assert shown.getvalue().strip(), "a page shows something"


@pytest.mark.slow
def test_what_shows_rows_does_not_import_compressai():
    """It takes seconds, on every page."""
    imports = {"from sgaplus.studies import schema", "from sgaplus.codecs import weights"}
    for template in set(TEMPLATES) - FILES - SHORTER.keys():
        notebook = json.loads((NOTEBOOKS / f"{template}.ipynb").read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                body = ast.parse("".join(cell["source"])).body
                imports |= {
                    ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)
                }
    used = "schema.load_studies(); weights.listing(); import sys; print('compressai' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    code = "\n".join([*sorted(imports), used])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
