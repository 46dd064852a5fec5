"""Stored rows are of one algorithm: whatever moves its numbers is noticed."""

import json

import pytest

from sgaplus import metrics, optimizers, relaxation, schedules
from sgaplus.codecs import bits
from sgaplus.refinement import ALGORITHM, curvature
from tests import fingerprint

STORED = json.loads(fingerprint.TABLE.read_text(encoding="utf-8"))


def test_the_table_is_of_this_algorithm():
    assert STORED["algorithm"] == ALGORITHM, (
        "write the table of the new algorithm: python -m tests.fingerprint"
    )


def test_another_table_needs_another_algorithm(tmp_path, monkeypatch):
    """Writing the table again is no way around the number."""
    table = tmp_path / "fingerprint.json"
    table.write_text(fingerprint.TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(fingerprint, "TABLE", table)
    lines = {part: dict(STORED[part]) for part in (*fingerprint.PARTS, "float32", "bfloat16")}
    monkeypatch.setattr(fingerprint, "compute", lines.__getitem__)
    fingerprint.write()
    assert json.loads(table.read_text(encoding="utf-8")) == STORED
    lines["norm"]["forward"] = [1.01 * value for value in lines["norm"]["forward"]]
    with pytest.raises(SystemExit, match=r"norm changed: raise refinement\.ALGORITHM"):
        fingerprint.write()
    monkeypatch.setattr(fingerprint, "ALGORITHM", ALGORITHM + 1)
    fingerprint.write()
    assert json.loads(table.read_text(encoding="utf-8"))["algorithm"] == ALGORITHM + 1


@pytest.mark.parametrize(
    "part",
    [*fingerprint.PARTS, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("float32", "bfloat16"))],
)
def test_the_algorithm_computes_what_it_did(part):
    different = fingerprint.differences(part, STORED[part], fingerprint.compute(part))
    assert not different, (
        f"{part} differs from what algorithm {ALGORITHM} computes, which stored rows rest on: undo the"
        " change, or raise refinement.ALGORITHM and run `python -m tests.fingerprint`:"
        f" {'; '.join(different)}"
    )


@pytest.mark.parametrize(
    ("part", "module", "name"),
    [
        ("rounding", relaxation, "TAU_FLOOR"),
        ("schedules", schedules, "_progress"),
        ("bits", bits, "_SLOPE"),
        ("bits", bits, "bound_of"),
        ("optimizers", optimizers, "_eigenvectors"),
        ("curvature", curvature, "_SHARE"),
        ("curvature", curvature, "_REACH"),
        ("distortion", metrics, "ms_ssim"),
    ],
)
def test_one_percent_more_of_a_constant_or_a_result_is_noticed(monkeypatch, part, module, name):
    old = getattr(module, name)
    monkeypatch.setattr(module, name, (lambda *of: 1.01 * old(*of)) if callable(old) else 1.01 * old)
    assert fingerprint.differences(part, STORED[part], fingerprint.compute(part))
