"""What the card and the training curve beside weights tell of earlier stages."""

import errno
import json
from pathlib import Path

import pandas as pd
import pytest

from sgaplus.codecs import bundled as shipped
from sgaplus.errors import SystemFault, UserError
from sgaplus.training.lineage import CURVE, UNTRAINED, Lineage, curve_path, lineage_of, write_curve
from tests.conftest import write_codec

ROW = {"stage": 2, "step": 1234567, "seconds": 11.5, "lmbda": 0.01, "loss": 1.25, "bpp": 0.5, "psnr": 30.0}
ROW |= {"lr": 1e-3}


def edit_card(path, **changes):
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_weights_without_a_card_have_no_past(tmp_path):
    path = write_codec(tmp_path)
    path.with_suffix(".json").unlink()
    assert lineage_of(path) == Lineage(path.name)
    assert Lineage() == UNTRAINED


def test_stages_bring_their_data(tmp_path):
    path = write_codec(tmp_path)
    training = {"data": "these", "optimizer": "SOAP", "stages": [{"data": "those", "steps": 1}, {"steps": 2}]}
    edit_card(path, training=training)
    assert lineage_of(path).stages == [{"data": "those", "steps": 1}, {"data": "these", "steps": 2}]
    edit_card(path, training={})
    assert lineage_of(path).stages == []


def test_a_curve_is_read_as_it_was_written(tmp_path):
    path = write_codec(tmp_path)
    write_curve(curve_path(path), [ROW])
    assert lineage_of(path).curve == [ROW]
    assert curve_path(path).name == f"{path.stem}.training.csv"


def test_columns_of_held_out_photographs_are_written_and_read_where_there_are_some(tmp_path):
    path = write_codec(tmp_path)
    held_out = {"held_out_loss": 1.25, "held_out_bpp": 0.5, "held_out_psnr": 31.5}
    rows = [ROW, ROW | {"step": 200} | held_out]
    write_curve(curve_path(path), rows)
    assert lineage_of(path).curve == rows
    frame = pd.read_csv(curve_path(path))
    assert frame["held_out_loss"].isna().tolist() == [True, False]
    write_curve(curve_path(path), [ROW])
    assert tuple(pd.read_csv(curve_path(path)).columns) == CURVE


def test_the_bundled_curves_are_read():
    paths = sorted(shipped.bundled_folder().glob("*.safetensors"))
    assert paths == sorted({card.path for card in shipped.cards()})
    for curve in (lineage_of(path).curve for path in paths):
        assert len(curve) > 10 and set(curve[0]) >= set(CURVE)


@pytest.mark.parametrize("suffix", [".json", ".training.csv"])
@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, UserError), (errno.EMFILE, SystemFault)])
def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch, suffix, number, kind):
    path = write_codec(tmp_path)
    write_curve(curve_path(path), [ROW])

    def refused(self, *arguments, **settings):
        if self.name.endswith(suffix):
            raise OSError(number, "the system's reason")
        return opened(self, *arguments, **settings)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(kind, match=f"{suffix} cannot be read") as error:
        lineage_of(path)
    assert "remove" not in str(error.value)


def test_a_card_that_is_none(tmp_path):
    path = write_codec(tmp_path)
    for training in ({"stages": [{}]}, {"data": "", "stages": [1]}, []):
        edit_card(path, training=training or [1])
        with pytest.raises(UserError, match=r"json is not the card of a codec"):
            lineage_of(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"json is not the card of a codec"):
        lineage_of(path)


def test_a_card_of_other_weights(tmp_path):
    path = write_codec(tmp_path)
    edit_card(path, sha256="0" * 64)
    with pytest.raises(UserError, match=f"not the card of {path.name}, which has changed"):
        lineage_of(path)


@pytest.mark.parametrize("content", ["stage,step\n1,2\n", "\0", "stage\n", ",".join(ROW) + "\n1,many"])
def test_a_curve_that_is_none(tmp_path, content):
    path = write_codec(tmp_path)
    curve_path(path).write_text(content)
    with pytest.raises(UserError, match="no training curve"):
        lineage_of(path)
