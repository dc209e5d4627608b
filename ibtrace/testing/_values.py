"""Is the number right? Checks against laws whose information is known."""

from __future__ import annotations

import math
import unittest
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ibtrace import problems
from ibtrace.testing._applies import (
    EXAMPLES,
    accepted_kinds,
    estimates,
    held_kinds,
    truths,
)
from ibtrace.types import Estimator

TOLERANCE_BITS = 0.1
_ERROR_FACTOR = 1.6
_SPREAD_SEEDS = 32


def check_truth(estimator: Estimator) -> None:
    """On easy laws the mean over samples is I(X;Y), to 0.1 bit."""
    _no_bound(estimator)
    for problem in truths(estimator):
        bits = float(estimates(estimator, problem, n=1000, seeds=4).mean())
        numbers = f"{bits:.3f} bits on {problem.name}, whose I(X;Y) is {problem.bits:.3f}"
        assert abs(bits - problem.bits) <= TOLERANCE_BITS, f"{estimator!r} gives {numbers}"


def check_bound(estimator: Estimator) -> None:
    """A lower bound is not above I(X;Y) on average, an upper bound not below."""
    bound = estimator.tags.bound
    if bound == "none":
        raise unittest.SkipTest(f"{estimator!r} is no bound")
    for problem in truths(estimator):
        bits = estimates(estimator, problem, n=500, seeds=8)
        over = float(bits.mean()) - problem.bits
        numbers = f"{bits.mean():.3f} bits on {problem.name}, whose I(X;Y) is {problem.bits:.3f}"
        beyond = over if bound == "lower" else -over
        allowed = 3 * _error(bits) + 0.01
        assert beyond <= allowed, f"{estimator!r} says it is a {bound} bound and gives {numbers}"


def check_units(estimator: Estimator) -> None:
    """Bits, not nats: where I(X;Y) is large the estimate is not 0.69 of it."""
    _no_bound(estimator)
    for problem in truths(estimator):
        if problem.bits > 0.5:
            bits = float(estimates(estimator, problem, n=1000, seeds=4).mean())
            ratio = bits / problem.bits
            numbers = f"{ratio:.2f} of I(X;Y) on {problem.name} (nats for bits are 0.69 of it)"
            assert 0.8 < ratio < 1.25, f"{estimator!r} gives {numbers}"


def check_independence(estimator: Estimator) -> None:
    """On independent variables estimates scatter around 0, below it too: nothing is clipped."""
    kinds = held_kinds(estimator)
    if not kinds:
        raise unittest.SkipTest(f"{estimator!r} estimates {estimator.tags.estimand}")
    for x, y in kinds:
        bits = estimates(estimator, problems.Independent(x, y, levels=2), n=400, seeds=24)
        mean, error, what = float(bits.mean()), _error(bits), f"independent {x} X and {y} Y"
        numbers = f"{mean:.4f} ± {error:.4f} bits on {what}"
        near = mean <= 4 * error + 0.005 if estimator.tags.bound == "lower" else True
        near = abs(mean) <= 4 * error + 0.005 if estimator.tags.bound == "none" else near
        assert near, f"{estimator!r} gives {numbers}"
        # An empirical table never has negative information: of ids alone, only zeros tell.
        telling = bits == 0 if x == y == "discrete" else bits >= 0
        clipped = bool(telling.all())
        assert not clipped, f"{estimator!r} gives no negative value on {what}; is it clipped?"


def check_data_processing(estimator: Estimator) -> None:
    """Merging ids, or adding noise to Y, does not add information."""
    for what, more, less in _processed(estimator):
        gain = float(estimator(*less).bits - estimator(*more).bits)
        assert gain <= 1e-9, f"{estimator!r}: {what} adds {gain:.3g} bits"


def check_stderr(estimator: Estimator) -> None:
    """A standard error, where given, is within a factor of 1.6 of the spread over samples.

    It is that of the draw of the samples; what an estimator is off on average (its bias), what it
    draws itself (slices, critics, splits) and the choice of its fields are not in it.
    """
    for kinds in accepted_kinds(estimator):
        repeated = [estimator(*EXAMPLES[kinds].sample(n=300, seed=s)) for s in range(_SPREAD_SEEDS)]
        claimed = torch.stack([estimate.stderr for estimate in repeated]).cpu()
        assert not bool((claimed < 0).any()), f"{estimator!r} gives a negative stderr"
        if kinds in held_kinds(estimator) and not bool(torch.isnan(claimed).any()):
            spread = float(torch.stack([estimate.bits for estimate in repeated]).cpu().std())
            mean = float(claimed.mean())
            numbers = f"stderr {mean:.4f} where estimates spread by {spread:.4f} bits"
            near = spread / _ERROR_FACTOR <= mean <= _ERROR_FACTOR * spread
            assert near, f"{estimator!r} gives {numbers}"


def _processed(
    estimator: Estimator,
) -> Iterator[tuple[str, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """What was done, the data before it, and the data after it."""
    held = held_kinds(estimator)
    for kinds in accepted_kinds(estimator):
        x, y = EXAMPLES[kinds].sample(400, seed=2)
        if kinds[0] == "discrete":
            yield "merging ids of x", (x, y), (x // 2, y)
        if kinds[1] == "discrete":
            yield "merging ids of y", (x, y), (x, y // 2)
        if kinds == ("continuous", "continuous") and kinds in held:
            noise = torch.from_numpy(np.random.default_rng(3).standard_normal(y.shape))
            yield "adding noise to y", (x, y), (x, y + 2 * noise)


def _error(bits: Tensor) -> float:
    spread = float(bits.std())
    return spread / math.sqrt(len(bits))


def _no_bound(estimator: Estimator) -> None:
    if estimator.tags.bound != "none":
        raise unittest.SkipTest(f"{estimator!r} is a bound: check_bound applies")
