"""The published site: editions side by side, links that lead somewhere, one set of facts on the project."""

import importlib.util
import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import sgaplus
from companion.pages import your_photograph
from tests.conftest import POSIX

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_of_the_book", ROOT / ".github" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def book(tmp_path):
    folder = tmp_path / "book"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text('<a href="page.html#here">x</a><link href="_static/a.css">')
    (folder / "page.html").write_text('<h1 id="here"></h1><a href="#here">x</a><a href="https://x.org">')
    (folder / "_static" / "a.css").write_text("")
    return folder


def test_editions_lie_side_by_side(site, book, tmp_path):
    published = tmp_path / "site"
    published.mkdir()
    for name in ("latest", "v0.2.0", "v0.10.1", "pr-7"):
        site.place(book, published, name)
    folders = {path.name for path in published.iterdir() if path.is_dir()}
    assert folders == {"latest", "v0.2", "v0.10", "pr-7"}
    assert json.loads((published / "versions.json").read_text()) == ["latest", "v0.10", "v0.2"]
    assert 'href="v0.2/"' in (published / "index.html").read_text()
    (book / "new.html").write_text("")
    site.place(book, published, "v0.2.1")
    assert (published / "v0.2" / "new.html").exists()
    assert not (published / "v0.10" / "new.html").exists()
    site.remove(published, "pr-7")
    assert not (published / "pr-7").exists()
    assert (published / "latest" / "index.html").exists()


@pytest.mark.parametrize("name", ["..", "main", "pr-7/..", "latest.1", "pr-7.2", "v1", ""])
def test_strange_editions_touch_nothing(site, book, tmp_path, name):
    with pytest.raises(SystemExit, match="edition"):
        site.place(book, tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_lost_links_are_found(site, book):
    assert site.check(book) == []
    (book / "page.html").write_text('<a href="gone.html">x</a><a href="index.html#gone">x</a>')
    lost = site.check(book)
    assert [line.split(": ")[1].split(" leads")[0] for line in lost] == [
        "page.html#here", "gone.html", "index.html#gone",
    ]  # fmt: skip


@POSIX
def test_publishing_pushes_editions_to_the_branch_of_the_site(book, tmp_path):
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)

    def publish(*arguments):
        command = ["bash", ROOT / ".github" / "publish.sh", *arguments]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"REMOTE": str(remote)})
        listed = ["git", "-C", remote, "ls-tree", "-r", "--name-only", "gh-pages"]
        return subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()

    assert "latest/index.html" in publish("place", book, "latest")
    both = publish("place", book, "pr-3")
    assert {"latest/page.html", "pr-3/page.html", ".nojekyll", "versions.json"} <= set(both)
    refuse_once = remote / "hooks" / "pre-receive"  # as if another run had pushed in between
    refuse_once.write_text("#!/bin/sh\ntest -e refused || { touch refused; exit 1; }\n")
    refuse_once.chmod(0o755)
    left = publish("remove", "pr-3")
    assert (remote / "refused").exists()
    assert "pr-3/page.html" not in left and "latest/page.html" in left


def test_the_notebook_for_colab_installs_this_commit(site, tmp_path):
    template = tmp_path / "page.ipynb"
    template.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "x"}], "nbformat": 4}))
    site.colab(template, tmp_path / "out.ipynb", "someone/sgaplus", "abc123")
    first, second = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    text = "".join(first["source"])
    assert "someone/sgaplus" in text and "abc123" in text and "requirements.lock" in text
    assert second["source"] == "x"


def test_buttons_lead_to_the_published_edition(monkeypatch):
    for name in ("GITHUB_REPOSITORY", "SGAPLUS_BOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    assert your_photograph.buttons() == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/sgaplus")
    monkeypatch.setenv("SGAPLUS_BOOK_URL", "https://someone.github.io/sgaplus/v0.2/")
    monkeypatch.setenv("SGAPLUS_BOOK_COMMIT", "abc123")
    shown = your_photograph.buttons()
    assert "/someone/sgaplus/blob/gh-pages/v0.2/your-photograph.ipynb" in shown
    assert "/gh/someone/sgaplus/abc123?labpath=notebooks%2Fyour_photograph.ipynb" in shown


def test_deposit_and_citation_agree():
    deposit = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert deposit["version"] == citation["version"] == sgaplus.__version__
    assert deposit["title"] == citation["title"]
    for name in ("license", "keywords"):
        assert deposit[name] == citation[name] == project[name]
    names = [[one["name"] for one in people] for people in (deposit["creators"], citation["authors"])]
    assert names[0] == names[1] == [one["name"] for one in project["authors"]]
    papers = {entry["value"] for reference in citation["references"] for entry in reference["identifiers"]}
    assert {entry["identifier"] for entry in deposit["related_identifiers"]} == papers
