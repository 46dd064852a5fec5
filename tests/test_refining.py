"""Before and after refinement: changes are paired, and the codec without refinement is the base."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import refining


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two methods on three images; "better" gains 2 % of each image's loss per ten iterations, "worse" 1
    %."""
    lines = []
    for method, gain in (("worse", 0.01), ("better", 0.02)):
        for image, loss in (("a", 1.0), ("b", 2.0), ("c", 4.0)):
            for t in (0, 10, 20):
                line = {"method": method, "image": image, "iteration": t, "loss": loss * (1 - gain * t / 10)}
                lines.append(
                    line | {"bpp": 0.5, "psnr": 30 + t, "psnr_8bit": 30.0, "ms_ssim": 0.9, "seconds": t}
                )
    return pd.DataFrame(lines)


def test_gains_are_paired_and_relative(rows):
    table = refining.gains(rows).set_index("method")
    assert list(table.index[:1]) == ["base"] and set(table.index) == {"base", "better", "worse"}
    assert table.loc["base", "loss"] == pytest.approx(7 / 3) and np.isnan(table.loc["base", "change"])
    assert table.loc["better", ["change", "change_low", "change_high"]].tolist() == pytest.approx(
        [-4, -4, -4]
    )
    assert table.loc["worse", "psnr"] == 50


def test_every_image_is_there_once_per_method(rows):
    table = refining.images(rows)
    assert table.groupby("method").size().to_dict() == {"base": 3, "better": 3, "worse": 3}
    assert table.loc[table["method"] == "base", "seconds"].eq(0).all()
