"""The laws of a comparison by default: easy ones of every kind, and some that defeat estimators."""

from __future__ import annotations

from ibtrace import problems
from ibtrace.problems import Problem

_EASY = (
    "1v1-normal-0.75",
    "1v1-normal-0.99",
    "1v1-additive-0.1",
    "student-identity-3-3-2",
    "spiral-multinormal-sparse-3-3-2-2.0",
    "normal-with-atoms-0.9-0.8-0.5",
    "swapped-uniform-label-5-1",
    "swapped-gaussian-channel-4-points-0.7",
    "table-3x3",
    "independent-continuous-continuous-1-1",
)
_HARD = (
    problems.BivariateNormal(0.9999),
    problems.BivariateNormal(0.999999),
    problems.SparseNormal(25, 25),
    problems.DenseNormal(25, 25),
    problems.SparseNormal(10, 10, pairs=10, strength=4.0),
)


def suite() -> dict[str, Problem]:
    """The laws of ``ibtrace compare`` by default, by name.

    The last five are there to show failures: nearest neighbours saturate at high information
    and in many dimensions, and InfoNCE cannot exceed the logarithm of its batch.
    """
    easy = [problems.make(name) for name in _EASY]
    return {law.name: law for law in (*easy, *_HARD)}
