"""Training that survives a kill, and says what is wrong with its folder, its checkpoint or its loss."""

import dataclasses
import errno
import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from compressai.models import MeanScaleHyperprior

from sgaplus.codecs.checkpoints import load_parameters
from sgaplus.errors import SystemFault, UserError
from sgaplus.training import run as training
from sgaplus.training.crops import generator_for, sample_crops
from sgaplus.training.objective import losses
from sgaplus.training.recipes import Recipe, middle
from sgaplus.training.run import Run, train

TINY = Recipe(N=8, M=12, steps=6, cooldown=2, warmup=2, crop=64, batch=2, seed=5)
FAMILY = dataclasses.replace(TINY, family=(0.005, 0.01, 0.04))
BOTH = pytest.mark.parametrize("recipe", [TINY, FAMILY])


@pytest.fixture
def photographs():
    smooth = torch.rand(3, 3, 10, 11, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(smooth, size=(80, 96), mode="bilinear")
    return list((255 * large).to(torch.uint8))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.pt"


def start(recipe=TINY, **changes):
    return Run.start(dataclasses.replace(recipe, **changes), "cpu", "float32")


def advanced(run, photographs, steps):
    for _ in range(steps):
        run.advance(photographs)
    return run


def everything(run):
    """All that is trained and averaged, by name."""
    found = dict(run.codec.model.state_dict())
    found |= {f"average.{index}": value for index, value in enumerate(run.average)}
    return found | {f"gains.{name}": v for name, v in (run.gains.state_dict() if run.gains else {}).items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


# The recipe


def test_the_learning_rate_rises_holds_and_falls_to_zero():
    recipe = Recipe(steps=1000, cooldown=300, warmup=100, lr=2e-3)
    rates = [recipe.learning_rate(step) for step in range(1001)]
    assert (rates[0], rates[850], rates[999]) == pytest.approx((2e-3 / 100, 1e-3, 2e-3 / 300))
    assert rates[99:701] == [2e-3] * 602 and rates[1000] == 0
    assert rates[:100] == sorted(rates[:100]) and rates[700:] == sorted(rates[700:], reverse=True)
    recipe = Recipe(steps=10, cooldown=0, warmup=0, lr=2e-3)
    assert {recipe.learning_rate(step) for step in range(10)} == {2e-3}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lmbda": 0}, "lambda must be a finite number greater than 0"),
        ({"lmbda": math.nan}, "lambda must be a finite number"),
        ({"family": (0.01, -1.0)}, "lambda must be a finite number greater than 0"),
        ({"family": (0.01, 0.02, 0.01)}, "lambda of a family must differ"),
        ({"family": (0.01, 0.01 + 1e-12)}, "lambda of a family must differ"),
        ({"per_step": 0}, "per_step must be a whole number of at least 1"),
        ({"lr": 0}, "learning rate"),
        ({"clip": 0}, "norm of the gradient"),
        ({"N": 0}, "N must be a whole number of at least 1"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0"),
        ({"crop": 100}, "multiple of 64"),
        ({"crop": 0}, "multiple of 64"),
        ({"steps": 9_100}, r"fewer than warm-up and cool-down together \(200 \+ 9000\)"),
        ({"name": "a/b"}, "family's name"),
        ({"average": 1.0}, "decay of the average"),
        ({"average": -0.1}, "decay of the average"),
    ],
)
def test_recipes_that_cannot_be(setting, message):
    with pytest.raises(UserError, match=message):
        Recipe(**setting)


def test_the_middle_of_a_family():
    assert middle((0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)) == 0.01
    assert middle((1.0, 0.01, 0.05)) == 0.05
    with pytest.raises(UserError, match="lambda must be a finite number"):
        middle((0.01, 0.0))


# Steps


# The optimiser changes its basis every 20 steps.
@pytest.mark.slow
@pytest.mark.parametrize("recipe", [dataclasses.replace(r, steps=24, batch=1) for r in (TINY, FAMILY)])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, path, photographs, recipe):
    straight = everything(train(start(recipe), photographs, tmp_path / "straight.pt"))
    advanced(start(recipe), photographs, 13).save(path)
    resumed = Run.resume(path, recipe, "cpu", "float32")
    assert resumed.step == 13
    assert_equal(everything(train(resumed, photographs, path)), straight)
    untouched = everything(start(recipe))
    changed = {
        name.split(".")[0] for name, value in straight.items() if not torch.equal(value, untouched[name])
    }
    assert changed - {"gains"} == {"g_a", "g_s", "h_a", "h_s", "entropy_bottleneck", "average"}
    assert ("gains" in changed) == bool(recipe.family)


@pytest.mark.slow
def test_training_lowers_the_loss_and_draws_each_step_anew(photographs, monkeypatch):
    drawn = []

    def recorded(photographs, side, count, generator):
        drawn.append(generator.initial_seed())
        return sample_crops(photographs, side, count, generator)

    monkeypatch.setattr(training, "sample_crops", recorded)
    run = start(steps=20, lr=3e-3)
    found = [run.advance(photographs)[0]["loss"] for _ in range(20)]
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    assert run.step == 20 and run.seconds > 0
    assert drawn == [generator_for(TINY.seed, step).initial_seed() for step in range(20)]


@pytest.mark.slow
def test_training_leaves_the_global_random_numbers_alone(path, photographs):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    train(start(FAMILY), photographs, path, held_out=photographs).weights()
    Run.resume(path, FAMILY, "cpu", "float32")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(TINY.seed)
    expected = MeanScaleHyperprior(TINY.N, TINY.M).state_dict()
    torch.manual_seed(7)
    for name, value in start().codec.model.named_parameters():
        assert torch.equal(value, expected[name]) or "gamma" in name or "beta" in name, name


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@BOTH
def test_the_average_is_that_of_the_weights_after_each_step(photographs, recipe, decay):
    run, history = start(recipe, average=decay), []
    for t in range(1, 5):
        run.advance(photographs)
        history.append([value.detach().double().clone() for value in run.parameters()])
        shares = [decay ** (t - s) for s in range(1, t + 1)]
        for index, mean in enumerate(run.average):
            total = sum(share * step[index] for share, step in zip(shares, history, strict=True))
            torch.testing.assert_close(mean.double(), total / sum(shares), atol=1e-6, rtol=1e-5)
    changed = [not torch.equal(a, b) for a, b in zip(run.average, run.parameters(), strict=True)]
    assert any(changed) == (decay > 0)
    # It is what is published.
    other = start(recipe)
    other.average = run.average
    for lmbda, weights in run.weights().items():
        assert_equal(other.weights()[lmbda], weights)


@pytest.mark.slow
def test_every_lambda_of_a_family_is_served(photographs):
    run = start(FAMILY, steps=20, batch=1)
    served = [[row["lmbda"] for row in run.advance(photographs)] for _ in range(12)]
    assert all(len(set(lmbdas)) == 2 for lmbdas in served)
    assert {lmbda for lmbdas in served for lmbda in lmbdas} == set(FAMILY.family)
    all_at_once = start(FAMILY, per_step=5).advance(photographs)
    assert sorted(row["lmbda"] for row in all_at_once) == [0.005, 0.01, 0.04]
    initial = start(FAMILY).gains.state_dict()
    for name, gain in run.gains.state_dict().items():
        assert (gain != initial[name]).any(1).all(), name


def test_a_family_starts_at_its_reference(photographs):
    """Unit gains, so that what is measured at that λ is what a run of that λ alone measures."""
    (row,) = start(FAMILY, family=(0.01,), per_step=1).advance(photographs)
    generator = generator_for(TINY.seed, 0)
    torch.randperm(1, generator=generator)
    x = sample_crops(photographs, 64, 2, generator)
    loss, bpp, mse = losses(start().codec, x, torch.full((2,), 0.01), generator, TINY.mixed).mean(1).tolist()
    found = (row["loss"], row["bpp"], row["psnr"])
    assert found == pytest.approx((loss, bpp, -10 * math.log10(mse)), rel=1e-5)


@BOTH
def test_weights_are_those_of_the_plain_architecture_for_each_lambda(photographs, recipe):
    run = advanced(start(recipe), photographs, 1)
    before = {name: value.clone() for name, value in everything(run).items()}
    found = run.weights()
    assert tuple(found) == (recipe.family or (recipe.lmbda,))
    for weights in found.values():
        model = MeanScaleHyperprior(8, 12)
        load_parameters(model, weights)
        # The medians' quantiles were solved for, not trained: each tail holds about one part in 10⁹.
        bottleneck = model.entropy_bottleneck
        tails = torch.sigmoid(bottleneck._logits_cumulative(bottleneck.quantiles, stop_gradient=True))
        torch.testing.assert_close(tails[:, 0, 1], torch.full((8,), 0.5), atol=1e-4, rtol=0)
        assert (tails[:, 0, 0] < 1e-8).all()
        assert not any(value.requires_grad for value in weights.values())
    assert len({weights["g_a.6.weight"].sum().item() for weights in found.values()}) == len(found)
    assert_equal(everything(run), before)


# Whole runs


@pytest.mark.slow
@BOTH
def test_held_out_photographs_are_evaluated_with_hard_rounding_and_change_no_weight(
    path, photographs, recipe
):
    small, reports = torch.zeros(3, 63, 200, dtype=torch.uint8), []
    settings = {"report": lambda *report: reports.append(report), "held_out": [photographs[2], small]}
    run = train(start(recipe), photographs[:2], path, **settings)
    assert_equal(everything(run), everything(train(start(recipe), photographs[:2], path)))
    ((_, rows),) = reports
    assert [row["lmbda"] for row in rows] == sorted(recipe.family or [recipe.lmbda])
    for row in rows:
        model = MeanScaleHyperprior(recipe.N, recipe.M)
        load_parameters(model, run.weights()[row["lmbda"]])
        x = photographs[2][None, :, 8:72, 16:80].float() / 255
        with torch.no_grad():
            out = model.eval()(x)
        mse = (out["x_hat"] - x).double().square().mean().item()
        bpp = sum(-v.double().log2().sum().item() for v in out["likelihoods"].values()) / 64**2
        assert row["held_out_bpp"] == pytest.approx(bpp, rel=1e-3)
        assert row["held_out_loss"] == pytest.approx(row["lmbda"] * 255**2 * mse + bpp, rel=1e-3)
        assert row["held_out_psnr"] == pytest.approx(-10 * math.log10(mse), abs=0.5)


def test_means_of_each_lambda_are_reported_every_hundred_steps_and_at_the_end(path, monkeypatch):
    def advance(run, photographs):
        run.step += 1
        row = {"lmbda": 0.01, "loss": float(run.step), "bpp": 1.0, "psnr": 30.0}
        return [row, row | {"lmbda": 0.1, "loss": -1.0}] if run.step > 200 else [row]

    monkeypatch.setattr(Run, "advance", advance)
    monkeypatch.setattr(Run, "save", lambda run, path: saved.append(run.step))
    saved, reports = [], []
    photo = torch.zeros(3, 64, 64, dtype=torch.uint8)
    run = train(start(steps=250), [photo], path, 120, lambda *report: reports.append(report))
    assert [step for step, _ in reports] == [100, 200, 250]
    found = [(row["step"], row["lmbda"], row["loss"]) for _, rows in reports for row in rows]
    assert found == [(100, 0.01, 50.5), (200, 0.01, 150.5), (250, 0.01, 225.5), (250, 0.1, -1.0)]
    assert [row for _, rows in reports for row in rows] == run.log
    assert set(run.log[0]) == {"step", "seconds", "lmbda", "loss", "bpp", "psnr"}
    assert saved == [120, 240, 250]


def test_a_run_for_a_time_cools_down_in_its_second_half(path, photographs, monkeypatch):
    """On a clock on which each step takes half a minute."""
    clock = itertools.count(0, 30)
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    run = train(start(steps=10**9, warmup=2, cooldown=0), photographs, path, minutes=4)
    assert (run.step, run.seconds) == (8, 8 * 30)
    assert (run.recipe.steps, run.recipe.cooldown) == (8, 4)
    assert Run.resume(path, run.recipe, "cpu").step == 8


@pytest.mark.slow
def test_a_run_can_be_prolonged_until_its_cool_down(path, photographs):
    run = advanced(start(), photographs, 3)
    run.save(path)
    longer = dataclasses.replace(TINY, steps=60, cooldown=30)
    assert Run.resume(path, longer, "cpu").recipe == longer
    advanced(run, photographs, 2).save(path)
    with pytest.raises(UserError, match="cool-down has begun"):
        Run.resume(path, longer, "cpu")
    assert Run.resume(path, TINY, "cpu").step == 5


# Checkpoints


@pytest.mark.parametrize(
    ("stored", "changes", "differing"),
    [
        (TINY, {"lmbda": 0.02, "seed": 6, "steps": TINY.steps + 1}, "lmbda, seed"),
        (TINY, {"N": 16, "M": 20}, "N, M"),
        (TINY, {"family": FAMILY.family}, "family"),
        (FAMILY, {"family": (0.005, 0.01)}, "family"),
        (FAMILY, {"per_step": 1}, "per_step"),
    ],
)
def test_a_checkpoint_of_another_recipe(path, stored, changes, differing):
    start(stored).save(path)
    with pytest.raises(UserError, match=rf"made with other settings \({differing}\)"):
        Run.resume(path, dataclasses.replace(stored, **changes), "cpu")


def _with(**parts):
    return lambda state: state | parts


BROKEN = {"something": torch.zeros(1)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *((content, "damaged or no checkpoint") for content in (b"", b"something else")),
        *((slice(end), "damaged or no checkpoint") for end in (-1, -30_000, 100)),
        (lambda state: [1], "damaged or no checkpoint"),
        (lambda state: {"step": 3}, "damaged or no checkpoint"),
        (_with(recipe=3), "damaged or no checkpoint"),
        (_with(recipe=dataclasses.asdict(FAMILY) | {"N": "many"}), "damaged or no checkpoint"),
        *((_with(**{part: BROKEN}), "damaged or no checkpoint") for part in ("model", "gains", "optimizer")),
        *((_with(**{part: BROKEN}), "damaged or no checkpoint") for part in ("average", "lineage")),
        (_with(recipe=dataclasses.asdict(FAMILY) | {"colour": 1}), "another version of sgaplus .*colour"),
        (_with(optimizer={"state": {}, "param_groups": [{"betas": (0.95, 0.95)}]}), "version .*optimiser"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_kept(path, damage, message):
    """A slice is what is left of a whole one. Nothing in the message destroys what took hours."""
    start(FAMILY).save(path)
    if callable(damage):
        torch.save(damage(torch.load(path, weights_only=True)), path)
    else:
        path.write_bytes(path.read_bytes()[damage] if isinstance(damage, slice) else damage)
    with pytest.raises(UserError, match=rf"run\.pt .*{message}") as refused:
        Run.resume(path, FAMILY, "cpu")
    assert "rename" in str(refused.value) and not re.search("remove|delete", str(refused.value))
    assert ("damaged" in str(refused.value)) == ("damaged" in message)
    assert path.is_file()


NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("where", "error", "kind"),
    [
        ((Path, "read_bytes"), PermissionError(errno.EACCES, "Permission denied"), UserError),
        ((Path, "read_bytes"), OSError(errno.EMFILE, "Too many open files"), SystemFault),
        ((Path, "read_bytes"), OSError(errno.EIO, "Input/output error"), SystemFault),
        ((torch, "load"), MemoryError(), MemoryError),
        ((torch, "load"), NO_MEMORY, RuntimeError),
        ((MeanScaleHyperprior, "load_state_dict"), torch.OutOfMemoryError("full"), torch.OutOfMemoryError),
        ((MeanScaleHyperprior, "load_state_dict"), RuntimeError("CUDA error: unknown"), RuntimeError),
    ],
)
def test_faults_of_the_system_are_not_damage(path, monkeypatch, where, error, kind):
    def fails(*_, **__):
        raise error

    start().save(path)
    monkeypatch.setattr(*where, fails)
    with pytest.raises(kind) as refused:
        Run.resume(path, TINY, "cpu")
    assert not re.search("damaged|remove|delete|rename", str(refused.value))
    assert "run.pt" in str(refused.value) or not isinstance(error, OSError)


@pytest.mark.parametrize(("recipe", "call"), [(TINY, 0), (TINY, 4), (FAMILY, 4)])
def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    path, photographs, monkeypatch, recipe, call
):
    """One value of one step's losses is no number, the last image's."""
    calls = itertools.count()

    def broken(original):
        def found(*arguments):
            values = original(*arguments)
            values[:, -1] *= math.nan if next(calls) == call else 1
            return values

        return found

    monkeypatch.setattr(training, "losses", broken(losses))
    run = start(recipe)
    kept = "; .*run.pt is kept as it was" if call else ""
    message = f"not finite at step {call}: start anew with a lower learning rate{kept}$"
    with pytest.raises(SystemFault, match=message):
        train(run, photographs, path, save_every=2)
    assert path.is_file() == bool(call)
    if call:
        stored = Run.resume(path, recipe, "cpu", "float32")
        assert stored.step == 4
        assert_equal(everything(stored), everything(run))
        assert [file.name for file in path.parent.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("part", ["model", "gains", "disk"])
def test_what_cannot_be_saved_keeps_the_old_checkpoint(path, part, file_size_limit):
    run = start(FAMILY)
    run.save(path)
    before, run.step = path.read_bytes(), 1
    if part == "disk":
        with file_size_limit(4096), pytest.raises(SystemFault, match=r"could not write .*run\.pt"):
            run.save(path)
    else:
        with torch.no_grad():
            broken = run.codec.model.g_s[0].weight if part == "model" else run.gains.z
            broken[(0,) * broken.dim()] = math.inf
        with pytest.raises(SystemFault, match="no longer finite at step 1"):
            run.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]
