"""The bottleneck curve against closed forms, a linear programme, and what every curve obeys."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

import ibtrace
from ibtrace.bounds import BottleneckCurve, bottleneck, gaussian_bottleneck
from ibtrace.bounds._anneal import Point, Search, annealed, missed
from ibtrace.bounds._law import reduced
from ibtrace.errors import ConfigError, InvalidInput, NonFinite, TooLarge

Floats = NDArray[np.float64]
SYMMETRIC = [[0.45, 0.05], [0.05, 0.45]]
CLOSE = 1e-6  # bits


def entropy(p: Floats) -> Floats:
    """Of the laws in the last axis, in bits."""
    return np.asarray(-(p * np.log2(np.where(p > 0, p, 1))).sum(-1), dtype=np.float64)


def binary(a: Floats) -> Floats:
    return entropy(np.stack([a, 1 - a], -1))


def random_law(x: int, y: int, seed: int, concentration: float = 0.5) -> Floats:
    draws = np.random.default_rng(seed).dirichlet(np.full(x * y, concentration))
    return np.asarray(draws.reshape(x, y), dtype=np.float64)


def test_a_binary_symmetric_source_is_its_closed_form() -> None:
    """Witsenhausen & Wyner 1975: 1 - h(a ∗ p) at 1 - h(a)."""
    a = np.linspace(0, 0.5, 501)
    for p in (0.02, 0.1, 0.3):
        law = np.array([[1 - p, p], [p, 1 - p]]) / 2
        curve = bottleneck(law)
        through = a * (1 - p) + (1 - a) * p
        np.testing.assert_allclose(curve.at(1 - binary(a)), 1 - binary(through), atol=CLOSE)
        assert curve.i_xy == pytest.approx(1 - binary(np.array(p)), abs=1e-12)
        assert (curve.h_x, curve.h_y) == pytest.approx((1, 1))
        assert curve.check is not None
        assert curve.check.passed


def test_points_at_given_betas_are_those_of_the_literature() -> None:
    """An independent implementation's numbers for X uniform, flipped with 0.1."""
    curve = bottleneck(SYMMETRIC, betas=[5, 2, 3])
    assert curve.betas.tolist() == [1, 2, 3, 5, math.inf]
    np.testing.assert_allclose(curve.i_xt[1:4], [0.696433, 0.948951, 0.997837], atol=CLOSE)
    np.testing.assert_allclose(curve.i_ty[1:4], [0.407234, 0.516595, 0.530616], atol=CLOSE)


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1, 2, 2, 2], [3, 3, 3]])
def test_a_y_that_x_decides_has_a_line(labels: list[int]) -> None:
    law = np.zeros((len(labels), 4))
    law[range(len(labels)), labels] = np.arange(1, len(labels) + 1)
    curve = bottleneck(law / law.sum())
    bits = np.linspace(0, curve.h_x, 101)
    np.testing.assert_allclose(curve.at(bits), np.minimum(bits, curve.h_y), atol=CLOSE)


def test_of_independent_variables_nothing_is_told() -> None:
    law = np.outer([0.2, 0.3, 0.5], [0.6, 0.4])
    curve = bottleneck(law)
    np.testing.assert_allclose(curve.at(np.linspace(0, 2, 9)), 0, atol=CLOSE)
    assert curve.i_xy == pytest.approx(0, abs=1e-12)


def test_an_erasure_is_a_line() -> None:
    """Y is X, or lost with 0.4: D(y|x ‖ y) is 0.6 of that of X, and so is I(T;Y) of I(X;T)."""
    kept, x = 0.6, np.array([0.7, 0.2, 0.1])
    law = np.concatenate([kept * np.diag(x), (1 - kept) * x[:, None]], 1)
    curve = bottleneck(law)
    bits = np.linspace(0, curve.h_x, 31)
    np.testing.assert_allclose(curve.at(bits), kept * bits, atol=CLOSE)


def best_objective(law: Floats, beta: float, cells: int) -> float:
    """The largest I(T;Y) - I(X;T)/β, as a linear programme: which p(x|t) of a grid, how often.

    The grid has ``cells`` steps; its best is at most the truth, and of two x within a millionth.
    """
    p_x = law.sum(1)
    if len(p_x) == 2:  # finest where entropies are steepest
        first = np.r_[0, 1 / (1 + np.exp(np.linspace(-25, 25, cells))), 1, p_x[0]]
        q = np.stack([first, 1 - first], -1)
    else:
        some = itertools.product(range(cells + 1), repeat=len(p_x) - 1)
        q = np.array([[*each, cells - sum(each)] for each in some if sum(each) <= cells]) / cells
    told = entropy(q) / beta - entropy(q @ (law / p_x[:, None]))
    found = linprog(-told, A_eq=q.T, b_eq=p_x, method="highs")
    assert found.fun is not None
    return float(-found.fun + entropy(law.sum(0)) - entropy(p_x) / beta)


def objective(curve: BottleneckCurve, beta: float) -> float:
    """The same of the curve as it is drawn."""
    bits = np.r_[curve.i_xt, np.linspace(0, curve.i_xt.max(), 2001)]
    return float((curve.at(bits) - bits / beta).max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("x", "cells", "slack"), [(2, 8000, 3e-6), (3, 100, 2e-3)])
def test_no_other_t_does_better(x: int, cells: int, slack: float, seed: int) -> None:
    law = random_law(x, 3, seed)
    curve = bottleneck(law)
    assert curve.check is not None
    assert curve.check.passed
    assert (np.diff(curve.betas) >= 0).all()
    for beta in np.quantile(curve.betas[:-1], [0.1, 0.5, 0.7]):
        best = best_objective(law, float(beta), cells)
        assert best - CLOSE <= objective(curve, float(beta)) <= best + slack


def test_a_leap_from_the_origin_is_seen() -> None:
    """One rare x tells much: the curve leaves the origin with more than ρ², and T leaps."""
    law = np.array([[0.0, 0.02], [0.53, 0.45]])
    near = np.array([[0.5 * 0.98, 0.0, 0.5 * 0.02], [0.02 * 0.5, 0.49, 0.0]])
    for p in (law / law.sum(), near / near.sum()):
        curve = bottleneck(p)
        for beta in (1.05, 1.2, 1.5, 2.5, 4.0):
            assert objective(curve, beta) == pytest.approx(best_objective(p, beta, 8000), abs=3e-6)


def test_the_gaussian_bottleneck_is_its_closed_form() -> None:
    """One dimension: I(T;Y) = -½ log₂(1 - ρ² + ρ² 4^-I(X;T))."""
    for rho in (0.2, 0.8, 0.99):
        curve = gaussian_bottleneck(torch.tensor([[4.0, 2 * rho], [2 * rho, 1.0]]), 1)
        bits = np.linspace(0, 12, 997)
        told = -np.log2(1 - rho**2 + rho**2 * 4**-bits) / 2
        np.testing.assert_allclose(curve.at(bits), told, atol=CLOSE)
        assert curve.i_xy == pytest.approx(-math.log2(1 - rho**2) / 2, abs=1e-6)
        assert curve.at(1e6) == pytest.approx(curve.i_xy, abs=1e-8)


def test_gaussian_dimensions_share_the_bits_as_water_does() -> None:
    """Independent pairs: the best split of I(X;T) between them, by trying splits."""
    rho = np.array([0.95, 0.6])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    covariance = np.eye(4)
    covariance[:2, 2:] = turn @ np.diag(rho)
    covariance[2:, :2] = covariance[:2, 2:].T
    curve = gaussian_bottleneck(covariance, 2)
    for bits in (0.3, 1.0, 2.0, 3.5):
        first = np.linspace(0, bits, 100_001)
        parts = np.stack([first, bits - first])
        square = rho[:, None] ** 2
        told = -np.log2(1 - square + square * 4**-parts).sum(0) / 2
        assert curve.at(bits) == pytest.approx(told.max(), abs=CLOSE)
    assert gaussian_bottleneck(np.eye(3), 1).at(1.0) == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 10**6))
@example(5, 2, 184273)  # a point that the search missed: its tangent is flatter than the chord
def test_what_every_curve_obeys(x: int, y: int, seed: int) -> None:
    law = random_law(x, y, seed)
    curve = bottleneck(law, tolerance=1e-4, restarts=2)
    bits = np.linspace(0, curve.h_x, 301)
    told = curve.at(bits)
    assert told[0] == pytest.approx(0, abs=1e-9)
    assert told[-1] == pytest.approx(curve.i_xy, abs=1e-9)
    assert (np.diff(told) >= -1e-9).all()  # monotone
    assert (np.diff(told, 2) <= 1e-9).all()  # concave
    assert (told <= np.minimum(bits, curve.i_xy) + 1e-9).all()
    assert (curve.at(curve.i_xt) >= curve.i_ty - 1e-9).all()
    assert curve.i_xy == pytest.approx(
        entropy(law.sum(1)) + entropy(law.sum(0)) - entropy(law.ravel()), abs=1e-9
    )
    assert curve.gap < 0.05


def test_names_and_values_that_do_not_occur_change_nothing() -> None:
    law = random_law(5, 3, 1, 2.0)
    rng = np.random.default_rng(0)
    wider = np.zeros((7, 5))
    wider[np.ix_(rng.permutation(7)[:5], rng.permutation(5)[:3])] = law
    split = np.concatenate([law[:4], law[4:] * 0.3, law[4:] * 0.7])  # two x of one p(y|x)
    curve, bits = bottleneck(law, tolerance=1e-5), np.linspace(0, 2, 101)
    for other in (law[::-1, ::-1], wider, split, law.tolist(), torch.tensor(law)):
        np.testing.assert_allclose(
            bottleneck(other, tolerance=1e-5).at(bits), curve.at(bits), atol=3e-5
        )
    assert bottleneck(split, betas=[2.0]).h_x > curve.h_x  # H(X) is that of X as it was given


def test_ids_give_the_law_of_the_samples_and_say_so() -> None:
    x = np.repeat([7, 7, -2, -2], [9, 1, 1, 9])
    y = torch.tensor([1] * 9 + [0] + [1] + [0] * 9)
    curve = bottleneck(x=x, y=y)
    known = bottleneck(SYMMETRIC)
    assert curve.at(0.5) == pytest.approx(known.at(0.5), abs=1e-9)
    assert curve.samples == (20, 2, 2, 4)
    assert curve.uncertain
    assert known.samples is None
    assert not known.uncertain
    assert "An estimate, of the law of N = 20 samples: 2 values of X, 2 of Y" in str(curve)
    assert "estimate" not in str(known)
    assert bottleneck(x=[True, False], y=[5, 5]).at(1.0) == 0


def test_the_plugged_in_bias_is_that_of_independent_samples() -> None:
    rng = np.random.default_rng(0)
    curves = [
        bottleneck(x=rng.integers(0, 4, 500), y=rng.integers(0, 3, 500), betas=[2.0])
        for _ in range(100)
    ]
    assert curves[0].samples is not None
    mean = np.mean([curve.i_xy for curve in curves])
    assert curves[0].samples.bias == pytest.approx(mean, rel=0.25)


def test_points_are_below_on_or_above_the_curve() -> None:
    curve = bottleneck(SYMMETRIC)
    on = curve.at(0.5)
    assert curve.distance(0.5, 0.2) == pytest.approx(on - 0.2)
    assert not curve.impossible(0.5, on)
    assert curve.impossible(0.5, on + 0.002)
    assert not curve.impossible(0.5, on + 0.002, margin=0.01)
    assert curve.impossible(0.2, 0.2)
    assert curve.impossible(1.1, 0.1)
    assert curve.impossible(0.5, -0.1)
    assert curve.impossible(-0.1, 0.0)
    assert math.isnan(curve.at(-0.1))
    assert not curve.impossible(math.nan, 0.9)
    assert math.isnan(curve.distance(math.nan, 0.1))
    x, y = np.array([0.5, 0.5, 2.0]), np.array([on, 0.5, 0.1])
    assert curve.impossible(x, y).tolist() == [False, True, True]
    assert curve.distance(x, y).shape == (3,)
    gaussian = gaussian_bottleneck([[1, 0.8], [0.8, 1]], 1)
    assert not gaussian.impossible(50.0, 0.5)
    assert gaussian.impossible(50.0, 0.8)


def test_a_point_that_the_search_missed_does_not_bend_the_curve() -> None:
    """The envelope: of points (0, 0), (1, 0.1), (2, 1) the middle one was a local maximum."""
    betas, x, y = np.array([1, 2, math.inf]), np.array([0.0, 1, 2]), np.array([0, 0.1, 1.0])
    curve = BottleneckCurve(betas, x, y, 2.0, 1.0, 1.0)
    assert curve.at(1.0) >= 0.5
    assert curve.gap == pytest.approx(0.5)


def ring(n: int = 12) -> Floats:
    """X on a ring, Y beside it: no grouping of X is better than its rotations."""
    steps = np.abs(np.arange(n)[:, None] - np.arange(n))
    law = np.exp(-(np.minimum(steps, n - steps) ** 2) / 2)
    return np.asarray(law / law.sum(), dtype=np.float64)


def random_starts(restarts: int, beta: float) -> float:
    """The best I(T;Y) - I(X;T)/β on the ring without annealing."""
    search = Search(reduced(ring()), 12, restarts=restarts, steps=3000, seed=0)
    return search.at(beta, []).objective(beta)


def test_annealing_finds_what_random_starts_miss() -> None:
    betas = [1.1, 1.3, 1.6, 2.0, 3.0, 5.0]
    points = annealed(Search(reduced(ring()), 12, restarts=1, steps=3000, seed=0), betas)
    assert [point.beta for point in points] == betas
    assert points[-1].objective(5.0) > random_starts(16, 5.0) + 5e-4


def test_more_restarts_find_no_less() -> None:
    found = [random_starts(restarts, 5.0) for restarts in (1, 4, 16)]
    assert found == sorted(found)
    assert found[2] > found[0] + 5e-4


def test_the_check_says_where_the_search_is_not_sure() -> None:
    law = ring()
    few = bottleneck(law, values=2, betas=[2.0, 5.0])
    assert few.check is not None
    assert not few.check.passed
    assert few.uncertain
    assert "T has 2 values, and 12 different p(y|x)" in str(few)
    full = bottleneck(law, betas=[2.0, 5.0], restarts=8)
    assert full.check is not None
    assert full.check.passed
    assert (full.check.values, full.check.needed, full.check.starts) == (12, 12, 8)
    assert full.at(1.0) >= few.at(1.0) - 1e-9


def test_a_beta_at_which_another_point_does_better_is_told() -> None:
    at = [
        Point(beta, x, y, torch.zeros(1, 1)) for beta, x, y in [(3, 0, 0), (4, 1, 0.1), (9, 2, 1)]
    ]
    assert missed(at) == (3, 4)
    assert missed([at[0], at[2]]) == (3,)
    assert missed([at[0]._replace(beta=1.5), at[2]]) == ()


def test_the_readable_form() -> None:
    said = str(bottleneck(SYMMETRIC))
    assert "I(X;Y) = 0.531, H(X) = 1, H(Y) = 1 bits" in said
    assert "random starts each" in said
    assert "A closed form." in str(gaussian_bottleneck([[1, 0.5], [0.5, 1]], 1))
    assert ibtrace.bottleneck is bottleneck


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ([[0.5, 0.6], [-0.1, 0.0]], "1 negative values, down to -0.1"),
        ([[5, 1], [1, 5]], r"sums to 12, not to 1; of counts, give p_xy / p_xy.sum\(\)"),
        ([0.5, 0.5], r"must be a table .* got shape \(2,\)"),
        (np.zeros((0, 2)), r"must be a table .* got shape \(0, 2\)"),
        ([["a", "b"]], "must be a table"),
        ([[1.0], [0.5, 0.5]], "cannot be read as an array"),
    ],
)
def test_what_is_no_law_is_refused(law: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        bottleneck(law)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFinite, match="p_xy has 1 NaN or infinite values"):
        bottleneck([[math.nan, 0.5], [0.25, 0.25]])
    with pytest.raises(NonFinite, match="covariance has NaN"):
        gaussian_bottleneck([[math.nan, 0.5], [0.25, 0.25]], 1)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(3), [0, 1, 1], "x must be ids, integers, got float32"),
        ([0, 1, 1], np.zeros(3), "y must be ids, integers, got float64"),
        ([0, 1], [0, 1, 1], "x has 2 samples and y 3"),
        ([[0, 1]], [[0, 1]], r"got shape \(1, 2\)"),
        (np.zeros(0, int), np.zeros(0, int), r"got shape \(0,\)"),
    ],
)
def test_what_are_no_ids_is_refused(x: object, y: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        bottleneck(x=x, y=y)


def test_impossible_arguments_are_refused() -> None:
    for given_ids in ({}, {"x": [0]}, {"p_xy": SYMMETRIC, "x": [0], "y": [0]}):
        with pytest.raises(ConfigError, match="takes either a law or samples"):
            bottleneck(**given_ids)
    with pytest.raises(ConfigError, match="betas: each must be a number above 0"):
        bottleneck(SYMMETRIC, betas=[2, -1])
    with pytest.raises(ConfigError, match="betas must be one number or more"):
        bottleneck(SYMMETRIC, betas=[])
    with pytest.raises(ConfigError, match="restarts must be at least 1"):
        bottleneck(SYMMETRIC, restarts=0)
    with pytest.raises(ConfigError, match="tolerance must be a number above 0"):
        bottleneck(SYMMETRIC, tolerance=0)
    with pytest.raises(TooLarge, match="coarser ids"):
        bottleneck(x=np.arange(12_000), y=np.arange(12_000))


@pytest.mark.parametrize(
    ("covariance", "dx", "said"),
    [
        ([[1, 0.5]], 1, "must be a square matrix"),
        ([[1, 0.5], [0.2, 1]], 1, "must be symmetric"),
        ([[1, 0], [0, 0]], 1, "covariance of Y is singular"),
        ([[1, 1], [1, 1]], 1, "decides a direction of the other"),
        ([[1, 0.5], [0.5, 1]], 2, "dx must be at most 1"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: object, dx: int, said: str) -> None:
    with pytest.raises(ibtrace.IbtraceError, match=said):
        gaussian_bottleneck(covariance, dx)
