"""The refinement loop on a small untrained codec: what it promises, and what it refuses."""

import contextlib
import dataclasses
import functools
import itertools
import math
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sgaplus
from sgaplus import bitstream, hardware, plans, refine, rounding, schedules
from sgaplus.bench.baseline import reference_refine
from sgaplus.codecs.codec import Codec, freeze, hard
from sgaplus.errors import SystemFault, UserError
from sgaplus.refinement import batch as loop
from sgaplus.refinement import batches, default_batch_size
from tests.test_codecs import untrained


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("untrained", 0.01, freeze(untrained()), sha256="")


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth[0].clamp(0, 1)


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "setting",
    [
        torch.no_grad,
        torch.inference_mode,
        functools.partial(torch.autocast, "cpu", torch.bfloat16),
        functools.partial(torch.device, "meta"),
        double,
    ],
)
def test_what_the_caller_has_set_in_pytorch_changes_nothing(bundled, setting):
    image = picture(164, 164)

    def numbers():
        codec = sgaplus.load_codec("mshyper-s", dtype="float32")
        run = refine(codec, [image], "fast", iterations=2)
        data = sgaplus.encode(codec, run.latents[0], image.shape)
        similarity = sgaplus.metrics.ms_ssim(image, run.reconstructions[0])
        return run.rows["loss"].tolist(), data, sgaplus.decode(data).tolist(), similarity.tolist()

    expected = numbers()
    with setting():
        found = numbers()
    assert found == expected


def test_rows_say_what_the_latents_cost(codec):
    image = picture(70, 90)
    run = refine(codec, [image], "ssl", iterations=6, names=["a"], trace_every=1)
    row = run.best.iloc[0]
    latents = {name: value[None] for name, value in run.latents[0].items()}
    decoded = codec.decode(latents, hard)
    for name in ("y", "z"):
        torch.testing.assert_close(decoded.latents[name], latents[name], atol=1e-4, rtol=0)
        assert decoded.bits[name].item() / (70 * 90) == pytest.approx(row[f"bpp_{name}"], rel=1e-5)
    x_hat = decoded.x_hat[0, :, :70, :90]
    mse = (x_hat - image).square().mean().item()
    assert row["mse"] == pytest.approx(mse, rel=1e-4)
    assert row["loss"] == pytest.approx(0.01 * 255**2 * mse + row["bpp"], rel=1e-4)
    torch.testing.assert_close(run.reconstructions[0], x_hat, atol=1e-5, rtol=0)
    written = (x_hat.clamp(0, 1) * 255).round() / 255
    psnr_8bit = -10 * torch.log10((written - image).square().mean()).item()
    assert row["psnr_8bit"] == pytest.approx(psnr_8bit, abs=1e-3)


def test_the_best_latents_are_never_worse_than_the_codecs(codec):
    run = refine(codec, [picture(64, 64)], plans.plan("ssl", lr=100), iterations=5, trace_every=1)
    assert run.rows["loss"].iloc[-1] > run.rows["loss"].iloc[0]
    assert run.best["loss"].item() == run.trace["loss"].min() <= run.rows["loss"].iloc[0]


def test_small_images_are_refined_together(codec):
    sizes = [(256, 256)] * 8 + [(512, 768)] * 2 + [None, (2000, 3000), None]
    assert batches(sizes, lambda pixels: default_batch_size(codec, pixels)) == [
        *([0, 1, 2, 3, 4, 5], [6, 7], [8], [9]),
        *([10], [12], [11]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_the_batch_does_not_change_an_images_result(codec, optimizer):
    images = [picture(64, 64, seed) for seed in range(3)]
    plan = plans.plan("ssl", optimizer=optimizer)
    together = refine(codec, images, plan, iterations=8, batch_size=3)
    alone = refine(codec, images[2:], plan, iterations=8)
    reordered = refine(codec, images[::-1], plan, iterations=8, batch_size=2)
    last = together.rows[together.rows["image"] == "image-2"]["loss"].to_numpy()
    assert alone.rows["loss"].to_numpy() == pytest.approx(last, rel=1e-5)
    first = reordered.rows[reordered.rows["image"] == "image-0"]["loss"].to_numpy()
    assert first == pytest.approx(last, rel=1e-5)


def test_seeds_repeat_and_differ(codec):
    runs = [refine(codec, [picture(64, 64)], "ssl", iterations=5, seed=s).trace for s in (1, 1, 2)]
    assert runs[0]["method_loss"].equals(runs[1]["method_loss"])
    assert not runs[0]["method_loss"].equals(runs[2]["method_loss"])


def test_images_of_several_sizes_keep_their_order_and_size(codec):
    images = [picture(64, 64), picture(1, 1), picture(64, 64, 1), picture(65, 30)]
    run = refine(codec, images, "linear", iterations=2, names=list("dbca"), batch_size=2)
    assert run.rows["image"].drop_duplicates().tolist() == list("dbca")
    assert [tuple(x.shape) for x in run.reconstructions] == [tuple(x.shape) for x in images]


def test_read_offs_and_trace(codec):
    run = refine(codec, [picture(64, 64)], "ssl", iterations=10, read_offs=[3, 7], trace_every=5)
    assert run.rows["iteration"].tolist() == [0, 3, 7, 10]
    assert run.trace["iteration"].tolist() == [0, 3, 5, 7, 10]
    assert run.rows["psnr_8bit"].notna().all() and run.trace["method_loss"].notna().sum() == 4
    tau = schedules.Exponential()(9, 10)
    assert run.trace["tau"].iloc[-1] == pytest.approx(tau)


@pytest.mark.slow
def test_the_plain_reference_loop_goes_the_same_way(codec):
    """Other noise, other code, same method: both must gain alike from the same start."""
    image = picture(64, 64)
    model = untrained()
    plain, true = reference_refine(model, image[None], lmbda=0.01, iterations=150)
    run = refine(codec, [image], rounding.SSL(2.3), iterations=150, trace_every=1)
    start = run.rows["loss"].iloc[0]
    gain, reference_gain = start - run.rows["loss"].iloc[-1], start - true[-1]
    assert gain > 0 and reference_gain > 0
    assert gain == pytest.approx(reference_gain, rel=0.15)
    assert run.trace["method_loss"].iloc[1] == pytest.approx(plain[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": -1}, "iterations"),
        ({"lmbda": 0.0}, "lambda"),
        ({"read_offs": [9]}, "read-off 9"),
        ({"names": ["a", "b"]}, "2 names"),
        ({"plan": "sslx"}, "unknown method or preset 'sslx': use one of fast, ste"),
        ({"images": []}, "no image"),
        ({"images": [torch.full((3, 8, 8), torch.nan)]}, "values in"),
        ({"images": [torch.rand(3, 8, 8)] * 2, "names": ["a", "a"]}, "must differ"),
        ({"batch_size": 0}, "batch"),
        ({"trace_every": 0}, "trace_every"),
        ({"images": "photo.png"}, "'photo.png'.*read_image"),
        ({"images": ["photo.png"]}, "image 0 .*not str.*read_image"),
        ({"images": torch.rand(3, 0, 8)}, "image 0 has no pixels"),
        ({"images": (x for x in ())}, "no image"),
        ({"images": torch.rand(8, 8, 3)}, "channels come first"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.int64)}, "int64.*white level.*uint8"),
        ({"images": np.ones((3, 8, 8), dtype=np.uint16)}, "uint16.*white level"),
        ({"iterations": 2.5}, "iterations must be a whole number of at least 0 and at most 1000000, not 2.5"),
        ({"iterations": 10**12, "trace_every": 1}, "iterations must be .* at most 1000000, not 10{12}"),
        ({"iterations": math.inf}, "iterations must be a whole number"),
        ({"read_offs": "soon"}, "read-off must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"codec": "mshyper-s"}, "load_codec returns, not 'mshyper-s'"),
    ],
)
def test_bad_arguments_are_one_sentence(codec, change, message):
    arguments = {"codec": codec, "images": [picture(64, 64)], "plan": "ssl", "iterations": 2} | change
    with pytest.raises(UserError, match=message) as caught:
        sgaplus.refine(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_images_and_numbers_in_every_plain_form_mean_the_same(codec):
    levels = (255 * picture(64, 64)).round()
    image = levels / 255
    wanted = refine(codec, [image], "ssl", iterations=2, read_offs=[1], lmbda=0.02, seed=3, batch_size=2).rows
    forms = {"tensor": image, "tuple": (image,), "loader": (x for x in [image[None]])}
    forms |= {"float64": levels.double() / 255, "gradient": image.clone().requires_grad_()}
    forms |= {"uint8": levels.to(torch.uint8), "numpy uint8": levels.numpy().astype(np.uint8)[None]}
    forms |= {"read-only": np.broadcast_to(image.numpy(), (1, 3, 64, 64))}
    forms |= {"channels last": image[None].contiguous(memory_format=torch.channels_last)}
    columns = ["image", "iteration", "loss", "bpp", "psnr", "lmbda", "seed"]
    for name, images in forms.items():
        run = refine(codec, images, "ssl", iterations=2, read_offs=[1], lmbda=0.02, seed=3)
        assert run.rows[columns].equals(wanted[columns]), name
    for iterations, read_offs, lmbda, seed in (
        (2.0, 1, "0.02", "3"),
        ("2", "1", np.float32(0.02), 3.0),
        (np.int64(2), np.array([1]), torch.tensor(0.02), np.int32(3)),
        (torch.tensor(2), (t for t in [1.0]), 0.02, torch.tensor(3)),
    ):
        arguments = {"iterations": iterations, "read_offs": read_offs, "lmbda": lmbda, "seed": seed}
        rows = refine(codec, image, "ssl", **arguments, batch_size="1", trace_every=1.0, names="image-0").rows
        assert rows["loss"].tolist() == pytest.approx(wanted["loss"].tolist(), rel=1e-5), arguments
        assert rows["iteration"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8])
def test_images_are_converted_by_their_type_and_not_by_their_values(codec, dtype):
    whole = dtype == torch.uint8
    image = (picture(64, 64).round() if whole else picture(64, 64)).to(dtype)  # of integers zeros and ones
    floats = image.float() / 255 if whole else image.float()
    found, wanted = (refine(codec, x, "map", iterations=0).rows for x in (image, floats))
    assert found["loss"].equals(wanted["loss"])


@pytest.mark.slow
def test_the_batch_changes_results_in_bfloat16_as_rounding_does_only(codec):
    images = [picture(64, 64, seed) for seed in range(4)]
    rough = codec.to("cpu", "bfloat16")
    one, four = (refine(rough, images, "ssl", iterations=10, batch_size=size).rows for size in (1, 4))
    assert four["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), rel=5e-3)


def test_a_diverging_run_names_the_image(codec):
    with pytest.raises(SystemFault, match="kodim99 is no longer finite"):
        refine(codec, [picture(64, 64)], plans.plan("map", lr=1e30), iterations=4, names=["kodim99"])


class Faulty(rounding.MAP):
    """MAP whose gradients are not finite for one image of a batch, in so many first steps."""

    def __init__(self, image: int, steps: int):
        object.__setattr__(self, "bad", (image, 2 * steps))  # y and z are relaxed in every step
        object.__setattr__(self, "calls", [])

    def relax(self, v, tau=1.0, noise=None):
        self.calls.append(tau)
        image, last = self.bad
        factor = torch.ones_like(v)
        if len(self.calls) <= last:
            factor[image] = torch.nan
        return v * factor


def faulty_run(codec, steps):
    images = [picture(64, 64, seed) for seed in (0, 1)]
    names = ["sound", "broken"]
    settings = {"temperature": 1.0, "lr": 0.02}
    chosen = [plans.plan(method, **settings) for method in (Faulty(1, steps), rounding.MAP())]
    return [refine(codec, images, plan, iterations=12, names=names, batch_size=2).trace for plan in chosen]


@pytest.mark.slow
def test_a_step_without_finite_gradients_is_left_out_for_its_image_alone(codec):
    trace, plain = faulty_run(codec, loop.MOST_BROKEN_STEPS)
    for name, same in (("sound", True), ("broken", False)):
        values, wanted = (t[t["image"] == name].set_index("iteration")["loss"] for t in (trace, plain))
        assert values.equals(wanted) == same
    values = trace[trace["image"] == "broken"].set_index("iteration")["loss"]
    assert values[0] == values[loop.MOST_BROKEN_STEPS] > values[12]


class Reads(TorchDispatchMode):
    """Counts looks at a tensor's value on the host while it is ``active``: each would wait for a GPU."""

    active, count = False, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        self.count += self.active and waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("plan", ["ssl", "three-class", "fast"])
def test_steps_do_not_look_at_values(codec, plan):
    def follow(done, total):
        reads.active = done < 12  # after the first true loss, before the last

    with Reads() as reads:
        refine(codec, [picture(64, 64)], plan, iterations=13, trace_every=13, progress=follow)
        reads.active = True
        torch.zeros(()).item()
    assert reads.count == 1


def test_more_than_a_few_such_steps_end_the_run_and_name_the_image(codec):
    with pytest.raises(SystemFault, match="gradients of broken were not finite in 4 steps: lower"):
        faulty_run(codec, loop.MOST_BROKEN_STEPS + 1)


@pytest.mark.slow
def test_a_batch_too_large_for_the_memory_is_halved(codec, monkeypatch):
    images = [picture(64, 64, seed) for seed in range(5)]
    wanted = refine(codec, images, "ssl", iterations=3)
    sizes, calls, most = [], [], 2
    module = sys.modules["sgaplus.refinement.run"]
    whole = module.refine_batch

    def small(batch, iterations, evaluate, advance, *others):
        sizes.append(len(batch.names))
        if len(batch.names) > most:
            advance(1)
            raise torch.OutOfMemoryError
        return whole(batch, iterations, evaluate, advance, *others)

    monkeypatch.setattr(module, "refine_batch", small)
    with pytest.warns(UserWarning, match="do not fit in the GPU's memory: going on with") as said:
        run = refine(codec, images, "ssl", iterations=3, batch_size=5, progress=lambda *c: calls.append(c))
    assert sizes == [5, 3, 2, 1, 2] and [one.filename for one in said] == [__file__] * 2
    assert calls[-1] == (15, 15)
    assert run.rows["loss"].to_numpy() == pytest.approx(wanted.rows["loss"].to_numpy(), rel=1e-5)


@pytest.mark.slow
def test_files_are_those_of_the_read_offs(codec):
    """Of each image and read-off the file decodes to the picture that the row measured."""
    codec = dataclasses.replace(codec, sha256="ab" * 32)
    images = {"a": picture(64, 64), "b": picture(70, 90)}
    settings = {"names": list(images), "iterations": 6, "read_offs": [2], "trace_every": 1}
    plan = plans.plan("ssl", lr=0.1)
    run = refine(codec, list(images.values()), plan, **settings, streams=True)
    assert set(run.streams) == {(name, t) for name in images for t in (0, 2, 6)}
    assert len(set(run.streams.values())) == 6
    for _, row in run.rows.iterrows():
        data, image = run.streams[row["image"], row["iteration"]], images[row["image"]]
        assert row["real_bytes"] == len(data)
        assert row["real_bpp"] == 8 * len(data) / (image.shape[1] * image.shape[2])
        psnr = sgaplus.metrics.psnr_8bit(image[None], bitstream.decode(data, codec)[None]).item()
        assert row["psnr_8bit"] == pytest.approx(psnr, abs=1e-3)
    plain = refine(codec, list(images.values()), plan, **settings)
    assert not plain.streams and not {"real_bytes", "real_bpp"} & set(plain.rows)
    assert plain.rows["loss"].tolist() == run.rows["loss"].tolist()


def test_files_of_a_codec_that_cannot_be_coded_are_refused_before_anything_is_computed(codec):
    settings = {"iterations": 1, "streams": True, "progress": lambda *_: pytest.fail("computed")}
    with pytest.raises(UserError, match=r"does not say which weights it has.* load it with load_codec"):
        refine(codec, [picture(64, 64)], "ssl", **settings)


def test_a_stopped_refinement_has_the_best_so_far(codec):
    images = [picture(64, 64, seed) for seed in range(3)]
    full = refine(codec, images, iterations=4, trace_every=1)

    def stop(done, total):
        if done == 4 + 3:
            raise KeyboardInterrupt

    arguments = {"iterations": 4, "trace_every": 4, "progress": stop, "batch_size": 1}
    run = refine(codec, images, stoppable=True, **arguments)
    assert run.rows.groupby("image")["iteration"].apply(list).tolist() == [[0, 4], [0, 3], [0]]
    both = run.rows.merge(full.trace, on=["image", "iteration"])
    assert len(both) == 5 and both["loss_x"].to_numpy() == pytest.approx(both["loss_y"].to_numpy(), rel=1e-6)
    assert run.best["loss"].tolist() == pytest.approx(run.rows.groupby("image")["loss"].min().tolist())
    assert [x.shape for x in run.reconstructions] == [(3, 64, 64)] * 3
    with pytest.raises(KeyboardInterrupt):
        refine(codec, images, **arguments)


def interrupted(function):
    """``function``, in whose second call somebody presses Ctrl-C."""
    calls = itertools.count(1)

    def called(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return function(*arguments)

    return called


def test_ctrl_c_in_the_last_look_at_an_image_is_heard(codec, monkeypatch):
    monkeypatch.setattr(loop.Batch, "true", interrupted(loop.Batch.true))
    images = [picture(64, 64, seed) for seed in range(2)]
    run = refine(codec, images, iterations=2, trace_every=2, stoppable=True, batch_size=1)
    assert run.stopped and run.rows.groupby("image")["iteration"].apply(list).tolist() == [[0, 2], [0]]


def test_ctrl_c_while_the_best_is_noted_leaves_it_whole(codec, monkeypatch):
    monkeypatch.setattr(torch, "where", interrupted(torch.where))
    run = refine(codec, [picture(64, 64)], iterations=4, trace_every=2, stoppable=True)
    found = codec.decode({name: value[None] for name, value in run.latents[0].items()})
    bpp = found.all_bits.item() / 64**2
    assert run.stopped and run.best["bpp"].item() == pytest.approx(bpp, rel=1e-5)
    assert torch.allclose(found.x_hat[0], run.reconstructions[0], atol=1e-5)


@pytest.mark.parametrize("trace_every", [1, 4])
def test_a_stopped_refinement_has_the_file_of_its_last_row(codec, trace_every):
    codec = dataclasses.replace(codec, sha256="ab" * 32)

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    settings = {"iterations": 4, "trace_every": trace_every, "streams": True, "stoppable": True}
    run = refine(codec, [picture(64, 64)], progress=stop, **settings)
    assert run.rows["iteration"].tolist() == [0, 3]
    assert run.rows["real_bytes"].tolist() == [len(data) for data in run.streams.values()]


def test_steps_before_an_interrupted_look_count_once(codec, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(hardware, "now", lambda device: next(clock))
    monkeypatch.setattr(loop.Batch, "true", interrupted(loop.Batch.true))
    run = refine(codec, [picture(64, 64)], iterations=4, trace_every=2, stoppable=True)
    assert run.rows["iteration"].tolist() == [0, 2]
    assert run.rows["seconds"].tolist() == [0, next(clock) - 2]  # all but the last look
