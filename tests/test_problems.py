"""The truths are true: each law against an independent computation, samples and invariances."""

from __future__ import annotations

import math
import pickle
import random
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError, InvalidInput, UnknownName
from ibtrace.problems import (
    AdditiveUniform,
    Asinh,
    Bimodal,
    BinarySymmetric,
    BivariateNormal,
    DenseNormal,
    GammaExponential,
    GaussianChannel,
    HalfCube,
    Independent,
    LinearGaussian,
    NormalCDF,
    NormalMixture,
    NormalWithAtoms,
    Problem,
    QuantizedNetwork,
    SparseNormal,
    Spiral,
    StudentT,
    Swapped,
    SwissRoll,
    Table,
    UniformLabel,
    Wiggly,
    ZeroInflatedPoisson,
)
from ibtrace.problems.normal import normal_bits
from ibtrace.problems.quantized import Function
from ibtrace.problems.transforms import Transformed

LN2 = math.log(2)
EVERY = [pytest.param(problem, id=problem.name) for problem in problems.all_problems()]
every_problem = pytest.mark.parametrize("problem", EVERY)


# --- what holds for every law ----------------------------------------------------------------


@every_problem
def test_information_is_the_mean_log_ratio(problem: Problem) -> None:
    ratio = problem.log_ratio(*problem.sample(20_000, seed=1))
    assert ratio.shape == (20_000,)
    assert torch.isfinite(ratio).all()
    error = float(ratio.std()) / len(ratio) ** 0.5
    assert abs(float(ratio.mean()) - problem.bits) <= 4.5 * error + 1e-12


@every_problem
def test_density_ratio_is_normalised(problem: Problem) -> None:
    # Under independent draws p(x, y) / p(x) p(y) has mean 1; capping it leaves at most 1.
    x, y = problem.sample(20_000, seed=2)
    ratio = problem.log_ratio(x, y.roll(1, 0)).exp2()
    assert not torch.isnan(ratio).any()
    capped = ratio.clamp(max=100)
    error = float(capped.std()) / len(capped) ** 0.5
    assert float(capped.mean()) <= 1 + 4.5 * error
    if float(ratio.max()) < 100:
        assert float(ratio.mean()) >= 1 - 4.5 * error - 1e-12


@every_problem
def test_samples_have_the_form_promised(problem: Problem) -> None:
    x, y = problem.sample(50, seed=3)
    for value, kind, dim in zip((x, y), problem.kinds, problem.dims, strict=True):
        if kind == "discrete":
            assert (value.dtype, value.shape) == (torch.int64, (50,))
            assert int(value.min()) >= 0
        else:
            assert (value.dtype, value.shape) == (torch.float64, (50, dim))
    assert (problem.x_kind, problem.y_kind) == problem.kinds


@every_problem
def test_values_repeat_only_where_atoms_are_declared(problem: Problem) -> None:
    values = zip(problem.sample(400, seed=4), problem.kinds, strict=True)
    continuous = [value for value, kind in values if kind == "continuous"]
    repeated = any(len(value.unique(dim=0)) < len(value) for value in continuous)
    assert repeated == problem.mixed


@every_problem
def test_sampling_is_seeded_and_leaves_global_generators_alone(problem: Problem) -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()
    first, again, other = (problem.sample(40, seed=seed) for seed in (5, 5, 6))
    after = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
    assert torch.equal(before[0], after[0])
    np.testing.assert_equal(after[1], before[1])
    assert before[2] == after[2]


@every_problem
def test_a_law_is_a_value(problem: Problem) -> None:
    assert problems.make(problem.name) == problem
    assert hash(problems.make(problem.name)) == hash(problem)
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert problem.formula
    assert problem.source
    assert problem.bits >= 0


@every_problem
def test_an_impossible_number_of_samples_is_an_error(problem: Problem) -> None:
    with pytest.raises(InvalidInput, match=f"{problem.name}.*at least 1, got 0"):
        problem.sample(0)


# --- the truths, each by another way -----------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [BivariateNormal(0.6), DenseNormal(3, 2, 0.3), SparseNormal(4, 3), LinearGaussian()],
    ids=lambda problem: problem.name,
)
def test_normal_log_ratio_is_that_of_the_densities(problem: DenseNormal) -> None:
    sigma, m = problem.covariance(), problem.dims[0]
    x, y = problem.sample(200, seed=7)
    joint = stats.multivariate_normal(cov=sigma).logpdf(torch.cat([x, y], -1).numpy())
    of_x = stats.multivariate_normal(cov=sigma[:m, :m]).logpdf(x.numpy())
    of_y = stats.multivariate_normal(cov=sigma[m:, m:]).logpdf(y.numpy())
    expected = torch.from_numpy((joint - of_x - of_y) / LN2)
    torch.testing.assert_close(problem.log_ratio(x, y), expected)


@pytest.mark.parametrize("off_diagonal", [0.0, 0.4])
def test_student_log_ratio_is_that_of_the_densities(off_diagonal: float) -> None:
    problem = StudentT(2, 3, 3.0, off_diagonal)
    sigma = np.eye(5) * (1 - off_diagonal) + off_diagonal
    x, y = problem.sample(200, seed=8)
    joint = stats.multivariate_t(shape=sigma, df=3).logpdf(torch.cat([x, y], -1).numpy())
    of_x = stats.multivariate_t(shape=sigma[:2, :2], df=3).logpdf(x.numpy())
    of_y = stats.multivariate_t(shape=sigma[2:, 2:], df=3).logpdf(y.numpy())
    expected = torch.from_numpy((joint - of_x - of_y) / LN2)
    torch.testing.assert_close(problem.log_ratio(x, y), expected)


def test_student_is_nearly_normal_at_many_degrees_of_freedom() -> None:
    assert StudentT(2, 2, 1e6, 0.5).bits == pytest.approx(DenseNormal(2, 2, 0.5).bits, abs=1e-5)


@given(st.floats(0.01, 5))
def test_additive_uniform_is_h_of_y_minus_h_of_noise(noise: float) -> None:
    def density(y: float) -> float:
        return max(0.0, min(1.0, y + noise) - max(0.0, y - noise)) / (2 * noise)

    def integrand(y: float) -> float:
        p = density(y)
        return -p * math.log2(p) if p > 0 else 0.0

    kinks = [-noise, *sorted((noise, 1 - noise)), 1 + noise]
    pieces = (integrate.quad(integrand, a, b)[0] for a, b in pairwise(kinks))
    expected = sum(pieces) - math.log2(2 * noise)
    assert AdditiveUniform(noise).bits == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 7.5])
def test_gamma_exponential_by_quadrature(shape: float) -> None:
    # h(Y) of the Lomax marginal, minus h(Y|X) = E[1 − ln X].
    entropy = float(stats.lomax(shape).entropy())
    mean_log = integrate.quad(lambda t: t * stats.loggamma(shape).pdf(t), -60, 6, points=[0, 3])[0]
    expected = (entropy - (1 - mean_log)) / LN2
    assert GammaExponential(shape).bits == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("inflation", [0.0, 0.15, 0.6])
def test_zero_inflated_poisson_by_quadrature(inflation: float) -> None:
    counts = np.arange(80)

    marginal = inflation * (counts == 0) + (1 - inflation) * 0.5 ** (counts + 1)

    def integrand(x: float) -> float:
        p = inflation * (counts == 0) + (1 - inflation) * stats.poisson(x).pmf(counts)
        kept = p > 0
        return math.exp(-x) * float((p[kept] * np.log2(p[kept] / marginal[kept])).sum())

    nodes, weights = np.polynomial.legendre.leggauss(120)
    edges = np.array([0.0, 0.02, 0.5, 3, 10, 40])
    total = 0.0
    for a, b in pairwise(edges):
        values = [integrand(x) for x in (b - a) / 2 * nodes + (a + b) / 2]
        total += (b - a) / 2 * float(weights @ np.array(values))
    assert ZeroInflatedPoisson(inflation).bits == pytest.approx(total, abs=1e-8)


def test_zero_inflation_loses_more_than_the_published_formula_says() -> None:
    published = 0.85 * ZeroInflatedPoisson(0.0).bits
    assert ZeroInflatedPoisson(0.15).bits < published - 0.01


def hermite_channel_bits(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """Formula of FIELD's table, unit noise, by a product Gauss–Hermite rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    dim = points.shape[1]
    z = np.array(list(product(nodes, repeat=dim)))
    w = np.array([math.prod(ws) for ws in product(weights, repeat=dim)]) / (2 * math.pi) ** (
        dim / 2
    )
    total = 0.0
    for own in points:
        away = ((own - points[:, None, :] + z) ** 2).sum(-1)
        exponents = -(away - (z**2).sum(-1)) / 2
        total += float(w @ np.log(np.exp(exponents).sum(0)))
    return (math.log(len(points)) - total / len(points)) / LN2


@pytest.mark.parametrize(
    ("points", "noise_sd"),
    [
        (((-1.0,), (1.0,)), 1.0),
        (((-3.0,), (-1.0,), (1.0,), (3.0,)), 1.5),
        (((0.0, 0.0), (1.0, 0.0), (0.3, 1.2)), 0.8),
    ],
)
def test_gaussian_channel_by_gauss_hermite(
    points: tuple[tuple[float, ...], ...], noise_sd: float
) -> None:
    expected = hermite_channel_bits(np.array(points) / noise_sd)
    assert GaussianChannel(points, noise_sd).bits == pytest.approx(expected, abs=1e-8)


def test_gaussian_channel_of_independent_coordinates_adds_up() -> None:
    one = GaussianChannel(((-1.0,), (1.0,)), 0.7).bits
    square = tuple(product((-1.0, 1.0), repeat=2))
    assert GaussianChannel(square, 0.7).bits == pytest.approx(2 * one, abs=1e-8)


def test_gaussian_channel_does_not_depend_on_where_its_points_lie() -> None:
    flat = GaussianChannel(((0.0,), (2.0,), (5.0,))).bits
    direction = np.array([2.0, -1.0, 2.0]) / 3
    points = tuple(tuple(7 + t * direction) for t in (0.0, 2.0, 5.0))
    assert GaussianChannel(points).bits == pytest.approx(flat, abs=1e-8)
    assert GaussianChannel(((1.0, 2.0),)).bits == 0


def gauss_legendre_2d(problem: NormalMixture, cells: int) -> float:
    """∫∫ p log₂ (p / p_x p_y) with densities of scipy, by a composite Gauss–Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(-9, 9, cells + 1)
    half = (edges[1] - edges[0]) / 2
    t = (edges[:-1, None] + half * (1 + nodes)).ravel()
    w = np.tile(half * weights, cells)
    grid = np.stack(np.meshgrid(t, t, indexing="ij"), -1)
    p, p_x, p_y = np.zeros((len(t), len(t))), np.zeros(len(t)), np.zeros(len(t))
    parts = zip(
        problem.weights, problem.means, problem.variances, problem.correlations, strict=True
    )
    for weight, mean, (vx, vy), r in parts:
        shared = r * math.sqrt(vx * vy)
        cov = [[vx, shared], [shared, vy]]
        p += weight * stats.multivariate_normal(mean, cov).pdf(grid)
        p_x += weight * stats.norm(mean[0], math.sqrt(vx)).pdf(t)
        p_y += weight * stats.norm(mean[1], math.sqrt(vy)).pdf(t)
    apart = p_x[:, None] * p_y
    integrand = np.where(p > 1e-300, p * np.log2(np.maximum(p, 1e-300) / apart), 0)
    return float(w @ integrand @ w)


@pytest.mark.parametrize(
    "problem", [NormalMixture.cross(0.8), NormalMixture.inliers()], ids=lambda problem: problem.name
)
def test_mixture_by_gauss_legendre(problem: NormalMixture) -> None:
    assert problem.bits == pytest.approx(gauss_legendre_2d(problem, 48), abs=1e-8)


def test_mixture_of_one_component_is_the_normal() -> None:
    one = NormalMixture((1.0,), ((2.0, -1.0),), ((0.3, 4.0),), (0.8,))
    assert one.bits == pytest.approx(BivariateNormal(0.8).bits, abs=1e-9)


counts = st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=2, max_size=4)


@given(counts.filter(lambda rows: sum(map(sum, rows)) > 0))
def test_table_by_the_definition(counted: list[list[int]]) -> None:
    total = sum(map(sum, counted))
    rows = [[count / total for count in row] for row in counted]
    of_x = [sum(row) for row in rows]
    of_y = [sum(column) for column in zip(*rows, strict=True)]
    cells = product(range(len(of_x)), range(len(of_y)))
    expected = sum(
        rows[i][j] * math.log2(rows[i][j] / of_x[i] / of_y[j]) for i, j in cells if rows[i][j] > 0
    )
    table = Table(tuple(map(tuple, rows)))
    assert table.bits == pytest.approx(expected, abs=1e-9)


@given(st.floats(0, 1))
def test_binary_symmetric_equals_its_table(flip: float) -> None:
    channel = BinarySymmetric(flip)
    table = Table(tuple(tuple(row) for row in channel.table()))
    assert channel.bits == pytest.approx(table.bits, abs=1e-9)
    assert channel.bits == pytest.approx(BinarySymmetric(1 - flip).bits, abs=1e-9)


@pytest.mark.parametrize(
    ("problem", "nats"),
    [
        (QuantizedNetwork(12, "popcount"), 1.96752),
        (QuantizedNetwork(12, "parity"), LN2),
        (QuantizedNetwork(12, "kept", kept=5), 5 * LN2),
        (SparseNormal(25, 25), 1.02165),
        (DenseNormal(25, 25), 1.29218),
        (StudentT(1, 1, 1), 0.22417),
        (UniformLabel(5), 1.05492),
        (UniformLabel(5, copies=3), 3.16476),
        (BivariateNormal(0.9999), 4.25862),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_known_values(problem: Problem, nats: float) -> None:
    assert problem.bits * LN2 == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("function", ["popcount", "parity", "kept"])
def test_enumeration_gives_every_input_once(function: Function) -> None:
    problem = QuantizedNetwork(6, function)
    x, t = problem.enumerate()
    assert torch.equal(x.sort().values, torch.arange(64))
    expected = {
        "popcount": [bin(i).count("1") for i in range(64)],
        "parity": [bin(i).count("1") % 2 for i in range(64)],
        "kept": [int(f"{i:06b}"[:3], 2) for i in range(64)],
    }
    assert t.tolist() == expected[function]
    assert float(problem.log_ratio(x, t).mean()) == pytest.approx(problem.bits)


def test_atoms_and_normals_split_the_information() -> None:
    almost_atoms = NormalWithAtoms(correlation=0.0, agreement=1.0, atoms=0.5)
    assert almost_atoms.bits == pytest.approx(1 + 0.5)


def test_linear_gaussian_agrees_with_its_covariance() -> None:
    problem = LinearGaussian(((1.0, 2.0), (0.0, -1.0), (0.5, 0.5)), noise_sd=0.3)
    assert problem.bits == pytest.approx(normal_bits(problem.covariance(), 2))


# --- invariances -----------------------------------------------------------------------------

MAPS: list[Transformed] = [
    NormalCDF(SparseNormal()),
    Asinh(StudentT(3, 3, 1)),
    HalfCube(SparseNormal()),
    Wiggly(SparseNormal()),
    Bimodal(BivariateNormal()),
    Spiral(SparseNormal(), speed=2.0),
    SwissRoll(NormalCDF(BivariateNormal())),
]


@pytest.mark.parametrize("problem", MAPS, ids=lambda problem: problem.prefix)
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_transforms_are_one_to_one(problem: Transformed, seed: int) -> None:
    x, y = problem.base.sample(20, seed)
    torch.testing.assert_close(problem.f_inverse(problem.f(x)), x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(problem.g_inverse(problem.g(y)), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("problem", MAPS, ids=lambda problem: problem.prefix)
def test_transforms_leave_information_alone(problem: Transformed) -> None:
    assert problem.bits == problem.base.bits
    x, y = problem.base.sample(20, seed=9)
    expected = problem.base.log_ratio(x, y)
    found = problem.log_ratio(*problem.sample(20, seed=9))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_transforms_leave_their_argument_alone() -> None:
    for problem in MAPS:
        x, y = problem.base.sample(20, seed=9)
        kept = x.clone(), y.clone()
        problem.f(x), problem.g(y), problem.f_inverse(problem.f(x)), problem.g_inverse(problem.g(y))
        assert torch.equal(x, kept[0])
        assert torch.equal(y, kept[1])


def test_spiral_keeps_norms_and_turns_by_the_squared_norm() -> None:
    spiral = Spiral(SparseNormal(2, 3), speed=math.pi)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    expected = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [2.0, 0.0]])
    torch.testing.assert_close(spiral.f(x), expected, atol=1e-6, rtol=0)


def test_transforms_have_the_marginals_they_promise() -> None:
    x, y = NormalCDF(BivariateNormal()).sample(5000, seed=1)
    assert stats.kstest(x[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(y[:, 0].numpy(), "uniform").pvalue > 1e-3
    x, _ = Bimodal(BivariateNormal()).sample(5000, seed=1)
    # a lambda, to be read beside what it is compared with
    modes = lambda t: 0.3 * stats.norm.cdf(t) + 0.7 * stats.norm.cdf(t - 5)  # noqa: E731
    assert stats.kstest(x[:, 0].numpy(), modes).pvalue > 1e-3


@given(st.sampled_from([p for p in problems.all_problems() if p.name != "1v1-AI"]))
@settings(max_examples=20)
def test_swapping_changes_nothing_but_the_order(problem: Problem) -> None:
    swapped = Swapped(problem)
    x, y = problem.sample(10, seed=3)
    y_first, x_second = swapped.sample(10, seed=3)
    assert torch.equal(x, x_second)
    assert torch.equal(y, y_first)
    assert swapped.bits == problem.bits
    assert swapped.kinds == problem.kinds[::-1]
    assert swapped.dims == problem.dims[::-1]
    assert torch.equal(swapped.log_ratio(y, x), problem.log_ratio(x, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ratio_takes_both_float_types(dtype: torch.dtype) -> None:
    for problem in problems.suite("small").values():
        x, y = problem.sample(10, seed=3)
        cast: list[Tensor] = [v.to(dtype) if v.is_floating_point() else v for v in (x, y)]
        if not problem.mixed:
            found = problem.log_ratio(cast[0], cast[1]).double()
            torch.testing.assert_close(found, problem.log_ratio(x, y), rtol=1e-2, atol=1e-2)


# --- the registry ------------------------------------------------------------------------------


def test_names_are_unique_and_every_family_is_made_by_name() -> None:
    ready = problems.all_problems()
    assert len({problem.name for problem in ready}) == len(ready)
    assert len(set(problems.names())) == len(problems.names())
    for name, family in problems.registry.items():
        if name != "swapped":
            assert isinstance(problems.make(name), family)


def test_fields_change_families_and_ready_problems() -> None:
    assert problems.make("student", dof=5) == StudentT(2, 2, 5)
    assert problems.make("1v1-normal-0.75", correlation=0.1) == BivariateNormal(0.1)


# The truths in nats as benchmark-mi 0.1.3 itself gives them (with jax 0.4.30, in float32).
BENCHMARK_MI = {
    "1v1-normal-0.75": 0.4133393,
    "normal_cdf-1v1-normal-0.75": 0.4133393,
    "1v1-additive-0.1": 1.7094380,
    "1v1-additive-0.75": 0.3333333,
    "1v1-bimodal-0.75": 0.4133393,
    "wiggly-1v1-normal-0.75": 0.4133393,
    "half_cube-1v1-normal-0.75": 0.4133393,
    "student-identity-1-1-1": 0.2241714,
    "asinh-student-identity-1-1-1": 0.2241714,
    "swissroll_x-normal_cdf-1v1-normal-0.75": 0.4133393,
    "multinormal-dense-2-2-0.5": 0.2938933,
    "multinormal-dense-3-3-0.5": 0.4133393,
    "multinormal-dense-5-5-0.5": 0.5928118,
    "multinormal-dense-25-25-0.5": 1.2921837,
    "multinormal-dense-50-50-0.5": 1.6242654,
    "multinormal-sparse-2-2-2-2.0": 1.0216512,
    "multinormal-sparse-3-3-2-2.0": 1.0216512,
    "multinormal-sparse-5-5-2-2.0": 1.0216512,
    "multinormal-sparse-25-25-2-2.0": 1.0216512,
    "student-identity-2-2-1": 0.4319456,
    "student-identity-2-2-2": 0.1931472,
    "student-identity-3-3-2": 0.2909219,
    "student-identity-3-3-3": 0.1787119,
    "student-identity-5-5-2": 0.4481507,
    "student-identity-5-5-3": 0.2985436,
    "normal_cdf-multinormal-sparse-3-3-2-2.0": 1.0216512,
    "normal_cdf-multinormal-sparse-5-5-2-2.0": 1.0216512,
    "normal_cdf-multinormal-sparse-25-25-2-2.0": 1.0216512,
    "half_cube-multinormal-sparse-3-3-2-2.0": 1.0216512,
    "half_cube-multinormal-sparse-5-5-2-2.0": 1.0216512,
    "half_cube-multinormal-sparse-25-25-2-2.0": 1.0216512,
    "spiral-multinormal-sparse-3-3-2-2.0": 1.0216512,
    "spiral-multinormal-sparse-5-5-2-2.0": 1.0216512,
    "spiral-multinormal-sparse-25-25-2-2.0": 1.0216512,
    "spiral-normal_cdf-multinormal-sparse-3-3-2-2.0": 1.0216512,
    "spiral-normal_cdf-multinormal-sparse-5-5-2-2.0": 1.0216512,
    "spiral-normal_cdf-multinormal-sparse-25-25-2-2.0": 1.0216512,
    "asinh-student-identity-2-2-1": 0.4319456,
    "asinh-student-identity-3-3-2": 0.2909219,
    "asinh-student-identity-5-5-2": 0.4481507,
}


def test_beyond_normal_agrees_with_the_published_benchmark() -> None:
    restated = problems.suite("beyond-normal")
    assert set(restated) == set(BENCHMARK_MI)
    for name, nats in BENCHMARK_MI.items():
        assert restated[name].bits * LN2 == pytest.approx(nats, abs=2e-7)


def test_unknown_names_list_those_that_exist() -> None:
    with pytest.raises(UnknownName, match=r"'gauss'.*bivariate_normal.*1v1-normal-0\.75"):
        problems.make("gauss")
    with pytest.raises(UnknownName, match=r"'tiny'.*beyond-normal"):
        problems.suite("tiny")
    with pytest.raises(ConfigError, match="no field rho; it has correlation"):
        problems.make("bivariate_normal", rho=0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BivariateNormal(1.0), "correlation must lie in"),
        (lambda: DenseNormal(2, 2, -0.5), "off_diagonal must lie in"),
        (lambda: SparseNormal(2, 3, pairs=3), "pairs must lie between 1 and 2"),
        (lambda: LinearGaussian(((1.0,), (1.0, 2.0))), "equal length"),
        (lambda: StudentT(dof=0), "dof must be positive"),
        (lambda: AdditiveUniform(0), "noise must be positive"),
        (lambda: GammaExponential(-1), "shape must be positive"),
        (lambda: NormalMixture(weights=(0.5, 0.6)), "weights must sum to 1"),
        (lambda: UniformLabel(0), "labels must be at least 1"),
        (lambda: ZeroInflatedPoisson(1.0), "inflation must lie in"),
        (lambda: NormalWithAtoms(atoms=0), "atoms must lie in"),
        (lambda: Table(((0.5, 0.4),)), "must sum to 1"),
        (lambda: BinarySymmetric(1.1), "flip must lie in"),
        (lambda: GaussianChannel(((1.0,), (1.0, 2.0))), "must share a dimension above 0"),
        (lambda: GaussianChannel(tuple(map(tuple, np.eye(5)))), "at most 3 dimensions, got 4"),
        # mypy: refused
        (lambda: QuantizedNetwork(function="sum"), "one of popcount, parity, kept"),  # type: ignore[arg-type]
        (lambda: Independent(x="both"), "among continuous, discrete, mixed"),  # type: ignore[arg-type]
        (lambda: Asinh(Table()), "must have continuous X and Y"),
        (lambda: Spiral(BivariateNormal()), "dim_x >= 2 and dim_y >= 3, got 1 and 1"),
        (lambda: SwissRoll(SparseNormal()), "one-dimensional X"),
        (lambda: Bimodal(SparseNormal()), "base must be a BivariateNormal"),
    ],
)
def test_impossible_fields_are_one_clear_error(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()
