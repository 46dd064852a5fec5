"""Other distortions than the MSE: their losses by independent formulas, their curvature, what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim
from torch import nn

from sgaplus import distortion, refine, target_rate
from sgaplus.codecs.codec import Codec
from sgaplus.data import images
from sgaplus.errors import SystemFault, UserError
from sgaplus.refinement.curvature import Curvature
from sgaplus.studies import planning
from tests.test_refinement import picture
from tests.test_studies import tiny


def absolute(x_hat, x):
    return (x_hat - x).abs().mean((1, 2, 3))


def weights(height, width):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(7))


def made(weights):
    return dataclasses.replace(distortion.MSE, spec="made", weights=weights)


def test_losses_are_those_of_independent_formulas(codec):
    x = picture(170, 180)
    w = weights(170, 180)
    expected = {
        "ms-ssim": lambda a, b: 1 - ms_ssim(a[None], b[None], data_range=1.0).item(),
        "weights": lambda a, b: 255**2 * (w * (a - b).square()).sum().item() / w.sum().item() / 3,
        "absolute": lambda a, b: (a - b).abs().mean().item(),
    }
    given = {"ms-ssim": "ms-ssim", "weights": w, "absolute": absolute}
    expected["made"], given["made"] = expected["weights"], made((w / w.mean())[None, None])
    for name, formula in expected.items():
        run = refine(codec, [x], "fast", distortion=given[name], lmbda=3.0, iterations=6)
        row = run.best.iloc[0]
        assert row["loss"] == pytest.approx(3.0 * formula(run.reconstructions[0], x) + row["bpp"], rel=1e-5)
        assert row["loss"] < run.rows["loss"].iloc[0]


def test_images_of_a_batch_have_maps_of_their_own(codec):
    x = [picture(64, 64, seed) for seed in (0, 1)]
    maps = [weights(64, 64), weights(64, 64).square()]
    given = {"distortion": torch.stack(maps), "iterations": 3, "batch_size": 2, "names": ["a", "b"]}
    both = refine(codec, x, "ssl", **given).best
    alone = refine(codec, x[1:], "ssl", distortion=maps[1], iterations=3, names=["b"]).best
    assert both["loss"].iloc[1] == pytest.approx(alone["loss"].iloc[0], rel=1e-5)
    assert both["distortion"].nunique() == 2


def test_the_curvature_of_a_function_is_half_the_hessians_diagonal_in_the_mean():
    """Against the Hessian by automatic differentiation, of a distortion that couples neighbouring pixels."""
    torch.manual_seed(0)
    weight = torch.randn(3, 3, 3, 3) * torch.tensor([0.5, 1.0, 2.0]).reshape(3, 1, 1, 1)
    blur = torch.rand(3, 1, 3, 3)
    x = torch.rand(1, 3, 10, 10)

    def synthesis(y):
        return nn.functional.conv_transpose2d(y, weight, stride=2, padding=1, output_padding=1)

    def blurred(x_hat, x):
        return nn.functional.conv2d(x_hat - x, blur, groups=3).square().mean((1, 2, 3))

    y = torch.randn(1, 3, 5, 5, requires_grad=True)
    generators = [torch.Generator().manual_seed(1)]
    mine = distortion.Distortion("blurred", function=blurred)
    estimates = []
    for _ in range(600):
        curvature = Curvature()
        curvature(synthesis(y), y, generators, mine, x, synthesis)
        estimates.append(curvature.mean)
    hessian = torch.autograd.functional.hessian(lambda v: blurred(synthesis(v), x).sum(), y.detach())
    exact = x[0].numel() / 2 * hessian.reshape(75, 75).diagonal().reshape(1, 3, 5, 5)
    exact = nn.functional.avg_pool2d(exact, 5, 1, 2, count_include_pad=False)
    mean = torch.stack(estimates).mean(0)
    torch.testing.assert_close(mean, exact, rtol=0.3, atol=0)
    torch.testing.assert_close(mean.mean((2, 3)), exact.mean((2, 3)), rtol=0.05, atol=0)


def test_a_weighted_curvature_is_the_weighted_jacobians_squares_in_the_mean():
    torch.manual_seed(0)
    jacobian = torch.randn(3 * 4 * 4, 2 * 3 * 3)
    w = torch.rand(1, 1, 4, 4)
    y = torch.zeros(1, 2, 3, 3, requires_grad=True)
    x_hat = (jacobian @ y.flatten()).reshape(1, 3, 4, 4)
    mine = distortion.Distortion("weighted", weights=w)
    generators = [torch.Generator().manual_seed(1)]
    estimates = torch.stack([Curvature()(x_hat, y, generators, mine) for _ in range(2000)])
    squares = (w.expand(1, 3, 4, 4).reshape(-1, 1) * jacobian.square()).sum(0).reshape(1, 2, 3, 3)
    exact = nn.functional.avg_pool2d(squares, 5, 1, 2, count_include_pad=False)
    torch.testing.assert_close(estimates.mean(0), exact, rtol=0.05, atol=0)


def test_lambdas_of_the_two_metrics_are_paired_as_in_the_zoo():
    pairs = list(zip(*distortion.LAMBDAS.values(), strict=True))
    for mse, other in pairs:
        assert distortion.lambda_in("ms-ssim", mse, "mse") == pytest.approx(other)
        assert distortion.lambda_in("mse", other, "ms-ssim") == pytest.approx(mse)
    between = distortion.lambda_in("ms-ssim", 0.01, "mse")
    assert pairs[2][1] < between < pairs[3][1]
    assert distortion.lambda_in("mse", 0.007, "mse") == 0.007
    # Beyond the zoo's, in proportion.
    assert distortion.lambda_in("ms-ssim", 2 * pairs[-1][0], "mse") == pytest.approx(2 * pairs[-1][1])


def test_a_codec_for_ms_ssim_is_refined_for_it(codec):
    other = Codec("other", 8.73, codec.model, sha256="1" * 64, card={"metric": "ms-ssim"})
    row = refine(other, [picture(170, 170)], "map", iterations=1).rows.iloc[0]
    assert (row["distortion"], row["lmbda"]) == ("ms-ssim", 8.73)
    row = refine(other, [picture(64, 64)], "map", iterations=1, distortion="mse").rows.iloc[0]
    assert (row["distortion"], row["lmbda"]) == ("mse", pytest.approx(0.0067))


def test_a_target_with_a_region(codec):
    x = picture(64, 128)
    roi = distortion.regions((64, 128), [(0, 0, 64, 64)], inside=20)
    size = 1.05 * refine(codec, [x], "fast", iterations=10).best["bpp"].iloc[0] * 64 * 128 / 8
    files = [
        target_rate.encode_to([codec], x, max_bytes=size, iterations=10, distortion=d).file
        for d in (None, roi)
    ]
    assert all(len(file.data) <= size for file in files)
    assert files[0].data != files[1].data


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ("lpips", ["lpips", "mse", "ms-ssim"]),
        (3, ["int"]),
        ("ms-ssim", ["161", "64"]),
        (torch.ones(64, 63), [r"\(64, 64\)", r"\(64, 63\)"]),
        (made(torch.ones(1, 1, 64, 63)), [r"\(1, 1, 64, 64\)", r"\(1, 1, 64, 63\)"]),
        (made(torch.ones(2, 1, 64, 64)), [r"\(2, 1, 64, 64\)"]),
        (made(np.ones((1, 1, 64, 64))), ["ndarray"]),
        (-torch.ones(64, 64), ["negative"]),
        (torch.zeros(64, 64), ["zero"]),
        (torch.full((64, 64), torch.nan), ["finite"]),
        (torch.full((64, 64), 3e38), ["finite sum"]),
        ([torch.ones(64, 64)] * 2, ["2 maps", "1 image"]),
        (lambda x_hat, x: (x_hat - x).mean(), [r"\(1,\)", r"\(\)"]),
        (lambda x_hat, x: 3.0, ["float"]),
        (lambda x_hat, x: (x_hat - x).detach().mean((1, 2, 3)), ["gradient"]),
        (lambda x_hat, x: (x_hat - x).mean((1, 2, 3)) / 0, ["finite"]),
        (lambda x_hat, x: x.clone().requires_grad_().mean((1, 2, 3)), ["gradient"]),
        (lambda x_hat, x: x_hat.sub_(x).square().mean((1, 2, 3)), ["copies"]),
        (lambda x_hat, x: x.sub_(x_hat.detach()).add(x_hat).mean((1, 2, 3)), ["copies"]),
    ],
)
def test_distortions_that_are_refused(codec, given, facts):
    with pytest.raises(UserError) as error:
        refine(codec, [picture(64, 64)], "ssl", distortion=given, lmbda=1.0, iterations=2)
    for fact in facts:
        error.match(fact)


def test_a_distortion_that_is_not_finite_later_on_is_named(codec):
    calls = itertools.count()

    def late(x_hat, x):
        value = (x_hat - x).square().mean((1, 2, 3))
        return value if next(calls) < 4 else value / 0

    with pytest.raises(SystemFault, match=r"no longer finite: .* the distortion .*late"):
        refine(codec, [picture(64, 64)], "ssl", distortion=late, lmbda=1.0, iterations=6, trace_every=2)


def test_a_function_needs_a_lambda(codec):
    with pytest.raises(UserError, match="lmbda"):
        refine(codec, [picture(64, 64)], "ssl", distortion=absolute, iterations=2)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (90, 0, 11, 5), (0, 60, 5, 5), (1, 2, 3), 16])
def test_regions_beyond_the_image_are_refused(box):
    with pytest.raises(UserError, match="pixels"):
        distortion.regions((64, 100), [box])


def test_the_commands_take_regions_and_maps(bundled, tmp_path, command):
    photo, bright = tmp_path / "photo.png", tmp_path / "map.png"
    images.write_image(photo, picture(64, 64))
    images.write_image(bright, weights(64, 64).expand(3, -1, -1))
    out = str(tmp_path / "out")
    refined = ["refine", photo, "--out", out, "--iterations", 2, "--device", "cpu"]
    assert command(*refined, "--roi", "0,0,32,32")[0] == 0
    assert command(*refined, "--roi", "0,0,32,32")[0] == 0  # nothing to do
    for other in (["--roi", "0,0,32,31"], ["--roi-weight", "3", "--roi", "0,0,32,32"], []):
        code, _, err = command(*refined, *other)
        assert code == 2 and "distortion" in err
    file = str(tmp_path / "photo.sga")
    encoded = ["encode", photo, "-o", file, "--iterations", 2, "--device", "cpu"]
    assert command(*encoded, "--weights", bright)[0] == 0
    for wrong, fact in (
        (["--weights", str(bright), "--roi", "0,0,9,9"], "one of them"),
        (["--roi", "0,0,9"], "LEFT,TOP,WIDTH,HEIGHT"),
        (["--roi", "60,0,9,9"], "64×64"),
        (["--roi", "0,0,9,9", "--roi-weight", "-1"], "of at least 0"),
        (["--roi", "0,0,9,9", "--roi-weight", "1e300"], "--roi-weight"),
        (["--roi", "0,0,9,9", "--distortion", "ms-ssim"], "--distortion"),
        (["--distortion", "lpips"], "lpips"),
        (["--distortion", "ms-ssim"], "161"),
    ):
        code, _, err = command(*encoded, *wrong)
        assert code == 2 and fact in err


def test_a_study_compares_distortions(bundled, tmp_path):
    tasks = planning.plan(tiny(tmp_path, distortions=["mse", "ms-ssim"]), "cpu")
    by_label = {task.job.label: task.job for task in tasks}
    plain = {label for label in by_label if "MS-SSIM" not in label}
    assert {f"{label}, MS-SSIM" for label in plain} == by_label.keys() - plain
    for label in plain:
        mse, other = by_label[label], by_label[f"{label}, MS-SSIM"]
        assert other.lmbda == pytest.approx(distortion.lambda_in("ms-ssim", mse.lmbda, "mse"))
        assert other.key != mse.key
