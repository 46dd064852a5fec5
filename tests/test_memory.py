"""Peak memory by the size of the photograph: a line for each size."""

import pandas as pd
import pytest

from sgaplus.bench import memory
from sgaplus.errors import UserError
from tests.conftest import POSIX


@POSIX
@pytest.mark.slow
def test_each_size_adds_a_line(tmp_path):
    path = tmp_path / "memory.csv"
    first = dict.fromkeys(memory.COLUMNS, 1) | {"width": 64, "height": 64, "peak_bytes": 2e8}
    pd.DataFrame([first]).to_csv(path, index=False)
    memory.main(path, ["70x66"])
    table = memory.read(path)
    assert table[["width", "height"]].to_numpy().tolist() == [[64, 64], [70, 66]]
    assert (table["peak_mb"] > 100).all() and set(memory.COLUMNS) <= set(table)


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    for name in ("a.csv", "none.csv"):
        with pytest.raises(UserError):
            memory.read(tmp_path / name)
