"""Variational: the bounds with the analytic critic, naive twins, and what training must keep."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import ConfigError, NonFinite, TooFewSamples
from ibtrace.estimators.variational import Variational
from ibtrace.numerics.variational import (
    donsker_varadhan,
    infonce,
    jensen_shannon,
    nwj,
    smile,
)
from ibtrace.problems import BivariateNormal, Problem

LN2 = math.log(2)
Bound = Callable[[Tensor], Tensor]
QUICK = Variational(hidden=16, embedding=8, steps=60, batch=32)


def analytic(problem: Problem, k: int, seed: int = 0) -> Tensor:
    """Log p(x, y) / p(x) p(y) in nats for all pairs of k samples, ``(k, k)``."""
    x, y = problem.sample(k, seed=seed)
    pairs = problem.log_ratio(x.repeat_interleave(k, 0), y.repeat(k, *[1] * (y.dim() - 1)))
    return pairs.reshape(k, k) * LN2


def random_scores(k: int, seed: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(k, k, generator=generator, dtype=torch.float64)


# --- the bounds -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1v1-normal-0.75", "1v1-normal-0.9", "uniform-label-5-1"])
def test_the_analytic_critic_makes_donsker_varadhan_and_nwj_tight(name: str) -> None:
    problem = problems.make(name)
    scores = analytic(problem, 1500)
    for local in (donsker_varadhan(scores), nwj(scores), smile(scores, 50.0)):
        error = float(local.std()) / len(local) ** 0.5
        assert float(local.mean()) == pytest.approx(problem.bits, abs=4 * error + 1e-9)
        assert error < 0.05


def test_infonce_with_the_analytic_critic_stays_below_the_truth_and_its_ceiling() -> None:
    problem = BivariateNormal(0.999)  # 4.48 bits
    for k in (4, 16, 512):
        values = torch.stack([infonce(analytic(problem, k, seed)).mean() for seed in range(5)])
        assert float(values.max()) <= math.log2(k)
        assert float(values.mean()) <= problem.bits
    assert float(values.mean()) > 0.9 * problem.bits


def test_clipping_exceeds_the_truth_where_scores_pass_it() -> None:
    problem = BivariateNormal(0.999)
    clipped = float(smile(analytic(problem, 1000), 0.5).mean())
    assert clipped > problem.bits + 0.5


def naive(scores: Tensor, tau: float = 1.0) -> dict[str, float]:
    """Each bound by loops, in bits."""
    k, f = len(scores), scores.tolist()
    joint = sum(f[i][i] for i in range(k)) / k
    others = [f[i][j] for i in range(k) for j in range(k) if i != j]
    mean = sum(math.exp(s) for s in others) / len(others)
    clipped = sum(math.exp(min(max(s, -tau), tau)) for s in others) / len(others)
    rows = [math.log(sum(math.exp(s) for s in row) / k) for row in f]
    return {
        "dv": (joint - math.log(mean)) / LN2,
        "nwj": (joint + 1 - mean) / LN2,
        "infonce": (joint - sum(rows) / k) / LN2,
        "smile": (joint - math.log(clipped)) / LN2,
    }


@settings(max_examples=40)
@given(k=st.integers(2, 12), seed=st.integers(0, 10_000), scale=st.floats(0, 4))
def test_bounds_equal_their_naive_twins_and_are_in_order(k: int, seed: int, scale: float) -> None:
    scores = random_scores(k, seed, scale)
    found = {
        "dv": donsker_varadhan(scores),
        "nwj": nwj(scores),
        "infonce": infonce(scores),
        "smile": smile(scores, 1.0),
    }
    means = {name: float(local.mean()) for name, local in found.items()}
    assert means == pytest.approx(naive(scores), rel=1e-9, abs=1e-9)
    assert all(local.shape == (k,) for local in found.values())
    assert means["nwj"] <= means["dv"] + 1e-9
    assert means["infonce"] <= math.log2(k) + 1e-9


def poor_scores(k: int, seed: int) -> Tensor:
    """A critic whose means over rows and columns vary, as those of the analytic one do not."""
    x, y = BivariateNormal(0.75).sample(k, seed=seed)
    return 0.5 * x @ y.T + 0.3 * x + 0.6 * y.T


@pytest.mark.parametrize("bound", [donsker_varadhan, nwj, infonce])
def test_the_spread_of_local_values_is_the_standard_error(bound: Bound) -> None:
    local = [bound(poor_scores(150, seed)) for seed in range(300)]
    claimed = torch.stack([values.var() / 150 for values in local]).mean().sqrt()
    spread = torch.stack([values.mean() for values in local]).std()
    assert float(claimed) == pytest.approx(float(spread), rel=0.15)


def test_the_log_ratio_is_the_best_critic_of_the_jensen_shannon_objective() -> None:
    scores = analytic(BivariateNormal(0.75), 600)
    best = float(jensen_shannon(scores))
    for other in (0.5 * scores, 1.5 * scores, scores + 0.5, scores - 0.5):
        assert float(jensen_shannon(other)) < best
    zero = float(jensen_shannon(torch.zeros(5, 5)))
    assert zero == pytest.approx(-2 * LN2)


# --- the estimator --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["dv", "nwj", "infonce", "smile"])
def test_a_trained_critic_comes_near_the_truth_from_below(bound: str) -> None:
    for problem in (BivariateNormal(0.75), problems.make("uniform-label-5-1")):
        x, y = problem.sample(3000, seed=1)
        # mypy: a text of a parameter
        found = Variational(bound, hidden=32, steps=400)(x, y)  # type: ignore[arg-type]
        assert problem.bits - 0.2 < float(found.bits)
        assert float(found.bits) < problem.bits + 3 * float(found.stderr)


def test_two_tables_of_ids_are_learnt() -> None:
    ids = torch.arange(400) % 4
    found = Variational(hidden=16, embedding=8, steps=200, batch=64)(ids, ids // 2)
    assert float(found.bits) == pytest.approx(1, abs=0.1)
    assert not bool(found.flags["unseen_ids"])
    assert bool(QUICK(torch.arange(400), ids).flags["unseen_ids"])


def test_the_ceiling_of_infonce_is_said_and_flagged() -> None:
    x = torch.randn(1600, 8, generator=torch.Generator().manual_seed(0))
    found = Variational(batch=16, steps=400)(x, x)
    assert float(found.diagnostics["ceiling"]) == 4
    assert 3.8 < float(found.bits) <= 4
    assert bool(found.flags["near_ceiling"])
    assert float(QUICK(x, x).diagnostics["ceiling"]) == pytest.approx(math.log2(32), abs=0.001)
    other = Variational("nwj", hidden=8, steps=20)(x, x)
    assert math.isnan(float(other.diagnostics["ceiling"]))
    assert not bool(other.flags["near_ceiling"])


def test_independent_variables_give_numbers_on_both_sides_of_zero() -> None:
    values = []
    for seed in range(12):
        x, y = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(seed))
        values.append(float(QUICK(x, y, seed=seed).bits))
    assert min(values) < 0
    assert sum(values) / 12 < 0.05


def test_the_result_follows_the_seed_and_the_samples_but_not_their_order() -> None:
    x, y = BivariateNormal(0.9).sample(120, seed=0)
    state, before = torch.get_rng_state(), x.clone()
    found = QUICK(x, y, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)
    assert torch.equal(QUICK(x, y, seed=3).bits, found.bits)
    assert not torch.equal(QUICK(x, y, seed=4).bits, found.bits)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(QUICK(x[order], y[order], seed=3).bits, found.bits)
    with torch.inference_mode():
        assert torch.equal(QUICK(x.clone(), y.clone(), seed=3).bits, found.bits)
    scaled = QUICK(100 * x.requires_grad_() + 5, y, seed=3)
    assert not scaled.bits.requires_grad


def test_training_sees_nothing_of_the_half_that_gives_the_estimate() -> None:
    """A critic that could learn the pairs by heart finds nothing in noise."""
    x, y = torch.randn(2, 60, 40, generator=torch.Generator().manual_seed(0))
    found = Variational(hidden=64, steps=300)(x, y)
    assert float(found.bits) < 3 * float(found.stderr)
    labels = torch.arange(60)
    assert float(Variational("dv", steps=100)(labels, labels).bits) < 1


def test_batches_are_loops_and_broadcast() -> None:
    x, y = BivariateNormal(0.9).sample(60, seed=0)
    many = torch.stack([y, y.roll(1, 0)])
    for other in (x, torch.arange(60) % 3):
        found = QUICK(other, many)
        one_by_one = [QUICK(other, one) for one in many]
        torch.testing.assert_close(found.bits, torch.stack([e.bits for e in one_by_one]))
        assert found.diagnostics["steps"].shape == (2,)


def test_progress_is_reported_and_is_no_part_of_the_value() -> None:
    x, y = BivariateNormal(0.9).sample(60, seed=0)
    seen: list[tuple[int, int]] = []
    reporting = QUICK.reporting(lambda step, steps: seen.append((step, steps)))
    assert torch.equal(reporting(x, y).bits, QUICK(x, y).bits)
    assert seen == [(step, 60) for step in range(1, 61)]
    assert reporting == QUICK
    assert repr(reporting) == repr(QUICK)
    assert pickle.loads(pickle.dumps(QUICK)) == copy.deepcopy(QUICK) == QUICK


def test_training_stops_when_the_check_says_so_and_says_when_it_did_not() -> None:
    x, y = torch.randn(2, 200, 20, generator=torch.Generator().manual_seed(0))
    steps: list[int] = []
    early = Variational(hidden=32, steps=2000).reporting(lambda step, _: steps.append(step))
    found = early(x, y)
    assert len(steps) < 2000
    assert float(found.diagnostics["steps"]) == len(steps) - 200
    assert not bool(found.flags["still_improving"])
    stopped = Variational(hidden=32, steps=len(steps) - 200)(x, y)
    assert torch.equal(stopped.bits, found.bits)  # what came after the best is forgotten
    a, b = BivariateNormal(0.99).sample(1000, seed=0)
    assert bool(QUICK(a, b).flags["still_improving"])


def test_a_constant_variable_holds_nothing() -> None:
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    for still in (torch.zeros(30, dtype=torch.int64), torch.full((30, 1), 2.0)):
        found = QUICK(x, still)
        assert float(found.bits) == 0
        assert bool(found.flags["constant"])
    partly = torch.cat([x, torch.full((30, 1), 7.0)], 1)
    assert bool(QUICK(partly, x).bits.isfinite())


def test_bad_input_and_bad_configuration_say_what_to_do() -> None:
    x = torch.randn(30, 2)
    with pytest.raises(TooFewSamples, match="at least 20 samples, got 19"):
        Variational()(x[:19], x[:19])
    with pytest.raises(NonFinite, match="x has 2 NaN"):
        Variational()(torch.where(x == x[0], torch.nan, x), x)
    with pytest.raises(ConfigError, match="bound must be one of dv, nwj, infonce, smile"):
        Variational("club")  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="batch must be a whole number of at least 2"):
        Variational(batch=1)
    with pytest.raises(ConfigError, match="learning_rate must be positive"):
        Variational(learning_rate=0)
