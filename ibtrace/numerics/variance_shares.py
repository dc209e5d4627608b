"""Which of several choices explains how much of the spread of their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Shares(NamedTuple):
    """Shares of a variance; they add to 1, and are NaN where nothing varies.

    Args:
        group: Of the means of the groups.
        factors: Of each factor, within the groups.
        rest: Of what the factors do together beyond the sum of what each does.
    """

    group: float
    factors: dict[str, float]
    rest: float


def variance_shares(
    values: Array, groups: Sequence[str], factors: Mapping[str, Sequence[str]]
) -> Shares:
    r"""The variance of outcomes, parted among a grouping and the factors within its groups.

    .. math:: \sum_i (v_i - \bar v)^2 = \sum_g n_g (\bar v_g - \bar v)^2
              + \sum_f \sum_g \phi_{fg} + \text{rest}

    A factor may be known in some groups alone (the number of bins, of binnings). Within a group
    :math:`\phi_{fg}` is its Shapley value: how much more of the group's sum of squares the least
    squares fit of additive effects explains with the factor than without it, averaged over the
    orders in which factors enter (Lindeman, Merenda & Gold 1980). Where each level of one factor
    meets each of the others equally often it is the main effect of the analysis of variance.

    Args:
        values: The outcomes, ``(n,)``, finite.
        groups: The group of each.
        factors: The level of each outcome, by factor.

    Example:
        >>> levels = {"range": ["own", "own", "all", "all"], "bins": ["10", "30", "10", "30"]}
        >>> shares = variance_shares(np.array([0.0, 1.0, 4.0, 5.0]), ["binning"] * 4, levels)
        >>> {name: round(share, 3) for name, share in shares.factors.items()}
        {'range': 0.941, 'bins': 0.059}
    """
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    names = list(factors)
    spread = float(np.ptp(values)) if len(values) else 0.0
    if spread <= _ROUNDING * float(np.abs(values).max(initial=0.0)):
        return Shares(np.nan, dict.fromkeys(names, np.nan), np.nan)
    between, explained = 0.0, dict.fromkeys(names, 0.0)
    kinds = np.asarray(groups, dtype=object)
    for group in dict.fromkeys(groups):
        inside = kinds == group
        own = values[inside]
        between += len(own) * float(own.mean() - values.mean()) ** 2
        levels = {name: np.asarray(factors[name], dtype=object)[inside] for name in names}
        varying = [name for name in names if len({*levels[name]}) > 1]
        for name, part in _shapley(own, {name: levels[name] for name in varying}).items():
            explained[name] += part
    rest = total - between - sum(explained.values())
    return Shares(
        between / total,
        {name: part / total for name, part in explained.items()},
        max(rest, 0.0) / total,
    )


_ROUNDING = 1e-12


def _shapley(values: Array, levels: Mapping[str, NDArray[np.object_]]) -> dict[str, float]:
    """Each factor's part of the sum of squares that additive effects explain."""
    names, fits = list(levels), {}
    for size in range(len(names) + 1):
        for some in combinations(names, size):
            fits[frozenset(some)] = _explained(values, [levels[name] for name in some])
    parts = dict.fromkeys(names, 0.0)
    for before, fit in fits.items():
        orders = factorial(len(before)) * factorial(max(0, len(names) - len(before) - 1))
        for name in names:
            if name not in before:
                parts[name] += orders / factorial(len(names)) * (fits[before | {name}] - fit)
    return parts


def _explained(values: Array, factors: Sequence[NDArray[np.object_]]) -> float:
    """The sum of squares that the additive effects of some factors explain."""
    columns = [np.ones(len(values))]
    for levels in factors:
        columns += [(levels == level).astype(float) for level in [*dict.fromkeys(levels)][1:]]
    design = np.stack(columns, axis=1)
    effects, *_ = np.linalg.lstsq(design, values, rcond=None)
    return float(((design @ effects - values.mean()) ** 2).sum())
