"""Shares of a variance: what a choice explains, by hand and by plain loops."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtrace.numerics.variance_shares import Array, variance_shares

LEVELS = [*product("ab", "xyz", "01")]
FACTORS = {name: [level[at] for level in LEVELS] for at, name in enumerate(("f", "g", "h"))}


def main_effect(values: Array, levels: list[str]) -> float:
    """The sum of squares of the means at each level."""
    total = 0.0
    for level in set(levels):
        own = [v for v, at in zip(values, levels, strict=True) if at == level]
        total += len(own) * (np.mean(own) - values.mean()) ** 2
    return float(total / ((values - values.mean()) ** 2).sum())


@given(st.lists(st.floats(-5, 5).map(lambda v: round(v, 3)), min_size=12, max_size=12))
def test_of_a_whole_grid_shares_are_main_effects(drawn: list[float]) -> None:
    values = np.array(drawn)
    if np.ptp(values) < 0.01:
        return
    shares = variance_shares(values, ["one"] * 12, FACTORS)
    assert shares.group == pytest.approx(0, abs=1e-9)
    for name, levels in FACTORS.items():
        assert shares.factors[name] == pytest.approx(main_effect(values, levels), abs=1e-9)
    assert sum(shares.factors.values()) + shares.rest == pytest.approx(1)


def explained(values: Array, factors: list[list[str]]) -> float:
    """The sum of squares of an additive fit, by the normal equations."""
    columns = [np.ones(len(values))]
    columns += [np.array([x == y for x in f], float) for f in factors for y in sorted(set(f))]
    design = np.stack(columns, 1)
    fitted = design @ (np.linalg.pinv(design) @ values)
    return float(((fitted - values.mean()) ** 2).sum())


def test_of_a_part_of_a_grid_shares_are_averages_over_orders() -> None:
    keep = [0, 1, 2, 3, 5, 6, 7, 10, 11]
    values = np.random.default_rng(0).normal(size=len(keep))
    factors = {name: [levels[at] for at in keep] for name, levels in FACTORS.items()}
    shares = variance_shares(values, ["one"] * len(keep), factors)
    total = float(((values - values.mean()) ** 2).sum())
    for name, share in shares.factors.items():
        gains = []
        for order in permutations(factors):
            before = [factors[other] for other in order[: order.index(name)]]
            gains.append(explained(values, [*before, factors[name]]) - explained(values, before))
        assert share == pytest.approx(np.mean(gains) / total)


def test_groups_and_their_own_factors_by_hand() -> None:
    """Two groups whose means are 0 and 4; k moves one of them by 1 up and down, w the other not."""
    values = np.array([-1.0, 1.0, 4.0, 4.0])
    factors = {"k": ["1", "2", "", ""], "w": ["", "", "1", "2"]}
    shares = variance_shares(values, ["a", "a", "b", "b"], factors)
    assert shares.group == pytest.approx(16 / 18)
    assert shares.factors == pytest.approx({"k": 2 / 18, "w": 0.0})
    assert shares.rest == pytest.approx(0, abs=1e-12)


def test_what_two_choices_do_only_together_is_the_rest() -> None:
    shares = variance_shares(
        np.array([0.0, 1.0, 1.0, 0.0]), ["a"] * 4, {"f": [*"xxyy"], "g": [*"0101"]}
    )
    assert shares.factors == pytest.approx({"f": 0.0, "g": 0.0})
    assert shares.rest == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [2.0], [0.1 + 0.2, 0.3, 0.3]])
def test_where_nothing_varies_there_are_no_shares(values: list[float]) -> None:
    n = len(values)
    shares = variance_shares(np.array(values), ["a"] * n, {"f": [str(k) for k in range(n)]})
    assert np.isnan([shares.group, shares.factors["f"], shares.rest]).all()
