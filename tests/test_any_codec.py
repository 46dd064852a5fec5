"""A study and a target run unchanged on a model of every family, from a checkpoint of it."""

import pytest
import torch

from sgaplus import decode, encode, refine, target_rate
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.data import datasets
from sgaplus.studies import running, stored
from sgaplus.target_rate import search
from tests.test_models import EACH_FAMILY, untrained
from tests.test_studies import GRID, TINY, load_study, write_study


@pytest.fixture(params=EACH_FAMILY)
def checkpoint(request, tmp_path):
    path = tmp_path / f"{request.param}_lambda0.013.pth"
    torch.save({"state_dict": untrained(request.param).state_dict()}, path)
    return path


@pytest.mark.slow
def test_a_study_and_a_target_take_every_family(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MOST_REFINEMENTS", 2)
    grid = GRID | {"images": ["coffee"], "methods": ["base", "ssl"], "train_lmbdas": [0.013], "streams": True}
    content = TINY | {
        "profiles": {"cpu": TINY["profiles"]["cpu"] | {"codec": str(checkpoint), "grids": [grid]}}
    }
    study = load_study(write_study(tmp_path, content))
    assert running.run(study, "cpu", device="cpu") == 0
    rows = stored.rows_of(stored.store_of(study, "cpu", stored.results(study)))
    assert set(rows["label"]) == {"base", "SSL (a = 2.3)"} and set(rows["codec_lmbda"]) == {0.013}
    assert rows.loc[rows["iteration"] == rows["iterations"], "real_bytes"].gt(0).all()
    assert running.run(study, "cpu", device="cpu") == 0  # nothing is left to do

    codec = load_codec(checkpoint, 0.013, device="cpu", dtype="float32")
    [image] = datasets.list_images("sample", images=["coffee"], crop=64)
    size = len(encode(codec, refine(codec, image.read(), "ssl", iterations=3).latents[0], (64, 64)))
    members = [member.load("cpu", "float32") for member in series(checkpoint).members]
    found = target_rate.encode_to(members, image.read(), max_bytes=1.02 * size, plan="ssl", iterations=3).file
    assert len(found.data) <= 1.02 * size
    assert decode(found.data, codec).shape == (3, 64, 64)
