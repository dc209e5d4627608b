"""Which laws and which data an estimator is held to."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ibtrace import problems
from ibtrace.errors import InvalidInput, Unsupported
from ibtrace.problems import Problem
from ibtrace.types import Estimator, Kind

Check = Callable[[Estimator], None]
Kinds = tuple[Kind, Kind]

EASY = (
    problems.BivariateNormal(0.75),
    problems.LinearGaussian(),
    problems.AdditiveUniform(0.75),
    problems.UniformLabel(3),
    problems.Swapped(problems.UniformLabel(3)),
    problems.make("gaussian-channel-4-points-0.7"),
    problems.make("swapped-gaussian-channel-4-points-0.7"),
    problems.Table(title="3x3"),
    problems.BinarySymmetric(0.02),
)
EXAMPLES: dict[Kinds, Problem] = {
    ("continuous", "continuous"): problems.LinearGaussian(),
    ("discrete", "continuous"): problems.make("gaussian-channel-4-points-0.7"),
    ("continuous", "discrete"): problems.make("swapped-gaussian-channel-4-points-0.7"),
    ("discrete", "discrete"): problems.Table(title="3x3"),
}


@runtime_checkable
class HeldTo(Protocol):
    """An estimator that says itself on which laws it is held to I(X;Y)."""

    @property
    def held_to(self) -> tuple[str, ...]:
        """Names of problems as `ibtrace.problems.make` takes them."""
        ...


def accepted_kinds(estimator: Estimator) -> list[Kinds]:
    """The kinds of (x, y) that an estimator takes: its tags, less what it declines."""
    return [kinds for kinds in EXAMPLES if tagged(estimator, kinds) and _takes(estimator, kinds)]


def truths(estimator: Estimator) -> list[Problem]:
    """The laws on which an estimator is held to I(X;Y), by the rule of `ibtrace.testing`.

    Raises:
        SkipTest: If there are none.
    """
    if isinstance(estimator, HeldTo):
        held = [problems.make(name) for name in estimator.held_to]
    else:
        kinds = held_kinds(estimator)
        held = [problem for problem in EASY if problem.kinds in kinds]
    if not held:
        raise unittest.SkipTest(f"{estimator!r} estimates {estimator.tags.estimand}")
    return held


def held_kinds(estimator: Estimator) -> list[Kinds]:
    """The kinds of (x, y) for which the estimand is I(X;Y) itself."""
    accepted = accepted_kinds(estimator)
    if estimator.tags.of_information:
        return accepted
    return [pair for pair in accepted if pair == ("discrete", "discrete")]


def tagged(estimator: Estimator, kinds: Kinds) -> bool:
    """Whether the tags say that an estimator takes these kinds of x and y."""
    return kinds[0] in estimator.tags.x and kinds[1] in estimator.tags.y


def examples(estimator: Estimator, n: int = 200) -> list[tuple[Tensor, Tensor]]:
    """Dependent data of every kind that an estimator takes."""
    return [EXAMPLES[kinds].sample(n, seed=1) for kinds in accepted_kinds(estimator)]


def tied_examples(estimator: Estimator) -> list[tuple[Tensor, Tensor]]:
    """Continuous data with repeated values, less what an estimator refuses."""
    pairs = []
    for x, y in examples(estimator, n=60):
        rounded_x, rounded_y = (v.round() if v.is_floating_point() else v for v in (x, y))
        try:
            estimator(rounded_x.clone(), rounded_y.clone())
        except InvalidInput:
            continue
        pairs.append((rounded_x, rounded_y))
    return pairs


def estimates(estimator: Estimator, problem: Problem, n: int, seeds: int) -> Tensor:
    """Estimates in bits on independent samples of a law, ``(seeds,)``."""
    values = [estimator(*problem.sample(n, seed=100 + s), seed=s).bits for s in range(seeds)]
    return torch.stack(values).cpu()


def _takes(estimator: Estimator, kinds: Kinds) -> bool:
    try:
        estimator(*EXAMPLES[kinds].sample(60, seed=0))
    except Unsupported:
        return False
    return True
