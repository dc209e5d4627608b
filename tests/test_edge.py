"""EDGE: naive twin, weights of the ensemble, truths, the cap, projections."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError
from ibtrace.estimators import EDGE, Exact
from ibtrace.estimators.edge import ensemble
from ibtrace.numerics.scale import Scale
from ibtrace.problems import Problem
from ibtrace.types import Estimate


def noise(n: int, d: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def nodes(value: Tensor, width: float, member: int, members: int, seed: int) -> list[object]:
    if not value.is_floating_point():
        return list(value.tolist())
    ranks = (value[:, None] > value[None]).sum(1) + 1  # no two are equal
    scores = torch.special.ndtri(ranks.double() / (len(value) + 1))
    columns = scores / scores.std(0, correction=0)
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.rand(members, value.shape[1], generator=generator, dtype=torch.float64)
    return [tuple(row) for row in (columns / width + offsets[member]).floor().tolist()]


def naive(x: Tensor, y: Tensor, members: int, seed: int, cap: float = math.inf) -> float:
    """The weighted sum over the edges of each member's graph, counted in dictionaries."""
    n = len(x)
    d = sum(v.shape[1] for v in (x, y) if v.is_floating_point())
    total = 0.0
    for member, (t, weight) in enumerate(zip(*ensemble(members, d), strict=True)):
        width = t * n ** (-1 / (2 * d)) if d else 0.0
        left, right = (nodes(v, width, member, members, seed) for v in (x, y))
        of_x, of_y, edges = Counter(left), Counter(right), Counter(zip(left, right, strict=True))
        for (i, j), count in edges.items():
            total += weight * count / n * min(math.log2(count * n / (of_x[i] * of_y[j])), cap)
    return total


def same(a: Estimate, b: Estimate, tolerance: float = 1e-10) -> None:
    for name in ("bits", "stderr"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kinds", ["ff", "fi", "if", "ii"])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_equals_its_naive_twin(kinds: str, cap: float | None) -> None:
    first, second = noise(70, 2), noise(70, 3, seed=1)
    second = second + first[:, :1]
    x, y = (
        v if kind == "f" else v[:, 0].round().long()
        for v, kind in zip((first, second), kinds, strict=True)
    )
    estimate = EDGE(members=6, cap=cap)(x, y, seed=3)
    expected = naive(x, y, 6, 3, cap or math.inf)
    assert float(estimate.bits) == pytest.approx(expected, abs=1e-9)
    assert not bool(estimate.flags["projected"])


def test_of_ids_it_is_the_plug_in() -> None:
    x = noise(200)[:, 0].round().long()
    y = x + (noise(200, seed=1)[:, 0] > 0)
    same(EDGE()(x, y), Exact()(x, y))


@given(st.integers(4, 40), st.integers(1, 30))
@settings(max_examples=40)
def test_weights_cancel_the_two_biases(members: int, d: int) -> None:
    ts, weights = ensemble(members, d)
    assert len(ts) == members
    assert sum(weights) == pytest.approx(1, abs=1e-9)
    squares = sum(w * (t / ts[-1]) ** 2 for t, w in zip(ts, weights, strict=True))
    empties = sum(w * (t / ts[0]) ** -d for t, w in zip(ts, weights, strict=True))
    assert squares == pytest.approx(0, abs=1e-9)
    assert empties == pytest.approx(0, abs=1e-9)


LAWS: list[Problem] = [
    *(problems.BivariateNormal(r) for r in (0.3, 0.75, 0.968)),
    problems.AdditiveUniform(0.75),
    problems.UniformLabel(5),
    problems.make("gaussian-channel-4-points-0.7"),
    problems.LinearGaussian(),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_is_within_a_tenth_of_a_bit_in_few_dimensions(law: Problem) -> None:
    found = float(EDGE()(*law.sample(5000, seed=0)).bits)
    assert found == pytest.approx(law.bits, abs=0.1)


def test_swap_order_shift_and_scale_do_not_matter() -> None:
    x, y = noise(80, 2), noise(80, 2, seed=1)
    expected = EDGE()(x, y, seed=2)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    same(EDGE()(x[order], y[order], seed=2), expected)
    same(EDGE()(y, x, seed=2), expected)
    same(EDGE()(2 * x, 4 * y, seed=2), expected)
    assert not torch.equal(EDGE()(x, y, seed=5).bits, expected.bits)
    wide = noise(80, 9)
    same(EDGE()(wide, x, seed=1), EDGE()(x, wide, seed=1))


def test_a_cap_is_off_by_default_and_flagged_where_it_is_reached() -> None:
    ids = torch.arange(4096)
    assert float(EDGE()(ids, ids).bits) == 12
    assert bool(EDGE()(ids, ids).flags["near_ceiling"])
    capped = EDGE(cap=10)(ids, ids)
    assert float(capped.bits) == 10
    assert bool(capped.flags["capped"])
    assert not bool(EDGE(cap=13)(ids, ids).flags["capped"])
    x, y = noise(60), torch.stack([noise(60, seed=1), noise(60)])
    each = EDGE(cap=4.0)(x, y)
    assert each.flags["capped"].tolist() == [bool(EDGE(cap=4.0)(x, v).flags["capped"]) for v in y]


def test_wide_variables_are_projected_and_constants_are_flagged() -> None:
    x, y = noise(300, 40), noise(300, seed=1)
    estimate = EDGE()(x, x[:, :1] + y, seed=0)
    assert bool(estimate.flags["projected"])
    dead = torch.cat([x[:, :3], torch.full((300, 1), 123.456, dtype=torch.float64)], 1)
    assert bool(torch.isfinite(EDGE()(dead, y).bits))
    assert not bool(EDGE()(dead, y).flags["constant"])
    for still in (dead[:, 3:], torch.zeros(300, dtype=torch.int64), torch.full((300, 9), 0.1)):
        constant = EDGE()(still, y)
        assert float(constant.bits) == 0
        assert bool(constant.flags["constant"])


def test_batches_are_loops_and_the_estimate_may_be_negative() -> None:
    x, y = noise(2 * 60 * 3).reshape(2, 60, 3), noise(60)
    together = EDGE()(x, y, seed=4)
    for i in range(2):
        same(together[i], EDGE()(x[i], y, seed=4))
    coins = (noise(40 * 50).reshape(40, 50) > 0).long()
    found = EDGE()(coins, noise(40 * 50, seed=1).reshape(40, 50, 1))
    assert bool((found.bits < 0).any())


def test_impossible_configurations_are_refused() -> None:
    for members in (3, 8.0, True):
        with pytest.raises(ConfigError, match="members must be a whole number"):
            EDGE(members=members)  # type: ignore[arg-type]  # refused
    for cap in (0.0, -1.0):
        with pytest.raises(ConfigError, match="cap must be above 0 bits or None"):
            EDGE(cap=cap)


INDEPENDENT = {
    "normal 2 + 2": lambda n: (noise(n, 2), noise(n, 2, seed=1)),
    "normal 3 + 3": lambda n: (noise(n, 3), noise(n, 3, seed=1)),
    "rounded 2 + 2": lambda n: (noise(n, 2).round(), noise(n, 2, seed=1).round()),
    "binary 5 + 5": lambda n: tuple((noise(n, 5, seed=s) > 0).double() for s in (0, 1)),
    "normal 5 and labels": lambda n: (noise(n, 5), (noise(n, seed=1)[:, 0] > 0).long()),
    "normal 1 + 1": lambda n: (noise(n), noise(n, seed=1)),
}


@pytest.mark.parametrize("n", [500, 1000, 2000, 5000])
@pytest.mark.parametrize("law", INDEPENDENT)
def test_where_independent_variables_would_share_bits_it_says_so(law: str, n: int) -> None:
    # mypy: a function of the table
    estimate = EDGE()(*INDEPENDENT[law](n))  # type: ignore[no-untyped-call]
    off = float(estimate.bits)
    null = float(estimate.diagnostics["null_bits"])
    assert bool(estimate.flags["undersampled"]) == (null > 0.1)
    assert abs(off - null) < 0.15
    assert null > 0.1 or off < 0.2
    if law == "normal 1 + 1":
        assert null < 0.1
    if law == "normal 2 + 2" and n < 5000:
        assert off > 0.2


# --- samples in groups ---


def corners(n: int, count: int, d: int, jitter: float, seed: int) -> tuple[Tensor, Tensor]:
    """Samples within ``jitter`` of one of ``count`` places in d dimensions, and which."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(0, count, (n,), generator=generator)
    line = torch.arange(count, dtype=torch.float64)[:, None]
    places = line if d == 1 else torch.randn(count, d, generator=generator, dtype=torch.float64)
    return places[at] + jitter * noise(n, d, seed=seed + 1), at


def bits_of(at: Tensor) -> float:
    return float(Exact()(at, at).bits)


DOUBTS = ("unresolved", "undersampled", "above_entropy", "near_ceiling")


@pytest.mark.parametrize(
    ("scale", "n"), [("rank", 500), ("rank", 2000), ("rank", 8000), ("column", 500)]
)
@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_of_samples_in_groups_it_tells_which_or_says_that_it_does_not(
    count: int, d: int, n: int, scale: Scale
) -> None:
    t, at = corners(n, count, d, 1e-3, seed=count + d)
    smeared = at[:, None] + 1e-3 * noise(n, seed=9)
    parity = at % 2 ^ (at // 2) % 2  # of the two lowest bits: their exclusive or
    for y, truth in ((at, bits_of(at)), (smeared, bits_of(at)), (parity, bits_of(parity))):
        for first, second in ((t, y), (y, t)):
            estimate = EDGE(scale=scale)(first, second)
            said = any(bool(estimate.flags[flag]) for flag in DOUBTS)
            near = abs(float(estimate.bits) - truth) < 0.1
            assert near or said
            assert near or count > 4 or d > 1


@pytest.mark.parametrize("n", [500, 2000, 8000])
@pytest.mark.parametrize("units", [2, 3, 5, 8])
@pytest.mark.parametrize("jitter", [0.0, 1e-6, 0.05, 0.2])
def test_saturated_units_and_a_function_of_two_of_them(n: int, units: int, jitter: float) -> None:
    generator = torch.Generator().manual_seed(units)
    on = torch.randint(0, 2, (n, units), generator=generator)
    y = on[:, 0] ^ on[:, 1]
    t = 2.0 * on - 1 + jitter * noise(n, units, seed=3)
    for second in (y, y[:, None] + 0.01 * noise(n, seed=4)):
        estimate = EDGE()(t, second)
        said = any(bool(estimate.flags[flag]) for flag in DOUBTS)
        assert said or abs(float(estimate.bits) - 1) < 0.1


@pytest.mark.parametrize("law", problems.all_problems(), ids=lambda law: law.name)
@pytest.mark.parametrize("n", [500, 2000])
def test_on_every_law_it_is_right_or_says_that_it_is_not(law: Problem, n: int) -> None:
    estimate = EDGE()(*law.sample(n, seed=0))
    said = any(bool(raised.any()) for raised in estimate.flags.values())
    assert said or abs(float(estimate.bits) - law.bits) < 0.15
