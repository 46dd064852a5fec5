"""Series of codecs: what a specification stands for, and one sentence for what it cannot."""

import pytest

from sgaplus.codecs import checkpoints
from sgaplus.codecs.series import series
from sgaplus.codecs.weights import load_codec
from sgaplus.distortion import LAMBDAS
from sgaplus.errors import UserError
from tests import test_models
from tests.conftest import untrained, write_codec
from tests.test_checkpoints import write_checkpoint

ZOO = "mbt2018-mean"


def test_a_bundled_family(bundled):
    write_codec(bundled, lmbda=0.05, seed=1)
    found = series("mshyper-s")
    assert (found.name, found.lmbdas, found.missing(), found.need()) == ("mshyper-s", (0.01, 0.05), [], "")
    for member in found.members:
        codec = member.load("cpu", "float32")
        assert (codec.name, codec.lmbda, codec.sha256) == ("mshyper-s", member.lmbda, member.sha256)


@pytest.mark.parametrize(
    ("spec", "qualities", "metric"),
    [
        (ZOO, list(range(1, 9)), "mse"),
        (f"{ZOO}@3", [3], "mse"),
        (f"{ZOO}@5,1-3,2", [1, 2, 3, 5], "mse"),
        ("cheng2020-anchor@1-6", list(range(1, 7)), "mse"),
        (f"{ZOO}:ms-ssim@2,4", [2, 4], "ms-ssim"),
        (f"{ZOO}:mse", list(range(1, 9)), "mse"),
    ],
)
def test_a_series_of_the_zoo(no_zoo, spec, qualities, metric):
    found = series(spec)
    assert [member.quality for member in found.members] == qualities
    assert [member.lmbda for member in found.members] == [LAMBDAS[metric][q - 1] for q in qualities]
    assert [member.sha256 for member in found.members] == [""] * len(qualities)
    assert f"`sgaplus codecs fetch {spec}`" in found.need()


def test_checkpoints_in_a_folder(tmp_path):
    (tmp_path / "own").mkdir()
    first = write_checkpoint(tmp_path / "own" / "low_lambda0.004.pth", untrained().state_dict())
    second = write_codec(tmp_path / "own", "trained", 0.02, seed=1)  # its card says its λ
    found = series(tmp_path / "own")
    assert (found.name, found.lmbdas) == ("own", (0.004, 0.02))
    assert [member.sha256 for member in found.members] == [
        load_codec(path, lmbda, device="cpu").sha256 for path, lmbda in ((first, 0.004), (second, 0.02))
    ]
    assert load_codec(tmp_path / "own", 0.02, device="cpu").name == "own"


def test_a_list_of_checkpoints(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    low, high = (
        write_checkpoint(tmp_path / "own" / f"{name}.pth", untrained(seed=seed).state_dict())
        for seed, name in enumerate(("low", "high"))
    )
    specs = [{str(high): 0.02, str(low): 0.01}, [f"{low}=0.01", f"{high}=0.02"], f"{low}=0.01,{high}=0.02"]
    found = [series(spec) for spec in specs]
    found.append(series(["own/low.pth=0.01", "own/high.pth=0.02"], folder=tmp_path))
    assert {(one.name, one.lmbdas) for one in found} == {("own", (0.01, 0.02))}
    assert len({member.sha256 for one in found for member in one.members}) == 2


@pytest.mark.parametrize(
    ("spec", "facts"),
    [
        (f"{ZOO}@9", ["quality 9", "1 to 8"]),
        ("cheng2020-anchor@7", ["quality 7", "1 to 6"]),
        (f"{ZOO}@0-2", ["quality 0", "1 to 8"]),
        (f"{ZOO}@4-2", ["2-4"]),
        (f"{ZOO}@a", ["'a'", "1-3"]),
        (f"{ZOO}:vmaf", ["vmaf", "mse and ms-ssim"]),
        ("mbt2018-maen", ["unknown codec 'mbt2018-maen'", ZOO, "mshyper-s"]),
        ([], ["list of paths"]),
        ({}, ["at least one checkpoint"]),
        (3, ["by a word or a path"]),
        (["a.pth=0.01", "nowhere.pth=0.02"], ["nowhere.pth"]),
        (["a.pth=0.01", "b.pth=0.01"], ["a.pth", "b.pth", "lambda 0.01"]),
        (["a.pth=0.01", "b.pth"], ["b.pth", "lambda"]),
        (["a.pth=0.01", "b.pth=no"], ["b.pth", "'no'"]),
        ({"a.pth": -1}, ["a.pth", "-1"]),
        ("a.pth", ["a.pth", "does not say which lambda"]),
        ("empty", ["no checkpoint in empty"]),
    ],
)
def test_what_is_no_series(bundled, tmp_path, monkeypatch, spec, facts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for seed, name in enumerate(("a.pth", "b.pth")):
        write_checkpoint(tmp_path / name, untrained(seed=seed).state_dict())
    with pytest.raises(UserError) as error:
        series(spec)
    text = str(error.value)
    assert all(fact in text for fact in facts), text
    assert "\n" not in text


def test_a_checkpoint_never_bears_the_name_of_another_codec(tmp_path):
    path = write_checkpoint(tmp_path / f"{ZOO}.pth", untrained().state_dict())
    assert series(path, 0.01).name == f"own-{ZOO}"


def test_the_work_of_a_decoder_grows_with_its_width():
    small, paper, wide = (
        series(name).members[-1].effort.work for name in ("mshyper-s", f"{ZOO}@1", f"{ZOO}@8")
    )
    # 25 weights per kernel, four transposed convolutions (N, M) and GDN.
    assert small < paper < wide
    n, m = 128, 192
    convolutions = 25 * (m * n / 256 + n * n / 64 + n * n / 16 + 3 * n / 4)
    gdn = n * n * (1 / 64 + 1 / 16 + 1 / 4)
    assert paper == pytest.approx(convolutions + gdn, rel=0.01)


def test_a_checkpoint_of_variable_rate_has_every_lambda(tmp_path, no_zoo, monkeypatch):
    path = write_checkpoint(tmp_path / "own.pth", test_models.untrained("mbt2018-mean-vbr").state_dict())
    found = series(path)
    assert (found.name, found.lmbdas) == ("own", LAMBDAS["mse"])
    read, original = [], checkpoints.read
    monkeypatch.setattr(checkpoints, "read", lambda path: read.append(path) or original(path))
    assert len({(member.sha256, member.effort) for member in found.members}) == len(found.members)
    assert read == [path], "what is known of all rates takes one look"
    members = [found.member(0.0067), found.member(0.007)]
    assert [member.load("cpu", "float32").lmbda for member in members] == [0.0067, 0.007]
    assert len({member.sha256 for member in members}) == 2
    assert members[1].sha256 == load_codec(path, 0.007, device="cpu").sha256
    # One whose name says its rate is that one.
    [single] = series(path.rename(tmp_path / "own_lambda0.01")).members  # no ending
    assert single.lmbda == 0.01
    of_zoo = series("mbt2018-mean-vbr@1-3")
    with pytest.raises(UserError, match=r"no codec of lambda 0\.007"):
        of_zoo.member(0.007)
