"""Differential entropy from neighbours, and the information made of three of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, gamma
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples, Unsupported
from ibtrace.estimators import KozachenkoLeonenko
from ibtrace.numerics.entropy_knn import (
    differential_entropy,
    nearest_distances,
    neighbour_weights,
)

LN2 = math.log(2)


def noise(n: int, d: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def naive_entropy(x: Tensor, k: int, weights: tuple[float, ...]) -> float:
    """The weighted mean of the k estimates, one sample and one neighbour at a time, in bits."""
    n, d = x.shape
    total = 0.0
    for point in x:
        distances = (x - point).square().sum(1).sqrt().sort().values[1 : k + 1]
        for j, (distance, weight) in enumerate(zip(distances, weights, strict=True), start=1):
            ball = math.pi ** (d / 2) / gamma(d / 2 + 1) * float(distance) ** d
            total += weight * (digamma(n) - digamma(j) + math.log(ball))
    return total / n / LN2


@pytest.mark.parametrize(("n", "d", "k"), [(5, 1, 4), (60, 3, 3), (60, 9, 12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_equals_its_naive_twin(n: int, d: int, k: int, weighted: bool) -> None:
    x = noise(n, d)
    weights = neighbour_weights(k, d) if weighted else (0.0,) * (k - 1) + (1.0,)
    found = float(differential_entropy(x, k, weighted=weighted))
    assert found == pytest.approx(naive_entropy(x, k, weights), abs=1e-9)


def test_trees_and_blocks_find_the_same_neighbours() -> None:
    x = noise(200, 6)
    wide = torch.cat([x, torch.zeros(200, 3, dtype=torch.float64)], 1)
    torch.testing.assert_close(nearest_distances(x, 4), nearest_distances(wide, 4))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_entropy_of_normals_and_of_the_uniform_law(d: int) -> None:
    mixing = torch.eye(d, dtype=torch.float64) + 0.3
    x = noise(2000, d) @ mixing
    truth = d / 2 * math.log2(2 * math.pi * math.e) + float(torch.linalg.slogdet(mixing)[1]) / LN2
    assert float(differential_entropy(x)) == pytest.approx(truth, abs=0.15)
    box = 4 * torch.rand(2000, d, generator=torch.Generator().manual_seed(0)).double()
    assert float(differential_entropy(box)) == pytest.approx(2 * d, abs=0.15)


def test_weights_take_the_bias_off_in_four_dimensions() -> None:
    x = noise(20 * 2000, 4).reshape(20, 2000, 4)
    truth = 2 * math.log2(2 * math.pi * math.e)
    plain = float(differential_entropy(x, 8).mean()) - truth
    weighted = float(differential_entropy(x, 8, weighted=True).mean()) - truth
    assert abs(weighted) < 0.5 * abs(plain)


@given(st.integers(1, 14), st.integers(0, 30))
@settings(max_examples=40)
def test_weights_meet_berretts_constraints(d: int, more: int) -> None:
    k = d + more
    weights = np.array(neighbour_weights(k, d))
    j = np.arange(1, k + 1)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    for power in range(1, d // 4 + 1):
        ratio = np.array([math.exp(math.lgamma(i + 2 * power / d) - math.lgamma(i)) for i in j])
        assert (weights * ratio).sum() == pytest.approx(0, abs=1e-6 * ratio.max())
    assert set(j[weights != 0]) <= {i * k // d for i in range(1, d + 1)}


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="in 8 dimensions need more than 2 neighbours, got k=2"):
        neighbour_weights(2, 8)
    with pytest.raises(ConfigError, match="beyond float64"):
        neighbour_weights(200, 200)
    x = noise(60, 6)
    with pytest.raises(ConfigError, match="raise k to 4 or more"):
        KozachenkoLeonenko(weighted=True)(x, x + noise(60, 6, seed=1))
    wide = noise(60, 9)
    unstable = KozachenkoLeonenko(20, weighted=True)(wide, wide[:, :5] + noise(60, 5, seed=1))
    assert bool(unstable.flags["unstable_weights"])


def test_entropy_batches_and_refuses_what_has_no_density() -> None:
    x = noise(40, 2).reshape(2, 20, 2)
    assert differential_entropy(x)[1] == differential_entropy(x[1])
    with pytest.raises(TooFewSamples, match=r"k=3\) needs at least 4 samples, got 3"):
        differential_entropy(x[0, :3])
    x[0, :5] = 1.0
    with pytest.raises(InvalidInput, match="samples repeat"):
        differential_entropy(x)


def scaled(x: Tensor) -> Tensor:
    """Over the median distance from the medians of the columns."""
    middle = torch.from_numpy(np.median(x.numpy(), 0))
    distances: Tensor = torch.linalg.vector_norm(x - middle, dim=1)
    median: Tensor = distances.sort().values[(len(x) - 1) // 2]
    return x / median


@pytest.mark.parametrize("weighted", [False, True])
def test_information_is_the_sum_of_three_entropies(weighted: bool) -> None:
    x, k = noise(100, 3), 12
    y = 50 * (x[:, :2] + noise(100, 2, seed=1))
    parts = [
        float(differential_entropy(v, k, weighted=weighted))
        for v in (scaled(x), scaled(y), torch.cat([scaled(x), scaled(y)], 1))
    ]
    found = KozachenkoLeonenko(k, weighted)(x, y)
    assert float(found.bits) == pytest.approx(parts[0] + parts[1] - parts[2], abs=1e-9)
    shifted = KozachenkoLeonenko(k, weighted)(1e-3 * x + 5, 7 * y)
    assert float(shifted.bits) == pytest.approx(float(found.bits), abs=1e-8)


def test_information_about_ids_is_entropy_less_that_within_classes() -> None:
    t = scaled(noise(90, 2))
    ids = (t[:, 0] > 0).long() + 3 * (t[:, 0] > 1)
    expected = float(differential_entropy(t))
    for one in (0, 1, 4):
        expected -= float((ids == one).double().mean() * differential_entropy(t[ids == one]))
    for pair in ((t, ids), (ids, t)):
        assert float(KozachenkoLeonenko()(*pair).bits) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.75, 0.968])
def test_information_of_normals(correlation: float) -> None:
    law = problems.BivariateNormal(max(correlation, 1e-6))
    estimate = KozachenkoLeonenko()(*law.sample(5000, seed=0))
    assert float(estimate.bits) == pytest.approx(law.bits, abs=0.1)
    assert abs(float(estimate.bits) - law.bits) < 4 * float(estimate.stderr)


def test_flags_say_what_was_done() -> None:
    estimator = KozachenkoLeonenko()
    x, y = noise(60, 2), noise(60, 1, seed=1)
    assert not any(bool(flag) for flag in estimator(x, y).flags.values())
    collinear = torch.cat([x, x.sum(1, keepdim=True)], 1)
    assert bool(estimator(collinear, y).flags["degenerate"])
    assert bool(estimator(x, x[:, :1]).flags["degenerate"])
    repeated = torch.cat([x[:50], x[:10]])
    tied = estimator(repeated, y, seed=1)
    assert bool(tied.flags["ties_jittered"])
    assert torch.equal(tied.bits, estimator(repeated, y, seed=1).bits)
    assert not torch.equal(tied.bits, estimator(repeated, y, seed=2).bits)
    with pytest.raises(InvalidInput, match="samples repeat, where there is no density"):
        KozachenkoLeonenko(jitter=0)(repeated, y)
    bits = (torch.arange(60)[:, None] >> torch.arange(6) & 1).double()
    for other in (y, torch.arange(60) % 3):
        assert bool(estimator(bits, other).flags["tied_radii"])
    ids = torch.arange(60) % 20
    ids[:2] = torch.tensor([77, 78])
    small = estimator(x, ids)
    assert bool(small.flags["small_classes"])
    assert float(small.diagnostics["dropped"]) == 2 / 60
    assert bool(estimator(torch.zeros(60, 1), y).flags["constant"])
    with pytest.raises(TooFewSamples, match="each of the 60 classes"):
        estimator(x, torch.arange(60))
    with pytest.raises(Unsupported, match="both ids"):
        estimator(ids, ids)
    with pytest.raises(ConfigError, match="weighted must be true or false"):
        KozachenkoLeonenko(weighted=1)  # type: ignore[arg-type]  # refused
