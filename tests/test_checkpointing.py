"""A refinement that is broken off goes on from its checkpoint, and nobody can tell."""

import pandas as pd
import pytest
import torch

from sgaplus.codecs.codec import Codec, freeze
from sgaplus.refinement import Checkpoints, refine
from tests.conftest import untrained

STEPS = 14


class BrokenOff(Exception):
    """The power is gone."""


@pytest.fixture(scope="module")
def images():
    return [torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(n)) for n in range(2)]


def run(codec, images, plan, checkpoints=None, until=STEPS, **settings):
    """Refine, and the steps that were done; broken off after ``until`` of them."""
    steps = []

    def progress(done, total):
        steps.append(done // len(images))
        if steps[-1] == until < STEPS:
            raise BrokenOff

    settings = {"iterations": STEPS, "trace_every": 3, "read_offs": [5], "batch_size": 2} | settings
    try:
        found = refine(codec, images, plan, progress=progress, checkpoints=checkpoints, **settings)
    except BrokenOff:
        found = None
    return found, steps


def assert_same(found, expected):
    for name in ("rows", "trace", "best"):
        tables = [getattr(one, name).drop(columns="seconds") for one in (found, expected)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    for one, other in zip(found.latents, expected.latents, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert all(map(torch.equal, found.reconstructions, expected.reconstructions))
    assert found.streams == expected.streams


# Adam; SOAP, whose bases are of some steps before, and an estimate of the curvature; inner steps; files.
PLANS = {"ssl": {}, "fast": {}, "atanh": {"streams": True}}


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_it_goes_on_to_the_same_bit(codec, images, tmp_path, plan):
    settings = PLANS[plan]
    expected, _ = run(codec, images, plan, **settings)
    for until in (4, 11):  # the second one goes on from what the first one left
        nothing, _ = run(codec, images, plan, Checkpoints(tmp_path, 0), until, **settings)
        assert nothing is None and len(list(tmp_path.iterdir())) == 1
    checkpoints = Checkpoints(tmp_path, 0)
    found, steps = run(codec, images, plan, checkpoints, **settings)
    assert steps == list(range(11, STEPS + 1)), "what was done is not done again"
    assert_same(found, expected)
    checkpoints.clear()
    assert not tmp_path.exists()


def test_one_of_something_else_is_not_taken(codec, images, tmp_path):
    files = {"streams": True}
    run(codec, images, "ssl", Checkpoints(tmp_path, 60), 9)
    assert list(tmp_path.iterdir()) == [], "a short refinement has none"
    for settings in ({}, files):
        run(codec, images, "ssl", Checkpoints(tmp_path, 0), 9, **settings)
    others = {"seed": 1}, {"lmbda": 0.02}, {"read_offs": [6]}, {"iterations": STEPS + 1}
    for other in (*others, files | {"read_offs": [3, 5]}):  # the last has the same rows, and more files
        assert run(codec, images, "ssl", Checkpoints(tmp_path, 60), 1, **other)[1] == [1]
    assert run(codec, images[::-1], "ssl", Checkpoints(tmp_path, 60), 1)[1] == [1]


def test_none_is_taken_for_a_function_of_ones_own(codec, images, tmp_path):
    def mse(x_hat, x):
        return (x_hat - x).square().mean((1, 2, 3))

    settings = {"lmbda": 0.01}
    run(codec, images, "ssl", Checkpoints(tmp_path, 0), 4, **settings)
    checkpoints = Checkpoints(tmp_path, 0)
    assert run(codec, images, "ssl", checkpoints, 1, distortion=mse, **settings)[1] == [1]


def test_one_of_other_weights_is_not_taken_where_the_codec_does_not_name_them(images, tmp_path):
    for seed in (0, 1):
        codec = Codec("mine", 0.01, freeze(untrained(seed=seed)), sha256="")
        assert run(codec, images, "ssl", Checkpoints(tmp_path, 0), 4)[1][0] == 1


def test_a_damaged_one_costs_time_alone(codec, images, tmp_path):
    expected, _ = run(codec, images, "ssl")
    run(codec, images, "ssl", Checkpoints(tmp_path, 0), 9)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK" + whole[2:40]):
        path.write_bytes(damaged)
        found, steps = run(codec, images, "ssl", Checkpoints(tmp_path, 0))
        assert steps[0] == 1
        assert_same(found, expected)


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_full_disk_costs_the_checkpoint_alone(codec, images, tmp_path, file_size_limit, size):
    with file_size_limit(size):
        found, steps = run(codec, images, "ssl", Checkpoints(tmp_path, 0))
    assert found is not None and steps[-1] == STEPS
