"""Where refinement stands: BD-rates against published curves, and multiplications counted by hand."""

import numpy as np
import pandas as pd
import pytest

from companion import reference
from companion.pages import standing


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
