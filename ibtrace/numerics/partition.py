"""Which rows are equal, and what they then tell of X: exact, and cheap enough for every look."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ibtrace.numerics.bins import certainly_distinct, dense_ids, row_ids
from ibtrace.numerics.entropy import distinct, pair_counts, plug_in, sample_counts

_COLUMNS = 64


class Partition(NamedTuple):
    """What the distinct rows of T say, one number for each problem.

    Args:
        rows: The number of distinct rows, int64 ``(...)``.
        bits: I(X;T) of the samples as they are, each of mass 1/n, float64 ``(...)``.
    """

    rows: Tensor
    bits: Tensor


def partition(t: Tensor, x_ids: Tensor) -> Partition:
    """The distinct rows of T and the exact I(X;T) of the samples.

    .. math:: I(X;T) = H(X) + H(T) - H(X, T)

    Where all rows are distinct, as nearly always in a network of continuous activations, that
    is H(X), and one hash of up to 64 columns and one sort show it. Else rows are compared in
    full, but only those that are equal in these columns.

    Cost: O(n log n) where the rows are distinct in 64 columns, else O(n d + n log n) time.

    Args:
        t: Integers or finite floats, ``(problems, n, d)``.
        x_ids: Which inputs are equal, ids below n, ``(n,)``.

    >>> t = torch.tensor([[[0.0], [1.0], [1.0], [3.0]], [[0.0], [1.0], [2.0], [3.0]]])
    >>> partition(t, torch.arange(4))
    Partition(rows=tensor([3, 4]), bits=tensor([1.5000, 2.0000], dtype=torch.float64))
    """
    n = t.shape[-2]
    if t.is_complex():
        t = torch.view_as_real(t).flatten(-2)
    elif t.is_floating_point() and t.element_size() < 2:
        t = t.float()
    x = sample_counts(x_ids)
    # First as if all rows were distinct; then only those problems in which some may not be.
    rows = torch.full(t.shape[:1], n, device=t.device)
    bits = plug_in(x, torch.ones_like(x), torch.ones_like(x)).bits
    bits = bits.expand(t.shape[:1]).clone()
    # What differs in some columns differs; what is equal in them has to be looked at in full.
    subset = t[..., :: _step(t)]
    for problem in (~certainly_distinct(subset)).nonzero()[:, 0].tolist():
        ids = _ids(t[problem])
        counts = sample_counts(ids)
        rows[problem] = distinct(counts)
        joint = pair_counts(x_ids, ids)
        bits[problem] = plug_in(x, counts, joint).bits
    return Partition(rows, bits)


def _step(t: Tensor) -> int:
    return max(1, t.shape[-1] // _COLUMNS)


def _ids(rows: Tensor) -> Tensor:
    """`row_ids` of one problem; rows that differ in some columns are not compared in the others."""
    step = _step(rows)
    ids = row_ids(rows[:, ::step].contiguous())
    tied = sample_counts(ids) > 1
    if step > 1 and bool(tied.any()):
        ids[tied] = len(rows) + row_ids(rows[tied])
        ids = dense_ids(ids)
    return ids
