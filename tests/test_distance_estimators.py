"""KDE: published values, its naive twin, and bounds that do bracket the truth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.datasets.tishby import tishby
from ibtrace.errors import ConfigError, NonFinite, Unsupported
from ibtrace.estimators.kde import KDE
from ibtrace.numerics import compiled, kernels
from ibtrace.numerics.distances import Distances, Norm
from ibtrace.numerics.kernels import gaussian_sums
from ibtrace.probe import Probe
from ibtrace.types import Estimator


def deterministic_layer(patterns: Tensor, act: Callable[[Tensor], Tensor], d: int) -> Tensor:
    weights = torch.sin(1 + torch.arange(12 * d, dtype=torch.float64)).reshape(12, d)
    return act(0.6 * ((2 * patterns - 1) @ weights)).float()


PUBLISHED = [  # act, d, then (I(X;T), I(T;Y)) for upper and lower at 1e-3, upper and lower at 1e-1
    ("tanh", 2, 8.283172, 0.136402, 6.701917, 0.032246, 3.117659, 0.002185, 1.842551, 0.000988),
    ("tanh", 3, 9.381800, 0.270144, 7.686312, 0.081016, 3.809536, 0.009080, 2.323262, 0.006448),
    ("tanh", 5, 10.500756, 0.470534, 8.821093, 0.183044, 4.649801, 0.030876, 3.040746, 0.016158),
    ("relu", 2, 6.385284, 0.208592, 5.659662, 0.096428, 3.116725, 0.007558, 1.924098, 0.002845),
    ("relu", 3, 7.678774, 0.348419, 6.674139, 0.159593, 3.638472, 0.012495, 2.321274, 0.006388),
    ("relu", 5, 11.393832, 0.716982, 10.170662, 0.381422, 5.864722, 0.086297, 3.860881, 0.023574),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case[0]}-{case[1]}")
def test_kde_gives_the_values_of_the_reference_code(case: tuple[str, int, float]) -> None:
    data = tishby()
    probe = Probe(data.x, data.y)
    t = deterministic_layer(data.x.double(), getattr(torch, case[0]), case[1])
    found: list[float] = []
    for variance in (1e-3, 1e-1):
        i_xt, i_ty = KDE(variance).plane(t, probe)
        lower_xt, lower_ty = KDE(variance, bound="lower").plane(t, probe)
        found += [float(e.bits) for e in (i_xt, i_ty, lower_xt, lower_ty)]
        assert float(i_xt.upper) == pytest.approx(float(i_xt.bits), abs=1e-12)
        assert float(i_xt.lower) == pytest.approx(float(lower_xt.bits), abs=1e-12)
    assert found == pytest.approx(case[2:], abs=1.1e-6)


def naive_entropy(t: Tensor, variance: float, kind: int) -> float:
    """H(T + noise) - H(noise) in bits; kind 2 bounds from above, 8 from below."""
    squares = (t[:, None, :].double() - t[None, :, :].double()).square().sum(-1)
    log_sums = torch.logsumexp(-squares / (kind * variance), 1)
    return float(math.log(len(t)) - log_sums.mean()) / math.log(2)


def naive_information(ids: Tensor, t: Tensor, variance: float, kind: int, given: int) -> float:
    within = sum(
        float((ids == c).double().mean()) * naive_entropy(t[ids == c], variance, given)
        for c in ids.unique()
    )
    return naive_entropy(t, variance, kind) - within


@pytest.mark.parametrize("classes", [3, 90])
@pytest.mark.parametrize(("n", "offset"), [(7, 0.0), (700, 0.0), (700, 1e5), (150, 1e9)])
def test_kde_equals_its_naive_twin(classes: int, n: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    t[0] += offset  # one far point, where expanding squares would cancel
    t[1] = t[0]
    ids = torch.randint(classes, (n,), generator=generator)
    estimate = KDE(0.3)(ids, t)
    assert float(estimate.bits) == pytest.approx(naive_information(ids, t, 0.3, 2, 2), abs=1e-8)
    assert float(estimate.upper) == pytest.approx(naive_information(ids, t, 0.3, 2, 8), abs=1e-8)
    assert float(estimate.lower) == pytest.approx(naive_information(ids, t, 0.3, 8, 2), abs=1e-8)
    lower = KDE(0.3, bound="lower")(t, ids)  # the layer may come first
    assert float(lower.bits) == pytest.approx(naive_information(ids, t, 0.3, 8, 8), abs=1e-8)


def exact_entropy(centres: Tensor, variance: float) -> float:
    """H(T + noise) - H(noise) in bits in one dimension, by integration on a grid."""
    grid = np.linspace(float(centres.min()) - 8, float(centres.max()) + 8, 40_001)
    gaps = grid[:, None] - centres.squeeze(1).double().numpy()
    density = np.exp(-(gaps**2) / (2 * variance)).mean(1) / math.sqrt(2 * math.pi * variance)
    entropy = -np.trapezoid(density * np.log2(density, where=density > 0, out=0 * grid), grid)
    return float(entropy - 0.5 * math.log2(2 * math.pi * math.e * variance))


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0])
def test_the_interval_brackets_the_integrated_truth(variance: float) -> None:
    generator = torch.Generator().manual_seed(3)
    t = torch.randn(24, 1, generator=generator)
    ids = torch.arange(24) % 3
    t += ids[:, None]
    whole = exact_entropy(t, variance)
    within = sum(exact_entropy(t[ids == c], variance) for c in range(3)) / 3
    about_x, about_y = KDE(variance).plane(t, Probe(t, ids))
    assert float(about_x.lower) <= whole <= float(about_x.upper)
    assert float(about_y.lower) <= whole - within <= float(about_y.upper)


def test_plane_is_two_calls_and_equal_rows_of_x_are_one_value() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(2, (60, 3), generator=generator).float()
    t = torch.randn(2, 3, 60, 5, generator=generator)
    probe = Probe(x, torch.randint(4, (60,), generator=generator))
    for estimator in (KDE(0.1), KDE(0.1, noise="adaptive", bound="lower")):
        for found, other in zip(estimator.plane(t, probe), (x, probe.labels), strict=True):
            one_by_one = [[estimator(other, t[i, j]) for j in range(3)] for i in range(2)]
            for name in ("bits", "stderr", "lower", "upper"):
                expected = torch.stack(
                    [torch.stack([getattr(e, name) for e in row]) for row in one_by_one]
                )
                torch.testing.assert_close(getattr(found, name), expected)
    assert float(KDE(1e-9)(x, x).bits) == pytest.approx(3, abs=0.1)


def test_adaptive_noise_grows_with_the_largest_activity_and_says_so() -> None:
    generator = torch.Generator().manual_seed(4)
    t = 7 * torch.randn(3, 50, 2, generator=generator)
    adaptive = KDE(1e-2, noise="adaptive")(torch.arange(50), t)
    used = adaptive.diagnostics["noise_variance"]
    torch.testing.assert_close(used, 1e-2 * t.abs().amax((1, 2)).double())
    fixed = KDE(float(used[1]))(torch.arange(50), t[1])
    assert float(fixed.bits) == pytest.approx(float(adaptive.bits[1]), abs=1e-12)
    assert KDE(1e-2, noise="adaptive").estimand == "T + N(0, 0.01 max|T|)"


@pytest.mark.parametrize("noise", ["fixed", "adaptive"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_layer_holds_nothing_and_is_flagged(noise: str, value: float) -> None:
    t = torch.full((9, 2), value)
    # mypy: a text of a parameter
    estimate = KDE(noise=noise)(torch.arange(9), t)  # type: ignore[arg-type]
    assert float(estimate.bits) == pytest.approx(0, abs=1e-12)
    assert bool(estimate.flags["constant"])
    spread = KDE()(torch.arange(9), torch.arange(9.0)[:, None])
    assert bool(spread.flags["near_ceiling"])
    assert not bool(spread.flags["constant"])


def test_sums_take_gradients_half_precision_and_views_without_touching_them() -> None:
    t = torch.randn(40, 6, generator=torch.Generator().manual_seed(5))[:, ::2].requires_grad_()
    before, state = t.detach().clone(), torch.get_rng_state()
    single = KDE(0.1)(torch.arange(40), t)
    double = KDE(0.1)(torch.arange(40), t.double())
    assert not single.bits.requires_grad
    assert torch.equal(t, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert float(single.bits) == pytest.approx(float(double.bits), abs=1e-9)
    half = KDE(0.1)(torch.arange(40), t.half())
    assert float(half.bits) == pytest.approx(float(double.bits), abs=1e-2)


def test_a_point_meets_itself_exactly_once() -> None:
    t = 1e3 + torch.randn(900, 8, generator=torch.Generator().manual_seed(6))
    alone = torch.arange(900)
    sums = gaussian_sums(t, torch.tensor(2e-6), [alone, alone // 2])
    torch.testing.assert_close(sums, torch.ones(3, 2, 900, dtype=torch.float64), rtol=0, atol=0)


@given(
    seed=st.integers(0, 2**20),
    d=st.integers(1, 30),
    far=st.floats(2, 60),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40)
def test_the_others_are_told_apart_however_far_a_point_is(
    seed: int, d: int, far: float, dtype: torch.dtype
) -> None:
    points = torch.randn(70, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    points[0] = min(10.0**far, 1e37 if dtype == torch.float32 else 1e60)
    ids, variance = torch.arange(70) % 3, torch.tensor(0.1 * d)
    whole, others = (
        gaussian_sums(t, variance, [i]) for t, i in ((points, ids), (points[1:], ids[1:]))
    )
    torch.testing.assert_close(whole[..., 1:], others, rtol=1e-6, atol=0)
    nested = kernels.nested_gaussian_sums(points, 0.1 * d, 2, [ids])
    torch.testing.assert_close(nested[0], whole[:, 0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("apart", [0.0, 0.6, 30.0])
@pytest.mark.parametrize("sets", [(), (2,), (90,), (1024,), (3, 90, 1024, 2)])
def test_kernels_of_blocks_are_summed_as_those_of_all_pairs(
    apart: float, sets: tuple[int, ...]
) -> None:
    """Whether blocks are left out because they are far apart, or none is."""
    generator = torch.Generator().manual_seed(8)
    centres = apart * torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]])
    t = centres.repeat(256, 1) + 0.05 * torch.randn(1024, 3, generator=generator)
    groups = [torch.arange(1024) % number for number in sets]
    blocks = [rows for rows, _, _ in kernels._Pairs(t.double() / (8 * 1e-3) ** 0.5)]
    assert (len(blocks) < 10) == (apart == 30)
    square = torch.cdist(t.double(), t.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    same = [torch.ones(1024, 1024), *(ids[:, None] == ids for ids in groups)]

    def naive(variance: float) -> Tensor:
        kernel = (-square / (2 * variance)).exp()
        return torch.stack([(kernel * each).sum(1) for each in same])

    pairs = kernels._Pairs(t.double(), groups)
    ways = [way(pairs, pairs.groups, 3) for way in (kernels._compiled, kernels._by_products)]
    torch.testing.assert_close(*ways, rtol=1e-12, atol=0)
    both = gaussian_sums(t, torch.tensor(1e-3), groups)
    torch.testing.assert_close(both[:, 0], naive(1e-3), rtol=1e-6, atol=0)
    torch.testing.assert_close(both[:, 1], naive(4e-3), rtol=1e-6, atol=0)
    nested = kernels.nested_gaussian_sums(t, 0.04, 4, groups)
    for level, of_level in enumerate(nested):
        torch.testing.assert_close(of_level, naive(0.04 / 4**level), rtol=1e-6, atol=0)


@given(seed=st.integers(0, 2**20), low=st.floats(-699, -1e-12))
@settings(max_examples=25)
def test_compiled_exponentials_are_those_of_numpy(seed: int, low: float) -> None:
    x = low * np.random.default_rng(seed).random(129)
    x[:3] = 0.0, low, -700.0
    shifts, out = np.empty_like(x), np.empty_like(x)
    bits = (each.view(np.int64) for each in (shifts, out))
    compiled.kernels("_gaussian_pairs").exponentials(x, shifts, next(bits), out, next(bits))
    np.testing.assert_allclose(out, np.exp(x), rtol=4 * np.finfo(float).eps)
    assert out[0] == 1


@given(n=st.integers(1, 300), size=st.integers(1, 64), d=st.integers(1, 3))
@settings(max_examples=25)
def test_a_compact_order_has_every_point_once_and_narrow_blocks(n: int, size: int, d: int) -> None:
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(n))
    order = kernels.compact_order(points, size)
    assert order.sort().values.tolist() == list(range(n))
    if d == 1:  # of one column it is the ascending order of the blocks
        blocks = points[order, 0].split(size)
        assert all(one.max() <= two.min() for one, two in itertools.pairwise(blocks))


def test_bad_input_and_bad_configuration_say_what_to_do() -> None:
    t, ids = torch.randn(8, 2), torch.arange(8)
    with pytest.raises(Unsupported, match="give the layer as floats"):
        KDE()(ids, ids)
    with pytest.raises(NonFinite, match="y has 1 NaN"):
        KDE()(ids, torch.where(t == t[3, 0], torch.nan, t))
    with pytest.raises(ConfigError, match="noise_variance must be positive"):
        KDE(noise_variance=0.0)
    with pytest.raises(ConfigError, match="bound must be one of"):
        KDE(bound="middle")  # type: ignore[arg-type]  # refused
    assert isinstance(KDE(), Estimator)


@pytest.mark.parametrize("norm", ["euclidean", "max"])
@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("d", [1, 3, 12, 40])
def test_distances_are_exact_for_near_points(norm: Norm, shift: float, d: int) -> None:
    generator = torch.Generator().manual_seed(7)
    points = shift + torch.randn(300, d, generator=generator, dtype=torch.float64)
    points[:, 1:2] = shift  # a column that tells nothing of how far from 0 points are
    points[:40] = points[0] + 1e-6 * points[:40].frac()
    points[7] = points[3]
    found = Distances(points, norm, keep=True).rows(slice(0, 300))
    gaps = points[:, None] - points[None]
    expected = gaps.square().sum(-1) if norm == "euclidean" else gaps.abs().amax(-1)
    expected.fill_diagonal_(torch.inf)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    assert float(found[7, 3]) == 0
    torch.testing.assert_close(Distances(points, norm).rows(slice(5, 9)), found[5:9])
