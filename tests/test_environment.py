"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sgaplus
from tests.conftest import POSIX

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = PYPROJECT["project"], PYPROJECT["build-system"]
WANTED = [
    *BUILD["requires"],
    *PROJECT["dependencies"],
    *itertools.chain.from_iterable(PROJECT["optional-dependencies"].values()),
    *itertools.chain.from_iterable(PYPROJECT["dependency-groups"].values()),
]
# Pinned by torch's own metadata, exactly, and on Linux only.
TORCHS_OWN = re.compile(r"(nvidia|cuda)-.*|triton")
PLATFORMS = {"linux": ("Linux", "x86_64"), "darwin": ("Darwin", "arm64")}


def locked() -> dict[str, Requirement]:
    """The lock's requirements by canonical name."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pin(requirement: Requirement) -> str:
    """The one version that a line of the lock allows."""
    [specifier] = requirement.specifier
    assert specifier.operator == "==", requirement
    assert not specifier.version.endswith("*"), requirement
    return specifier.version


@pytest.mark.parametrize(
    "requirement", [Requirement(line) for line in WANTED], ids=lambda requirement: requirement.name
)
def test_lock_pins_a_version_that_pyproject_allows(requirement):
    line = locked()[canonicalize_name(requirement.name)]
    assert pin(line) in requirement.specifier
    assert line.marker is None


@pytest.mark.parametrize("system", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_lock_leaves_nothing_to_be_resolved(system, python):
    """Whatever a locked package needs on a supported platform is locked too."""
    platform_system, machine = PLATFORMS[system]
    environment = default_environment() | {
        "sys_platform": system,
        "platform_system": platform_system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.9",
        "extra": "",
    }
    lock = {
        name: line for name, line in locked().items() if not line.marker or line.marker.evaluate(environment)
    }
    found: dict[str, metadata.Distribution] = {}
    for each in metadata.distributions():  # setuptools brings some of its own, last on the path
        found.setdefault(canonicalize_name(each.name), each)
    if loose := [
        name
        for name, line in lock.items()
        if name in found and found[name].version.split("+")[0] != pin(line)
    ]:
        pytest.skip(f"other versions than the locked ones are installed, such as of {loose[0]}")
    installed = [found[name] for name in lock if name in found]
    assert installed
    loose = {
        f"{distribution.name} needs {requirement}"
        for distribution in installed
        for requirement in map(Requirement, distribution.requires or [])
        if requirement.marker is None or requirement.marker.evaluate(environment)
        if not TORCHS_OWN.fullmatch(name := canonicalize_name(requirement.name))
        if name not in lock or pin(lock[name]) not in requirement.specifier
    }
    assert loose == set()


def test_conda_environment_agrees():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, packages = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    lock, project = packages["pip"]
    assert (ROOT / lock.removeprefix("-r ")).is_file()
    match = re.fullmatch(r"-e \.\[(.+)\]", project)
    assert match and "book" in match[1].split(",")
    assert set(match[1].split(",")) <= set(PROJECT["optional-dependencies"])


PACKAGING = "Makefile environment.yml requirements.lock pyproject.toml _config.yml .ci/run CITATION.cff"


@pytest.mark.parametrize("name", PACKAGING.split())
def test_no_registry_is_named(name):
    """The packages come from whichever registry pip is configured for."""
    text = (ROOT / name).read_text()
    assert name != "requirements.lock" or ("://" not in text and not re.search(r"^\s*-", text, re.MULTILINE))
    assert not re.search(r"pypi\.|pythonhosted|index-url|find-links|anaconda\.", text)


def copy_makefile(folder):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)


def failure(folder, *arguments, **settings):
    """What make says when it fails in a folder, whichever make runs these tests."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    settings |= {"env": environment, "capture_output": True, "text": True}
    result = subprocess.run(["make", *arguments], cwd=folder, **settings)
    assert result.returncode != 0
    return result.stderr


@POSIX
def test_make_says_what_it_needs(tmp_path):
    """Another Python, or none, is refused in one sentence before anything is installed."""
    copy_makefile(tmp_path)
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    for python, message in ((old, "found Python 3.9.2"), ("", "install one of them")):
        sentence = failure(tmp_path, "test", f"PYTHON={python}").splitlines()[0]
        assert sentence.startswith("sgaplus needs Python 3.11 or 3.12")
        assert message in sentence
        assert not (tmp_path / ".venv").exists()


@POSIX
@pytest.mark.parametrize("installed", [False, True])
def test_make_says_that_the_folder_cannot_be_written_to(installed):
    """Neither the module venv nor Jupyter Book is to blame where nothing can be written."""
    nobody = {"user": 65534} if os.geteuid() == 0 else {}  # root may write anywhere
    with tempfile.TemporaryDirectory() as folder:  # not in tmp_path, which is closed to others
        copy_makefile(folder)
        if installed:
            (Path(folder) / ".venv").mkdir()
            (Path(folder) / ".venv" / "ready").touch()
        Path(folder).chmod(0o555)
        said = failure(folder, "book", **nobody)
        Path(folder).chmod(0o755)
        assert f"annot write to {folder}" in said.splitlines()[0]
        assert "venv of Python" not in said


def test_the_newest_version_of_the_changelog_is_this_one():
    versions = re.findall(r"^## \[?([^\s\]]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", sgaplus.__version__]
