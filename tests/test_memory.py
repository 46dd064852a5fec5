"""Peak memory by the size of the photograph: a line for each size."""

import pandas as pd
import pytest

from companion import peaks
from tests.conftest import POSIX


@POSIX
@pytest.mark.slow
def test_each_size_adds_a_line(tmp_path):
    path = tmp_path / "memory.csv"
    first = peaks.measure(64, 64)
    pd.DataFrame([first]).to_csv(path, index=False)
    peaks.main(path, ["70x66"])
    table = pd.read_csv(path)
    assert table[["width", "height"]].to_numpy().tolist() == [[64, 64], [70, 66]]
    assert (table["peak_bytes"] > 1e8).all() and list(table) == list(first)
