"""The command line: what it writes and says, and one sentence with the right exit code for every mistake."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

import sgaplus
from sgaplus import cli
from sgaplus.cli import refining, terminal
from sgaplus.codecs import zoo
from sgaplus.data import datasets, images
from sgaplus.data.datasets import ImageFile
from tests.conftest import assert_refused, write_codec, write_photo

ROOT = Path(__file__).parents[1]


def size_of(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return image.size


# Help


@pytest.mark.parametrize("name", ["refine", "train"])
def test_help_explains_every_option_and_its_examples_use_no_other(call, name):
    _, out, _ = call(name, "--help")
    options = dict(re.findall(r"^│ \*?\s*(--[\w-]+)\s+<\w+>\s+(\S.*?)\s*│$", out, re.MULTILINE))
    assert len(options) > 12 and all(len(text) > 10 for text in options.values()), options
    examples = " ".join(re.findall(r"sgaplus \w+ [^│\n]*", out))
    known = set(re.findall(r"^│ \*?\s*(--[\w-]+)", out, re.MULTILINE)) | {"--codec", "--lmbda"}
    assert set(re.findall(r"--[\w-]+", examples)) <= known


@pytest.mark.slow
def test_help_imports_no_network():
    """They take seconds, and a usage error needs them as little as help does."""
    code = """
import sys
from sgaplus import cli
for arguments, expected in CALLS:
    try:
        cli.main(arguments)
    except SystemExit as stop:
        assert stop.code == expected, arguments
    heavy = {'torch', 'compressai', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""
    calls = [(["--version"], 0), (["--help"], 0), (["refine", "--help"], 0), (["study", "run", "--help"], 0)]
    code = code.replace("CALLS", repr([*calls, (["refin"], 2)]))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shown", [False, True])
def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, capsys, shown):
    """A log may have colours, which is what these variables are for."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(terminal, "_err", Console(stderr=True))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: shown)
    with terminal.counting("measuring") as progress:
        progress(1, 2)
    assert ("measuring" in capsys.readouterr().err) == shown


# Refining


def test_refine_writes_pictures_and_rows(call, photo):
    other = write_photo(photo.with_name("other[1].png"), (64, 64), seed=1)
    code, out, err = call(
        *("refine", photo, other, "--method", "ssl", "--iterations", 3, "--seed", 1),
        *("--out", "new/refined", "--dtype", "float32"),
    )
    assert code == 0, err
    assert err.splitlines() == ["refining 2 photographs", "1 of 2: photo", "2 of 2: other[1]"]
    folder = Path("new/refined")
    assert sorted(path.name for path in folder.iterdir()) == ["other[1].png", "photo.png", "rows.csv"]
    assert size_of(folder / "photo.png") == (70, 66)
    rows = pd.read_csv(folder / "rows.csv")
    assert rows["image"].tolist() == ["photo"] * 2 + ["other[1]"] * 2
    assert rows["iteration"].tolist() == [0, 3, 0, 3]
    assert set(rows["codec"]) == {"mshyper-s"}
    assert set(rows["lmbda"]) == set(rows["codec_lmbda"]) == {0.01}
    assert set(rows["seed"]) == {1}
    assert "mshyper-s, λ = 0.01, SSL (a = 2.3), float32 on cpu" in out
    assert "other[1]" in out
    for _, row in rows.iterrows():
        assert f"{row['loss']:.4f}" in out
        assert f"{row['psnr_8bit']:.2f}" in out
    # The picture is what the library decodes.
    codec = sgaplus.load_codec("mshyper-s", device="cpu", dtype="float32")
    run = sgaplus.refine(codec, [sgaplus.read_image(photo)], "ssl", iterations=3, seed=1)
    pixels = images.to_uint8(sgaplus.read_image(folder / "photo.png"))
    assert torch.equal(pixels, images.to_uint8(run.reconstructions[0]))


@pytest.mark.parametrize(
    ("arguments", "noted"), [(["ssl"], True), (["ssl", "--iterations", 1], False), (["fast"], False)]
)
def test_many_steps_are_worth_compiling(call, photo, monkeypatch, arguments, noted):
    monkeypatch.setattr(refining, "_MANY", 2)
    code, _, err = call("refine", photo, "--iterations", 2, "--method", *arguments)
    assert code == 0 and ("note: there are 2 steps: --compile" in err) == noted


@pytest.mark.slow
def test_options_reach_the_refinement(call, photo):
    ssl = ["--method", "ssl"]
    three_class = ["--method", "three-class:base=cosine", "--refine-lmbda", 0.002, "--batch-size", 2]
    for name, settings in {
        "a": ssl,
        "b": [*ssl, "--lr", 0.1],
        "c": [*ssl, "--temperature", "constant:value=0.5"],
        "d": three_class,
    }.items():
        arguments = ["--iterations", 2, "--dtype", "float32", "--rows", "rows.parquet", "--out", name]
        code, out, err = call("refine", photo, *arguments, *settings)
        assert code == 0, err
    assert "cosine, three-class (r = 0.98, n = 2)" in out
    a, b, c, d = (pd.read_parquet(f"{name}/rows.parquet") for name in "abcd")
    assert a["loss"][0] == b["loss"][0] == c["loss"][0]
    assert len({a["loss"][1], b["loss"][1], c["loss"][1]}) == 3
    assert c["tau"][1] == 0.5
    assert set(d["lmbda"]) == {0.002}
    assert set(d["codec_lmbda"]) == {0.01}


def test_the_smallest_image(call, tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (10, 200, 30)).save(path)
    code, out, err = call("refine", path, "--iterations", 2)
    assert code == 0, err
    assert size_of("refined/dot.png") == (1, 1)
    assert re.search(r"dot +2 .* – ", out), "MS-SSIM of a small image is a dash"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "round"], "unknown method or preset 'round': use one of fast, ste, "),
        (["--method", "ssl", "--lr", "0"], "greater than 0"),
        (["--lmbda", "0"], "lambda must be a finite number greater than 0"),
        (["--refine-lmbda", "0"], "--refine-lmbda must be a finite number greater than 0"),
        (["--iterations", "-1"], "iterations must be .* at least 0"),
        (["--iterations", "many"], r"Invalid value for '--iterations'.*\(see sgaplus refine --help\)"),
        (["--batch-size", "0"], "--batch-size'.* 1"),
        (["--codec", "jpeg"], "unknown codec 'jpeg': use mshyper-s"),
        (["--codec", "mbt2018-mean"], "several qualities"),
        (["--dtype", "int8"], "unknown dtype 'int8'"),
        (["--rows", "rows.xlsx"], r"must end in \.csv or \.parquet"),
        (["--colour", "red"], "No such option"),
    ],
)
def test_options_that_cannot_be(call, photo, arguments, message):
    assert_refused(call("refine", photo, *arguments), message)


@pytest.mark.parametrize(
    ("arguments", "option", "partner"),
    [
        ("refine PHOTO --roi-weight 3", "--roi-weight", "--roi"),
        ("refine PHOTO --roi-weight 3 --weights PHOTO", "--roi-weight", "--roi"),
        ("encode PHOTO -o p.sga --roi-weight 8", "--roi-weight", "--roi"),
        ("refine PHOTO --lr 0.1", "lr", "method"),
        ("refine PHOTO --method fast --temperature 0.5", "temperature", "method"),
        ("refine PHOTO --method uniform --temperature 0.5", "temperature", "uniform"),
        ("decode PHOTO -o p.png --lmbda 0.01", "--lmbda", "--codec"),
        ("bench --quality 3", "quality", "codec"),
        ("bench --codec mshyper-s --N 64", "--N", "--codec"),
        ("bench --instructions found --dtype float32", "--dtype", "--instructions"),
        ("bench --instructions found --out a.json", "--out", "--instructions"),
        ("train PHOTOS --out t --minutes 1 --steps 9", "--steps", "--minutes"),
        ("train PHOTOS --out t --minutes 1 --cooldown 9", "--cooldown", "--minutes"),
        ("train PHOTOS --out t --per-step 3", "--per-step", "--lmbda"),
    ],
)
def test_options_that_would_do_nothing(call, photo, arguments, option, partner):
    places = {"PHOTO": photo, "PHOTOS": photo.parent}
    result = call(*(places.get(word, word) for word in arguments.split()))
    assert_refused(result, rf"{option}\b.*{partner}\b|{partner}\b.*{option}\b")


def test_images_that_cannot_be_read(call, tmp_path, photo):
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:2000])
    assert_refused(call("refine", tmp_path / "none.png"), "neither a data set nor an existing file or folder")
    assert_refused(call("refine", tmp_path / "half.png"), "is damaged or incomplete")
    assert_refused(call("refine", "kodak"), "run `sgaplus data fetch kodak`")
    assert_refused(call("refine", photo, photo), "two images are called 'photo'")
    assert_refused(call("refine"), "Missing argument")


def test_a_photograph_is_not_overwritten(call, photo):
    before = photo.read_bytes()
    refused = call("refine", photo, "--out", photo.parent)
    assert_refused(refused, r"would be overwritten: use another --out")
    assert photo.read_bytes() == before
    assert_refused(call("refine", photo, "--out", photo / "below"), "is not a folder")


def test_a_disk_that_takes_no_more_bytes(call, photo, file_size_limit):
    with file_size_limit(100):
        result = call("refine", photo, "--iterations", 1)
    assert_refused(result, r"could not write refined/photo\.png: File too large", code=1)
    assert list(Path("refined").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "not enough memory: lower --batch-size", 2),
        (MemoryError(), "not enough memory: lower --batch-size", 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory: lower --batch", 2),
        (KeyboardInterrupt(), "stopped: no file was left half-written", 2),
        (sgaplus.SystemFault("the loss of a is no longer finite"), "no longer finite", 1),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: the disk is full", 1),
        (TypeError("two\nlines"), "unexpected TypeError .two.: set SGAPLUS_TRACEBACK=1", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_happens_in_the_middle(call, photo, monkeypatch, error, message, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("sgaplus.refinement.refine", fail)
    assert_refused(call("refine", photo), message, code)
    if isinstance(error, TypeError):
        monkeypatch.setenv("SGAPLUS_TRACEBACK", "1")
        with pytest.raises(TypeError, match="two"):
            cli.main(["refine", str(photo)])


def test_commands_that_do_not_exist(call):
    assert_refused(call("refin"), "No such command 'refin'.*--help")
    assert_refused(call("data", "fetch", "imagenet"), "there is no data set 'imagenet'")


# Other commands


def test_codecs_are_listed(call, bundled):
    write_codec(bundled, lmbda=0.05)
    code, out, err = call("codecs")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["name", "where", "lmbda", "quality", "MB", "bpp", "psnr"]
    assert lines[1][:4] == ["mshyper-s", "bundled", "0.01", "–"]
    assert lines[1][-2:] == ["0.5000", "30.00"]
    assert lines[2][2] == "0.05"
    assert lines[3] == ["bmshj2018-factorized", "downloadable", "0.0018", "1", "12.0", "–", "–"]
    assert {line[0] for line in lines[1:]} == {"mshyper-s", *zoo.URLS}


def test_data_sets_are_listed(call, tmp_path):
    code, out, err = call("data", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line.split()[0] in datasets.NAMES] == [
        *datasets.NAMES
    ]


# Training

TINY = ["--N", 8, "--M", 12, "--crop", 64, "--batch", 1, "--steps", 4, "--warmup", 1, "--cooldown", 1]
TINY += ["--dtype", "float32", "--device", "cpu"]


@pytest.fixture
def photographs(tmp_path):
    for index in range(2):
        write_photo(tmp_path / "photographs" / f"{index}.png", (96, 80), seed=index)
    return tmp_path / "photographs"


@pytest.mark.slow
def test_training_ends_in_a_codec_that_refines(call, photographs, photo, monkeypatch):
    code, out, err = call("train", photographs, "--out", "trained", *TINY)
    assert code == 0, err
    assert "no photograph is held out: 16 would be half of the 2 or more (--holdout)\n" in err
    assert re.search(r"^step 4  loss \d+\.\d{4}  bpp \d", err, re.MULTILINE)
    assert re.search(
        r"^note: the card gets no Kodak point: the kodak images are not in .*fetch kodak", err, re.M
    )
    assert out == "weights and card: trained/mshyper-s_lambda0.01.safetensors\n"
    card = json.loads(Path("trained/mshyper-s_lambda0.01.json").read_text())
    assert card["kodak"] == []
    assert card["training"]["data"] == "2 photographs of photographs"
    assert call("refine", photo, "--codec", out.split()[-1], "--lmbda", 0.01, "--iterations", 1)[0] == 0

    # Once more, with a Kodak data set: nothing is trained again, and the card gets its point.
    listed = datasets.list_images
    kodak = [ImageFile(path.stem, path) for path in sorted(photographs.iterdir())]
    monkeypatch.setattr(datasets, "list_images", lambda name: kodak if name == "kodak" else listed(name))
    code, out, err = call("train", photographs, "--out", "trained", *TINY)
    assert code == 0, err
    assert err.splitlines()[1:] == ["resuming trained/mshyper-s_lambda0.01.pt at step 4"]
    [point] = json.loads(Path("trained/mshyper-s_lambda0.01.json").read_text())["kodak"]
    assert point["images"] == 2
    assert out.splitlines()[0] == (
        f"λ = 0.01 on Kodak, mean over 2 images without refinement: {point['bpp']:.4f} bpp, "
        f"PSNR {point['psnr']:.2f} dB, loss {point['loss']:.4f}"
    )


@pytest.mark.slow
def test_minutes_say_when_they_come_too_late(call, photographs):
    """An instant holds one step, and one of cool-down."""
    without_end = [*TINY[:8], "--warmup", 1, *TINY[-4:]]
    command, instant = ["train", photographs, "--out", "trained"], ["--minutes", 1e-9]
    assert call(*command, *without_end, "--steps", 2, "--cooldown", 0)[0] == 0
    code, _, err = call(*command, *without_end, *instant)
    assert code == 0 and "at step 2\n" in err and "\nstep 4 " in err and "cool-down" not in err
    code, _, err = call(*command, *without_end, "--minutes", 60)
    assert code == 0 and re.search(r"note: .*has begun and ends with step 4,.*another --out", err)
    assert "at step 4\n" in err and "\nstep " not in err


@pytest.mark.slow
def test_training_says_what_it_holds_out_and_evaluates_it(call, photographs):
    write_photo(photographs / "z.png", (90, 80), seed=9)
    code, _, err = call("train", photographs, "--out", "other", *TINY, "--holdout", 1)
    assert code == 0, err
    assert "1 of 3 photographs are held out for evaluation: z.png\n" in err
    assert re.search(r"^step 4  loss \d.*held out: loss \d+\.\d{4}  bpp \d", err, re.MULTILINE)
    card = json.loads(Path("other/mshyper-s_lambda0.01.json").read_text())
    assert card["training"]["data"] == "2 photographs of photographs"
    assert card["training"]["stages"][0]["recipe"]["holdout"] == 1
    [last] = card["training"]["stages"][0]["last"]
    curve = pd.read_csv("other/mshyper-s_lambda0.01.training.csv").iloc[-1]
    assert curve["held_out_loss"] == pytest.approx(last["held_out_loss"], rel=1e-5)
    code, _, err = call("train", photographs, "--out", "other", *TINY, "--holdout", 0)
    assert (code, "made with other settings (holdout)" in err) == (2, True)


@pytest.mark.slow
def test_a_family_is_trained_as_one_network_from_which_one_lambda_goes_on(call, photographs, photo):
    family = ["train", photographs, "--out", "trained", "--lmbda", 0.02, "--lmbda", 0.005, "--per-step", 2]
    code, out, err = call(*family, *TINY)
    assert code == 0, err
    assert re.search(r"^step 4  loss \d+\.\d{3} \(λ 0\.005\), \d+\.\d{3} \(λ 0\.02\)$", err, re.MULTILINE)
    start = Path("trained/mshyper-s_lambda0.005-0.02.safetensors")
    assert out == f"weights and card: {start}\n"
    names = {start.with_suffix(suffix).name for suffix in (".json", ".safetensors", ".training.csv")}
    assert {path.name for path in Path("trained").iterdir()} == names | {"mshyper-s_family.pt"}
    assert "\nresuming trained/mshyper-s_family.pt at step 4\n" in call(*family, *TINY)[2]
    for lmbda in (0.005, 0.007):
        options = ["--codec", start, "--lmbda", lmbda, "--iterations", 1, "--out", f"refined{lmbda}"]
        code, _, err = call("refine", photo, *options)
        assert code == 0, err

    alone = ["train", photographs, "--out", "alone", "--lmbda", 0.007, "--start", start, *TINY]
    code, out, err = call(*alone)
    path = Path("alone/mshyper-s_lambda0.007.safetensors")
    assert (code, out) == (0, f"weights and card: {path}\n"), err
    card = json.loads(path.with_suffix(".json").read_text())
    found = [(stage["start"], stage["recipe"]["family"]) for stage in card["training"]["stages"]]
    assert found == [("", [0.02, 0.005]), (start.name, [])]
    assert pd.read_csv(path.with_suffix(".training.csv"))["stage"].tolist() == [1, 1, 2]


@pytest.mark.slow
def test_a_familys_reference_is_the_lambda_of_its_start(call, photographs, bundled):
    start = bundled / "mshyper-s_lambda0.01.safetensors"
    family = ["--lmbda", 0.001, "--lmbda", 0.02, "--lmbda", 0.03, "--start", start]
    assert call("train", photographs, "--out", "a", *TINY, *family)[0] == 0
    card = json.loads(Path("a", "mshyper-s_lambda0.001-0.03.json").read_text())
    assert card["training"]["stages"][-1]["recipe"]["lmbda"] == 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--M", 16], "N = 8 and M = 12, and cannot start a network with N = 8 and M = 16"),
        (["--crop", 96], "multiple of 64"),
        (["--steps", 1], "fewer than warm-up and cool-down"),
        (["--crop", 128], "no photograph of at least 128 pixels a side"),
        (["--start", "none.safetensors"], r"none\.safetensors cannot be read"),
        (["--out", "/dev/null/below"], "cannot write to"),
    ],
)
def test_trainings_that_cannot_be(call, photographs, bundled, arguments, message):
    start = ["--start", bundled / "mshyper-s_lambda0.01.safetensors"]
    assert_refused(call("train", photographs, "--out", "trained", *TINY, *start, *arguments), message)


def test_training_replaces_no_weights_that_it_has_not_made(call, photographs, bundled):
    weights, other = (write_codec(bundled, name) for name in ("own", "other"))
    before = weights.read_bytes()
    arguments = ["train", photographs, "--out", weights.parent, "--name", "own", *TINY]
    assert_refused(call(*arguments, "--start", weights), rf"{weights.name} is there.*use another --out")
    assert weights.read_bytes() == before
    weights.unlink()
    assert call(*arguments)[0] == 0
    assert_refused(call(*arguments, "--start", other), f"did not start from {other.name}: use another --out")


def test_notes_do_not_outlive_the_command(call, tmp_path):
    path = write_photo(tmp_path / "grey.png", (20, 30), "L")
    assert "\nnote: " in call("refine", path, "--iterations", 0)[2]
    with pytest.warns(images.ImageNote, match="greyscale"):
        sgaplus.read_image(path)


def test_file_names_are_no_markup(capsys):
    terminal.say("a [bold]b[/bold] [/red] :smile:")
    frame = pd.DataFrame({"image": ["[red]x", None], "n": [1.0, float("nan")]})
    terminal.show(terminal.table(frame, n="{:.1f}"))
    captured = capsys.readouterr()
    assert captured.err == "a [bold]b[/bold] [/red] :smile:\n"
    assert [line.split() for line in captured.out.splitlines()] == [
        ["image", "n"],
        ["[red]x", "1.0"],
        ["–", "–"],
    ]
