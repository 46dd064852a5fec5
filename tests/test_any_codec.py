"""A target is met with a model of every family; `test_every_page` has a study with each."""

import pytest
import torch

from sgaplus import decode, encode, refine, target_rate
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.data import datasets
from sgaplus.target_rate import search
from tests.test_models import EACH_FAMILY, untrained


@pytest.mark.slow
@pytest.mark.parametrize("architecture", EACH_FAMILY)
def test_a_target_takes_every_family(architecture, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MOST_REFINEMENTS", 2)
    checkpoint = tmp_path / f"{architecture}_lambda0.013.pth"
    torch.save({"state_dict": untrained(architecture).state_dict()}, checkpoint)
    codec = load_codec(checkpoint, 0.013, device="cpu", dtype="float32")
    [image] = datasets.list_images("sample", images=["coffee"], crop=64)
    size = len(encode(codec, refine(codec, image.read(), "ssl", iterations=3).latents[0], (64, 64)))
    members = [member.load("cpu", "float32") for member in series(checkpoint).members]
    found = target_rate.encode_to(members, image.read(), max_bytes=1.02 * size, plan="ssl", iterations=3).file
    assert len(found.data) <= 1.02 * size
    assert decode(found.data, codec).shape == (3, 64, 64)
