"""What the algorithm of refinement computes, as numbers: compared with a stored table by `test_fingerprint`.

*Parts* evaluate one component each at inputs where all of its constants count. *Refinements* run the whole
loop for a few steps. ``python -m tests.fingerprint`` writes the table again, for a new
`refinement.ALGORITHM`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import GDN

from sgaplus import metrics, optimizers, plans, rounding, schedules
from sgaplus.codecs import bits
from sgaplus.codecs.choice import Choice
from sgaplus.codecs.codec import Codec, freeze
from sgaplus.codecs.layers import DivisiveNorm
from sgaplus.distortion import LAMBDAS, MS_SSIM, MSE, Distortion, lambda_in, regions
from sgaplus.refinement import ALGORITHM
from sgaplus.refinement.batch import Batch
from sgaplus.refinement.curvature import Curvature
from sgaplus.refinement.loop import refine_batch
from tests.conftest import untrained

TABLE = Path(__file__).with_name("fingerprint.json")
STEPS = 5
# Largest differences that pass, relative to the largest value of a line. Processors and threads round in
# other places, which moves parts by 2e-7, refinements in float32 by 1e-5, and in bfloat16 losses by 1e-5 (by
# 5e-4 with AVX2, where oneDNN does not know that format) and latents by 7 %.
TOLERANCES = {"part": 1e-5, "float32": 1e-4, "bfloat16, losses": 1e-3, "bfloat16, moves": 0.2}

Lines = dict[str, list[float]]


def wave(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Different values in [low, high], the same everywhere."""
    values = torch.arange(math.prod(shape), dtype=torch.float64) * 0.6180339887498949 % 1
    return (low + (high - low) * values).float().reshape(shape)


def _numbers(*tensors: torch.Tensor | float) -> list[float]:
    values = torch.cat([torch.as_tensor(t, dtype=torch.float64).detach().flatten() for t in tensors])
    return [float(f"{value:.9g}") for value in values.tolist()]


def methods() -> list[rounding.Method]:
    """Every method with its defaults, three-class rounding with every base."""
    bases = (rounding.Linear(), rounding.Cosine(), rounding.SSL())
    others = [cls() for cls in rounding.METHODS.values() if cls is not rounding.ThreeClass]
    return [*others, *map(rounding.ThreeClass, bases)]


def _of_preset(plan: plans.Plan) -> str:
    """A preset's lines name its method: rows store the plan, so that a preset may name another one."""
    return f"{plan.label} = {plan.method.label}"


# Parts


def _rounding() -> Lines:
    near = torch.tensor([1e-6, 3e-4, 0.02, 0.497, 0.50002, 0.71, 0.999, 1 - 1e-6])
    noise = torch.tensor([0.0, 0.03, 0.2, 0.4, 0.55, 0.8, 0.97, 1 - 2**-24])
    lines = {}
    for method in methods():
        lines[f"{method.label}, log-probabilities"] = _numbers(method.log_probabilities(near - 2))
        lines[f"{method.label}, classes"] = _numbers(method.classes(near - 2))
        for tau in (1.0, 0.4, 5e-5):
            v = (near - 2).requires_grad_()
            shape = method.noise_shape((8,))
            drawn = None
            if shape is not None:
                drawn = noise if shape == (8,) else torch.stack([noise, noise.roll(3), noise.flip(0)], -1)
            value = method.relax(v, tau, drawn)
            found = [value, method.log_probabilities(v, tau).exp()]
            if tau == 0.4:  # a hard draw has gradients beyond all measure
                found += torch.autograd.grad(value.sum(), v)
            lines[f"{method.label}, τ {tau:g}"] = _numbers(*found)
        if method.inner:
            weights = [method.weight(tau) for tau in (1.0, 0.25)]
            lines[f"{method.label}, weight"] = _numbers(*weights)
            lines[f"{method.label}, z"] = _numbers(method.quantise(near, "z", 0.4, noise))
    return lines


def _schedules() -> Lines:
    chosen = {cls.name: plans.plan(cls()) for cls in rounding.METHODS.values()}
    lines = {name: [(plan, 2000)] for name, plan in chosen.items()}
    for preset in plans.PRESETS.values():
        chosen_for = [(preset(n), n) for n in (2, 10, 16, 30, 100)]
        lines[_of_preset(chosen_for[0][0])] = chosen_for
    found = {}
    for name, every in lines.items():
        for what in ("temperature", "lr"):
            values = [getattr(plan, what)(t * n // 20, n) for plan, n in every for t in range(21)]
            found[f"{name}, {what}"] = _numbers(*values)
    named = [schedules.ExponentialTo(0.3)(1, 2), schedules.ExponentialTo(0.3)(3, 2)]
    named += [schedules.Exponential()(0, 1), schedules.Exponential()(2500, 1)]
    return found | {"as named": _numbers(*named), "floor": _numbers(schedules.Exponential()(20_000, 1))}


def _bits() -> Lines:
    conditional, v = GaussianConditional(None), torch.tensor([-60.0, -3.2, -0.4, 0.0, 0.3, 1.0, 7.0, 2.0])
    lines = {}
    for scale in (0.05, 0.11, 0.6, 4.0):
        values = v.reshape(1, 1, 2, 4).clone().requires_grad_()
        scales = torch.full_like(values, scale).requires_grad_()
        each = [
            bits.gaussian_bits(conditional, values[..., i : i + 1], scales[..., i : i + 1]) for i in range(4)
        ]
        gradients = torch.autograd.grad(sum(each).sum(), (values, scales))
        lines[f"σ {scale}"] = _numbers(*each)
        lines[f"σ {scale}, gradients"] = _numbers(*gradients)
    chosen = Choice(v.reshape(1, 1, 2, 4).floor(), wave(1, 1, 2, 4))
    lines["choices"] = _numbers(bits.gaussian_bits(conditional, chosen, torch.full((1, 1, 2, 4), 0.8)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bottleneck = EntropyBottleneck(2)
    z = wave(1, 2, 2, 3, low=-4, high=4).requires_grad_()
    value = bits.factorized_bits(bottleneck, z)
    lines["mean and variance of choices"] = _numbers(chosen.mean, chosen.variance)
    lines["factorised"] = _numbers(value, *torch.autograd.grad(value.sum(), z))
    lines["bound"] = _numbers(bits.bits_of(torch.zeros(1), 1e-9))
    lines["erfc"] = _numbers(bits._fitted_erfc(torch.tensor([-1.5, -0.2, 0.0, 0.1, 0.5, 1.0, 2.0])))
    lines["erfc, far"] = _numbers(bits._fitted_erfc(torch.tensor([3.0])))
    lines["erfc, farthest"] = _numbers(bits._fitted_erfc(torch.tensor([8.9])))
    return lines


def _norm() -> Lines:
    lines = {}
    for inverse in (False, True):
        layer = DivisiveNorm(GDN(3, inverse=inverse))
        x = wave(1, 3, 2, 2, low=-3, high=3).requires_grad_()
        value = layer(x)
        gradient = torch.autograd.grad((value * wave(1, 3, 2, 2)).sum(), x)
        lines["inverse" if inverse else "forward"] = _numbers(value, *gradient)
    return lines


def _optimizers() -> Lines:
    lines = {}
    for name, make in optimizers.OPTIMIZERS.items():
        for scale in (1.0, 3e-8):
            p = torch.zeros(1, 3, 2, 2, requires_grad=True)
            optimizer = make([p], 0.1)
            path = []
            for t in range(13):
                p.grad = scale * (wave(1, 3, 2, 2, low=-1) * (t + 1)).cos() + scale * wave(1, 3, 2, 2).roll(t)
                optimizer.step()
                path.append(p.detach().clone())
            lines[f"{name}, gradients of {scale:g}"] = _numbers(*path[::3])
    corner = torch.tensor([[[0.0, 1.0, 0.3], [1.0, 0.0, 0.7], [0.3, 0.7, 0.0]]])
    for what, matrix in (
        ("nearly equal", torch.eye(3) + 1e-4 * corner),
        ("tiny", 1e-34 * (4 * torch.eye(3) + corner)),
    ):
        lines[f"axes of {what} ones"] = _numbers(optimizers._eigenvectors(matrix.double()).square())
    return lines


def _curvature() -> Lines:
    kernel = wave(3, 2, 3, 3, low=-1)
    y = wave(1, 2, 7, 7, low=-2, high=2).requires_grad_()
    curvature, generators = Curvature(), [torch.Generator().manual_seed(1)]
    lines = {}
    for step in range(22):
        value = curvature(torch.nn.functional.conv2d(y, kernel, padding=1), y, generators)
        if step in (0, 9, 10, 20):
            lines[f"step {step}"] = _numbers(value)
    weights, x = wave(1, 1, 7, 7), wave(1, 3, 7, 7)
    for mine in (Distortion("weighted", weights=weights), Distortion("cubic", function=_cubic)):

        def synthesis(y: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(y, kernel, padding=1)

        generators = [torch.Generator().manual_seed(1)]
        found = Curvature()
        lines[mine.spec] = _numbers(found(synthesis(y), y, generators, mine, x, synthesis))
        lines[f"{mine.spec}, coupling"] = _numbers(found.coupling)
    return lines


def _cubic(x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x_hat - x).abs().pow(3).mean((1, 2, 3))


def _distortion() -> Lines:
    x, x_hat = wave(1, 3, 4, 4), wave(1, 3, 4, 4, low=-0.1, high=1.2).flip(-1)
    error, near = metrics.mse(x, x_hat), x + 0.003 * x_hat
    large = torch.nn.functional.interpolate(x, (176, 176), mode="bicubic").clamp(0, 1)
    larger = large + 0.1 * wave(1, 3, 176, 176, low=-1).flip(-1)
    weighted = Distortion("weighted", weights=wave(1, 1, 4, 4))
    return {
        "loss": _numbers(metrics.rd_loss(1e-5, error, torch.tensor([0.5])), error),
        "PSNR": _numbers(metrics.psnr(x, x_hat), metrics.psnr_8bit(x, x_hat), metrics.psnr_8bit(x, near)),
        "MS-SSIM": _numbers(metrics.ms_ssim(large, larger), MS_SSIM(larger, large)),
        "scales": _numbers(MSE.scale, MS_SSIM.scale),
        "λ": _numbers(*(lambda_in("ms-ssim", value, "mse") for value in (*LAMBDAS["mse"], 1e-3))),
        "regions": _numbers(regions((4, 5), [(1, 2, 3, 1)]), weighted.total(x_hat, x), weighted(x_hat, x)),
    }


PARTS: dict[str, Callable[[], Lines]] = {
    "rounding": _rounding,
    "schedules": _schedules,
    "bits": _bits,
    "norm": _norm,
    "optimizers": _optimizers,
    "curvature": _curvature,
    "distortion": _distortion,
}


# Refinements


def _codec(dtype: str) -> Codec:
    """So narrow that the gradients of y and z have full rank: elsewhere SOAP's axes are a matter of
    rounding."""
    return Codec("untrained", 2e-5, freeze(untrained(4, 6)), sha256="").to("cpu", dtype)


def _refined(plan: plans.Plan, dtype: str) -> Lines:
    """The losses of every step, and where the latents went."""
    codec = _codec(dtype)
    x = torch.nn.functional.interpolate(wave(1, 3, 8, 12), (128, 192), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        start = codec.to("cpu", "float32").analyse(x)
    before = {name: latent.clone() for name, latent in start.items()}
    batch = Batch(codec, x, ["a"], plan, codec.lmbda, start, [torch.Generator().manual_seed(5)])
    table, best, _ = refine_batch(batch, STEPS, set(range(1, STEPS + 1)), lambda step: None)
    losses = [*table["method_loss"].iloc[1:], *table["loss"], *best.rows["loss"]]
    moves = []
    for name, latent in batch.latents.items():
        change = (latent.detach() - before[name]).double()
        size = change.norm() / change.numel() ** 0.5
        along = [(change * wave(*change.shape, low=-1).roll(shift)).mean() for shift in range(3)]
        moves += [size, *along]
    name = _of_preset(plan) if plan.label in plans.PRESETS else plan.label
    return {f"{name}, losses": _numbers(*losses), f"{name}, moves": _numbers(*moves)}


def refinements() -> list[plans.Plan]:
    """Every method with its published settings, each optimiser with another method, every preset."""
    chosen = [plans.plan(method) for method in methods()]
    chosen += [plans.plan("ssl", optimizer="soap"), plans.plan("quadratic", optimizer="adam")]
    return chosen + [preset(STEPS) for preset in plans.PRESETS.values()]


def differences(part: str, stored: Lines, found: Lines) -> list[str]:
    """Lines that differ by more than passes."""
    wrong = sorted(stored.keys() ^ found.keys())
    for name in stored.keys() & found.keys():
        pairs = list(zip(stored[name], found[name], strict=False))
        scale = max(map(abs, stored[name]), default=0.0) or 1.0
        kind = f"{part}, {name.rpartition(', ')[2]}" if part == "bfloat16" else part
        tolerance = TOLERANCES.get(kind, TOLERANCES["part"])
        far = [abs(a - b) for a, b in pairs if not abs(a - b) <= tolerance * scale]
        if far or len(stored[name]) != len(found[name]):
            wrong.append(f"{name} (by {max(far, default=math.nan) / scale:.1e} of its largest value)")
    return wrong


def compute(part: str) -> Lines:
    """One part, or the refinements in a number format."""
    if part in PARTS:
        return PARTS[part]()
    return {name: numbers for plan in refinements() for name, numbers in _refined(plan, part).items()}


def write() -> None:
    """Write the table, which a new algorithm needs."""
    table = {part: compute(part) for part in (*PARTS, "float32", "bfloat16")}
    if TABLE.is_file():
        stored = json.loads(TABLE.read_text(encoding="utf-8"))
        changed = []  # lines that are new or gone, as a method may be, move no number of another one
        for part, lines in table.items():
            known, found = (
                {k: of[k] for k in lines.keys() & stored.get(part, {})}
                for of in (stored.get(part, {}), lines)
            )
            changed += [part] if differences(part, known, found) else []
        if changed and stored["algorithm"] == ALGORITHM:
            raise SystemExit(
                f"{', '.join(changed)} changed: raise refinement.ALGORITHM first, or undo the change"
            )
    text = ",\n".join(
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(v)}" for name, v in lines.items())
        + "\n}"
        for part, lines in table.items()
    )
    TABLE.write_text(f'{{"algorithm": {ALGORITHM},\n{text}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    write()
