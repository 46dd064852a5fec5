"""The wheel holds all that the package needs, wherever it is installed."""

import ast
import email
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import skimage.data
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import sgaplus
from sgaplus.codecs import bundled as shipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

# What a user of the installed package relies on; runs where neither the checkout nor a test is in reach.
LOOK = """
import json, sys, sgaplus
from sgaplus import cli
from sgaplus.data import sources
from sgaplus.codecs import bundled as shipped
json.dump({
    "package": sgaplus.__file__,
    "models": str(shipped.bundled_folder()),
    "cards": [card.path.stem for card in shipped.cards()],
    "kodak": len(sources.published("kodak")),
}, sys.stdout)
print()
cli.main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-w"]
    built = subprocess.run([sys.executable, *options, folder, ROOT], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_the_package_and_its_data(wheel):
    held = {name: wheel.getinfo(name).file_size for name in wheel.namelist()}
    package = {
        f"sgaplus/{path.relative_to(ROOT / 'sgaplus').as_posix()}": path.stat().st_size
        for pattern in ("**/*.py", "**/*.pyi", "py.typed", "data/registry/*")
        for path in (ROOT / "sgaplus").glob(pattern)
    }
    models = {f"sgaplus/_models/{p.name}": p.stat().st_size for p in (ROOT / "data/models").glob("[!.]*")}
    assert "sgaplus/cli/__init__.py" in package
    assert "sgaplus/data/registry/kodak.sha256" in package
    assert {name: held.get(name) for name in package | models} == package | models
    beside = {name.split("/")[0] for name in held} - {"sgaplus"}
    assert [name.split(".")[-1] for name in beside] == ["dist-info"], "a wheel holds nothing else"
    (licence,) = [name for name in held if name.endswith("/licenses/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def names(requirements) -> set[str]:
    """Canonical names of the distributions that requirements, as metadata writes them, ask for."""
    return {canonicalize_name(Requirement(line).name) for line in requirements or []}


def test_every_import_is_declared(wheel):
    (path,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    declared = names(email.message_from_bytes(wheel.read(path)).get_all("Requires-Dist"))
    modules = [name for name in wheel.namelist() if name.endswith(".py")]
    imported = set()
    for module in modules:
        for node in ast.walk(ast.parse(wheel.read(module))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = (
        imported - sys.stdlib_module_names - {"sgaplus", "companion"}
    )  # the latter is only in a checkout
    assert {"torch", "PIL", "pandas"} <= foreign
    distributions = metadata.packages_distributions()
    sources = {name: {canonicalize_name(d) for d in distributions[name]} for name in foreign}
    assert {name for name, found in sources.items() if not found & declared} == set()


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a new environment: the wheel is installed, its dependencies are in reach.

    They are found through a .pth file, whose lines are added to the path without a look at the .pth files
    that lie there; an editable install in the environment of this test therefore stays out of reach.
    """
    folder = tmp_path_factory.mktemp("outside") / "environment"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    here = sysconfig.get_paths()
    lines = {here["purelib"]: None, here["platlib"]: None}
    (Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(lines) + "\n")
    interpreter = Path(paths["scripts"]) / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", "--python", interpreter]
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--quiet", wheel.filename]
    installed = subprocess.run([*pip, *install], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    return interpreter


@pytest.fixture
def call(python, tmp_path):
    """Run a program of that environment in an empty folder outside of the checkout; gives its standard
    output."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SGAPLUS_DATA")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"COLUMNS": "120", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(program, *arguments):
        command = [python.parent / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_installed_package_refines_a_photograph(call, python, tmp_path):
    """With its own code, codecs and tables, and by the installed command."""
    Image.fromarray(skimage.data.astronaut()[:128, 128:288]).save(tmp_path / "photo.png")
    options = ["--lmbda", "0.01", "--iterations", "5", "--device", "cpu"]
    found = json.loads(
        call(python.name, "-W", "ignore", "-c", LOOK, "refine", "photo.png", *options).splitlines()[0]
    )
    package = Path(found.pop("package")).parent
    assert python.parents[1] in package.parents
    assert found == {
        "models": str(package / "_models"),
        "cards": [card.path.stem for card in shipped.cards(ROOT / "data/models")],
        "kodak": 24,
    }
    rows = pd.read_csv(tmp_path / "refined/rows.csv")
    assert rows["image"].tolist() == ["photo", "photo"]
    assert rows["iteration"].tolist() == [0, 5]
    assert rows["loss"].iloc[1] <= rows["loss"].iloc[0]
    with Image.open(tmp_path / "refined/photo.png") as written:
        assert (written.mode, written.size) == ("RGB", (160, 128))
    assert call("sgaplus", "--version") == f"sgaplus {sgaplus.__version__}\n"
