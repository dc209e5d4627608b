"""Compiled passes over columns against torch: extremes, spreads, bounds, flags."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.numerics import columns, scale

KINDS = {
    "plain": lambda x: x,
    "relu": lambda x: (x - 0.5).relu(),
    "saturated": lambda x: torch.tanh(5 * x),
    "far": lambda x: x + 1000,
    "very far": lambda x: x + 1e6,
    "heavy tails": lambda x: x.pow(9),
    "lattice": lambda x: (2 * x).round(),
    "constant": lambda x: torch.ones_like(x),
    "tiny": lambda x: 1e-35 * x,
}
DTYPES = [torch.float32, torch.float64]


def drawn(seed: int, lead: int, n: int, d: int, unequal: float, dtype: torch.dtype) -> Tensor:
    """Columns of several kinds and spreads beside each other."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(lead, n, d, generator=generator, dtype=torch.float64)
    x = x * torch.exp(unequal * torch.randn(d, generator=generator))
    makes = list(KINDS.values())
    picked = torch.randint(len(makes), (d,), generator=generator).tolist()
    if seed % 2:
        picked = [picked[0]] * d
    parts = [makes[kind](x[..., at]) for at, kind in enumerate(picked)]
    return torch.stack(parts, -1).to(dtype)


shapes = {
    "seed": st.integers(0, 2**20),
    "lead": st.integers(1, 3),
    "n": st.one_of(st.integers(1, 90), st.integers(91, 500)),
    "d": st.integers(1, 7),
    "unequal": st.floats(0, 2),
}


@pytest.mark.parametrize("dtype", DTYPES)
@given(**shapes)
@settings(max_examples=80)
def test_spreads_are_those_of_the_twin_and_lie_within_their_bounds(
    dtype: torch.dtype, seed: int, lead: int, n: int, d: int, unequal: float
) -> None:
    values = drawn(seed, lead, n, d, unequal, dtype)
    low, high = columns.extremes(values)
    assert torch.equal(low, values.amin(-2))
    assert torch.equal(high, values.amax(-2))
    spreads, twin = columns.spreads(values), columns.spreads_by_sorting(values)
    assert all(torch.equal(*pair) for pair in zip(spreads, twin, strict=True))
    least, most = columns.spread_bounds(values)
    typical = spreads.typical.where(spreads.varies, 0.0)
    assert bool((least <= typical).all())
    assert bool((typical <= most).all())


@pytest.mark.parametrize("factor", [1.5, 10.0])
@pytest.mark.parametrize("dtype", DTYPES)
@given(**shapes)
@settings(max_examples=80)
def test_columns_are_apart_where_their_sorted_spreads_are(
    dtype: torch.dtype, factor: float, seed: int, lead: int, n: int, d: int, unequal: float
) -> None:
    values = drawn(seed, lead, n, d, unequal, dtype)
    twin = scale._apart(columns.spreads_by_sorting(values), factor)
    assert torch.equal(scale.columns_apart(values, factor), twin if d > 1 else twin & False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_samples_and_many_columns_have_the_spreads_of_the_twin(dtype: torch.dtype) -> None:
    for n, d in ((70_001, 3), (140_000, 2), (300, 90)):
        values = drawn(n, 1, n, d, 1.0, dtype)
        spreads, twin = columns.spreads(values), columns.spreads_by_sorting(values)
        assert all(torch.equal(*pair) for pair in zip(spreads, twin, strict=True))
        least, most = columns.spread_bounds(values)
        typical = spreads.typical.where(spreads.varies, 0.0)
        assert bool(((least <= typical) & (typical <= most)).all())


def test_bounds_tell_most_without_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(values: Tensor) -> columns.Spreads:
        raise AssertionError(f"columns of {tuple(values.shape)} were sorted")

    monkeypatch.setattr(columns, "spreads", unasked)
    x = torch.randn(3, 500, 20, generator=torch.Generator().manual_seed(0))
    assert scale.columns_apart(x).tolist() == [False] * 3
    x[1, :, 4] *= 100
    assert scale.columns_apart(x).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@given(**shapes)
@settings(max_examples=80)
def test_extremes_prove_nothing_that_is_rounded_to_be_fine(
    dtype: torch.dtype, seed: int, lead: int, n: int, d: int, unequal: float
) -> None:
    values = drawn(seed, lead, n, d, unequal, dtype)
    known = scale.ends(values)
    assert known is not None
    if scale._surely_not_rounded(known, n):
        doubles = values.double()
        low, high = doubles.aminmax(dim=-2)
        deviation, mean = doubles.std(-2, correction=0), doubles.mean(-2)
        steps = 100 * torch.finfo(torch.float32).eps
        assert not bool(((low < high) & (deviation <= steps * mean.abs())).any())


def test_nan_is_no_extreme_and_infinity_is() -> None:
    values = torch.tensor([[1.0, torch.inf], [torch.nan, 0.0], [3.0, -1.0]])
    low, high = columns.extremes(values)
    assert low.tolist() == [1.0, -1.0]
    assert high.tolist() == [3.0, torch.inf]
    assert torch.equal(scale.squarable(1e35 * values)[0].isnan(), values.isnan())
