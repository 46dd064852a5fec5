"""The rounding methods: what takes the place of ⌊v⌉ while latents are optimised.

Stochastic Gumbel annealing (SGA; Yang, Bamler and Mandt, arXiv 2006.04240, section 3.2) and SGA+
(arXiv 2401.17789) choose at random between the integers next to a value v and relax the choice. With class
log-probabilities f, temperature τ and one Gumbel variable G per class, the weights of a draw are

    softmax((f/τ + G)/τ),

in which τ stands twice: it sharpens the probabilities, and it hardens the sample. The relaxed value is the
weighted mean of the class values.

For two classes only the difference of the log-probabilities d = f(ceil) − f(floor) matters, and the
difference of two Gumbel variables is one logistic variable, logit(u) with u uniform. A draw is therefore
exactly ⌊v⌋ + σ((d/τ + logit(u))/τ). Every two-class method is its d(x), a function of x = v − ⌊v⌋.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .codecs.choice import Choice
from .errors import UserError
from .parsing import build, number, parse_named, whole
from .relaxation import Method, TwoClass, temperature

# Exponents and scales beyond this are plain rounding, and would let gradients leave float32's range.
_SHARPEST = 1e6
# The authors' code bounds the probability cos² from below by 1e-7. That happens at this argument.
_COSINE_CLIP = 2 / math.pi * math.asin(math.sqrt(1e-7))
# Uniform numbers keep this distance from 0 and 1, where a Gumbel variable is infinite; 1 − 2⁻²⁴ is the
# largest float32 number below 1.
_UNIFORM_CLIP = 2.0**-24


@dataclass(frozen=True)
class Atanh(TwoClass):
    """SGA: f(x) = −atanh(x) (arXiv 2006.04240, section 3.2), here normalised.

    d(x) = atanh(x) − atanh(1 − x) = ½ logit(x) + atanh((2x − 1)/3), which loses no digits near 0 and 1.
    """

    name, label = "atanh", "atanh (SGA)"

    def log_odds(self, x: Tensor) -> Tensor:
        return torch.logit(x).mul(0.5).add_(x.sub(0.5).mul_(2 / 3).atanh())


@dataclass(frozen=True)
class DeterministicAnnealing(Atanh):
    """Baseline A4 of arXiv 2006.04240, Table 1: softmax(f/τ) of atanh in place of a sample (τ once)."""

    name, label = "da", "deterministic annealing"
    noise_shape = Method.noise_shape

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return self.choice(v, tau).mean


@dataclass(frozen=True)
class Linear(TwoClass):
    """SGA+ linear: f(x) = log(1 − x), d(x) = logit(x)."""

    name = label = "linear"

    def log_odds(self, x: Tensor) -> Tensor:
        return torch.logit(x)

    def log_kernel(self, u: Tensor) -> Tensor:
        return torch.log1p(-u)


@dataclass(frozen=True)
class Cosine(TwoClass):
    """SGA+ cosine: f(x) = log cos²(πx/2), d(x) = 2 log tan(πx/2); three-class: f(u) = cos(πu/2).

    The authors' floor of 1e-7 under cos² is the clip of the argument where cos² reaches it.
    """

    name = label = "cosine"
    clip = _COSINE_CLIP

    def log_odds(self, x: Tensor) -> Tensor:
        return torch.tan(x * (math.pi / 2)).log() * 2

    def log_kernel(self, u: Tensor) -> Tensor:
        # As a sine of 1 − u, which float32 holds exactly where the cosine is small.
        return torch.sin((1 - u) * (math.pi / 2)).log()


@dataclass(frozen=True)
class SSL(TwoClass):
    """SGA+ sigmoid scaled logit: f(x) = log σ(−a·logit(x)), d(x) = a·logit(x).

    Attributes:
        a: slope of the probability at x = ½, in (0, 1e6]; 1 is linear, ∞ plain rounding, 0 a coin toss.
    """

    name = "ssl"
    a: float = 2.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "a", number(self.a, "SSL's a", high=_SHARPEST))

    @property
    def label(self) -> str:
        return f"SSL (a = {self.a:.4g})"

    def log_odds(self, x: Tensor) -> Tensor:
        return torch.logit(x).mul(self.a)

    def log_kernel(self, u: Tensor) -> Tensor:
        return F.logsigmoid(torch.logit(u).mul(-self.a))


_OF_Z = SSL(2.3)


@dataclass(frozen=True)
class Quadratic(SSL):
    """The expected loss of rounding y at random, with steps between two syntheses; not of the papers.

    SSL's probabilities, σ(a·logit(x)/τ) of ceil, but no draw. Given z, every ŷᵢ is one of two integers,
    independently of the others. Then the rate's expectation is exact, one sum over both integers, and that of
    the distortion D to second order is D(E ŷ) + ½ Σ Hᵢᵢ Var ŷᵢ: covariances, and with them all of the Hessian
    H but its diagonal, have no part in it. The diagonal is estimated on the way (`curvature.Curvature`). No
    noise of y is left in the gradients, whose variance limits what few steps can do. z, which has few values
    on which much depends, is drawn as by SSL(2.3) at τ = 1: without noise it gets stuck.

    The variances count with the weight c/τ. It starts low, so that latents may leave the integer they are
    near to, and ends above 1, where it drives them to integers.

    The synthesis and its backward pass take most of a step's time. So each is followed by ``inner`` steps
    that do without. Their rate is exact as ever; for the distortion at the mean ŷ stands what is known of it
    at the last synthesis: its tangent, and the Gauss-Newton Hessian of the latents at one position
    (`objective.Tangent`), whose diagonal the variances need anyway.

    Attributes:
        a: as of `SSL`.
        c: the weight of the variances at τ = 1, in (0, 1e6].
        inner: steps between two syntheses, at least 1.
    """

    name = "quadratic"
    noise_shape, relax = DeterministicAnnealing.noise_shape, DeterministicAnnealing.relax
    a: float = 1.6
    c: float = 0.3
    inner: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "c", number(self.c, "the expected loss's c", high=_SHARPEST))
        object.__setattr__(self, "inner", whole(self.inner, "the inner steps", 1))

    @property
    def label(self) -> str:
        return f"expected loss (a = {self.a:.4g}, c = {self.c:.4g}), {self.inner} steps between syntheses"

    def weight(self, tau: float | Tensor) -> float | Tensor:
        """c/τ."""
        return self.c / temperature(tau)

    def of(self, name: str) -> Method:
        return self if name == "y" else _OF_Z

    def quantise(self, v: Tensor, name: str, tau: float | Tensor, noise: Tensor | None) -> Tensor | Choice:
        return self.choice(v, tau) if name == "y" else _OF_Z.relax(v, 1.0, noise)


# Best r and n in the authors' code.
_BEST_STRETCH = {Linear: (0.98, 1.5), Cosine: (0.98, 2.0), SSL: (1.4 / 1.5, 1.5)}


class _Best(float):
    """A base's best value, in whose place another base takes its own."""


@dataclass(frozen=True)
class ThreeClass(Method):
    """SGA+ three-class rounding: ⌊v⌉ − 1, ⌊v⌉, ⌊v⌉ + 1 with log-probabilities n·log f(r·|v − class|).

    Half-integers are rounded up, so that shifting v by an integer shifts everything. Two neighbouring triples
    of classes agree at a half-integer when r ≥ 2/3, where the outermost class has no mass; for a smaller r
    the probabilities jump there. Arguments beyond 1 are clipped like those near 1.

    Attributes:
        base: `Linear`, `Cosine` or `SSL`.
        r: stretches f, so that the third class gets mass, in (0, 1]; 1 is two-class rounding (cosine: with
            n = 2).
        n: sharpens f, in (0, 1e6].
        Both are the authors' best for the base unless given, with another base (`dataclasses.replace`) too.
    """

    name = "three-class"
    base: Linear | Cosine | SSL = Linear()
    r: float = None  # type: ignore[assignment]  # `__post_init__` puts the base's best value
    n: float = None  # type: ignore[assignment]
    _stretch = (1.0, 1.0)  # r and n as plain numbers, as every PyTorch can compile them

    def __post_init__(self) -> None:
        if type(self.base) not in _BEST_STRETCH:
            known = ", ".join(cls.name for cls in _BEST_STRETCH)
            raise UserError(f"three-class rounding needs a base among {known}, not {self.base!r}")
        for name, best, high in zip("rn", _BEST_STRETCH[type(self.base)], (1.0, _SHARPEST), strict=True):
            given = getattr(self, name)
            ours = given is None or isinstance(given, _Best)
            value = _Best(best) if ours else number(given, f"three-class {name}", high=high)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_stretch", (float(self.r), float(self.n)))

    @property
    def label(self) -> str:
        return f"{self.base.label}, three-class (r = {self.r:.4g}, n = {self.n:.4g})"

    def as_dict(self) -> dict[str, Any]:
        r, n = self._stretch
        return {self.kind: self.name, "base": self.base.name, **asdict(self.base), "r": r, "n": n}

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape, 3)

    def classes(self, v: Tensor) -> Tensor:
        near = torch.floor(v + 0.5)
        return torch.stack([near - 1, near, near + 1], -1)

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """⌊v⌉ and log f of the three classes, (3, ...): whole planes are faster than triples."""
        near, (r, _) = torch.floor(v + 0.5), self._stretch
        w = v - near
        u = torch.stack([1 + w, w.abs(), 1 - w]).mul(r).clamp(self.base.clip, 1 - self.base.clip)
        return near, self.base.log_kernel(u)

    def log_probabilities(self, v: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        _, n = self._stretch
        return F.log_softmax(self._split(v)[1] * (n / temperature(tau)), 0).movedim(0, -1)

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        uniform = self._checked(noise, v).clamp(_UNIFORM_CLIP, 1 - _UNIFORM_CLIP)
        minus_gumbel = uniform.log_().neg_().log_().movedim(-1, 0)
        tau, (_, n) = temperature(tau), self._stretch
        near, log_f = self._split(v)
        weights = torch.softmax(log_f.mul(n / (tau * tau)).sub_(minus_gumbel.div_(tau)), 0)
        return near + (weights[2] - weights[0])


@dataclass(frozen=True)
class StraightThrough(Method):
    """Straight-through estimator: ⌊v⌉ with the gradient of the identity."""

    name, label = "ste", "STE"

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return v + (torch.round(v) - v).detach()


@dataclass(frozen=True)
class UniformNoise(Method):
    """Additive noise v + U(−½, ½), the relaxation with which codecs are trained."""

    name, label = "uniform", "uniform noise"

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return v + (self._checked(noise, v) - 0.5)


@dataclass(frozen=True)
class MAP(Method):
    """No rounding while optimising, only at the end."""

    name, label = "map", "MAP"

    def relax(self, v: Tensor, tau: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return v


_BASES = {cls.name: cls for cls in _BEST_STRETCH}
_BASELINES = (StraightThrough, UniformNoise, MAP, DeterministicAnnealing, Atanh)
# Every method by its name in specifications.
METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (*_BASELINES, Linear, Cosine, SSL, ThreeClass, Quadratic)
}


def parse(spec: str | Mapping[str, Any] | Method) -> Method:
    """The method that a specification describes; the inverse of `Method.as_dict` and of `Method.spec`.

    ``"ssl"``, ``"ssl:a=2.3"``, ``"three-class:base=ssl,a=1.4"``, ``{"method": "ssl", "a": 2.3}``. What is
    left out takes its default. The parameters of a three-class method's base stand beside its own.

    Raises:
        UserError: an unknown method or parameter, or a value out of range.
    """
    if isinstance(spec, Method):
        return spec
    cls, values = parse_named(spec, Method.kind, METHODS)
    if cls is ThreeClass:
        base, _ = parse_named({"base": values.pop("base", Linear.name)}, "base", _BASES)
        shared = [field.name for field in fields(base) if field.name in values]
        values["base"] = build(base, {key: values.pop(key) for key in shared})
    return build(cls, values)
