"""The Python API as people use it: a plain meaning is accepted, anything else is refused in one sentence."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sgaplus
from sgaplus import distortion, metrics, plans, target_rate
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.data.datasets import list_images
from sgaplus.errors import UserError
from tests.conftest import untrained

X = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
CODEC = Codec("untrained", 0.01, freeze(untrained()), sha256="ab" * 32)
LATENTS = CODEC.decode(CODEC.analyse(X[None])).latents
DATA = sgaplus.encode(CODEC, LATENTS)
POINTS = ([0.1, 0.2, 0.3, 0.4], [30.0, 31.0, 32.0, 33.0])


def refine(images=X, **changes):
    return sgaplus.refine(CODEC, images, **{"iterations": 1} | changes)


ACCEPTED = {
    "a codec by its path": lambda: sgaplus.load_codec(Path("mshyper-s")),
    "lambda as a word": lambda: sgaplus.load_codec("mshyper-s", "0.01"),
    "a computed lambda": lambda: sgaplus.load_codec("mshyper-s", 0.1**2),
    "lambda of single precision": lambda: sgaplus.load_codec("mshyper-s", np.float32(0.01)),
    "a file's lambda": lambda: {0.01: 1}[sgaplus.bitstream.info(DATA)["lmbda"]],
    "a codec in words": lambda: {torch.bfloat16: 1}[Codec("x", "0.01", CODEC.model, "", "bfloat16").dtype],
    "a dtype of torch": lambda: sgaplus.load_codec("mshyper-s", dtype=torch.float32),
    "a device of torch": lambda: sgaplus.load_codec("mshyper-s", device=torch.device("cpu")),
    "whole latents": lambda: sgaplus.encode(CODEC, {name: v.round() for name, v in LATENTS.items()}),
    "latents of half precision": lambda: sgaplus.encode(CODEC, {n: v.bfloat16() for n, v in LATENTS.items()}),
    "a bytearray": lambda: sgaplus.decode(bytearray(DATA), CODEC),
    "a view": lambda: sgaplus.decode(memoryview(DATA), CODEC),
    "a size of torch": lambda: sgaplus.encode(CODEC, LATENTS, X.shape),
    "a size in words": lambda: sgaplus.encode(CODEC, LATENTS, ["64", "64.0"]),
    "latents with gradients": lambda: sgaplus.encode(
        CODEC, {n: v.clone().requires_grad_() for n, v in LATENTS.items()}
    ),
    "max_pixels as a word": lambda: sgaplus.decode(DATA, CODEC, max_pixels="10000"),
    "max_pixels of 1e7": lambda: sgaplus.decode(DATA, CODEC, max_pixels=1e7),
    "no plan": lambda: refine(),
    "a plan as a dictionary": lambda: refine(plan={"method": "ssl", "a": 2.3}),
    "another byte order": lambda: refine(X.numpy().astype(">f4")),
    "negative strides": lambda: refine(X.numpy()[:, ::-1]),
    "sparse": lambda: refine(X.to_sparse()),
    "a number for a name": lambda: refine(names=7),
    "a file's name that is no UTF-8": lambda: refine(names="caf\udce9").best["image"][0].encode(),
    "read-offs as a set": lambda: refine(read_offs={1}),
    "read-offs as a range": lambda: refine(read_offs=range(2)),
    "a negative seed": lambda: refine(seed=-1),
    "three and four dimensions": lambda: metrics.psnr(X, X[None]),
    "lambda of the loss as a word": lambda: metrics.rd_loss("0.01", torch.tensor(0.1), torch.tensor(1.0)),
    "curves as arrays": lambda: metrics.bd_rate(np.array(POINTS), torch.tensor(POINTS)),
    "a region with a weight of zero": lambda: distortion.regions((9, 9), [(0, 0, 2, 2)], outside=0),
    "regions as an array": lambda: distortion.regions(X.shape, np.array([[0, 0, 2, 2]])),
    "a limit as a word": lambda: list_images("sample", limit="2"),
    "a limit of 2.0": lambda: list_images("sample", limit=2.0),
    "a crop as a word": lambda: list_images("sample", crop="64"),
    "images from a generator": lambda: list_images(name for name in ["sample"]),
}

REFUSED = {
    "a model in DataParallel": lambda: Codec("x", 0.01, torch.nn.DataParallel(CODEC.model), ""),
    "a compiled model": lambda: Codec("x", 0.01, torch.compile(CODEC.model), ""),
    "a model of half precision": lambda: Codec("x", 0.01, untrained().half(), ""),
    "a codec of no lambda": lambda: Codec("x", float("nan"), CODEC.model, ""),
    "a codec of double precision": lambda: Codec("x", 0.01, CODEC.model, "", torch.float64),
    "no codec": lambda: sgaplus.load_codec(None),
    "a codec twice": lambda: sgaplus.load_codec(CODEC),
    "a codec by number": lambda: sgaplus.load_codec(3),
    "a bundled codec for another metric": lambda: sgaplus.load_codec("mshyper-s", metric="ms-ssim"),
    "a huge lambda": lambda: refine(lmbda=10**400),
    "a region with a negative weight": lambda: distortion.regions((9, 9), [(0, 0, 2, 2)], outside=-1),
    "a region with a weight that float32 cannot hold": lambda: distortion.regions(
        (9, 9), [(0, 0, 2, 2)], inside=1e300
    ),
    "half a pixel": lambda: distortion.regions((9, 9), [(0.5, 0, 2, 2)]),
    "a region in words": lambda: distortion.regions((9, 9), ["1,2,3,4"]),
    "a target for no codec": lambda: target_rate.encode_to("mshyper-s", X, bpp=1),
    "several lambda": lambda: sgaplus.load_codec("mshyper-s", [0.01, 0.02]),
    "half a quality": lambda: sgaplus.load_codec("mbt2018-mean", quality=3.5),
    "quality in words": lambda: sgaplus.load_codec("mbt2018-mean", quality="good"),
    "no metric": lambda: sgaplus.load_codec("mbt2018-mean", quality=3, metric=None),
    "a dtype that is no format": lambda: sgaplus.load_codec("mshyper-s", dtype=64),
    "a device that is no device": lambda: sgaplus.load_codec("mshyper-s", device=1.5),
    "latents as arrays of words": lambda: sgaplus.encode(CODEC, dict.fromkeys(LATENTS, "many")),
    "a run for latents": lambda: sgaplus.encode(CODEC, refine()),
    "an image for latents": lambda: sgaplus.encode(CODEC, X),
    "a size as a word": lambda: sgaplus.encode(CODEC, LATENTS, "64x64"),
    "no pixels": lambda: sgaplus.encode(CODEC, LATENTS, (0, 64)),
    "an open file": lambda: sgaplus.decode(BytesIO(DATA), CODEC),
    "a path for content": lambda: sgaplus.decode("photo.sga", CODEC),
    "pixels in words": lambda: sgaplus.decode(DATA, CODEC, max_pixels="many"),
    "no path": lambda: sgaplus.read_image(None),
    "a number for a path": lambda: sgaplus.read_image(3),
    "content for a path": lambda: sgaplus.read_image(b"\x89PNG"),
    "a picture to read": lambda: sgaplus.read_image(X),
    "arguments swapped": lambda: sgaplus.write_image(X, "x.png"),
    "no picture": lambda: sgaplus.write_image("x.png", None),
    "a list for a picture": lambda: sgaplus.write_image("x.png", [1, 2]),
    "no curves": lambda: metrics.bd_rate(None, None),
    "numbers for curves": lambda: metrics.bd_psnr((1, 2), (1, 2)),
    "progress as a number": lambda: refine(progress=3),
    "a folder for checkpoints": lambda: refine(checkpoints="folder"),
    "iterations of a preset in words": lambda: plans.plan("fast", "many"),
    "a class for a plan": lambda: refine(plan=sgaplus.rounding.SSL),
    "files for images": lambda: refine(list_images("sample")),
    "Pillow's image": lambda: refine(Image.new("RGB", (64, 64))),
    "lambda as a vector": lambda: refine(lmbda=torch.tensor([0.01, 0.02])),
    "no source": lambda: list_images(None),
    "an image by number": lambda: list_images("sample", images=[3]),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    assert ACCEPTED[name]() is not None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        REFUSED[name]()
    message = str(refused.value)
    assert 10 < len(message) < 300 and "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_no_file_holds_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(Codec, "analyse", None)
    wide = torch.zeros(3, 1, 65536)
    with pytest.raises(UserError, match="1 to 65535 pixels a side"):
        refine(wide, streams=True)
    with pytest.raises(UserError, match="1 to 65535 pixels a side"):
        target_rate.encode_to(CODEC, wide, bpp=1)
