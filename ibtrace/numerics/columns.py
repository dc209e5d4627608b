"""Extremes of columns, and bounds on their spreads: what proves most flags without a sort."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ibtrace.numerics.compiled import kernels


class Bounds(NamedTuple):
    """What a number of each column lies between, ``(..., d)`` each."""

    low: Tensor
    high: Tensor


class _Extremes(NamedTuple):
    """The ends of columns, and whether all values are finite (None: nobody looked)."""

    ends: Bounds
    finite: bool | None


class Spreads(NamedTuple):
    """What is typical of each column, ``(..., d)``.

    Args:
        middle: Its median.
        typical: The median of the distances from it that are not 0; 1 where there are none.
        varies: Whether there are any.
    """

    middle: Tensor
    typical: Tensor
    varies: Tensor


class _Held(threading.local):
    """Values of which many ask the extremes, and those once they are known."""

    values: Tensor | None = None
    known: _Extremes | None = None


_held = _Held()


@contextlib.contextmanager
def held(values: Tensor) -> Iterator[None]:
    """Within it these values do not change: their `extremes` are taken once, whoever asks."""
    before = _held.values, _held.known
    _held.values, _held.known = values.detach(), None
    try:
        yield
    finally:
        _held.values, _held.known = before


def _are_held(values: Tensor) -> bool:
    """Whether these are the values at hand, in the same place of memory."""
    known = _held.values
    return (
        known is not None
        and known.data_ptr() == values.data_ptr()
        and known.shape == values.shape
        and known.stride() == values.stride()
        and known.dtype == values.dtype
    )


def extremes(values: Tensor) -> Bounds:
    """The least and the largest value of each column of floats ``(..., n, d)``, n above 0.

    On the CPU one compiled pass, in which NaN does not count; elsewhere a column with NaN has NaN.
    """
    return _looked_at(values).ends


def surely_finite(values: Tensor) -> bool:
    """Whether the values at hand (`held`) are known to be finite; of all others nothing is."""
    return _are_held(values) and compilable(values) and bool(_looked_at(values).finite)


def _looked_at(values: Tensor) -> _Extremes:
    """The extremes, of values at hand from the one time that they are taken."""
    if not _are_held(values):
        return _look(values)
    if _held.known is None:
        _held.known = _look(values)
    return _held.known


def _look(values: Tensor) -> _Extremes:
    if not compilable(values):
        return _Extremes(Bounds(*values.aminmax(dim=-2)), None)
    *lead, n, d = values.shape
    low, high = (values.new_empty(*lead, d) for _ in range(2))
    rows = values.detach().reshape(math.prod(lead), n, d).contiguous()
    finite = kernels("_columns").extremes(
        rows.numpy(), *(end.view(len(rows), d).numpy() for end in (low, high))
    )
    return _Extremes(Bounds(low, high), finite)


def spread_bounds(values: Tensor, ends: Bounds | None = None) -> Bounds:
    """Bounds of the median of the distances from a column's median that are not 0, on the CPU.

    From how many of a column's values lie in each 64th of its range: two passes over them, some
    twenty times faster than the sort that tells it exactly. Where little is known they are 0 and
    infinite, and both are 0 of a column that never varies.

    Args:
        values: Finite floats of 32 or 64 bits, ``(..., n, d)``, n above 0.
        ends: Their `extremes`, if these are known.
    """
    *lead, n, d = values.shape
    least, most = (torch.empty(*lead, d, dtype=torch.float64) for _ in range(2))
    rows = values.detach().reshape(math.prod(lead), n, d).contiguous()
    low, high = (end.view(len(rows), d).numpy() for end in ends or extremes(rows))
    kernels("_columns").spread_bounds(
        rows.numpy(), low, high, *(each.view(len(rows), d).numpy() for each in (least, most))
    )
    return Bounds(least, most)


def spreads(values: Tensor) -> Spreads:
    """The spreads of the columns of finite floats ``(..., n, d)``, in float64."""
    if values.device.type != "cpu":
        return spreads_by_sorting(values)
    *lead, n, d = values.shape
    wide = values.detach() if values.element_size() >= 4 else values.detach().float()
    ends = (end.view(-1).numpy() for end in extremes(wide))
    columns = wide.mT.contiguous().view(math.prod(lead) * d, n).numpy()
    middle, typical = (torch.empty(*lead, d, dtype=torch.float64) for _ in range(2))
    varies = torch.empty(*lead, d, dtype=torch.bool)
    filled = (each.view(-1).numpy() for each in (middle, typical, varies))
    kernels("_columns").spreads(columns, *ends, *filled)
    return Spreads(middle, typical, varies)


def spreads_apart(values: Tensor, factor: float, faint: float) -> Tensor:
    """Whether spreads of columns of finite floats ``(..., n, d)`` on the CPU differ, ``(...)``.

    Bounds tell it of nearly all; only columns that could still decide it are sorted.

    Args:
        values: The columns, n above 0.
        factor: By more than it.
        faint: A spread of this part of the median, or less, does not count.
    """
    *lead, n, d = values.shape
    wide = values if values.element_size() >= 4 else values.float()
    ends = Bounds(*(end.view(math.prod(lead), d) for end in extremes(wide)))
    rows = wide.detach().reshape(math.prod(lead), n, d).contiguous()
    least, most = spread_bounds(rows, ends)
    largest = torch.maximum(ends.low.abs(), ends.high.abs())
    unsure = largest.to(torch.float64).mul_(faint)
    apart, asked = torch.empty(len(rows), dtype=torch.bool), torch.empty(len(rows), d).bool()
    arrays = [each.numpy() for each in (least, most, unsure)]
    while True:
        kernels("_columns").judge_apart(*arrays, factor, apart.numpy(), asked.numpy())
        if not bool(asked.any()):
            return apart.reshape(lead)
        known = spreads(rows.mT[asked].unsqueeze(-1))
        middle, typical, varies = (part.squeeze(-1) for part in known)
        counts = varies & (typical > faint * middle.abs())
        least[asked] = most[asked] = typical.where(counts, 0.0)
        unsure[asked] = 0.0


def spreads_by_sorting(values: Tensor) -> Spreads:
    """`spreads` in torch, on any device.

    The k + 1 samples nearest to the median follow one another in order. As such a window moves up,
    its lower end comes nearer and its upper end goes away: bisection finds the one whose farther
    end is nearest, which is k-th of the distances.
    """
    columns, n = ordered(values).to(torch.float64), values.shape[-2]
    middle = median(columns)
    zeros = (columns == middle.unsqueeze(-1)).sum(-1)
    k = rank(zeros, n)

    def ends(at: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (columns.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (at, at + k))
        return middle - low, high - middle

    first, last = torch.zeros_like(k), n - 1 - k
    for _ in range(n.bit_length()):
        half = (first + last) // 2
        lower, upper = ends(half)
        up = (lower > upper) & (first < last)
        first, last = torch.where(up, half + 1, first), torch.where(up, last, half)
    near = [torch.maximum(*ends(at)) for at in (first, (first - 1).clamp(min=0))]
    typical = torch.where(zeros < n, torch.minimum(*near), 1.0)
    return Spreads(middle, typical, zeros < n)


def ordered(x: Tensor) -> Tensor:
    """The columns of ``x (..., n, d)`` in ascending order, ``(..., d, n)``."""
    x = x.float() if x.element_size() < 4 else x
    if x.device.type != "cpu":
        return x.mT.sort(-1).values
    return torch.from_numpy(np.sort(x.mT.contiguous().numpy(), -1))  # many times faster than torch


def median(ordered: Tensor) -> Tensor:
    """The medians of ascending columns ``(..., n)``, halfway between two if n is even."""
    n = ordered.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def rank(zeros: Tensor, n: int) -> Tensor:
    """The place among n distances in order of the median of those that are not 0."""
    return (zeros + (n - 1 - zeros) // 2).clamp(max=n - 1)


def compilable(values: Tensor) -> bool:
    """Whether there are compiled loops for these values."""
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)
