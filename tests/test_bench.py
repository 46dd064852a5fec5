"""The benchmark: what it counts and divides is right; nothing here depends on how fast the machine is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sgaplus import hardware, refine
from sgaplus.bench import benchmark as bench
from sgaplus.bench import ceiling, measurement
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.errors import UserError
from tests.conftest import WIDTHS, untrained

TINY = measurement.Settings(
    pairs=2, steps=1, warmup=1, N=8, M=12, width=128, height=64, device="cpu", dtype="float32"
)


def step_flops(n: int, m: int, pixels: int) -> float:
    """FLOPs of one step's convolutions, from the layers of the decoder (arXiv 1809.02736, table 1).

    A transposed convolution multiplies each input value with its kernel, once per output channel. Every
    layer runs forward and backward to its input, which takes as many multiplications; the last one's four
    phases have kernels of 3 × 3 each in the forward pass.
    """
    y, z = pixels / 16**2, pixels / 64**2
    kernel = 5 * 5
    g_s = kernel * (m * n * y + n * n * 4 * y + n * n * 16 * y + n * 3 * 64 * y)
    inverse_gdn = n * n * (4 + 16 + 64) * y
    wide = m * 3 // 2
    h_s = kernel * (n * m * z + m * wide * 4 * z) + 3 * 3 * wide * 2 * m * 16 * z
    phases = (4 * 3 * 3 - kernel) * n * 3 * 64 * y
    return 2 * (2 * (g_s + inverse_gdn + h_s) + phases)


@pytest.fixture(scope="module")
def measured() -> measurement.Measurement:
    return bench.run(TINY)


def codec(dtype: str = "float32") -> Codec:
    return Codec("untrained", 0.01, freeze(untrained()), sha256="").to("cpu", dtype)


def test_a_line_per_pair_quotients_of_its_columns_and_a_summary(measured):
    table, s = measured.table, measured.summary
    assert table["pair"].tolist() == [0, 1]
    assert (table[["reference_seconds", "ours_seconds", "ceiling_seconds"]] > 0).all(axis=None)
    assert table["ratio"].tolist() == (table["reference_seconds"] / table["ours_seconds"]).tolist()
    assert table["share"].tolist() == (table["ceiling_seconds"] / table["ours_seconds"]).tolist()
    assert s["ratio"] == pytest.approx(table["ratio"].mean()), "the median of two is their mean"
    quartiles = table["ratio"].min() + (table["ratio"].max() - table["ratio"].min()) * pd.Series([0.25, 0.75])
    assert [s["ratio_min"], s["ratio_max"]] == [table["ratio"].min(), table["ratio"].max()]
    assert [s["ratio_lower_quartile"], s["ratio_upper_quartile"]] == pytest.approx(quartiles.tolist())
    seconds = table["ours_seconds"].mean()
    assert s["seconds_per_megapixel_iteration"] == pytest.approx(seconds * 1e6 / (128 * 64))
    assert s["flops_per_second"] == pytest.approx(s["flops"] / seconds)
    assert (s["N"], s["M"], s["batch_size"], s["dtype"], s["method"]) == (8, 12, 1, "float32", "ssl:a=2.3")
    assert s["threads"] == torch.get_num_threads()
    assert s["torch_version"] == torch.__version__
    assert {"device", "git_commit", "sgaplus_version", "written"} <= s.keys()
    assert s["ours_peak_bytes"] <= s["reference_peak_bytes"]
    assert s["flops"] == step_flops(8, 12, 128 * 64)
    assert s["bfloat16_hardware"] is hardware.has_bfloat16(torch.device("cpu"))
    assert tuple(s["parts"]) == ceiling.PARTS and sum(s["parts"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_compiled_loop_is_measured_with_the_time_to_compile(measured, traced_alone):
    """`tests.test_objective` has the real compiler."""
    s = bench.run(replace(TINY, pairs=1, compiled=True)).summary
    assert s["compiled"] and s["compile_seconds"] > 0
    assert s["flops"] == measured.summary["flops"]
    assert {"convolutions", ceiling.OTHER} <= s["parts"].keys() <= set(ceiling.PARTS) - {"normalisation"}
    text = measurement.text(measurement.Measurement(measured.table, s))
    assert "1 at a time, compiled: " in text and f"compiling takes {s['compile_seconds']:.1f} s" in text
    assert not measured.summary["compiled"] and measured.summary["compile_seconds"] is None


@pytest.mark.parametrize(("dtype", "count"), [("float32", 2), ("bfloat16", 1)])
def test_the_ceilings_convolutions_are_those_of_one_step(dtype, count):
    """PyTorch's own counter, around the whole loop, sees the same FLOPs between two steps."""
    images = bench.pictures(TINY, count)
    seen = []

    def follow(done: int, total: int) -> None:
        counts = counter.get_flop_counts()["Global"].items()
        seen.append(sum(flops for name, flops in counts if "conv" in str(name)))

    with FlopCounterMode(display=False) as counter:
        refine(
            codec(dtype), images, bench.METHOD, iterations=3, trace_every=3, batch_size=count, progress=follow
        )
    calls = bench.convolutions(codec(dtype), images)
    recorded = sum(call.flops * times for call, times in calls.items())
    assert recorded == seen[1] - seen[0] == count * step_flops(*WIDTHS, 128 * 64)

    replayed = 0
    for call, times in calls.items():
        with FlopCounterMode(display=False) as counter:
            ceiling.ceiling({call: 1}, torch.device("cpu"), repeats=1)
        replayed += counter.get_total_flops() / 2 * times  # a warm-up and one repetition
        tensors = [a for a in call.arguments(torch.device("cpu")) if isinstance(a, torch.Tensor)]
        assert {tensor.dtype for tensor in tensors} == {getattr(torch, dtype)}
    assert replayed == recorded


def test_steps_are_timed_after_the_warm_up(monkeypatch):
    """On a clock that only the loops' calls move, every number is known."""
    ticks = iter(range(1000))
    monkeypatch.setattr(bench, "now", lambda device: float(next(ticks)))
    settings = replace(TINY, steps=4, warmup=2)
    images = bench.pictures(settings, 2)
    step, true_loss = bench._time_ours(codec(), images, settings)
    assert step == 1 / 4 / 2, "one tick over four steps of two pictures"
    assert true_loss == (1 - 1 / 4) / 2
    assert bench._time_reference(bench.plain_model(codec()), images[0], 0.01, settings) == 1 / 4


def test_a_bundled_codec(bundled):
    settings = replace(TINY, codec="mshyper-s", lmbda=0.01, pairs=1, batch_size=2)
    summary = bench.run(settings).summary
    assert (summary["codec"], summary["N"], summary["M"], summary["batch_size"]) == ("mshyper-s", *WIDTHS, 2)
    assert summary["flops"] == step_flops(*WIDTHS, 128 * 64), "per picture, whatever the batch"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["summary"].pop("dtype"), "no dtype"),
        (lambda content: content.pop("pairs"), "pairs"),
        (lambda content: content["pairs"].clear(), "no ceiling_seconds"),
        (lambda content: content["summary"].update(ratio=float("nan")), "not above 0"),
        (lambda content: content["pairs"][0].update(ours_seconds=0.0), "not above 0"),
    ],
)
def test_a_measurement_is_read_as_it_was_written_and_another_file_is_refused(
    measured, tmp_path, change, reason
):
    path = tmp_path / "bench.json"
    measurement.write(measured, path)
    again = measurement.read(path)
    assert again.summary == measured.summary
    pd.testing.assert_frame_equal(again.table, measured.table)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"bench\.json.*{reason}.*measure again"):
        measurement.read(path)
    path.write_text("{")
    with pytest.raises(UserError, match="no measurement"):
        measurement.read(path)
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read: No such file"):
        measurement.read(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pairs": 0}, "pairs must be a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"warmup": True}, "warmup must be a whole number"),
        ({"width": 100}, "width must be a multiple of 64, not 100"),
        ({"lmbda": 0.01}, "give its name"),
        ({"quality": 3}, "give its name"),
    ],
)
def test_settings_that_cannot_be(changes, reason):
    with pytest.raises(UserError, match=reason):
        replace(TINY, **changes)


def test_settings_are_arguments_of_the_command():
    given = TINY.arguments()
    assert dict(zip(given[::2], given[1::2], strict=True))["--N"] == "8" and "--batch-size" not in given
    coded = replace(TINY, codec="mshyper-s", compiled=True).arguments()
    assert "--N" not in coded and coded[-1] == "--compile"


def test_another_architecture_is_refused(monkeypatch):
    other = SimpleNamespace(name="other", model=torch.nn.Identity())
    monkeypatch.setattr(bench, "load_codec", lambda *_, **__: other)
    with pytest.raises(UserError, match="other is none"):
        bench.run(replace(TINY, codec="other"))
