"""Checkpoints however they were saved: what is in them is what is used, or they are refused in one
sentence."""

import argparse
import collections
import datetime
import functools
import pathlib
import pickle
import re
import types

import numpy as np
import pytest
import torch
from compressai.models import Elic2022Chandelier, Elic2022Official
from safetensors.torch import save_file

from sgaplus import io
from sgaplus.codecs.checkpoints import REFINABLE, build, content_hash, read_safetensors
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.errors import SystemFault, UserError
from tests import test_models
from tests.conftest import WIDTHS, untrained


def assert_same_parameters(codec, expected):
    found = dict(codec.model.named_parameters())
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value.float()), name


def write_checkpoint(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("under", "prefix"),
    [
        (None, "module."),
        ("state_dict", "_orig_mod."),
        ("model_state_dict", "module._orig_mod."),
        ("model", "net."),
        ("net", "model.codec."),
        ("generator", ""),
        ("weights.best", ""),
    ],
)
def test_checkpoints_of_ones_own(tmp_path, under, prefix):
    """With the prefix of a wrapper; without one, a part of the model was compiled."""
    model = untrained()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(1, 3, 64, 64))["x_hat"].sum().backward()
    optimizer.step()
    compiled = ("g_s.", "g_s._orig_mod." if not prefix else "g_s.")
    state = {prefix + name.replace(*compiled): value for name, value in model.state_dict().items()}
    beside = {"step": 3, "optimizer_state_dict": optimizer.state_dict()}
    path = write_checkpoint(tmp_path / "own.pt", {under: state, **beside} if under else state)
    codec = load_codec(path, 0.02, device="cpu", dtype="float32")
    assert (codec.name, codec.lmbda) == ("own", 0.02)
    assert io.sha256(path) in codec.also
    assert_same_parameters(codec, dict(model.named_parameters()))


HARMLESS = {
    "args": argparse.Namespace(lmbda=0.01, save=pathlib.PurePosixPath("a/b")),
    "more": types.SimpleNamespace(a=1),
    "losses": collections.defaultdict(list, a=[1.0]),
    "best": np.float64(0.5),
    "when": datetime.datetime(2020, 1, 1),
    "own": collections.namedtuple("Own", "a")(1),
}
globals()["Own"] = type(HARMLESS["own"])


@pytest.mark.parametrize("zipped", [True, False])
def test_what_stands_beside_the_weights_does_not_matter(tmp_path, zipped):
    content = {"state_dict": untrained().state_dict(), **HARMLESS}
    if not zipped:
        content = {"state_dict": untrained().state_dict(), "args": HARMLESS["args"]}
        del content["args"].save
    path = tmp_path / "own.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    codec = load_codec(path, 0.02)
    assert_same_parameters(codec, dict(untrained().named_parameters()))


def test_the_usual_one_of_several_state_dicts_is_taken(tmp_path):
    ours, other = untrained().state_dict(), untrained(seed=1).state_dict()
    codec = load_codec(write_checkpoint(tmp_path / "own.pt", {"ema": other, "state_dict": ours}), 0.02)
    assert_same_parameters(codec, dict(untrained().named_parameters()))
    with pytest.raises(UserError, match=r"several state dicts \(ema, last\)"):
        load_codec(write_checkpoint(tmp_path / "two.pt", {"ema": other, "last": ours}), 0.02)


def test_checkpoints_with_older_names(tmp_path):
    """`test_checkpoints_are_recognised` has the still older ones without a dot."""
    state = dict(untrained().named_parameters())
    old = {
        re.sub(r"^(.*\.)(matrices|biases|factors)\.", r"module.\1_\2.", name): v for name, v in state.items()
    }
    assert "module.entropy_bottleneck._matrices.4" in old
    assert_same_parameters(load_codec(write_checkpoint(tmp_path / "own.pt", old), 0.01), state)


@pytest.mark.parametrize("architecture", REFINABLE)
def test_checkpoints_are_recognised(tmp_path, architecture):
    """However they are saved: wrapped, in half precision, without coding tables or with older names."""
    model = test_models.make(architecture, *WIDTHS)
    state = dict(model.named_parameters())
    model.update(force=True)
    expected = {name: value.detach().clone() for name, value in state.items()}
    for name, module in model.named_modules():
        if hasattr(module, "mask"):
            expected[f"{name}.weight"] *= module.mask
    for number, content in enumerate(
        (
            model.state_dict(),
            {f"module.{name}": value for name, value in model.state_dict().items()},
            {f"net.{_older(name)}": value for name, value in state.items()},
        )
    ):
        path = write_checkpoint(tmp_path / f"{number}.pt", {"state_dict": content})
        codec = load_codec(path, 0.01)
        assert type(codec.model) is type(model)
        assert_same_parameters(codec, expected)
    half = {f"model.{name}": value for name, value in model.half().state_dict().items()}
    codec = load_codec(write_checkpoint(tmp_path / "half.pt", half), 0.01)
    assert_same_parameters(codec, {name: value.half() for name, value in expected.items()})


def _older(name: str) -> str:
    """As versions of CompressAI before 1.2.7 have it."""
    for today, before in {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}.items():
        name = name.replace(f"entropy_bottleneck.{today}", f"entropy_bottleneck.{before}")
    return name.replace(".skip.", ".downsample.")


@pytest.mark.parametrize(
    ("cls", "groups"), [(Elic2022Official, [3, 9]), (Elic2022Chandelier, [1, 2, 3, 2, 4])]
)
def test_the_groups_of_elic_are_those_of_its_weights(tmp_path, cls, groups):
    path = write_checkpoint(tmp_path / "own.pt", cls(8, 12, groups=groups).state_dict())
    found = load_codec(path, 0.01).model
    assert (type(found), found.groups) == (cls, groups)
    (member,) = series(path, 0.01).members
    assert member.effort.width == 8 and member.effort.work > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            untrained().state_dict() | {"h_s.4.weight": torch.zeros(2)},
            r"none of CompressAI's models bmshj2018-factorized, .*mbt2018-mean",
        ),
        ({"g_a.0.weight": torch.zeros(2, 2, 2, 2)}, "none of CompressAI's models"),
        (
            {name: torch.zeros(2, 2, 2, 2) for name in ("g_a.0.weight", "latent_codec.y.weight")},
            r"elic2022-official.* sgaplus\.codecs\.register",
        ),
        ({"weight": torch.zeros(2)}, "no state dict"),
        ({1: torch.zeros(2)}, "no state dict"),
        ({"step": 3}, "no state dict"),
        ([torch.zeros(2)], "no state dict"),
    ],
)
def test_checkpoints_of_something_else(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        load_codec(write_checkpoint(tmp_path / "other.pt", content), 0.01)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    path = tmp_path / "own.pt"
    torch.save({"state_dict": functools.partial(_executed, path)}, path)
    with pytest.raises(UserError, match="no state dict"):
        load_codec(path, 0.01)
    for harm in (_Harm(), [_Harm()]):
        torch.save({"state_dict": untrained().state_dict(), "harm": harm}, path)
        assert_same_parameters(load_codec(path, 0.01), dict(untrained().named_parameters()))


def _executed(*_):
    pytest.fail("code in a checkpoint was executed")


class _Harm:
    """What a malicious checkpoint would hold."""

    def __reduce__(self):
        return _executed, (1,)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_model_is_refused_with_the_remedy(tmp_path, zipped):
    path = tmp_path / "own.pt"
    torch.save(untrained(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"state_dict\(\)"):
        load_codec(path, 0.01)
    path.write_bytes(pickle.dumps({"model": [1, 2]}))
    with pytest.raises(UserError, match=r"own\.pt"):
        load_codec(path, 0.01)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_a_download_left_in_place_of_weights(tmp_path, suffix):
    path = tmp_path / f"own{suffix}"
    lfs = "version https://git-lfs.github.com/spec/v1\n"
    for content, words in (("", "empty"), (lfs, "git lfs pull"), ("something else", "is not a")):
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            load_codec(path, 0.01)


def test_a_failing_disk_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "own.pt", untrained().state_dict())

    def fail(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(SystemFault, match="too many files are open"):
        load_codec(path, 0.01)


# Buffers


BUFFERS = [
    ("mbt2018-mean", "gaussian_conditional.lower_bound_scale.bound", torch.tensor([0.5])),
    ("mbt2018-mean", "gaussian_conditional.likelihood_lower_bound.bound", torch.tensor([1e-2])),
    ("mbt2018-mean", "entropy_bottleneck.likelihood_lower_bound.bound", torch.tensor([1e-1])),
    ("mbt2018-mean", "g_a.1.beta_reparam.lower_bound.bound", torch.tensor([2.0])),
    ("mbt2018-mean", "g_s.3.gamma_reparam.pedestal", torch.tensor([0.01])),
    ("bmshj2018-factorized", "g_a.3.gamma_reparam.lower_bound.bound", torch.tensor([0.5])),
    ("mbt2018-mean", "gaussian_conditional.scale_table", torch.tensor([0.3, 1.0, 4.0])),
]


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "name", "value"), BUFFERS)
def test_a_buffer_of_a_checkpoint_counts(tmp_path, architecture, name, value):
    """The loaded model's forward pass is that of the model that was saved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(architecture, *WIDTHS).eval()
    model.g_a[-1].weight *= 40
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model(x)
    if name.endswith("scale_table"):
        model.gaussian_conditional.update_scale_table(value.tolist(), force=True)
    else:
        model.get_buffer(name).copy_(value)
    expected = model(x)
    codec = load_codec(
        write_checkpoint(tmp_path / "own.pt", model.state_dict()), 0.01, device="cpu", dtype="float32"
    )
    torch.testing.assert_close(codec.model.get_buffer(name), model.get_buffer(name))
    found = codec.decode(codec.analyse(x))
    torch.testing.assert_close(found.x_hat, expected["x_hat"], atol=1e-4, rtol=1e-4)
    for latent, bits in found.bits.items():
        own = -expected["likelihoods"][latent].log2().sum()
        torch.testing.assert_close(bits.sum(), own, rtol=1e-4, atol=1e-2)
    if not name.endswith("scale_table"):
        changed = [(expected["x_hat"] - before["x_hat"]).abs().max()]
        changed += [(a - before["likelihoods"][k]).abs().max() for k, a in expected["likelihoods"].items()]
        assert max(changed) > 1e-4, "the buffer makes no difference here"


def context_model(mask):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = build("mbt2018", *WIDTHS).eval()
        model.g_a[-1].weight *= 40
        model.context_prediction.mask.copy_(mask)
    model.update(force=True)
    return model


@torch.no_grad()
def test_the_mask_of_a_context_model_counts(tmp_path):
    """A causal one that is not the class's own, and not the same for each channel."""
    mask = torch.zeros(2 * WIDTHS[1], WIDTHS[1], 5, 5)
    mask[:, :, 2, 1] = 1
    mask[::2, ::3, 1, 2] = mask[:, 1::2, 0, 4] = 1
    model = context_model(mask)
    path = write_checkpoint(tmp_path / "own.pt", model.state_dict())
    codec = load_codec(path, 0.01, device="cpu", dtype="float32")
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    decoded = codec.decode(codec.analyse(x))
    expected = model(x)["likelihoods"]  # masks the weights, as CompressAI's decoder takes for granted
    stream = model.compress(x)
    opened = model.decompress(stream["strings"], stream["shape"])
    torch.testing.assert_close(decoded.x_hat.clamp(0, 1), opened["x_hat"], atol=1e-4, rtol=0)
    again = codec.model(x)["likelihoods"]
    for name, value in expected.items():
        torch.testing.assert_close(again[name], value)


def test_a_context_that_looks_ahead_is_refused(tmp_path):
    mask = torch.zeros(2 * WIDTHS[1], WIDTHS[1], 5, 5)
    mask[:, :, 0::2, 1::2] = mask[:, :, 1::2, 0::2] = 1
    path = write_checkpoint(tmp_path / "own.pt", context_model(mask).state_dict())
    with pytest.raises(UserError, match="checkerboard"):
        load_codec(path, 0.01)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gaussian_conditional.lower_bound_scale.bound", torch.tensor([-1.0]), "must be positive"),
        ("gaussian_conditional.likelihood_lower_bound.bound", torch.tensor([0.0]), "must be positive"),
        ("gaussian_conditional.lower_bound_scale.bound", torch.tensor([torch.nan]), "not finite"),
        ("gaussian_conditional.lower_bound_scale.bound", torch.tensor([1.0, 2.0]), "has shape"),
        ("gaussian_conditional.scale_table", torch.tensor([2.0, 1.0]), "rising table"),
        ("g_s.0.bias", torch.full((8,), torch.nan), r"not finite \(g_s\.0\.bias\)"),
    ],
)
def test_tensors_that_cannot_be(tmp_path, name, value, message):
    path = write_checkpoint(tmp_path / "own.pt", {**untrained().state_dict(), name: value})
    with pytest.raises(UserError, match=message):
        load_codec(path, 0.01)


def test_bounds_survive_half_precision(tmp_path):
    """1e-9, the bound of likelihoods, is 0 there."""
    half = {name: v.half() if v.is_floating_point() else v for name, v in untrained().state_dict().items()}
    codec = load_codec(write_checkpoint(tmp_path / "own.pt", half), 0.01)
    assert codec.model.gaussian_conditional.likelihood_lower_bound.bound.item() == pytest.approx(1e-9)


# Identity


def test_the_identity_is_that_of_the_weights_and_not_of_their_file(tmp_path):
    model = untrained()
    paths = [write_checkpoint(tmp_path / "a.pth.tar", {"state_dict": model.state_dict(), "epoch": 1})]
    paths.append(write_checkpoint(tmp_path / "b.safetensors", dict(model.named_parameters())))
    model.update(force=True)
    paths.append(write_checkpoint(tmp_path / "c.pth", model.state_dict()))
    assert len({io.sha256(path) for path in paths}) == 3
    assert len({load_codec(path, 0.01).sha256 for path in paths}) == 1


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["g_s.0.weight", "entropy_bottleneck.quantiles", "gaussian_conditional.lower_bound_scale.bound"]
)
def test_other_weights_have_another_identity(name):
    model = untrained()
    before = content_hash(model)
    model.state_dict()[name].mul_(1.01)
    assert content_hash(model) != before
    assert content_hash(Codec("x", 0.01, freeze(untrained()), "").model) == before


def test_safetensors_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_safetensors(path)
