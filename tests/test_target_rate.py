"""The search for a target: it meets what is within reach, says what it misses, and keeps a limit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sgaplus
from sgaplus import bitstream, target_rate
from sgaplus.codecs import weights
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from sgaplus.target_rate import search
from sgaplus.target_rate.targets import next_log_lmbda, target
from tests.conftest import untrained, write_codec, write_photo

PIXELS = 66 * 70


def make(lmbda: float) -> Codec:
    model = untrained()
    model.update()
    return Codec("mshyper-s", lmbda, freeze(model), "ab" * 32)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> torch.Tensor:
    return sgaplus.read_image(write_photo(tmp_path_factory.mktemp("target") / "photo.png"))


@pytest.fixture
def simulated(monkeypatch):
    """Codecs of λ = 0.01, 0.02, 0.04 whose files are as long as a rule says, without any refinement."""

    def use(rule):
        def refine(walk, advance):
            lmbda = math.exp(walk.log_lmbda)
            for step in range(walk.iterations):
                advance(step + 1)
            size = round(rule(walk.codec.lmbda, lmbda))
            quality = math.log2(size)
            return [target_rate.File(walk.codec.lmbda, lmbda, 8 * size / PIXELS, 0.0, quality, bytes(size))]

        def missing(codec, _, wanted):
            size = rule(codec.lmbda, codec.lmbda)
            return wanted.aim - wanted.value(size, math.log2(size))

        monkeypatch.setattr(search._Walk, "refine", refine)
        monkeypatch.setattr(search, "_missing", missing)
        return [make(lmbda) for lmbda in (0.02, 0.01, 0.04)]

    return use


def smooth(codec_lmbda: float, lmbda: float) -> float:
    return 2e6 * codec_lmbda**0.6 * (lmbda / codec_lmbda) ** 0.25


# The target


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ({"bpp": 0.5}, [(24751, 30), (25249, 30)], [(24749, 30), (25251, 30)]),
        ({"max_bytes": 1000}, [(990, 30), (1000, 30)], [(989, 30), (1001, 30)]),
        ({"psnr": 30}, [(1, 29.951), (1, 30.049)], [(1, 29.949), (1, 30.051)]),
    ],
)
def test_how_near_is_near_enough(wanted, good, bad):
    found = target(400_000, **wanted)
    assert found.low < found.aim < found.high
    for files, expected in ((good, True), (bad, False)):
        for file in files:
            assert (found.low <= found.value(*file) <= found.high) is expected


# Where to look next

RATE, QUALITY = target(4096, bpp=0.5), target(4096, psnr=30)
points = st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 40)), min_size=1, max_size=12)


@given(points, st.sampled_from([RATE, QUALITY]))
def test_every_next_point_is_within_its_bounds(known, wanted):
    assert -3 <= next_log_lmbda(known, wanted, (-3.0, 3.0)) <= 3


@given(
    slope=st.floats(0.1, 0.9),
    bend=st.floats(-0.7, 0.7),
    reached=st.floats(-1.5, 1.5),
    start=st.floats(-1.4, 1.4),
    drift=st.floats(0, 0.2),
    pace=st.floats(0.3, 1.5),
)
def test_a_rising_curve_that_drifts_is_searched_in_few_steps(slope, bend, reached, start, drift, pace):
    """As refinements do, the n-th one gives a value that is above that of a very long one."""

    def curve(x):
        return slope * (x + bend * x * abs(x) / 6)

    offset = RATE.aim - curve(reached)
    known, x = [], start
    for n in range(1, search.MOST_REFINEMENTS + 1):
        known.append((x, offset + curve(x) + drift / n**pace))
        if RATE.low <= known[-1][1] <= RATE.high:
            break
        x = next_log_lmbda(known, RATE, (-math.log(16), math.log(16)))
    assert RATE.low <= known[-1][1] <= RATE.high


def test_an_early_file_does_not_bracket_the_target():
    """Measured: the first 100 steps end above 1024 bytes, all later files of smaller λ below, whatever λ is
    tried between the two.
    """
    sizes = [(0.00248, 1092), (0.002, 948), (0.00225, 940), (0.00236, 940), (0.00242, 948)]
    known = [(math.log(lmbda), math.log(size)) for lmbda, size in sizes]
    wanted = target(128 * 128, bpp=0.5)
    assert math.exp(next_log_lmbda(known, wanted, (-9.0, 0.0))) > 0.00248


# The search


@pytest.mark.parametrize("size", [70_000, 110_000, 150_000, 170_000, 260_000])
def test_targets_within_reach_are_met(simulated, image, size):
    codecs = simulated(smooth)
    most = target_rate.encode_to(codecs, image, max_bytes=size)
    assert most.met and 0.99 * size <= len(most.file.data) <= size
    rate = target_rate.encode_to(codecs, image, bpp=8 * size / PIXELS)
    assert rate.met and abs(len(rate.file.data) / size - 1) <= 0.01
    quality = target_rate.encode_to(codecs, image, psnr=math.log2(size))
    assert quality.met and abs(quality.file.psnr - math.log2(size)) <= 0.05


def test_the_codec_is_the_one_whose_point_is_nearest(simulated, image):
    codecs = simulated(smooth)
    for codec in codecs:
        found = target_rate.encode_to(codecs, image, max_bytes=1.05 * smooth(codec.lmbda, codec.lmbda))
        assert {file.codec_lmbda for file in found.files} == {codec.lmbda}


def test_the_neighbour_takes_over_where_a_codec_ends(simulated, image):
    """Own latents that say nothing of what refinement makes of them."""

    def rule(codec_lmbda, lmbda):
        return 5000 if codec_lmbda == lmbda == 0.01 else smooth(codec_lmbda, lmbda) / 10

    found = target_rate.encode_to(simulated(rule), image, max_bytes=40_000)
    assert found.met
    assert [file.codec_lmbda for file in found.files][-1] == 0.04
    assert sorted(file.codec_lmbda for file in found.files) == [file.codec_lmbda for file in found.files]


def test_out_of_reach_is_said_with_what_is_reached(simulated, image):
    codecs = simulated(smooth)
    with pytest.raises(UserError, match=r"1000 bytes is out of .* codec of λ = 0.01 gives 63096 bytes"):
        target_rate.encode_to(codecs, image, max_bytes=1000)
    with pytest.raises(
        UserError, match=r"40 dB is out of .* λ = 0.64 with the codec of λ = 0.04 gives 19.\d+ dB"
    ):
        target_rate.encode_to(codecs, image, psnr=40)
    found = target_rate.encode_to(codecs, image, max_bytes=10**7)
    assert not found.met
    assert len(found.file.data) == round(smooth(0.04, 16 * 0.04))


def test_a_search_ends_and_gives_the_nearest_within_the_limit(simulated, image):
    """Files of two lengths only: 100,000 bytes and 120,000."""
    codecs = simulated(lambda codec_lmbda, lmbda: 100_000 if lmbda < 0.011 else 120_000)
    calls = []
    settings = {"iterations": 3, "progress": lambda *call: calls.append(call)}
    found = target_rate.encode_to(codecs, image, max_bytes=119_000, **settings)
    assert not found.met and len(found.file.data) == 100_000
    assert len(found.files) == search.MOST_REFINEMENTS
    assert found.steps == 3 * search.MOST_REFINEMENTS
    assert calls == [(step, found.steps) for step in range(1, found.steps + 1)]
    assert len(target_rate.encode_to(codecs, image, bpp=8 * 119_000 / PIXELS).file.data) == 120_000


def test_a_file_of_a_late_step_may_meet_the_target(image, monkeypatch):
    def file(size: int) -> target_rate.File:
        return target_rate.File(0.01, 0.01, 8 * size / PIXELS, 0.0, 30.0, bytes(size))

    monkeypatch.setattr(search._Walk, "refine", lambda *_: [file(1010), file(995), file(996), file(985)])
    found = target_rate.encode_to([make(0.01)], image, max_bytes=1000)
    assert (found.met, len(found.file.data), len(found.files)) == (True, 996, 1)


def test_no_file_within_the_limit_is_an_error(simulated, image):
    codecs = simulated(lambda codec_lmbda, lmbda: 120_000)
    with pytest.raises(UserError, match=r"no file of at most 119000 bytes .* the smallest has 120000 bytes"):
        target_rate.encode_to(codecs, image, max_bytes=119_000, iterations=1)


def test_files_are_real_and_refinements_go_on_where_the_last_one_stopped(image, monkeypatch):
    codec, starts, ends = make(0.01), [], []
    whole = search.refine_batch

    def watched(batch, *arguments):
        starts.append({name: latent.clone() for name, latent in batch.latents.items()})
        result = whole(batch, *arguments)
        ends.append({name: latent.detach().clone() for name, latent in batch.latents.items()})
        return result

    monkeypatch.setattr(search, "refine_batch", watched)
    reported = []
    found = target_rate.encode_to([codec], image, max_bytes=10**6, iterations=4, report=reported.append)
    assert found.files == reported and len(reported) == len(starts) >= 2
    for before, after in zip(ends, starts[1:], strict=False):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(starts[0][name], ends[0][name]) for name in ends[0])
    for file in found.files:
        assert file.bpp == 8 * len(file.data) / PIXELS
        decoded = bitstream.decode(file.data, codec)
        psnr = sgaplus.metrics.psnr_8bit(image[None], decoded[None]).item()
        assert file.psnr == pytest.approx(psnr, abs=1e-3)


@pytest.mark.slow
def test_lambda_moves_the_file_of_a_bundled_codec(tmp_path):
    """The whole way with trained weights; so few steps and bytes leave more noise than 1 %."""
    photo = sgaplus.read_image(write_photo(tmp_path / "photo.png", (128, 128)))
    codec = weights.load_codec("mshyper-s", 0.01, device="cpu", dtype="float32")
    own = bitstream.encode(codec, sgaplus.refine(codec, [photo], "map", iterations=0).latents[0], (128, 128))
    wanted = round(0.9 * len(own))
    found = target_rate.encode_to([codec], photo, max_bytes=wanted, iterations=10)
    assert 0.95 * wanted < len(found.file.data) <= wanted
    assert found.met is (len(found.file.data) >= 0.99 * wanted)


def test_a_series_is_of_what_is_on_this_computer(tmp_path, no_zoo):
    path = write_codec(tmp_path, seed=3)
    write_codec(tmp_path, lmbda=0.02, seed=4)
    for spec, lmbda, expected in ((path, 0.03, [0.03]), (path, None, [0.01]), (tmp_path, None, [0.01, 0.02])):
        assert [codec.lmbda for codec in target_rate.series(spec, lmbda, device="cpu")] == expected
    with pytest.raises(UserError, match="sgaplus codecs fetch mbt2018-mean@2-4"):
        target_rate.series("mbt2018-mean@2-4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codecs": []}, "at least one codec"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1"),
        ({"image": torch.zeros(2, 3, 64, 64)}, "one photograph, not of 2"),
        ({"image": torch.full((3, 64, 64), 255.0)}, r"values in \[0, 1\]"),
        ({"plan": "slow"}, "unknown method or preset"),
        ({"bpp": None}, "exactly one target"),
        ({"psnr": 30}, "exactly one target"),
        ({"bpp": 0}, "the target bpp must be a finite number greater than 0"),
        ({"bpp": None, "psnr": math.inf}, "the target PSNR must be"),
        ({"bpp": None, "max_bytes": -5}, "the maximum size must be"),
    ],
)
def test_arguments_that_cannot_be(image, change, message):
    settings = {"codecs": [make(0.01)], "image": image, "bpp": 1.0, **change}
    with pytest.raises(UserError, match=message):
        target_rate.encode_to(settings.pop("codecs"), settings.pop("image"), **settings)
