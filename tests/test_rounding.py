"""The rounding methods against derivations in float64 that are written differently from the module."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from sgaplus.errors import UserError
from sgaplus.relaxation import TAU_FLOOR
from sgaplus.rounding import (
    MAP,
    METHODS,
    SSL,
    Atanh,
    Cosine,
    DeterministicAnnealing,
    Linear,
    StraightThrough,
    ThreeClass,
    UniformNoise,
    parse,
)

CLIP = 1e-5
TWO_CLASS = [Atanh(), Linear(), Cosine(), SSL(), SSL(0.3), SSL(20)]
THREE_CLASS = [ThreeClass(), ThreeClass(Cosine()), ThreeClass(SSL(1.4)), ThreeClass(SSL(3), r=0.7, n=0.5)]
DRAWN = TWO_CLASS + THREE_CLASS
ALL = [*DRAWN, DeterministicAnnealing(), StraightThrough(), UniformNoise(), MAP()]
TEMPERATURES = [1.0, 0.5, 0.1, 1e-2, 1e-3, 1e-8]


def named(methods):
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.spec)


def numpy_f(method, x):
    """The paper's log p(floor), up to normalisation, with the floor of 1e-7 under cos²."""
    if isinstance(method, Atanh):
        return -np.arctanh(x)
    if isinstance(method, Linear):
        return np.log(1 - x)
    if isinstance(method, Cosine):
        return np.log(np.maximum(np.cos(np.pi * x / 2) ** 2, 1e-7))
    return -np.log(1 + (x / (1 - x)) ** method.a)


def numpy_logits(method, v):
    """Class values (..., K) and unnormalised log-probabilities f (..., K) in float64."""
    if isinstance(method, ThreeClass):
        values = np.rint(v)[..., None] + np.array([-1.0, 0.0, 1.0])
        u = np.clip(method.r * np.abs(v[..., None] - values), CLIP, 1 - CLIP)
        half = 0.5 if isinstance(method.base, Cosine) else 1.0  # cos, not cos², in three-class rounding
        return values, method.n * half * numpy_f(method.base, u)
    x = np.clip(v - np.floor(v), CLIP, 1 - CLIP)
    return np.stack([np.floor(v), np.ceil(v)], -1), np.stack([numpy_f(method, x), numpy_f(method, 1 - x)], -1)


def numpy_relaxed(method, v, tau, size, seed):
    """Relaxed samples (size,) of one value, with one Gumbel variable per class."""
    values, f = numpy_logits(method, np.asarray(v))
    perturbed = (f / tau + np.random.default_rng(seed).gumbel(size=(size, values.size))) / tau
    weights = np.exp(perturbed - perturbed.max(-1, keepdims=True))
    return (weights * values).sum(-1) / weights.sum(-1)


def relaxed(method, v, tau, size, seed):
    """The same from the module, as float64 numbers."""
    many = torch.full((size,), v)
    noise = method.draw(many.shape, torch.Generator().manual_seed(seed))
    return method.relax(many, tau, noise).double().numpy()


def value_and_gradient(method, v, tau, noise):
    v = v.clone().requires_grad_()
    out = method.relax(v, tau, noise)
    (gradient,) = torch.autograd.grad(out.sum(), v)
    return out.detach(), gradient


X = np.linspace(0.02, 0.98, 49)


def test_two_class_closed_forms():
    v = torch.tensor(3 + X)
    closed = {
        Linear(): 1 - X,
        Cosine(): (1 + np.cos(np.pi * X)) / 2,
        SSL(2.3): (1 - X) ** 2.3 / ((1 - X) ** 2.3 + X**2.3),
        Atanh(): 1 / (1 + np.sqrt((X + X**2) / ((1 - X) * (2 - X)))),
    }
    for method, floor in closed.items():
        assert np.allclose(method.probabilities(v), np.stack([floor, 1 - floor], -1), rtol=1e-9), method
        assert torch.equal(method.classes(v), torch.tensor([3.0, 4.0], dtype=torch.float64).expand(49, 2))


@named(DRAWN)
@pytest.mark.parametrize("tau", [1.0, 0.3, 0.05])
def test_probabilities_are_the_softmax_of_f_over_tau(method, tau):
    v = np.arange(-1023, 1024, 2) / 256  # exact in float32, no integers or half-integers
    values, f = numpy_logits(method, v)
    expected = f / tau - np.logaddexp.reduce(f / tau, -1, keepdims=True)
    for dtype, atol, rtol in ((torch.float64, 1e-12, 1e-9), (torch.float32, 3e-6, 1e-5)):
        x = torch.tensor(v, dtype=dtype)
        got, p = method.log_probabilities(x, tau), method.probabilities(x, tau)
        assert got.dtype == p.dtype == dtype
        # float32 does not hold 1 − 1e-5, where arguments are clipped, to more digits.
        held = np.full(f.shape, True) if dtype == torch.float64 else expected > math.log(1e-5)
        assert np.allclose(got.numpy()[held], expected[held], atol=5 * atol, rtol=rtol)
        assert np.allclose(p.numpy(), np.exp(expected), atol=atol, rtol=0)
        assert np.array_equal(method.classes(x).numpy(), values)


@pytest.mark.parametrize(
    ("base", "n", "two"),
    [(Linear(), 1, Linear()), (Linear(), 1.5, SSL(1.5)), (Cosine(), 2, Cosine()), (SSL(1.4), 1.5, SSL(2.1))],
)
def test_three_classes_without_stretch_are_two(base, n, two):
    v = torch.linspace(-1.999, 1.999, 4000)
    three = ThreeClass(base, r=1, n=n)
    # The two classes, where they stand among the three; the third is left.
    same = three.classes(v).unsqueeze(-1) == two.classes(v).unsqueeze(-2)
    p = three.probabilities(v).unsqueeze(-1)
    assert torch.allclose((p * same).sum(-2), two.probabilities(v), atol=3e-5)
    assert (p.squeeze(-1) * ~same.any(-1)).max() < 3e-5


@named(DRAWN)
@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_relaxed_values_have_the_distribution_of_gumbel_softmax(method, tau):
    for v in (0.37, -2.2):
        ours = relaxed(method, v, tau, 20_000, seed=3)
        theirs = numpy_relaxed(method, v, tau, 20_000, seed=4)
        # Both pile up within rounding of the class values, which a test on ranks would take for a difference.
        test = stats.ks_2samp(ours.round(4), theirs.round(4))
        assert test.pvalue > 1e-3, (v, test)


def test_deterministic_annealing_is_the_mean_of_the_classes():
    v = torch.linspace(-2.9, 2.9, 101, dtype=torch.float64)
    for tau in (1.0, 0.2):
        mean = (Atanh().classes(v) * Atanh().probabilities(v, tau)).sum(-1)
        assert torch.allclose(DeterministicAnnealing().relax(v, tau), mean)


def test_methods_without_classes():
    v = torch.tensor([-50.0, -1.5, -0.3, 0.0, 0.5, 1.5, 2.7, 1e6 + 0.5])
    value, gradient = value_and_gradient(StraightThrough(), v, 1.0, None)
    assert torch.equal(value, torch.round(v)) and torch.equal(gradient, torch.ones_like(v))
    value, gradient = value_and_gradient(MAP(), v, 1.0, None)
    assert torch.equal(value, v) and torch.equal(gradient, torch.ones_like(v))
    noise = UniformNoise().draw((10_000,), torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(UniformNoise(), torch.full((10_000,), 2.0), 1.0, noise)
    assert stats.kstest(value.numpy(), stats.uniform(1.5, 1).cdf).pvalue > 1e-3
    assert torch.equal(gradient, torch.ones(10_000))
    for method in (StraightThrough(), MAP(), UniformNoise()):
        assert torch.equal(method.classes(v), torch.round(v).unsqueeze(-1))
        assert torch.equal(method.probabilities(v), torch.ones(len(v), 1))


@named([*DRAWN, DeterministicAnnealing(), UniformNoise(), MAP()])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_gradients_by_finite_differences(method, tau):
    generator = torch.Generator().manual_seed(0)
    # Away from integers and half-integers, where the classes change.
    x = torch.tensor([0.03, 0.2, 0.45, 0.55, 0.8, 0.97], dtype=torch.float64)
    v = torch.cat([x - 2, x + 3]).requires_grad_()
    noise = method.draw(v.shape, generator)
    assert torch.autograd.gradcheck(lambda v: method.relax(v, tau, noise), v, eps=1e-7, rtol=1e-4)
    assert torch.autograd.gradcheck(lambda v: method.log_probabilities(v, tau), v, eps=1e-7, rtol=1e-4)


def _neighbours(points):
    """The points, and the float32 numbers right and a little further beside them."""
    points = torch.tensor(points)
    steps = [torch.nextafter(points, torch.full_like(points, s)) for s in (-math.inf, math.inf)]
    return torch.cat([points, *steps, *(points + s * e for s in (-1, 1) for e in (1e-6, 1e-5, 2e-4))])


EDGES = _neighbours([0.0, 0.5, 1.0, 1.5, -0.5, -1.0, 7.0, 7.5, 49.5, 50.0, -49.5, -50.0])
UNIFORMS = [0.0, 1e-38, 1e-20, 2.0**-24, 0.25, 0.5, 0.75, 1 - 2.0**-24, 1.0]


@named(ALL)
@pytest.mark.parametrize("tau", TEMPERATURES)
def test_edges_are_finite_and_stay_between_the_classes(method, tau):
    v = EDGES.repeat_interleave(len(UNIFORMS) ** 2)
    shape = method.noise_shape(v.shape)
    noise = None
    if shape is not None:
        u = torch.tensor(UNIFORMS)
        columns = (u.repeat_interleave(9), u.repeat(9), u.roll(3).repeat(9))[: 3 if len(shape) == 2 else 1]
        noise = torch.stack(columns, -1).repeat(len(EDGES), 1).reshape(shape)
    value, gradient = value_and_gradient(method, v, tau, noise)
    assert value.isfinite().all() and gradient.isfinite().all()
    if not isinstance(method, MAP | UniformNoise):
        classes = method.classes(v)
        assert (value >= classes.amin(-1)).all() and (value <= classes.amax(-1)).all()
    p = method.probabilities(v, tau)
    assert method.log_probabilities(v, tau).isfinite().all()
    assert torch.allclose(p.sum(-1), torch.ones_like(v), atol=1e-6)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(ALL)
    | st.builds(SSL, st.floats(1e-6, 1e6))
    | st.builds(
        ThreeClass, st.sampled_from([Linear(), Cosine(), SSL(9)]), st.floats(1e-6, 1), st.floats(1e-6, 1e6)
    ),
    v=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=4),
    tau=st.sampled_from(TEMPERATURES) | st.floats(1e-6, 1),
    shift=st.integers(-40, 40),
    seed=st.integers(0, 1000),
)
@example(SSL(1e6), [0.5], 1e-8, 0, 0)
@example(ThreeClass(), [0.5, 1.5, -0.5], 0.5, 1, 0)
@example(ThreeClass(SSL(1e6), n=1e6), [0.5, 0.25], 1e-8, 0, 0)
def test_any_value_is_finite_and_shifts_with_the_grid(method, v, tau, shift, seed):
    # Multiples of 2⁻¹⁶ so that v + shift is exact.
    v = (torch.tensor(v) * 2**16).round() / 2**16
    noise = method.draw(v.shape, torch.Generator().manual_seed(seed))
    value, gradient = value_and_gradient(method, v, tau, noise)
    assert value.isfinite().all() and gradient.isfinite().all()
    reach = {StraightThrough: 0.5, UniformNoise: 0.50001, MAP: 0, ThreeClass: 1.5}.get(type(method), 1)
    assert ((value - v).abs() <= reach).all()
    moved, moved_gradient = value_and_gradient(method, v + shift, tau, noise)
    if isinstance(method, StraightThrough):  # rounds half to even, as the codec does
        v = v + (v - v.floor() == 0.5) / 4
        value, moved = method.relax(v), method.relax(v + shift)
    assert torch.allclose(moved, value + shift, atol=1e-5)
    assert torch.equal(moved_gradient, gradient)


@named(TWO_CLASS)
def test_two_class_probabilities_are_continuous_at_integers(method):
    v = torch.tensor([3 - 1e-6, 3.0, 3 + 1e-6], dtype=torch.float64)
    p = (method.probabilities(v) * (method.classes(v) == 3)).sum(-1)
    # SSL(0.3): the clip stops p at σ(0.3·logit(1 − 1e-5)), all others are nearly certain.
    assert torch.allclose(p, p[:1].expand(3), atol=1e-9)
    assert p.min() > (0.96 if method == SSL(0.3) else 0.997)


@named(ALL)
def test_a_temperature_on_the_device_is_the_same_temperature(method):
    v = torch.linspace(-2, 2, 101)
    noise = method.draw(v.shape, torch.Generator().manual_seed(0))
    before = None if noise is None else noise.clone()
    for tau in (1.0, 0.25, 1e-3, 1e-9):
        on_device = torch.tensor(tau)
        assert torch.allclose(method.relax(v, on_device, noise), method.relax(v, tau, noise), atol=1e-6)
        assert torch.allclose(
            method.log_probabilities(v, on_device), method.log_probabilities(v, tau), rtol=1e-5
        )
    assert torch.equal(method.relax(v, 1e-9, noise), method.relax(v, TAU_FLOOR, noise))
    assert noise is None or torch.equal(noise, before)


def test_noise_is_drawn_from_the_generator_alone():
    shapes = {SSL(): (2, 5), ThreeClass(): (2, 5, 3), UniformNoise(): (2, 5)}
    for method, shape in shapes.items():
        first, again, other = (method.draw((2, 5), torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert first.shape == shape and torch.equal(first, again) and not torch.equal(first, other)
        assert first.min() >= 0 and first.max() < 1
    for method in (MAP(), StraightThrough(), DeterministicAnnealing()):
        assert method.draw((2, 5)) is None and method.noise_shape((2, 5)) is None


@named(ALL)
def test_specifications_round_trip(method):
    assert parse(method) is method
    assert parse(method.spec) == method
    assert parse(method.as_dict()) == method
    assert parse(json.loads(json.dumps(method.as_dict()))) == method
    assert hash(parse(method.spec)) == hash(method)


def test_specifications():
    assert {parse(name).name for name in METHODS} == set(METHODS)
    assert parse("ssl") == SSL(2.3) and parse(" ssl : a = 1.4 ") == SSL(1.4)
    assert json.dumps(SSL(2).as_dict()) == json.dumps(SSL(2.0).as_dict()) == '{"method": "ssl", "a": 2.0}'
    assert parse("three-class:base=linear,r=0.98,n=1.5") == ThreeClass(Linear()) == parse("three-class")
    assert parse("three-class:base=ssl,a=1.4,n=3") == ThreeClass(SSL(1.4), n=3)
    wanted = {"method": "three-class", "base": "ssl", "a": 1.4, "r": 1.4 / 1.5, "n": 1.5}
    assert ThreeClass(SSL(1.4)).as_dict() == wanted
    assert (ThreeClass(Cosine()).r, ThreeClass(Cosine()).n) == (0.98, 2.0)
    for base in (Linear(), Cosine(), SSL(3)):
        for method in (ThreeClass(Cosine()), pickle.loads(pickle.dumps(ThreeClass()))):
            assert replace(method, base=base) == ThreeClass(base)
            assert replace(replace(method, r=0.7), base=base) == ThreeClass(base, r=0.7)
        assert {type(value) for value in ThreeClass(base).as_dict().values()} == {str, float}
    labels = [method.label for method in ALL]
    assert len(set(labels)) == len(labels) and "SSL (a = 2.3)" in labels


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gumbel", "unknown method 'gumbel': use one of ste, .*ssl, three-class"),
        ({"method": ["ssl"]}, "unknown method"),
        (3, "string or as a dictionary"),
        ("ssl:b=1", "ssl has no parameter 'b': it takes a"),
        ("map:a=1", "map has no parameter 'a': it takes none"),
        ("ssl:a=1,a=2", "twice"),
        ("ssl:a", "SSL's a must be a finite number"),
        ("ssl:a=0", "greater than 0"),
        ("ssl:a=nan", "finite"),
        ("ssl:a=1e7", "at most 1e[+]06"),
        ({"method": "ssl", "a": True}, "not True"),
        ("quadratic:c=0", "the expected loss's c must be a finite number greater than 0"),
        ("quadratic:a=-1", "SSL's a"),
        ("quadratic:inner=0", "inner steps must be a whole number of at least 1"),
        ("three-class:r=1.01", "three-class r must be .* at most 1"),
        ("three-class:n=0", "three-class n must be"),
        ("three-class:base=atanh", "unknown base 'atanh': use one of linear, cosine, ssl"),
        ("three-class:base=linear,a=2", "three-class has no parameter 'a'"),
    ],
)
def test_wrong_specifications_name_the_choices(spec, message):
    with pytest.raises(UserError, match=message):
        parse(spec)


def test_wrong_calls():
    v = torch.zeros(3)
    with pytest.raises(UserError, match="needs a base among linear, cosine, ssl"):
        ThreeClass(Atanh())
    for tau in (0, -1, 1.5, math.nan, math.inf, "hot"):
        for method in (SSL(), ThreeClass(), DeterministicAnnealing()):
            with pytest.raises(UserError, match="temperature"):
                method.relax(v, tau, method.draw(v.shape))
    for method in (SSL(), ThreeClass(), UniformNoise()):
        for noise in (None, torch.rand(4)):
            with pytest.raises(UserError, match="draw"):
                method.relax(v, 1.0, noise)
