"""Published numbers: whole, said where they lack, and where refinement stands beside them."""

import numpy as np
import pandas as pd
import pytest

from companion import reference
from companion.pages import standing
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


def test_a_curve_at_twice_the_published_rate_is_a_hundred_percent_above_it():
    published = reference.published("kodak")
    bpp, psnr = reference.curve(published, "vtm")
    ours = {"base": tuple(pd.DataFrame([values]) for values in (2 * bpp, psnr))}
    table = standing.against("vtm", ours, published).set_index("name")
    assert table.loc["base", "change"] == pytest.approx(100)
    assert table.loc["VTM", "change"] == pytest.approx(0)
    assert table["change"].is_monotonic_increasing
    assert set(table["kind"]) == {"published", "this project"}


def test_photographs_are_paired_with_their_own_published_curves():
    theirs = reference.per_image()
    factors = {f"kodim{n:02}": 1 + n / 100 for n in (1, 7, 24)}
    own = theirs[theirs["image"].isin(factors)].rename(columns={"psnr_db": "psnr_8bit"})
    own = own.assign(bpp=own["bpp"] * own["image"].map(factors))
    found = standing.each_against(own, theirs)
    assert found.to_dict() == pytest.approx({image: 100 * (f - 1) for image, f in factors.items()})


def test_of_several_runs_on_an_image_the_longest_counts():
    run = {"configuration": "ssl", "codec_lmbda": 0.01, "lmbda": 0.01, "image": "a", "seed": 0}
    rows = pd.DataFrame(
        [run | {"iteration": t, "iterations": n} for n in (2000, 500) for t in (0, 500, 2000) if t <= n]
    )
    rows = pd.concat([rows, rows[rows["iterations"] == 500].assign(image="b")])
    assert dict(standing.longest(rows)[["image", "iteration"]].to_numpy()) == {"a": 2000, "b": 500}


def test_multiplications_of_a_mean_scale_hyperprior_are_those_counted_by_hand():
    """Every transposed 5 × 5 convolution of stride 2 multiplies once per input position and tap."""
    N, M = 64, 192
    g_s = [(M, N, 16), (N, N, 8), (N, N, 4), (N, 3, 2)]  # channels; pixels per position
    total = sum(25 * a * b / side**2 for a, b, side in g_s)
    total += sum(N * N / side**2 for side in (8, 4, 2))  # GDN
    h_s = [(N, M, 25 / 64**2), (M, M * 3 // 2, 25 / 32**2), (M * 3 // 2, 2 * M, 9 / 16**2)]
    total += sum(a * b * share for a, b, share in h_s)
    table = standing.decoding_costs()
    ours = table[table["name"].str.startswith("mshyper-s") & (table["widths"] == f"{N} and {M}")]
    assert ours["macs"].tolist() == pytest.approx([total / 1000])
    assert np.all(np.diff(table["macs"]) >= 0)
