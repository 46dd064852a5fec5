"""Real files: CompressAI reads their strings, every machine the same latents, and nothing else is decoded."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from compressai import ans
from compressai.models import FactorizedPrior, MeanScaleHyperprior, ScaleHyperprior
from hypothesis import given, settings
from hypothesis import strategies as st

from sgaplus import bitstream, io
from sgaplus.bitstream import coder, container, rans
from sgaplus.codecs import checkpoints, weights, zoo
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.models import hard
from sgaplus.errors import UserError
from tests.conftest import untrained
from tests.test_container import sealed

SHA256 = "0123456789abcdef" * 4
FAMILIES = {"factorized": FactorizedPrior, "scale": ScaleHyperprior, "mean-scale": MeanScaleHyperprior}


def make(cls=MeanScaleHyperprior, gain: float = 40.0) -> Codec:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = cls(8, 12)
        model.g_a[-1].weight *= gain
        if hasattr(model, "h_s"):
            model.h_s[-2 if cls is ScaleHyperprior else -1].bias.uniform_(-2, 6)
        model.update()
    return Codec("mshyper-s", 0.01, freeze(model), SHA256)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return make()


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def hard_latents(codec: Codec, image: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return codec.decode(codec.analyse(codec.pad(image[None])), hard).latents


def compressai(codec: Codec, data: bytes, model) -> torch.Tensor:
    """What an unmodified CompressAI decodes: x̂, clamped; the latents that its g_s was given are kept in
    it."""
    content = container.unpack(data)
    strings = [[content.y], [content.z]] if content.z else [[content.y]]
    seen = []
    hook = model.g_s.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.decompress(strings, content.shape(codec.stride))
    hook.remove()
    return seen[0][0]


# The strings


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gain", [1.0, 40.0, 3000.0])
def test_compressai_in_float64_decodes_the_same_latents(family, gain):
    codec = make(FAMILIES[family], gain)
    image = picture(70, 100)
    latents = hard_latents(codec, image)
    data = bitstream.encode(codec, latents, (70, 100))
    ours = bitstream.read_latents(data, codec)
    model = FAMILIES[family](8, 12)
    stored = bitstream.compressai_weights(codec)
    model.load_state_dict(stored)
    for name, theirs in codec.model.state_dict().items():  # the same tables but for rounding
        if theirs.dtype == torch.int32:
            assert (stored[name] - theirs).abs().max() / 2**16 < 1e-3
        elif name.endswith("scale_table"):
            torch.testing.assert_close(stored[name], theirs, rtol=3e-7, atol=0)
    # Another memory layout of h_s adds in another order.
    torch.testing.assert_close(compressai(codec, data, model.double()), ours["y"], rtol=1e-12, atol=1e-11)
    for name, latent in ours.items():
        torch.testing.assert_close(latent.float(), latents[name][0], rtol=1e-5, atol=1e-4)


def test_the_example_of_the_book_decodes_with_plain_compressai(bundled, tmp_path, monkeypatch):
    codec = weights.load_codec("mshyper-s", device="cpu", dtype="float32")
    data = bitstream.encode(codec, hard_latents(codec, picture(70, 100)), (70, 100))
    monkeypatch.chdir(tmp_path)
    Path("photo.sga").write_bytes(data)
    page = (Path(__file__).parents[1] / "book" / "file-format.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found = {}
    with torch.no_grad():
        exec(example, found)
    torch.testing.assert_close(found["picture"].float(), bitstream.decode(data), rtol=0, atol=1e-4)


def test_large_latents_are_escaped(codec):
    """Beyond their tables, in both directions, up to what a float32 can tell apart."""
    latents = {name: value[0] for name, value in hard_latents(codec, picture(64, 64)).items()}
    for value in (-3e5, -300.0, 300.0, 3e5):
        latents["y"][0, 0, 0] += value
        latents["z"][0, 0, 0] -= value
    symbols = np.array([-(2**24), 2**24, 0, -1, 1])
    tables = coder.gaussian()[1]
    indexes = np.zeros(5, np.uint16)
    assert rans.decode(rans.encode(symbols, indexes, tables), indexes, tables).tolist() == symbols.tolist()
    decoded = bitstream.read_latents(bitstream.encode(codec, latents), codec)
    for name in latents:
        torch.testing.assert_close(decoded[name].float(), latents[name], rtol=1e-5, atol=1e-2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(0, 63)), min_size=3, max_size=60))
def test_strings_are_those_of_compressai(pairs):
    symbols, indexes = np.array(pairs).T
    indexes = indexes.astype(np.uint16)
    tables = coder.gaussian()[1]
    string = rans.encode(symbols, indexes, tables)
    sizes = [len(cdf) for cdf in tables.cdfs]
    read = ans.RansDecoder().decode_with_indexes(string, indexes.tolist(), tables.cdfs, sizes, tables.offsets)
    assert rans.decode(string, indexes, tables).tolist() == symbols.tolist() == read


def test_fewer_symbols_than_the_encoder_has_memory_for_are_refused():
    with pytest.raises(UserError, match="at least 3 symbols, not 2"):
        rans.encode(np.zeros(2, int), np.zeros(2, np.uint16), coder.gaussian()[1])


# Files


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 130), (200, 3)])
def test_a_photograph_of_any_size(codec, size):
    """Continuous latents are rounded as the true loss rounds them."""
    image = picture(*size)
    data = bitstream.encode(codec, hard_latents(codec, image), size)
    with torch.no_grad():
        assert bitstream.encode(codec, codec.analyse(codec.pad(image[None])), size) == data
        x_hat = codec.decode(codec.analyse(codec.pad(image[None])), hard).x_hat[0, :, : size[0], : size[1]]
    torch.testing.assert_close(bitstream.decode(data, codec), x_hat.clamp(0, 1), rtol=0, atol=1e-4)


# Which codec


def rewritten(codec: Codec, name: str, lmbda: float, sha256: str = SHA256) -> bytes:
    """A file that says that it was written with another codec."""
    other = Codec(name, lmbda, codec.model, sha256)
    return bitstream.encode(other, hard_latents(codec, picture(64, 64)))


@pytest.mark.parametrize(
    ("name", "lmbda", "sha256", "message"),
    [
        ("mshyper-s", 0.01, SHA256, r"mshyper-s, λ = 0.01, .*not bundled here: use another version"),
        ("mshyper-s", 0.07, SHA256, r"mshyper-s, λ = 0.07, weights 0123456789abcdef….*not bundled here"),
        ("mine", 0.02, SHA256, r"a checkpoint without a name, λ = 0.02, .*give its weights' file"),
        ("mbt2018-mean", 0.0067, "fc3bd2b0".ljust(64, "0"), "mbt2018-mean of quality 3 .*not downloaded"),
    ],
)
def test_a_codec_that_is_not_here_is_named(codec, bundled, no_zoo, monkeypatch, name, lmbda, sha256, message):
    url = "https://example.org/mbt2018-mean-3-fc3bd2b0.pth.tar"
    urls = {key: {} for key in zoo.ZOO} | {"mbt2018-mean": {"mse": {3: url}}}
    monkeypatch.setattr(zoo, "URLS", urls)
    with pytest.raises(UserError, match=message):
        bitstream.decode(rewritten(codec, name, lmbda, sha256))


def test_a_file_decodes_with_its_weights_however_they_were_saved(bundled, tmp_path, no_zoo):
    """Before and after `update`, in another kind of file, as the bundled codec; but not with other
    weights."""
    own = bundled / "mshyper-s_lambda0.01.safetensors"
    model, before = untrained(), untrained().state_dict()
    before |= {name: value.float() for name, value in checkpoints.read_safetensors(own).items()}
    checkpoints.load_parameters(model, before)
    contents = {"train.pth.tar": {"state_dict": before, "epoch": 1}, "updated.pth": model.state_dict()}
    contents |= {"other.pth": untrained(seed=1).state_dict()}
    codecs = []
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        codecs.append(weights.load_codec(tmp_path / name, 0.01))
    *codecs, other = codecs
    codecs += [weights.load_codec(own, 0.01), weights.load_codec("mshyper-s")]
    latents = hard_latents(other, picture(64, 64))
    for writer in codecs:
        data = bitstream.encode(writer, latents)
        for reader in codecs:
            assert bitstream.decode(data, reader).shape == (3, 64, 64)
        with pytest.raises(UserError, match="not with other"):
            bitstream.decode(data, other)
    assert codecs[-2].sha256 == codecs[-1].sha256


def test_a_file_that_names_its_checkpoint_by_the_files_hash_still_decodes(tmp_path):
    path = tmp_path / "own.pth"
    torch.save(untrained().state_dict(), path)
    codec = weights.load_codec(path, 0.01, device="cpu", dtype="float32")
    before = dataclasses.replace(codec, sha256=io.sha256(path), also=())
    data = bitstream.encode(before, hard_latents(codec, picture(64, 64)))
    assert bitstream.info(data)["weights"] == io.sha256(path)[:16] != codec.sha256[:16]
    assert bitstream.decode(data, codec).shape == (3, 64, 64)


@pytest.mark.parametrize("metric", ["mse", "ms-ssim"])
def test_a_zoo_codec_is_fetched_by_the_header_where_asked(codec, bundled, no_zoo, monkeypatch, metric):
    url = "https://example.org/mbt2018-mean-3-fc3bd2b0.pth.tar"
    urls = {key: {} for key in zoo.ZOO} | {"mbt2018-mean": {metric: {3: url}}}
    monkeypatch.setattr(zoo, "URLS", urls)
    asked = []
    monkeypatch.setattr(weights, "load_codec", lambda *a, **k: asked.append((a, k["quality"], k["metric"])))
    data = rewritten(codec, "mbt2018-mean", 0.0067, "fc3bd2b0".ljust(64, "0"))
    with pytest.raises(UserError, match=r"not downloaded yet.*--codec mbt2018-mean"):
        bitstream.find_codec(data)
    bitstream.find_codec(data, fetch=True)
    assert asked == [(("mbt2018-mean",), 3, metric)]


# What cannot be written


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"y": None}, None, "has the latents y, z, not z"),
        ({"z": None}, None, "no latent z"),
        ({"y": torch.zeros(12, 4, 5)}, None, r"latent y has shape \(12, 4, 5\).* \(12, 4, 4\)"),
        ({"z": torch.zeros(7, 1, 1)}, None, "latent z has shape"),
        ({"y": torch.zeros(2, 12, 4, 4)}, None, "one image"),
        ({"y": torch.full((12, 4, 4), float("nan"))}, None, "not finite"),
        ({"y": torch.full((12, 4, 4), 1e30)}, None, "those of this codec"),
        ({}, (65, 64), r"latent z has shape \(8, 1, 1\)"),
        ({}, (0, 64), "a side of the photograph must be"),
    ],
)
def test_latents_that_cannot_be(codec, changes, size, message):
    latents = {"y": torch.zeros(12, 4, 4), "z": torch.zeros(8, 1, 1)} | changes
    with pytest.raises(UserError, match=message):
        bitstream.encode(codec, {name: value for name, value in latents.items() if value is not None}, size)


# Untrusted files


@settings(deadline=None)
@given(string=st.binary(max_size=120), data=st.data())
def test_any_string_is_read_to_its_end_or_refused(string, data):
    """Whatever is accepted is what the encoder writes for the symbols that were read."""
    count = data.draw(st.integers(3, 40))
    indexes = np.array(data.draw(st.lists(st.integers(0, 63), min_size=count, max_size=count)), np.uint16)
    tables = coder.gaussian()[1]
    try:
        symbols = rans.decode(string, indexes, tables)
    except UserError:
        return
    assert rans.encode(symbols, indexes, tables) == string


def test_a_string_that_would_be_read_beyond_its_end_is_refused():
    """Nothing but escapes of as many nibbles as there can be: `compressai.ans` would read on in memory."""
    tables = rans.Tables([[0, 1, 65536]], [0])
    indexes = np.zeros(1000, np.uint16)
    with pytest.raises(UserError, match="cannot be decoded"):
        rans.decode(b"\xff\xff\xff\x7f" * 40, indexes, tables)


def test_a_large_photograph_is_refused_before_anything_is_decoded(codec, monkeypatch):
    data = bytearray(bitstream.encode(codec, hard_latents(codec, picture(64, 64))))
    data[18:22] = b"\xff\xff\xff\xff"
    monkeypatch.setattr(bitstream.stream, "decode_latents", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"4.29e\+03 megapixels, more than the 100"):
        bitstream.decode(sealed(bytes(data)), codec)
