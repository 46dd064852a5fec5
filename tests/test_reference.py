"""The published numbers are whole, and what is missing or broken is said."""

import numpy as np
import pytest

from companion import reference
from sgaplus.errors import UserError

DATASETS = ("kodak", "tecnick", "clic2020-professional")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_published_curve_rises_with_the_rate(dataset):
    table = reference.published(dataset)
    assert table["source"].str.contains(r"BSD-3-Clause|MIT|Apache-2\.0").all() and table["name"].notna().all()
    for codec, rows in table.groupby("codec"):
        bpp, psnr = reference.curve(table, codec)
        assert len(bpp) == len(rows) >= 5 and bpp[0] > 0
        assert (np.diff(bpp) > 0).all() and (np.diff(psnr) > 0).all(), codec


def test_an_installed_package_has_no_published_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="come with a checkout of the repository"):
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
