"""Training that survives a kill, and says what is wrong with its folder, its checkpoint or its loss."""

import dataclasses
import itertools
import math

import pytest
import torch

from sgaplus import training
from sgaplus.errors import SystemFault, UserError
from sgaplus.training import Recipe, Run, generator_for, read_photographs, sample_crops, train

from .conftest import write_photo

TINY = Recipe(N=8, M=12, steps=6, cooldown=2, warmup=2, crop=64, batch=2, seed=5)


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
        ({"per_step": 0}, "per_step must be at least 1"),
        ({"lr": 0}, "learning rate"),
        ({"clip": 0}, "norm of the gradient"),
        ({"N": 0}, "N must be at least 1"),
        ({"M": -3}, "M must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"warmup": -1}, "warmup must not be negative"),
        ({"crop": 100}, "multiple of 64"),
        ({"crop": 0}, "multiple of 64"),
        ({"steps": 9_100}, r"fewer than warm-up and cool-down together \(200 \+ 9000\)"),
        ({"name": "a/b"}, "family's name"),
    ],
)
def test_recipes_that_cannot_be(setting, message):
    with pytest.raises(UserError, match=message):
        Recipe(**setting)


# Crops


def test_crops_are_pieces_of_the_photographs_turned_and_mirrored():
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(120), indexing="ij")
    photographs = [torch.stack([rows, columns, torch.full_like(rows, k)]).to(torch.uint8) for k in range(3)]
    crops = 255 * sample_crops(photographs, dataclasses.replace(TINY, batch=32), generator_for(0, 0))
    assert crops.shape == (32, 3, 64, 64)
    assert crops[:, 2, 0, 0].unique().tolist() == pytest.approx([0, 1, 2], abs=1e-3)
    seen = set()
    for crop in crops.round().int():
        turned = bool(crop[0, 0, 0] != crop[0, 0, 1])
        crop = crop.transpose(1, 2) if turned else crop
        mirrored = bool(crop[1, 0, 0] > crop[1, 0, 1])
        crop = crop.flip(2) if mirrored else crop
        top, left = crop[:2, 0, 0].tolist()
        piece = photographs[crop[2, 0, 0]][:, top : top + 64, left : left + 64]
        assert torch.equal(crop, piece.int())
        seen.add((turned, mirrored))
    assert len(seen) == 4


def test_crops_depend_on_the_seed_and_the_step_alone(photographs):
    crops = [sample_crops(photographs, TINY, generator_for(*key)) for key in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert not torch.equal(crops[0], crops[3])


def test_large_photographs_are_drawn_more_often():
    small, large = (
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.full((3, 128, 192), 255, dtype=torch.uint8),
    )
    crops = sample_crops([small, large], dataclasses.replace(TINY, batch=400), generator_for(0, 0))
    assert crops[:, 0, 0, 0].mean().item() == pytest.approx(6 / 7, abs=0.06)


# Training


def test_a_killed_run_ends_like_one_that_was_not(tmp_path, photographs):
    straight = train(start(), photographs, tmp_path / "straight.pt")
    killed = start()
    for _ in range(3):
        killed.advance(photographs)
    killed.save(tmp_path / "killed.pt")
    resumed = Run.resume(tmp_path / "killed.pt", TINY, "cpu", "float32")
    assert resumed.step == 3
    train(resumed, photographs, tmp_path / "killed.pt")
    expected = straight.codec.model.state_dict()
    for name, value in resumed.codec.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    untouched = start().codec.model.state_dict()
    changed = [name for name, value in expected.items() if not torch.equal(value, untouched[name])]
    assert {name.split(".")[0] for name in changed} == {"g_a", "g_s", "h_a", "h_s", "entropy_bottleneck"}


def test_every_step_draws_from_its_own_random_numbers(photographs, monkeypatch):
    drawn = []

    def recorded(photographs, recipe, generator):
        drawn.append(generator.initial_seed())
        return sample_crops(photographs, recipe, generator)

    monkeypatch.setattr(training, "sample_crops", recorded)
    run = start()
    for _ in range(3):
        run.advance(photographs)
    assert drawn == [generator_for(TINY.seed, step).initial_seed() for step in range(3)]
    assert len(set(drawn)) == 3


def test_training_lowers_the_loss(photographs):
    run = start(dataclasses.replace(TINY, steps=20, lr=3e-3))
    losses = [run.advance(photographs)[0]["loss"] for _ in range(20)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert run.step == 20
    assert run.seconds > 0


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


def test_a_checkpoint_of_another_recipe(tmp_path):
    start().save(tmp_path / "run.pt")
    other = dataclasses.replace(TINY, lmbda=0.02, seed=6)
    with pytest.raises(UserError, match=r"made with other settings \(lmbda, seed\)"):
        Run.resume(tmp_path / "run.pt", other, "cpu")


@pytest.mark.parametrize("content", [b"", b"something else", {"step": 3}, {"recipe": {"colour": 1}}])
def test_a_checkpoint_that_is_none(tmp_path, content):
    path = tmp_path / "run.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match="not a checkpoint of a training run"):
        Run.resume(path, TINY, "cpu")


def broken_at(call, monkeypatch):
    """Make the loss of one call of the objective something that is no number."""
    original = training._Objective.forward
    calls = itertools.count()

    def forward(self, x, lmbda, generator):
        loss, bpp, mse = original(self, x, lmbda, generator)
        return (loss * math.nan if next(calls) == call else loss), bpp, mse

    monkeypatch.setattr(training._Objective, "forward", forward)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, photographs, monkeypatch):
    broken_at(4, monkeypatch)
    run = start()
    with pytest.raises(SystemFault, match="not finite at step 4: lower the learning rate"):
        train(run, photographs, tmp_path / "run.pt", save_every=2)
    kept = Run.resume(tmp_path / "run.pt", TINY, "cpu", "float32")
    assert kept.step == 4
    for name, value in kept.codec.model.state_dict().items():
        assert torch.equal(value, run.codec.model.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    run = start()
    run.save(tmp_path / "run.pt")
    before = (tmp_path / "run.pt").read_bytes()
    with torch.no_grad():
        run.codec.model.g_s[0].weight[0, 0, 0, 0] = math.inf
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


# Photographs


def test_photographs_are_read_without_the_held_out_ones(tmp_path):
    for index in range(9):
        write_photo(tmp_path / "deep" / f"{index}.png", (70 + index, 66), seed=index)
    write_photo(tmp_path / "9-small.png", (200, 60))
    (tmp_path / "notes.txt").write_text("no photograph")
    (tmp_path / ".hidden.png").write_text("no photograph")
    everything = read_photographs(tmp_path, TINY)
    assert sorted(photo.shape[2] for photo in everything) == list(range(70, 79))
    assert {photo.dtype for photo in everything} == {torch.uint8}
    fewer = read_photographs(tmp_path, dataclasses.replace(TINY, holdout=4))
    assert sorted(photo.shape[2] for photo in fewer) == list(range(70, 75))


def test_folders_without_photographs(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        read_photographs(tmp_path / "none", TINY)
    with pytest.raises(UserError, match="holds no photograph of at least 64 pixels"):
        read_photographs(tmp_path, TINY)
    write_photo(tmp_path / "small.png", (63, 200))
    with pytest.raises(UserError, match="holds no photograph of at least 64 pixels a side: add some"):
        read_photographs(tmp_path, TINY)
    with pytest.raises(UserError, match="at least 64 pixels"):
        train(start(), [torch.zeros(3, 63, 200, dtype=torch.uint8)], tmp_path / "run.pt")


def test_a_broken_photograph_is_named(tmp_path):
    write_photo(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.png is damaged"):
        read_photographs(tmp_path, TINY)
