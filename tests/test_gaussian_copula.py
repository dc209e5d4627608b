"""GaussianCopula: naive twin, truths, invariance to monotone maps, degenerate covariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import norm, rankdata
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError, TooFewSamples, Unsupported
from ibtrace.estimators import GaussianCopula
from ibtrace.numerics.gaussian import copula_normal, shrunk_information
from ibtrace.probe import Probe
from ibtrace.problems import Problem
from ibtrace.types import Estimate


def noise(n: int, d: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def naive_scores(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    scores = np.stack([norm.ppf(rankdata(column) / (len(x) + 1)) for column in x.T.numpy()], 1)
    centred: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = scores - scores.mean(0)
    return centred


def naive_entropy(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]], bias: bool) -> float:
    """Of a normal law fitted to the scores, less d/2 log 2πe, in nats (Ince et al. 2017)."""
    n, d = scores.shape
    found = 0.5 * np.linalg.slogdet(np.atleast_2d(np.cov(scores.T)))[1]
    if bias:
        found -= sum(digamma((n - i) / 2) + math.log(2 / (n - 1)) for i in range(1, d + 1)) / 2
    return float(found)


def same(a: Estimate, b: Estimate, tolerance: float = 1e-9) -> None:
    for name in ("bits", "stderr"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("n", "dx", "dy"), [(12, 1, 1), (80, 2, 3), (80, 12, 1)])
@pytest.mark.parametrize("tied", [False, True])
def test_equals_its_naive_twin(bias: bool, n: int, dx: int, dy: int, tied: bool) -> None:
    x, y = noise(n, dx), noise(n, dy, seed=1)
    y = y + x[:, :1]
    if tied:
        x, y = x.relu(), (2 * y).round()
    a, b = naive_scores(x), naive_scores(y)
    joint = naive_entropy(np.hstack([a, b]), bias)
    expected = (naive_entropy(a, bias) + naive_entropy(b, bias) - joint) / math.log(2)
    estimate = GaussianCopula(bias)(x, y)
    assert float(estimate.bits) == pytest.approx(expected, abs=1e-9)
    assert bool(estimate.flags["ties"]) is tied


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("d", [1, 4])
def test_with_ids_equals_its_naive_twin(bias: bool, d: int) -> None:
    t = noise(90, d)
    ids = (t[:, 0] > 0).long() * 7 + (noise(90, seed=1)[:, 0] > 0)
    scores = naive_scores(t)
    expected = naive_entropy(scores, bias)
    for one in (0, 1, 7, 8):
        own = (ids == one).numpy()
        expected -= own.mean() * naive_entropy(scores[own], bias)
    for pair in ((t, ids), (ids, t)):
        found = float(GaussianCopula(bias)(*pair).bits)
        assert found == pytest.approx(expected / math.log(2), abs=1e-9)


LAWS: list[Problem] = [
    *(problems.BivariateNormal(r) for r in (0.3, 0.75, 0.968)),
    problems.SparseNormal(5, 5),
    problems.DenseNormal(25, 25),
    problems.HalfCube(problems.SparseNormal(5, 5)),
    problems.LinearGaussian(),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_is_within_a_tenth_of_a_bit_of_normals(law: Problem) -> None:
    estimate = GaussianCopula()(*law.sample(5000, seed=0))
    assert float(estimate.bits) == pytest.approx(law.bits, abs=0.1)
    assert abs(float(estimate.bits) - law.bits) < 4 * float(estimate.stderr)


def test_the_correction_takes_the_bias_off() -> None:
    x, y = (noise(50 * 60, 4, seed=s).reshape(60, 50, 4) for s in (0, 1))
    plain, corrected = (GaussianCopula(on)(x, y).bits for on in (False, True))
    error = float(corrected.std()) / 60**0.5
    assert abs(float(corrected.mean())) < 4 * error
    assert float(plain.mean()) > 10 * error
    assert bool((corrected < 0).any())


@given(st.integers(0, 99))
@settings(max_examples=20)
def test_order_swap_and_monotone_maps_do_not_matter(seed: int) -> None:
    x, y = noise(40, 2, seed=seed), noise(40, 3, seed=seed + 1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    expected = GaussianCopula()(x, y)
    same(GaussianCopula()(x[order], y[order]), expected)
    same(GaussianCopula()(y, x), expected)
    same(GaussianCopula()(x.exp(), -(y**3)), expected)


def test_equal_values_share_their_mean_rank() -> None:
    x = torch.tensor([[0.0], [2.0], [0.0], [1.0]])
    scores, shared = copula_normal(x)
    expected = norm.ppf(np.array([1.5, 4, 1.5, 3]) / 5)
    np.testing.assert_allclose(scores[:, 0].numpy(), expected - expected.mean(), atol=1e-12)
    assert shared[:, 0].tolist() == [2, 1, 2, 1]


def test_directions_without_variance_are_left_out_and_flagged() -> None:
    x, y = noise(60, 2), noise(60, seed=1)
    expected = GaussianCopula()(x, y)
    assert not bool(expected.flags["degenerate"])
    dead = torch.full((60, 1), 0.1, dtype=torch.float64)
    for wide in (torch.cat([x, dead], 1), torch.cat([x, 1 - x], 1)):
        estimate = GaussianCopula()(wide, y)
        same(estimate, expected, 1e-8)
        assert bool(estimate.flags["degenerate"])
        assert not bool(estimate.flags["shrunk"])
    for still in (dead, torch.zeros(60, dtype=torch.int64)):
        constant = GaussianCopula()(still, y)
        assert float(constant.bits) == 0
        assert bool(constant.flags["constant"])


def test_singular_joint_laws_are_shrunk_and_flagged() -> None:
    copied = []
    for n in (50, 200, 800):
        x = noise(n)
        estimate = GaussianCopula()(x, x**3)
        assert bool(estimate.flags["shrunk"])
        assert 0 < float(estimate.diagnostics["shrinkage"]) < 0.2
        copied.append(float(estimate.bits))
    assert copied == sorted(copied)
    assert copied[2] - copied[1] == pytest.approx(1, abs=0.2)
    wide = GaussianCopula()(noise(20, 15), noise(20, 15, seed=1))
    assert bool(wide.flags["shrunk"])
    assert abs(float(wide.bits)) < 3


def test_shrinkage_is_schaefer_and_strimmers() -> None:
    x, y = noise(30, 2), noise(30, 1, seed=1)
    x, y = x - x.mean(0), y - y.mean(0)
    z = torch.cat([x, y], 1)
    z = z / z.std(0, correction=0)
    variance, square = 0.0, 0.0
    for i in range(3):
        for j in range(3):
            products = z[:, i] * z[:, j]
            if i != j:
                variance += float(products.var(correction=0)) / 29
                square += float(products.mean()) ** 2
    strength = min(1.0, variance / square)
    found, shrinkage = shrunk_information(x, y)
    assert shrinkage == pytest.approx(strength, abs=1e-12)
    shrunk = (1 - strength) * z.T @ z / 30 + strength * torch.eye(3, dtype=torch.float64)
    nats = 0.5 * (shrunk[:2, :2].logdet() + shrunk[2:, 2:].logdet() - shrunk.logdet())
    assert float(found.nats) == pytest.approx(float(nats), abs=1e-12)


def test_classes_too_small_or_collapsed_are_shrunk_and_flagged() -> None:
    t, ids = noise(40, 3), torch.arange(40) % 2
    ids[:3] = torch.tensor([5, 6, 6])
    estimate = GaussianCopula()(t, ids)
    assert bool(estimate.flags["shrunk"])
    assert float(estimate.diagnostics["shrinkage"]) == pytest.approx(3 / 40)
    same(estimate, GaussianCopula(bias_correction=False)(t, ids), 0.0)
    collapsed = torch.where(ids[:, None] == 1, 0.3, t)
    estimate = GaussianCopula()(collapsed, ids)
    assert bool(torch.isfinite(estimate.bits))
    assert bool(estimate.flags["shrunk"])


def test_it_says_where_it_passes_the_entropy_of_the_ids() -> None:
    ids = torch.arange(80) % 4
    corners = torch.stack([ids // 2, ids % 2], 1) * 10.0
    along = noise(80)
    t = corners + along + 0.01 * noise(80, 2, seed=1)
    estimate = GaussianCopula()(t, ids)
    assert float(estimate.bits) > 2
    assert bool(estimate.flags["above_entropy"])
    assert not bool(GaussianCopula()(along, ids).flags["above_entropy"])


def test_plane_is_two_calls_and_batches_are_loops() -> None:
    x, t = noise(60, 4), torch.stack([noise(60, 3, seed=s).tanh() for s in (1, 2)])
    for labels in (torch.arange(60) % 3, t[0, :, :2]):
        probe = Probe(x, labels)
        for _ in range(2):
            about_x, about_y = GaussianCopula().plane(t, probe)
            same(about_x, GaussianCopula()(x, t), 0.0)
            same(about_y, GaussianCopula()(t, probe.labels), 0.0)
    same(about_x[1], GaussianCopula()(x, t[1]), 0.0)
    ids = torch.arange(60) % 5
    same(
        GaussianCopula().plane(ids, Probe(x, ids.double(), classes=0))[0],
        GaussianCopula()(x, ids),
        0.0,
    )


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(Unsupported, match="both ids"):
        GaussianCopula()(torch.arange(9), torch.arange(9))
    with pytest.raises(TooFewSamples, match="GaussianCopula needs at least 4 samples, got 3"):
        GaussianCopula()(noise(3), noise(3))
    with pytest.raises(ConfigError, match="bias_correction must be true or false"):
        GaussianCopula(bias_correction="yes")  # type: ignore[arg-type]  # refused
