"""Peak memory by the size of the photograph: a line for each size."""

import pandas as pd
import pytest

from companion import peaks
from tests.conftest import POSIX


@POSIX
@pytest.mark.slow
def test_a_size_adds_a_line(tmp_path):
    peaks.main(tmp_path / "memory.csv", ["70x66"])
    [line] = pd.read_csv(tmp_path / "memory.csv").to_dict("records")
    assert (line["width"], line["height"]) == (70, 66) and line["peak_bytes"] > 1e8
