"""The wheel holds all that the package needs, wherever it is installed."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sgaplus import files, weights

ROOT = Path(__file__).parents[1]

# What a user of the installed package relies on; runs where neither the checkout nor a test is in reach.
LOOK = """
import json, sys, sgaplus
from sgaplus import sources, weights
cards = weights.cards()
codec = sgaplus.load_codec(cards[0].name, cards[0].lmbda, device="cpu", dtype="float32")
json.dump({
    "package": sgaplus.__file__,
    "models": str(weights.bundled_folder()),
    "cards": [weights.stem(card.name, card.lmbda) for card in cards],
    "sha256": codec.sha256,
    "kodak": len(sources.published("kodak")),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    built = subprocess.run([*command, "-w", folder, ROOT], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_the_package_and_its_data(wheel):
    held = {name: wheel.getinfo(name).file_size for name in wheel.namelist()}
    package = {
        f"sgaplus/{path.relative_to(ROOT / 'sgaplus').as_posix()}": path.stat().st_size
        for pattern in ("*.py", "registry/*")
        for path in (ROOT / "sgaplus").glob(pattern)
    }
    models = {f"sgaplus/_models/{p.name}": p.stat().st_size for p in (ROOT / "data/models").glob("[!.]*")}
    assert "sgaplus/cli.py" in package
    assert "sgaplus/registry/kodak.sha256" in package
    assert {name: held.get(name) for name in package | models} == package | models
    beside = {name.split("/")[0] for name in held} - {"sgaplus"}
    assert [name.split(".")[-1] for name in beside] == ["dist-info"], "a wheel holds nothing else"


def test_the_command_and_the_licence_come_with_it(wheel):
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "sgaplus = sgaplus.cli:main" in wheel.read(entry).decode()
    (licence,) = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_unpacked_wheel_works_outside_of_the_checkout(wheel, tmp_path):
    cards = weights.cards(ROOT / "data/models")
    if not cards:
        pytest.skip("no codec is bundled in data/models")
    wheel.extractall(tmp_path / "site")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SGAPLUS_DATA")
    }
    environment["PYTHONPATH"] = str(tmp_path / "site")
    command = [sys.executable, "-W", "ignore", "-c", LOOK]
    looked = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout)
    assert found == {
        "package": str(tmp_path / "site/sgaplus/__init__.py"),
        "models": str(tmp_path / "site/sgaplus/_models"),
        "cards": [weights.stem(card.name, card.lmbda) for card in cards],
        "sha256": files.sha256(
            ROOT / f"data/models/{weights.stem(cards[0].name, cards[0].lmbda)}.safetensors"
        ),
        "kodak": 24,
    }
