"""Ross and NPEET: naive twins, peers, and what they refuse."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif
from torch import Tensor

from ibtrace.errors import InvalidInput, MissingDependency, TooFewSamples, Unsupported
from ibtrace.estimators.ksg import KSG
from ibtrace.estimators.npeet import NPEET, load_mi
from ibtrace.estimators.ross import Ross
from ibtrace.numerics.distances import Norm
from ibtrace.probe import Probe
from ibtrace.types import Estimate, Estimator

NORMS: list[Norm] = ["euclidean", "max"]


def dependent(n: int, dx: int = 1, dy: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dx, generator=generator, dtype=torch.float64)
    y = torch.randn(n, dy, generator=generator, dtype=torch.float64)
    return x, y + x[:, :1]


def distances(points: Tensor, norm: Norm) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    gaps = (points[:, None] - points[None]).double()
    found = gaps.square().sum(-1).sqrt() if norm == "euclidean" else gaps.abs().amax(-1)
    return found.fill_diagonal_(torch.inf).numpy()


def naive_ross(ids: Tensor, t: Tensor, k: int, norm: Norm) -> float:
    keep = torch.bincount(ids)[ids] > 1
    ids, gaps = ids[keep], distances(t[keep], norm)
    terms = []
    for i, row in enumerate(gaps):
        own = np.sort(row[(ids == ids[i]).numpy()])
        size = len(own)
        near = min(k, size - 1)
        inside = (row <= own[near - 1]).sum()
        terms.append(digamma(near) - digamma(size) - digamma(inside))
    return float(digamma(len(ids)) + np.mean(terms)) / math.log(2)


def same(a: Estimate, b: Estimate, tolerance: float = 1e-10) -> None:
    for name in ("bits", "stderr"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("n", "d", "k"), [(12, 1, 3), (200, 1, 3), (200, 9, 5)])
def test_ross_equals_its_naive_twin(norm: Norm, n: int, d: int, k: int) -> None:
    t = dependent(n, d)[0]
    ids = (t[:, 0] * 1.5).round().long()
    ids -= ids.min()
    estimate = Ross(k, norm)(ids, t)
    sizes = torch.bincount(ids)
    assert float(estimate.bits) == pytest.approx(naive_ross(ids, t, k, norm), abs=1e-10)
    assert bool(estimate.flags["small_classes"]) == bool(((sizes > 1) & (sizes <= k)).any())
    assert bool(estimate.flags["singletons_dropped"]) == bool((sizes == 1).any())
    same(estimate, Ross(k, norm)(t, ids), 0.0)
    same(estimate, KSG(k, norm=norm)(t, ids), 0.0)


def test_ross_is_scikit_learns_and_npeets_with_ids() -> None:
    x, y = dependent(500)
    ids = (x[:, 0] > 0.3).long() + (x[:, 0] > -1)
    sklearn = mutual_info_classif(y.numpy(), ids.numpy(), random_state=0)[0] / math.log(2)
    assert float(Ross()(y, ids).bits) == pytest.approx(sklearn, abs=1e-6)
    wide = torch.cat([1e3 * y, x, -x], 1)
    for pair in ((wide, ids), (ids, wide)):
        theirs = NPEET()(*pair)
        assert float(theirs.bits) == pytest.approx(float(Ross(norm="max")(*pair).bits), abs=1e-8)


def test_ross_batches_breaks_ties_and_refuses_what_it_cannot_do() -> None:
    ids = torch.arange(40) % 4
    t = dependent(80, 3)[0].reshape(2, 40, 3)
    batched = Ross()(ids, t)
    same(batched[1], Ross()(ids, t[1]))
    t[0, :20] = 1.0
    assert Ross()(t, ids).flags["ties_jittered"].tolist() == [True, False]
    late = dependent(150, 1)[0]
    late[-5:, 0] = 1000 + 10 * torch.arange(5)
    assert bool(Ross()(late, torch.arange(150) // 75).flags["ties_jittered"])
    with pytest.raises(InvalidInput, match=r"Ross\(jitter=0\): samples repeat"):
        Ross(jitter=0)(t, ids)
    with pytest.raises(TooFewSamples, match="each of the 40 classes has one sample"):
        Ross()(t, torch.arange(40))
    with pytest.raises(Unsupported, match="both floats; use KSG"):
        Ross()(t, t)


def test_ross_says_where_a_plane_is_undefined() -> None:
    t, y = dependent(30, 2)
    about_x, about_y = Ross().plane(t, Probe(t, torch.arange(30) % 3))
    assert bool(about_x.bits.isnan())
    assert bool(about_x.flags["undefined"])
    same(about_y, Ross()(t, torch.arange(30) % 3), 0.0)
    repeated_x, continuous_y = Ross().plane(t, Probe(torch.arange(30)[:, None] % 3, y))
    same(repeated_x, about_y)
    assert bool(continuous_y.flags["undefined"])


@pytest.mark.parametrize(
    ("estimator", "other"),
    [
        *((estimator, "floats") for estimator in (KSG(), KSG(norm="max", variant=2), NPEET())),
        *((estimator, "ids") for estimator in (Ross(), KSG(), NPEET())),
    ],
)
def test_constants_kinds_and_sizes(estimator: Estimator, other: str) -> None:
    assert isinstance(estimator, Estimator)
    y = torch.arange(12) % 2 if other == "ids" else dependent(12)[0]
    for still in (torch.zeros(12, 2), torch.full((12, 1), 0.1)):
        for estimate in (estimator(still, y), estimator(y, still)):
            assert float(estimate.bits) == 0
            assert bool(estimate.flags["constant"])
    one_class = estimator(torch.zeros(12, dtype=torch.int64), dependent(12)[0])
    assert float(one_class.bits) == 0
    with pytest.raises(Unsupported, match="both ids"):
        estimator(torch.arange(9), torch.arange(9))
    with pytest.raises(TooFewSamples, match="needs at least 4 samples, got 3"):
        estimator(torch.randn(3, 1), y[:3])


def test_npeet_leaves_numpys_generator_as_it_was() -> None:
    x, y = dependent(50)
    np.random.seed(12)
    expected = np.random.random(3)
    np.random.seed(12)
    first, second = NPEET()(x, y, seed=4), NPEET()(x, y, seed=4)
    assert np.array_equal(np.random.random(3), expected)
    assert torch.equal(first.bits, second.bits)
    few = NPEET()(x, (torch.arange(50) == 7).long())
    assert bool(few.flags["small_classes"])


def test_without_npeet_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    assert callable(load_mi())
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependency, match="pip install npeet-plus"):
        NPEET()(*dependent(9))


def test_classes_given_to_ksg_are_looked_at_as_often_as_by_ross(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no more: each of them compares two scales, but not one within the other."""
    solved: list[int] = []
    solve = Ross._solve

    def counted(self: Ross, labels: Tensor, t: Tensor, seed: int) -> Estimate:
        solved.append(len(t))
        return solve(self, labels, t, seed)

    monkeypatch.setattr(Ross, "_solve", counted)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, (500,), generator=generator)
    t = torch.randn(500, 2, generator=generator) * torch.tensor([1.0, 9.0]) + ids[:, None]
    by_ross = Ross()(ids, t)
    of_ross, solved[:] = list(solved), []
    by_ksg = KSG()(ids, t)
    assert solved == of_ross
    assert len(of_ross) == 3
    assert by_ksg.bits == by_ross.bits
    assert by_ksg.flags.keys() == by_ross.flags.keys()
    assert all(bool(by_ksg.flags[name]) == bool(flag) for name, flag in by_ross.flags.items())
