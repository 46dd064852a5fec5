"""The page on other distortions: BD-rates on both metrics, from rows whose λ differ in meaning."""

import numpy as np
import pandas as pd
import pytest

from companion.pages import distortion
from sgaplus.distortion import lambda_in


@pytest.fixture
def rows() -> pd.DataFrame:
    """Three images; fast needs 80 % of the base's rate at equal PSNR, its form for MS-SSIM 70 % at equal
    MS-SSIM."""
    lines = []
    shares = {"base": (1, 1), "fast": (0.8, 0.9), "base, MS-SSIM": (1, 1), "fast, MS-SSIM": (1.1, 0.7)}
    for arm, (of_psnr, of_ms_ssim) in shares.items():
        metric = "ms-ssim" if "MS-SSIM" in arm else "mse"
        for lmbda in (0.0025, 0.005, 0.01, 0.02, 0.04):
            for number in range(3):
                bpp = 0.1 * (lmbda / 0.0025) ** 0.5 * (1 + number)
                steps = 0 if arm.startswith("base") else 100
                psnr, db = (30 + 5 * np.log2(bpp / share) for share in (of_psnr, of_ms_ssim))
                line = {"configuration": arm, "image": f"kodim0{number}", "seed": 0, "iterations": steps}
                line |= {"iteration": steps, "read_off": True, "distortion": metric, "codec": "c"}
                line |= {"codec_lmbda": lmbda, "lmbda": lambda_in(metric, lmbda, "mse")}
                lines.append(line | {"bpp": bpp, "psnr": psnr, "ms_ssim": 1 - 10 ** (-db / 10)})
    return pd.DataFrame(lines)


def test_rates_at_equal_quality_are_those_of_each_metric(rows):
    table = distortion.rates(distortion.points(rows)).set_index(["configuration", "metric"])
    expected = {("fast", "PSNR"): -20, ("fast", "MS-SSIM"): -10}
    expected |= {("fast, MS-SSIM", "PSNR"): 10, ("fast, MS-SSIM", "MS-SSIM"): -30}
    assert table["bd_rate"].to_dict() == pytest.approx(expected)
    assert set(table["images"]) == {3}
