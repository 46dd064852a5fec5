"""The published numbers are whole, and what is missing or broken is said."""

import numpy as np
import pandas as pd
import pytest

from companion import reference
from sgaplus.errors import UserError
from sgaplus.metrics import bd_rate

DATASETS = ("kodak", "tecnick", "clic2020-professional")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the file that a test may spoil; returns a function that writes it anew."""
    table = pd.read_csv(reference.folder() / "published_rd.csv")
    monkeypatch.setattr(reference, "folder", lambda: tmp_path)

    def write(change=lambda table: table):
        change(table.copy()).to_csv(tmp_path / "published_rd.csv", index=False)

    return write


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_published_curve_rises_with_the_rate(dataset):
    table = reference.published(dataset)
    assert table["source"].str.contains(r"BSD-3-Clause-Clear|MIT").all()
    for codec, rows in table.groupby("codec"):
        bpp, psnr = reference.curve(table, codec)
        assert len(bpp) == len(rows) >= 6
        assert (np.diff(bpp) > 0).all() and (np.diff(psnr) > 0).all(), codec


def test_names_are_readable_and_differ():
    assert len(set(reference.NAMES.values())) == len(reference.NAMES)
    table = reference.published("kodak")
    assert table.loc[table["codec"] == "yang2020-base", "name"].unique() == ["base of Yang et al. 2020"]
    assert set(reference.NAMES) == set(table["codec"])


@pytest.mark.parametrize(("dataset", "change"), [("kodak", -15.2), ("tecnick", -18.7)])
def test_the_gain_of_sga_is_the_known_one(dataset, change):
    table = reference.published(dataset)
    base, sga = (reference.curve(table, codec) for codec in ("yang2020-base", "yang2020-sga"))
    assert bd_rate(base, sga) == pytest.approx(change, abs=0.05)


def test_an_installed_package_has_no_published_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "folder", lambda: tmp_path)
    with pytest.raises(UserError, match="come with a checkout of the repository"):
        reference.published("kodak")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="source"), "must have the columns"),
        (lambda t: t.replace({"codec": {"vtm": "vvc"}}), "holds vvc"),
        (lambda t: t.assign(bpp=t["bpp"].where(t.index != 3, -0.1)), "line 5 of"),
        (lambda t: t.assign(psnr_db=t["psnr_db"].astype(object).where(t.index != 4, "good")), "line 6 of"),
        (lambda t: t.assign(source=t["source"].where(t.index != 0)), "line 2 of"),
    ],
)
def test_a_spoilt_file_is_refused(copy, change, message):
    copy()
    assert len(reference.published("kodak"))
    copy(change)
    with pytest.raises(UserError, match=message):
        reference.published("kodak")


def test_what_is_no_table_is_refused(copy):
    (reference.folder() / "published_rd.csv").write_bytes(b'a,b\n"1\n\xff')
    with pytest.raises(UserError, match="is not a table"):
        reference.published("kodak")


def test_unknown_data_sets_and_codecs_are_refused():
    with pytest.raises(UserError, match="use kodak, clic2020-professional, tecnick"):
        reference.published("clic2025")
    with pytest.raises(UserError, match="there is no published vtm here"):
        reference.curve(reference.published("tecnick"), "vtm")


def test_the_gain_of_sga_as_published():
    kodak, tecnick = (reference.published(name) for name in ("kodak", "tecnick"))
    assert reference.sga_gain(kodak) == pytest.approx(-15.2, abs=0.05)
    assert reference.sga_gain(tecnick) == pytest.approx(-18.7, abs=0.05)
    losses = reference.sga_losses(kodak)
    assert losses.index.is_monotonic_increasing and (losses < 0).all() and losses.iloc[-1] > losses.iloc[0]
