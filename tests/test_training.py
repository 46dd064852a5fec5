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
from sgaplus.training.lineage import Lineage
from sgaplus.training.objective import losses
from sgaplus.training.recipes import Recipe, middle
from sgaplus.training.run import Run, train

TINY = Recipe(N=8, M=12, steps=6, cooldown=2, warmup=2, crop=64, batch=2, seed=5)
FAMILY = dataclasses.replace(TINY, family=(0.005, 0.01, 0.04))


@pytest.fixture
def photographs():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(3, 3, 10, 11, generator=generator)
    large = torch.nn.functional.interpolate(smooth, size=(80, 96), mode="bilinear")
    return list((255 * large).to(torch.uint8))


def start(recipe=TINY):
    return Run.start(recipe, "cpu", "float32")


# The recipe's functions of the step


def test_the_learning_rate_rises_holds_and_falls_to_zero():
    recipe = Recipe(steps=1000, cooldown=300, warmup=100, lr=2e-3)
    rates = [recipe.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-3 / 100)
    assert rates[99:701] == [2e-3] * 602
    assert rates[850] == pytest.approx(1e-3)
    assert rates[999] == pytest.approx(2e-3 / 300)
    assert recipe.learning_rate(1000) == 0
    assert rates[:100] == sorted(rates[:100])
    assert rates[700:] == sorted(rates[700:], reverse=True)


def test_a_recipe_without_warm_up_and_cool_down():
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
        ({"M": -3}, "M must be a whole number of at least 1"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0"),
        ({"crop": 100}, "multiple of 64"),
        ({"crop": 0}, "multiple of 64"),
        ({"steps": 9_100}, r"fewer than warm-up and cool-down together \(200 \+ 9000\)"),
        ({"name": "a/b"}, "family's name"),
        ({"average": 1.0}, "decay of the average"),
        ({"average": -0.1}, "decay of the average"),
        ({"holdout": -1}, "holdout must be a whole number of at least 0"),
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


# Training


# The optimiser changes its basis every 20 steps.
@pytest.mark.slow
@pytest.mark.parametrize("recipe", [dataclasses.replace(r, steps=24, batch=1) for r in (TINY, FAMILY)])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, photographs, recipe):
    straight = train(start(recipe), photographs, tmp_path / "straight.pt")
    killed = start(recipe)
    for _ in range(13):
        killed.advance(photographs)
    killed.save(tmp_path / "killed.pt")
    resumed = Run.resume(tmp_path / "killed.pt", recipe, "cpu", "float32")
    assert resumed.step == 13
    train(resumed, photographs, tmp_path / "killed.pt")
    expected, untouched = (dict(everything(run)) for run in (straight, start(recipe)))
    for name, value in everything(resumed):
        assert torch.equal(value, expected[name]), name
    changed = {name for name, value in expected.items() if not torch.equal(value, untouched[name])}
    parts = {"g_a", "g_s", "h_a", "h_s", "entropy_bottleneck", "average"} | (
        {"gains"} if recipe.family else set()
    )
    assert {name.split(".")[0] for name in changed} == parts


def everything(run):
    """All that is trained and averaged, by name."""
    yield from run.codec.model.state_dict().items()
    yield from ((f"average.{index}", value) for index, value in enumerate(run.average))
    for name, value in run.gains.state_dict().items() if run.gains else ():
        yield f"gains.{name}", value


# The average


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("recipe", [TINY, FAMILY])
def test_the_average_is_that_of_the_weights_after_each_step(photographs, recipe, decay):
    run = start(dataclasses.replace(recipe, average=decay))
    history = []
    for t in range(1, 5):
        run.advance(photographs)
        history.append([value.detach().double().clone() for value in run.parameters()])
        shares = [decay ** (t - s) for s in range(1, t + 1)]
        for index, mean in enumerate(run.average):
            total = sum(share * step[index] for share, step in zip(shares, history, strict=True))
            torch.testing.assert_close(mean.double(), total / sum(shares), atol=1e-6, rtol=1e-5)
    changed = [not torch.equal(a, b) for a, b in zip(run.average, run.parameters(), strict=True)]
    assert any(changed) == (decay > 0)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [TINY, FAMILY])
def test_the_average_is_what_is_published(photographs, recipe):
    run = start(dataclasses.replace(recipe, lr=1e-2))
    for _ in range(3):
        run.advance(photographs)
    other = start(recipe)
    other.average = run.average
    for lmbda, weights in run.weights().items():
        for name, value in other.weights()[lmbda].items():
            assert torch.equal(weights[name], value), name
    last = start(recipe)
    last.average = run.parameters()
    assert not torch.equal(last.weights()[lmbda]["g_a.0.weight"], run.weights()[lmbda]["g_a.0.weight"])


@pytest.mark.slow
def test_training_leaves_the_global_random_numbers_alone(tmp_path, photographs):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    run = start(FAMILY)
    train(run, photographs, tmp_path / "run.pt", held_out=photographs)
    run.weights()
    Run.resume(tmp_path / "run.pt", FAMILY, "cpu", "float32")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(TINY.seed)
    expected = MeanScaleHyperprior(TINY.N, TINY.M).state_dict()
    torch.manual_seed(7)
    for name, value in start().codec.model.named_parameters():
        if "gamma" not in name and "beta" not in name:
            assert torch.equal(value, expected[name]), name


# Held-out photographs


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [TINY, FAMILY])
def test_held_out_photographs_are_evaluated_with_hard_rounding(tmp_path, photographs, recipe):
    small = torch.zeros(3, 63, 200, dtype=torch.uint8)
    reports = []
    run = train(
        start(recipe),
        photographs[:2],
        tmp_path / "run.pt",
        report=lambda *report: reports.append(report),
        held_out=[photographs[2], small],
    )
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


@pytest.mark.slow
def test_evaluation_changes_no_weight(tmp_path, photographs):
    without, having = (
        train(start(FAMILY), photographs, tmp_path / "run.pt", held_out=held) for held in ((), photographs)
    )
    expected = dict(everything(without))
    for name, value in everything(having):
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_every_lambda_of_a_family_is_served(photographs):
    run = start(dataclasses.replace(FAMILY, steps=20, batch=1))
    served = [[row["lmbda"] for row in run.advance(photographs)] for _ in range(12)]
    assert all(len(set(lmbdas)) == 2 for lmbdas in served)
    assert {lmbda for lmbdas in served for lmbda in lmbdas} == set(FAMILY.family)
    all_at_once = start(dataclasses.replace(FAMILY, per_step=5)).advance(photographs)
    assert sorted(row["lmbda"] for row in all_at_once) == [0.005, 0.01, 0.04]
    initial = start(FAMILY).gains.state_dict()
    for name, gain in run.gains.state_dict().items():
        assert (gain != initial[name]).any(1).all(), name


def test_a_family_starts_at_its_reference(photographs):
    """Unit gains, so that what is measured at that λ is what a run of that λ alone measures."""
    recipe = dataclasses.replace(FAMILY, family=(0.01,), per_step=1)
    (row,) = start(recipe).advance(photographs)
    generator = generator_for(recipe.seed, 0)
    torch.randperm(1, generator=generator)
    x = sample_crops(photographs, 64, 2, generator)
    expected = losses(start().codec, x, 0.01, generator).mean(1)
    assert row["loss"] == pytest.approx(expected[0].item(), rel=1e-5)
    assert row["bpp"] == pytest.approx(expected[1].item(), rel=1e-5)
    assert row["psnr"] == pytest.approx(-10 * math.log10(expected[2].item()), rel=1e-5)


@pytest.mark.parametrize("recipe", [TINY, FAMILY])
def test_weights_are_those_of_the_plain_architecture_for_each_lambda(photographs, recipe):
    run = start(recipe)
    run.advance(photographs)
    before = {name: value.clone() for name, value in everything(run)}
    found = run.weights()
    assert tuple(found) == (recipe.family or (recipe.lmbda,))
    for weights in found.values():
        model = MeanScaleHyperprior(8, 12)
        load_parameters(model, weights)
        bottleneck = model.entropy_bottleneck
        tails = torch.sigmoid(bottleneck._logits_cumulative(bottleneck.quantiles, stop_gradient=True))
        torch.testing.assert_close(tails[:, 0, 1], torch.full((8,), 0.5), atol=1e-4, rtol=0)
        assert (tails[:, 0, 0] < 1e-8).all()
        assert not any(value.requires_grad for value in weights.values())
    assert len({weights["g_a.6.weight"].sum().item() for weights in found.values()}) == len(found)
    for name, value in everything(run):
        assert torch.equal(value, before[name]), name


def test_every_step_draws_from_its_own_random_numbers(photographs, monkeypatch):
    drawn = []

    def recorded(photographs, side, count, generator):
        drawn.append(generator.initial_seed())
        return sample_crops(photographs, side, count, generator)

    monkeypatch.setattr(training, "sample_crops", recorded)
    run = start()
    for _ in range(3):
        run.advance(photographs)
    assert drawn == [generator_for(TINY.seed, step).initial_seed() for step in range(3)]
    assert len(set(drawn)) == 3


@pytest.mark.slow
def test_training_lowers_the_loss(photographs):
    run = start(dataclasses.replace(TINY, steps=20, lr=3e-3))
    losses = [run.advance(photographs)[0]["loss"] for _ in range(20)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert run.step == 20
    assert run.seconds > 0


@pytest.mark.slow
def test_a_run_can_be_prolonged_until_its_cool_down(tmp_path, photographs):
    run = start()
    for _ in range(3):
        run.advance(photographs)
    run.save(tmp_path / "early.pt")
    longer = dataclasses.replace(TINY, steps=60, cooldown=30)
    assert Run.resume(tmp_path / "early.pt", longer, "cpu").recipe == longer
    for _ in range(2):
        run.advance(photographs)
    run.save(tmp_path / "late.pt")
    with pytest.raises(UserError, match="cool-down has begun"):
        Run.resume(tmp_path / "late.pt", longer, "cpu")
    assert Run.resume(tmp_path / "late.pt", TINY, "cpu").step == 5


@pytest.mark.parametrize(
    ("stored", "wanted", "differing"),
    [
        (TINY, dataclasses.replace(TINY, lmbda=0.02, seed=6, steps=TINY.steps + 1), "lmbda, seed"),
        (TINY, dataclasses.replace(TINY, N=16, M=20), "N, M"),
        (TINY, FAMILY, "family"),
        (FAMILY, TINY, "family"),
        (FAMILY, dataclasses.replace(FAMILY, family=(0.005, 0.01)), "family"),
        (FAMILY, dataclasses.replace(FAMILY, per_step=1), "per_step"),
    ],
)
def test_a_checkpoint_of_another_recipe(tmp_path, stored, wanted, differing):
    start(stored).save(tmp_path / "run.pt")
    with pytest.raises(UserError, match=rf"made with other settings \({differing}\)"):
        Run.resume(tmp_path / "run.pt", wanted, "cpu")


def assert_kept(refused, path):
    """The message says what to do, and nothing in it destroys what took hours."""
    assert "rename" in str(refused.value)
    assert not re.search("remove|delete", str(refused.value))
    assert path.is_file()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"something else",
        {"step": 3},
        {"recipe": 3},
        {"recipe": {"N": "many"}},
        {"recipe": {"lr": -1.0}},
        [1],
        *(slice(end) for end in (-1, -30_000, 100)),
    ],
)
def test_a_checkpoint_that_is_none(tmp_path, content):
    """A slice is what is left of a whole one."""
    path = tmp_path / "run.pt"
    if isinstance(content, slice):
        start().save(path)
        content = path.read_bytes()[content]
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=r"run\.pt is damaged or no checkpoint") as refused:
        Run.resume(path, TINY, "cpu")
    assert_kept(refused, path)


def test_a_checkpoint_of_another_version_is_not_called_damaged(tmp_path):
    path = tmp_path / "run.pt"
    start().save(path)
    state = torch.load(path, weights_only=True)
    torch.save(state | {"recipe": state["recipe"] | {"colour": 1}}, path)
    with pytest.raises(UserError, match=r"another version of sgaplus .*colour") as refused:
        Run.resume(path, TINY, "cpu")
    assert "damaged" not in str(refused.value)
    assert_kept(refused, path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), UserError),
        (OSError(errno.EMFILE, "Too many open files"), SystemFault),
        (OSError(errno.EIO, "Input/output error"), SystemFault),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), SystemFault),
        (MemoryError(), MemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError),
    ],
)
@pytest.mark.parametrize("where", ["read", "parse", "load"])
def test_faults_of_the_system_are_not_damage(tmp_path, monkeypatch, error, kind, where):
    def fails(*_, **__):
        raise error

    path = tmp_path / "run.pt"
    start().save(path)
    if where == "read":
        monkeypatch.setattr(Path, "read_bytes", fails)
    elif where == "parse" and not isinstance(error, OSError):
        monkeypatch.setattr(torch, "load", fails)
    elif not isinstance(error, OSError):
        monkeypatch.setattr(MeanScaleHyperprior, "load_state_dict", fails)
    else:
        return
    with pytest.raises(kind) as refused:
        Run.resume(path, TINY, "cpu")
    assert not re.search("damaged|remove|delete|rename", str(refused.value))
    assert "run.pt" in str(refused.value) or not isinstance(error, OSError)


def test_a_checkpoint_from_before_there_were_averages_goes_on(tmp_path, photographs):
    path = tmp_path / "run.pt"
    run = start()
    run.advance(photographs)
    run.save(path)
    state = torch.load(path, weights_only=True)
    del state["average"], state["recipe"]["average"]
    torch.save(state, path)
    resumed = Run.resume(path, TINY, "cpu", "float32")
    assert resumed.recipe == dataclasses.replace(TINY, average=0.0)
    train(resumed, photographs, path)
    model, _ = resumed.averaged()
    for name, value in model.named_parameters():
        assert torch.equal(value, dict(resumed.codec.model.named_parameters())[name]), name


@pytest.mark.parametrize("part", ["model", "gains", "optimizer", "average", "log", "lineage"])
def test_a_checkpoint_whose_parts_do_not_fit(tmp_path, part):
    path = tmp_path / "run.pt"
    start(FAMILY).save(path)
    state = torch.load(path, weights_only=True)
    state[part] = {"something": torch.zeros(1)}
    if part == "log":
        del state[part]
    torch.save(state, path)
    with pytest.raises(UserError, match="is damaged or no checkpoint of a training run") as refused:
        Run.resume(path, FAMILY, "cpu")
    assert_kept(refused, path)
    with pytest.raises(UserError, match="unknown device"):
        Run.resume(path, FAMILY, "abacus")


def test_the_lineage_outlives_the_checkpoint(tmp_path):
    row = {"stage": 1, "step": 100, "seconds": 2.5, "lmbda": 0.01, "loss": 1.0, "bpp": 0.5, "psnr": 30.0}
    lineage = Lineage("a.safetensors", 0.01, [{"recipe": {"family": [0.1]}, "start": ""}], [row])
    Run.start(TINY, "cpu", "float32", lineage=lineage).save(tmp_path / "run.pt")
    assert Run.resume(tmp_path / "run.pt", TINY, "cpu").lineage == lineage
    # Checkpoints from before there were lineages have none.
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    del state["lineage"]
    torch.save(state, tmp_path / "run.pt")
    assert Run.resume(tmp_path / "run.pt", TINY, "cpu").lineage == Lineage()


def test_a_run_for_a_time_cools_down_in_its_second_half(tmp_path, photographs, monkeypatch):
    """On a clock on which each step takes half a minute."""
    clock = itertools.count(0, 30)
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    recipe = dataclasses.replace(TINY, steps=10**9, warmup=2, cooldown=0)
    run = train(start(recipe), photographs, tmp_path / "run.pt", minutes=4)
    assert (run.step, run.seconds) == (8, 8 * 30)
    assert (run.recipe.steps, run.recipe.cooldown) == (8, 4)
    assert Run.resume(tmp_path / "run.pt", run.recipe, "cpu").step == 8


def broken_at(call, monkeypatch):
    """Make one value of one step's losses something that is no number, the last image's."""
    calls = itertools.count()

    def broken(original):
        def found(*arguments):
            values = original(*arguments)
            bad = values.new_tensor([1.0] * (values.shape[1] - 1) + [math.nan])
            return values * bad if next(calls) == call else values

        return found

    for name in ("losses", "family_losses"):
        monkeypatch.setattr(training, name, broken(getattr(training, name)))


@pytest.mark.parametrize(("recipe", "call"), [(TINY, 0), (TINY, 4), (FAMILY, 4)])
def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    tmp_path, photographs, monkeypatch, recipe, call
):
    broken_at(call, monkeypatch)
    run = start(recipe)
    if call == 0:
        with pytest.raises(
            SystemFault, match=r"not finite at step 0: start anew with a lower learning rate$"
        ):
            train(run, photographs, tmp_path / "run.pt")
        return
    message = "not finite at step 4: start anew with a lower learning rate; .*run.pt is kept as it was"
    with pytest.raises(SystemFault, match=message):
        train(run, photographs, tmp_path / "run.pt", save_every=2)
    kept = Run.resume(tmp_path / "run.pt", recipe, "cpu", "float32")
    assert kept.step == 4
    now = dict(everything(run))
    for name, value in everything(kept):
        assert torch.equal(value, now[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("part", ["model", "gains"])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path, part):
    run = start(FAMILY)
    run.save(tmp_path / "run.pt")
    before = (tmp_path / "run.pt").read_bytes()
    with torch.no_grad():
        broken = run.codec.model.g_s[0].weight if part == "model" else run.gains.z
        broken[(0,) * broken.dim()] = math.inf
    with pytest.raises(SystemFault, match="no longer finite at step 0"):
        run.save(tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == before


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, file_size_limit):
    run = start()
    run.save(tmp_path / "run.pt")
    run.step = 1
    with file_size_limit(4096), pytest.raises(SystemFault, match=r"could not write .*run\.pt"):
        run.save(tmp_path / "run.pt")
    assert Run.resume(tmp_path / "run.pt", TINY, "cpu").step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_means_of_each_lambda_are_reported_every_hundred_steps_and_at_the_end(tmp_path, monkeypatch):
    def advance(run, photographs):
        run.step += 1
        row = {"lmbda": 0.01, "loss": float(run.step), "bpp": 1.0, "psnr": 30.0}
        return [row, row | {"lmbda": 0.1, "loss": -1.0}] if run.step > 200 else [row]

    monkeypatch.setattr(Run, "advance", advance)
    monkeypatch.setattr(Run, "save", lambda run, path: saved.append(run.step))
    saved, reports = [], []
    recipe = dataclasses.replace(TINY, steps=250)
    photo = torch.zeros(3, 64, 64, dtype=torch.uint8)
    run = train(start(recipe), [photo], tmp_path / "run.pt", 120, lambda *report: reports.append(report))
    assert [step for step, _ in reports] == [100, 200, 250]
    found = [(row["step"], row["lmbda"], row["loss"]) for _, rows in reports for row in rows]
    assert found == [(100, 0.01, 50.5), (200, 0.01, 150.5), (250, 0.01, 225.5), (250, 0.1, -1.0)]
    assert [row for _, rows in reports for row in rows] == run.log
    assert set(run.log[0]) == {"step", "seconds", "lmbda", "loss", "bpp", "psnr"}
    assert saved == [120, 240, 250]
