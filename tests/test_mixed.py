"""MixedKSG and scikit-learn's peer: naive twins, truths, atoms, ids, ties and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError, TooFewSamples, Unsupported
from ibtrace.estimators import KSG, MixedKSG, Ross, SklearnMI
from ibtrace.numerics.distances import Norm
from ibtrace.probe import Probe
from ibtrace.problems import Problem
from ibtrace.types import Estimate

NORMS: list[Norm] = ["euclidean", "max"]


def noise(n: int, d: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def gaps(values: Tensor, norm: Norm, k: int, atoms: str) -> np.ndarray[Any, Any]:
    """Distances of ids (0 or infinite) or rows; atoms apart if asked for."""
    if not values.is_floating_point():
        return np.where((values[:, None] == values[None]).numpy(), 0.0, np.inf)
    difference = (values[:, None] - values[None]).numpy()
    order = 2 if norm == "euclidean" else np.inf
    found: np.ndarray[Any, Any] = np.linalg.norm(difference, axis=-1, ord=order)
    if atoms == "apart":
        occurs = np.unique(values.numpy(), axis=0, return_counts=True)[1]
        atomic = (found == 0).sum(1) > k
        apart = (atomic[:, None] | atomic[None]) & (found != 0)
        if np.mean(occurs > 1) <= 0.5:  # else a lattice
            found = np.where(apart, np.inf, found)
    return found


def naive(x: Tensor, y: Tensor, k: int, norm: Norm, atoms: str) -> float:
    """Gao et al.'s sum, one sample at a time, in bits."""
    if x.is_floating_point() != y.is_floating_point():
        ids = y if x.is_floating_point() else x
        keep = torch.bincount(ids)[ids] > 1
        x, y = x[keep], y[keep]
    dx, dy = gaps(x, norm, k, atoms), gaps(y, norm, k, atoms)
    n, total = len(x), 0.0
    tied = np.mean([is_tied(np.delete(np.maximum(dx[i], dy[i]), i), k) for i in range(n)])
    farther = 1 + 1e-9 if tied > 0.1 else 1.0
    for i in range(n):
        for first, second in ((dx[i] * farther, dy[i]), (dx[i], dy[i] * farther)):
            total += ball(first, second, i, k) / 2
    return float(total / n + math.log(n)) / math.log(2)


def is_tied(joint: np.ndarray[Any, Any], k: int) -> bool:
    nearest = np.sort(joint)[:k]
    radius = nearest[np.isfinite(nearest)].max(initial=0)
    return bool(radius > 0 and (np.abs(joint - radius) < 1e-11 * radius).sum() > 1)


def ball(dx: np.ndarray[Any, Any], dy: np.ndarray[Any, Any], i: int, k: int) -> float:
    """What one sample's open ball counts, x or y a little farther so that they do not tie."""
    joint = np.maximum(dx, dy)
    others = np.sort(np.delete(joint, i))[:k]
    others = others[np.isfinite(others)]
    radius = others[-1] if len(others) else 0.0
    inside = radius * (1 - 1e-11) if radius else 1e-300
    counts = [(distances < inside).sum() for distances in (joint, dx, dy)]
    return float(digamma(counts[0]) - digamma(counts[1]) - digamma(counts[2]))


def draws(n: int) -> dict[str, tuple[Tensor, Tensor]]:
    x, y = noise(n, 2), noise(n, 3, seed=1)
    y = y + x[:, :1]
    ids = (2 * x[:, 0]).round().long() + 9
    return {
        "floats": (x, y),
        "wide floats": (noise(n, 9), noise(n, 6, seed=2)),
        "ids and floats": (ids, y),
        "floats and ids": (y, ids),
        "ids": (ids, y[:, 0].round().long() + 9),
        "relu": (x, x.relu()),
        "lattice": ((3 * x).round(), (2 * y[:, :1]).round()),
        "atoms": (torch.where(x[:, :1] > 0.5, 1.0, x), torch.where(y > 0, 0.0, y)),
    }


def same(a: Estimate, b: Estimate, tolerance: float = 1e-10) -> None:
    for name in ("bits", "stderr"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("atoms", ["apart", "near"])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("law", list(draws(6)))
def test_equals_its_naive_twin(norm: Norm, atoms: Any, k: int, law: str) -> None:
    for n in (12, 120):
        x, y = draws(n)[law]
        estimate = MixedKSG(k, norm, atoms, "none")(x, y)
        assert float(estimate.bits) == pytest.approx(naive(x, y, k, norm, atoms), abs=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_without_atoms_it_is_ksg_and_with_ids_ross_but_for_log_n(norm: Norm) -> None:
    x, y = draws(300)["floats"]
    ids = torch.arange(300) % 4
    shift = float(math.log(300) - digamma(300)) / math.log(2)
    for estimate, peer in (
        (MixedKSG(3, norm)(x, y), KSG(3, norm=norm)(x, y)),
        (MixedKSG(3, norm)(ids, y), Ross(3, norm)(ids, y)),
    ):
        assert float(estimate.bits) == pytest.approx(float(peer.bits) + shift, abs=1e-10)
        torch.testing.assert_close(estimate.stderr, peer.stderr)


def test_of_ids_it_is_grassbergers_and_no_clip() -> None:
    x, y = draws(200)["ids"]
    entropies = []
    for ids in (x, y, 100 * x + y):
        counts = np.unique(ids.numpy(), return_counts=True)[1]
        entropies.append(math.log(200) - (counts * digamma(counts)).sum() / 200)
    expected = (entropies[0] + entropies[1] - entropies[2]) / math.log(2)
    assert float(MixedKSG()(x, y).bits) == pytest.approx(expected, abs=1e-10)
    independent = MixedKSG()(noise(20, 100).T[..., None], noise(20, 100, seed=1).T[..., None])
    assert bool((independent.bits < 0).any())


LAWS: list[Problem] = [
    *(problems.BivariateNormal(r) for r in (0.3, 0.75, 0.968)),
    problems.UniformLabel(5),
    problems.UniformLabel(5, as_ids=False),
    problems.ZeroInflatedPoisson(0.15),
    problems.ZeroInflatedPoisson(0.15, as_ids=False),
    problems.NormalWithAtoms(),
]


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_is_within_a_tenth_of_a_bit_of_normals_and_of_gaos_laws(law: Problem) -> None:
    estimate = MixedKSG()(*law.sample(5000, seed=0))
    assert float(estimate.bits) == pytest.approx(law.bits, abs=0.1)


def test_atoms_apart_are_what_normal_with_atoms_needs() -> None:
    law = problems.NormalWithAtoms()
    x, y = law.sample(2000, seed=3)
    near, apart = MixedKSG(atoms="near")(x, y), MixedKSG()(x, y)
    assert float(near.bits) < law.bits - 0.15
    assert float(apart.bits) == pytest.approx(law.bits, abs=0.1)
    assert 0.4 < float(apart.diagnostics["atoms"]) < 0.6
    assert bool(near.flags["tied_radii"])
    assert not bool(apart.flags["tied_radii"])


@given(st.integers(0, 99), st.sampled_from(list(draws(6))), st.sampled_from(["apart", "near"]))
@settings(max_examples=30)
def test_order_swap_shift_and_common_scale_do_not_matter(seed: int, law: str, atoms: Any) -> None:
    x, y = draws(50)[law]
    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    estimator = MixedKSG(3, atoms=atoms)
    expected = estimator(x, y)
    same(estimator(x[order], y[order]), expected)
    same(estimator(y, x), expected)
    x, y = (v if not v.is_floating_point() else 8 * (v - 2) for v in (x, y))
    same(estimator(x, y), expected)


def test_flags_say_what_was_done() -> None:
    t, ids = noise(40), torch.arange(40) % 8
    ids[:2] = torch.tensor([99, 98])
    estimate = MixedKSG()(t, ids)
    assert bool(estimate.flags["singletons_dropped"])
    assert bool(estimate.flags["small_classes"])
    assert float(estimate.diagnostics["dropped"]) == 2 / 40
    lattice = torch.arange(40.0)[:, None]
    assert bool(MixedKSG()(lattice, lattice).flags["tied_radii"])
    assert not bool(MixedKSG()(t, t).flags["tied_radii"])
    apart = MixedKSG(scale="none")(t, 1e6 * t + noise(40, seed=1))
    assert abs(float(apart.bits)) < 0.1
    assert bool(apart.flags["scales_apart"])
    assert not bool(MixedKSG()(t, t + noise(40, seed=1)).flags["scales_apart"])
    for constant in (torch.zeros(40, 2), torch.zeros(40, dtype=torch.int64)):
        still = MixedKSG()(constant, t)
        assert float(still.bits) == 0
        assert bool(still.flags["constant"])
    with pytest.raises(TooFewSamples, match="each of the 40 classes has one sample"):
        MixedKSG()(torch.arange(40), t)


def test_plane_is_two_calls_and_batches_are_loops() -> None:
    x, t = noise(90, 7), torch.stack([noise(90, 7, seed=s).relu() for s in (1, 2)])
    probe = Probe(x, torch.arange(90) % 3)
    for _ in range(2):
        about_x, about_y = MixedKSG().plane(t, probe)
        same(about_x, MixedKSG()(x, t), 0.0)
        same(about_y, MixedKSG()(t, probe.labels), 0.0)
    same(about_x[1], MixedKSG()(x, t[1]), 0.0)
    ids = torch.arange(90) % 5
    same(MixedKSG().plane(ids, probe)[0], MixedKSG()(x, ids), 0.0)


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="MixedKSG: k must be a whole number"):
        MixedKSG(k=0)
    with pytest.raises(ConfigError, match="atoms must be 'apart' or 'near', got 'far'"):
        MixedKSG(atoms="far")  # type: ignore[arg-type]  # refused
    with pytest.raises(TooFewSamples, match=r"MixedKSG needs at least 6 samples, got 5"):
        MixedKSG()(noise(5), noise(5))


@pytest.mark.parametrize("kinds", ["ff", "fi", "if", "ii"])
def test_sklearn_is_scikit_learn_in_bits(kinds: str) -> None:
    first = noise(150)
    second = first + noise(150, seed=1)
    x, y = (
        v if kind == "f" else v[:, 0].round().long()
        for v, kind in zip((first, second), kinds, strict=True)
    )
    estimate = SklearnMI(scale="none")(x, y, seed=4)
    a, b = (v.numpy().reshape(150, -1) for v in (x, y))
    if kinds == "if":
        a, b, kinds = b, a, "fi"
    compute = mutual_info_regression if kinds == "ff" else mutual_info_classif
    discrete = kinds == "ii"
    nats = compute(a, b.ravel(), discrete_features=discrete, random_state=4, n_neighbors=3)[0]
    assert float(estimate.bits) == pytest.approx(nats / math.log(2), abs=1e-12)
    swapped = SklearnMI(scale="none")(y, x, seed=4)
    assert float(swapped.bits) == pytest.approx(float(estimate.bits), abs=1e-6)
    # In other units scikit-learn's counts at the very radius round differently.
    assert float(SklearnMI()(x, y, seed=4).bits) == pytest.approx(float(estimate.bits), abs=0.01)


def test_sklearn_takes_one_feature_and_says_where_it_clipped() -> None:
    with pytest.raises(Unsupported, match="y has 2 columns and scikit-learn takes one feature"):
        SklearnMI()(noise(9), noise(9, 2))
    x, y = noise(40, 30).T[..., None], noise(40, 30, seed=1).T[..., None]
    state = np.random.get_state()[1].copy()  # type: ignore[index]  # the legacy state is a tuple
    estimate = SklearnMI()(x, y)
    # mypy: the legacy state is a tuple
    assert np.array_equal(state, np.random.get_state()[1])  # type: ignore[index]
    assert bool(estimate.flags["clipped"].any())
    assert bool((estimate.bits >= 0).all())
    assert torch.equal(estimate.flags["clipped"], estimate.bits == 0)
