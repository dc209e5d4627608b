"""KSG: naive twins, NPEET's values, truths, invariances and ties."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from torch import Tensor

from ibtrace.datasets.tishby import tishby
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.estimators import make
from ibtrace.estimators.kozachenko_leonenko import KozachenkoLeonenko
from ibtrace.estimators.ksg import KSG
from ibtrace.estimators.mixed_ksg import MixedKSG
from ibtrace.estimators.npeet import NPEET, load_mi
from ibtrace.estimators.ross import Ross
from ibtrace.numerics.distances import Distances, Norm
from ibtrace.numerics.knn import joint_neighbours, k_smallest, tree_neighbours
from ibtrace.numerics.scale import Scale
from ibtrace.numerics.screens import Coarse, Screen
from ibtrace.probe import Probe
from ibtrace.types import Estimate, Estimator

Variant = Literal[1, 2]
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


def naive_ksg(x: Tensor, y: Tensor, k: int, variant: Variant, norm: Norm) -> float:
    """Kraskov et al.'s equations 8 and 9, one sample at a time, in bits."""
    dx, dy = distances(x, norm), distances(y, norm)
    total = 0.0
    for row_x, row_y in zip(dx, dy, strict=True):
        joint = np.maximum(row_x, row_y)
        nearest = np.argsort(joint)[:k]
        if variant == 1:
            radius = joint[nearest[-1]]
            counts = (row_x < radius).sum() + 1, (row_y < radius).sum() + 1
        else:
            counts = (row_x <= row_x[nearest].max()).sum(), (row_y <= row_y[nearest].max()).sum()
        total += digamma(counts[0]) + digamma(counts[1])
    constant = digamma(k) + digamma(len(x)) - (0 if variant == 1 else 1 / k)
    return float(constant - total / len(x)) / math.log(2)


def same(a: Estimate, b: Estimate, tolerance: float = 1e-10) -> None:
    for name in ("bits", "stderr"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize(("n", "dx", "dy"), [(6, 1, 1), (150, 1, 2), (150, 6, 5), (9, 12, 1)])
@pytest.mark.parametrize("k", [1, 4])
def test_ksg_equals_its_naive_twin(
    norm: Norm, variant: Variant, n: int, dx: int, dy: int, k: int
) -> None:
    x, y = dependent(n, dx, dy)
    estimate = KSG(k, variant, norm, scale="none")(x, y)
    assert float(estimate.bits) == pytest.approx(naive_ksg(x, y, k, variant, norm), abs=1e-10)
    assert not bool(estimate.flags["ties_jittered"])


@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (2, 2), (10, 3), (12, 12)])
def test_ksg_in_the_max_norm_is_npeets(dx: int, dy: int) -> None:
    x, y = dependent(600, dx, dy)
    scales: tuple[Scale, ...] = ("variable", "column", "none")
    for scale in scales:
        ours, theirs = KSG(norm="max", scale=scale)(x, y), NPEET(scale=scale)(x, y, seed=3)
        assert float(ours.bits) == pytest.approx(float(theirs.bits), abs=1e-8)
    raw = load_mi()(x.numpy(), y.numpy(), k=3, base=2)
    assert float(ours.bits) == pytest.approx(raw, abs=1e-6)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_trees_count_as_blocks_do(closed: bool, k: int) -> None:
    x, y = dependent(400, 2, 3)
    blocks = joint_neighbours(
        Distances(x, "max"), Distances(y, "max"), k, closed=closed, stop_at_tie=True
    )
    trees = tree_neighbours(x, y, k, closed=closed, stop_at_tie=True)
    assert blocks is not None
    assert trees is not None
    for a, b in zip(blocks, trees, strict=True):
        assert torch.equal(a, b.to(a.dtype))


@given(st.integers(1, 5), st.integers(5, 700), st.integers(0, 99))
@settings(max_examples=40)
def test_k_smallest_is_topk(k: int, n: int, seed: int) -> None:
    values = torch.rand(3, n, generator=torch.Generator().manual_seed(seed))
    found, columns = k_smallest(values, k)
    torch.testing.assert_close(found, values.topk(k, largest=False).values, rtol=0, atol=0)
    torch.testing.assert_close(values.gather(1, columns), found, rtol=0, atol=0)


@given(
    st.integers(0, 999),
    st.sampled_from(NORMS),
    st.sampled_from([1, 2]),
    st.sampled_from([(1, 1), (2, 7)]),
    st.floats(-100, 100),
    st.floats(0.01, 100),
)
@settings(max_examples=30)
def test_ksg_is_invariant_to_order_swap_shift_and_common_scale(
    seed: int, norm: Norm, variant: Variant, widths: tuple[int, int], shift: float, scale: float
) -> None:
    x, y = dependent(60, *widths, seed=seed)
    estimator = KSG(3, variant, norm)
    expected = estimator(x, y)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    same(estimator(x[order], y[order]), expected)
    same(estimator(y, x), expected)
    same(estimator(scale * (x + shift), scale * (y - shift)), expected)


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_ksg_finds_the_information_of_correlated_normals(variant: Variant, norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 2000, 2, generator=generator, dtype=torch.float64)
    rho = torch.tensor([0.0, 0.6, 0.95], dtype=torch.float64)
    x = noise[..., :1]
    y = rho[:, None, None] * x + (1 - rho**2).sqrt()[:, None, None] * noise[..., 1:]
    estimate = KSG(3, variant, norm)(x, y)
    truth = -0.5 * torch.log2(1 - rho**2)
    assert float((estimate.bits - truth).abs().max()) < 0.08
    assert float(((estimate.bits - truth) / estimate.stderr).abs().max()) < 4
    same(estimate[1], KSG(3, variant, norm)(x[1], y[1]))


def test_a_copy_meets_the_ceiling_and_is_no_tie() -> None:
    x, _ = dependent(200, 5)
    for norm in NORMS:
        estimate = KSG(norm=norm)(x, x.clone())
        expected = (digamma(200) - digamma(3)) / math.log(2)
        assert float(estimate.bits) == pytest.approx(expected, abs=1e-12)
        assert bool(estimate.flags["near_ceiling"])
        assert not bool(estimate.flags["ties_jittered"])
        assert float(estimate.diagnostics["ceiling"]) == pytest.approx(
            expected - 1 / 3 / math.log(2)
        )


def lattice(n: int) -> Tensor:
    return torch.randint(2, (n, 6), generator=torch.Generator().manual_seed(1)).double() / 10


def repeated(n: int) -> Tensor:
    x = dependent(n, 2)[0]
    x[n - 1] = x[n // 2] = 100.0
    return x


def far_lattice(n: int) -> Tensor:
    x = dependent(n, 1)[0]
    x[-5:, 0] = 1000 + 10 * torch.arange(5)
    return x


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tied", [lattice, repeated, far_lattice])
def test_ties_are_jittered_with_the_seed_and_flagged_or_refused(norm: Norm, tied: object) -> None:
    x, y = tied(300), dependent(300, 1, 4)[1]  # type: ignore[operator]  # a function of the table
    before, state = x.clone(), torch.get_rng_state()
    for pair in ((x, y), (y, x)):
        estimate = KSG(norm=norm)(*pair, seed=1)
        assert bool(estimate.flags["ties_jittered"])
        same(estimate, KSG(norm=norm)(*pair, seed=1), 0.0)
        assert float(estimate.bits) == pytest.approx(
            float(KSG(norm=norm)(*pair, seed=2).bits), abs=0.2
        )
        with pytest.raises(InvalidInput, match="set jitter > 0"):
            KSG(norm=norm, jitter=0)(*pair)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("norm", NORMS)
def test_jitter_is_independent_in_x_and_y_and_survives_an_offset(norm: Norm) -> None:
    bits = torch.randint(2, (2, 400, 6), generator=torch.Generator().manual_seed(0)).double()
    for x, y in (bits[..., :1], bits):
        estimate = KSG(norm=norm)(x, y)
        assert abs(float(estimate.bits)) < 0.5
        same(KSG(norm=norm)(x + 2.0**30, y), estimate, 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_plane_is_two_calls_and_keeps_what_depends_on_x(norm: Norm) -> None:
    data, chosen = tishby(), torch.randperm(4096, generator=torch.Generator().manual_seed(0))[:400]
    x, labels = data.x[chosen], data.y[chosen]
    hidden = x @ torch.sin(1.0 + torch.arange(48)).reshape(12, 4)
    t = torch.stack([hidden.tanh(), hidden.relu()])
    probe, estimator = Probe(x, labels), KSG(norm=norm)
    for _ in range(2):
        about_x, about_y = estimator.plane(t, probe, seed=5)
        same(about_x, estimator(x, t, seed=5), 0.0)
        same(about_y, estimator(t, labels, seed=5), 0.0)
    assert about_x.bits.shape == (2,)
    continuous = Probe(x, hidden[:, 0])
    same(estimator.plane(t, continuous)[1], estimator(t, hidden[:, :1]), 0.0)


def test_ksg_computes_what_depends_on_x_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = dependent(300, 8, 3)
    probe, computed = Probe(x, torch.arange(300) % 2), []
    fill = Screen.fill

    def counted(self: Screen, start: int, block: Coarse) -> None:
        computed.append(self.own.shape[1])
        fill(self, start, block)

    monkeypatch.setattr(Screen, "fill", counted)
    KSG().plane(t, probe)
    first = computed.count(8)
    KSG().plane(t + 1, probe)
    assert computed.count(8) == first > 0


@pytest.mark.parametrize("estimator", [KSG(), KSG(norm="max"), Ross()])
def test_single_and_double_precision_agree(estimator: Estimator) -> None:
    x, y = (v.float() for v in dependent(300, 3, 6))
    ids = torch.arange(300) % 3
    other = ids if isinstance(estimator, Ross) else x
    same(estimator(other, y), estimator(other.double() if other is x else ids, y.double()), 0.0)
    same(estimator(other, y.requires_grad_()), estimator(other, y), 0.0)


def test_impossible_configurations_are_refused() -> None:
    for kind, k in itertools.product((KSG, Ross, NPEET), (0, 1.5, True)):
        with pytest.raises(ConfigError, match="k must be a whole number"):
            kind(k=k)
    with pytest.raises(ConfigError, match="variant must be 1 or 2"):
        KSG(variant=3)  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="norm must be 'euclidean' or 'max'"):
        Ross(norm="l1")  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="jitter must lie in"):
        KSG(jitter=-1.0)
    with pytest.raises(ConfigError, match="jitter must lie in"):
        KSG(jitter=1e-3)


@pytest.mark.parametrize("kind", [KSG, NPEET, MixedKSG, KozachenkoLeonenko])
@pytest.mark.parametrize(("d", "raised"), [(4, False), (5, True)])
def test_many_dimensions_for_the_samples_are_flagged(kind: type[Any], d: int, raised: bool) -> None:
    x, y = torch.randn(2, 300, d, generator=torch.Generator().manual_seed(0))  # log2 300 = 8.2
    assert bool(kind()(x, y).flags["many_dimensions"]) == raised


@pytest.mark.parametrize("name", ["ksg", "npeet", "mixed_ksg", "sklearn"])
@pytest.mark.parametrize(("k", "n"), [(3, 47), (3, 48), (5, 79), (5, 80)])
def test_neighbourhoods_of_a_16th_of_the_samples_are_flagged(name: str, k: int, n: int) -> None:
    x, y = dependent(n, 1)
    estimate = make(name, k=k)
    assert bool(estimate(x, y).flags["few_samples"]) == (n < 16 * k)
    of_classes = estimate(x, torch.arange(n) % 2).flags  # a class is no neighbourhood
    assert not of_classes.get("few_samples", torch.tensor(False))


@pytest.mark.parametrize("name", ["ksg", "mixed_ksg"])
def test_an_estimate_that_loses_a_tenth_of_its_bits_to_few_samples_says_so(name: str) -> None:
    rho, truth = 0.9, -0.5 * math.log2(1 - 0.9**2)
    for n in (8, 12, 20, 30, 47):
        z = torch.randn(300, n, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        x, y = z[..., :1], rho * z[..., :1] + math.sqrt(1 - rho**2) * z[..., 1:]
        estimate = make(name)(x, y)
        assert float(estimate.bits.mean()) < truth - 0.05
        assert bool(estimate.flags["few_samples"].all())
    x, y = z.flatten(0, 1)[:2000, :1], z.flatten(0, 1)[:2000, 1:]
    assert not make(name)(x, rho * x + y).flags["few_samples"]


@pytest.mark.parametrize("kind", [KSG, Ross, NPEET, MixedKSG, KozachenkoLeonenko])
@pytest.mark.parametrize(("d", "raised"), [(8, False), (9, True)])
def test_ids_add_no_dimension_to_the_many(kind: type[Any], d: int, raised: bool) -> None:
    t, ids = dependent(300, d)[0], torch.arange(300) % 2
    for pair in ((t, ids), (ids, t)):
        assert bool(kind()(*pair).flags["many_dimensions"]) == raised


@pytest.mark.parametrize("n", [600, 1000])
@pytest.mark.parametrize("far", [1.0, 1e9])
def test_points_whose_ties_no_jitter_breaks_have_a_finite_information(n: int, far: float) -> None:
    x, y = dependent(n, 1, 1)
    x[:8] = y[:8] = far
    estimate = KSG()(x, y)
    assert bool(estimate.flags["ties_jittered"])
    assert 0 < float(estimate.bits) < 2
    assert 0 < float(estimate.stderr) < 0.2
