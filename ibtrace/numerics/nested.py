"""Bins whose widths double: every partition from the one before, and what it tells.

A cell of width 2w is two cells of width w in each column, so that the rows that are alike at a
width are found among the distinct rows of the next finer one. The finest partition costs one hash
and sort of all rows, each coarser one those of the rows that are still distinct.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ibtrace.numerics.bins import dense_ids, floor_bins, row_ids
from ibtrace.numerics.entropy import information, sample_counts

_PAIRS = 8  # a table of so many pairs for each sample is counted faster than it is sorted


def chains(widths: Sequence[float]) -> list[list[int]]:
    """Widths that are one another's multiples by powers of 2: their places, finest first.

    Args:
        widths: Widths of bins, above 0.

    Example:
        >>> chains([1.0, 0.3, 0.25, 0.6])
        [[2, 0], [1, 3]]
    """
    by_mantissa: dict[float, list[int]] = {}
    for place in sorted(range(len(widths)), key=lambda place: widths[place]):
        by_mantissa.setdefault(math.frexp(widths[place])[0], []).append(place)
    return sorted(by_mantissa.values())[::-1]


def nested_ids(values: Tensor, widths: Sequence[float]) -> Iterator[Tensor]:
    """Which rows of ``floor(values / width)`` are equal, for one width after the other.

    The bin numbers are those of `floor_bins`: for every real q, ``floor(floor(q) / 2)`` is
    ``floor(q / 2)``, and a float loses nothing when it is halved (but for quotients below the
    smallest normal float, which round to 0 and here keep their sign).

    Cost: O(n d + n log n) for the first width, O(m d + m log m + n) for each other, m the
    distinct rows at the width before.

    Args:
        values: Finite floats ``(problems, n, d)``.
        widths: Ascending, each a power of 2 times the one before: one of `chains`.

    Yields:
        Ids int64 ``(problems, n)`` below ``problems * n``; no two problems share one.

    Example:
        >>> values = torch.tensor([[[0.1], [0.3], [0.6], [0.7]]])
        >>> [len(ids.unique()) for ids in nested_ids(values, [0.25, 0.5, 1.0])]
        [3, 2, 1]
    """
    problems, n, d = values.shape
    numbers = floor_bins(values, widths[0])
    own = row_ids(numbers)
    before = own.amax(-1).add(1).cumsum(0).roll(1)
    before[0] = 0
    ids = own + before[:, None]
    rows, problem = numbers.reshape(-1, d), torch.arange(problems).repeat_interleave(n)
    rows, problem = _representatives(ids, rows, problem.to(values.device))
    yield ids
    for finer, width in pairwise(widths):
        rows = _halved(rows, round(math.log2(width / finer)))
        coarser = row_ids(_with_problem(rows, problem)[None])[0]
        ids = coarser[ids]
        rows, problem = _representatives(coarser, rows, problem)
        yield ids


def nested_information(ids: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Plug-in I(X;B) and I(B;Y) of a partition B, in bits, ``(problems)`` each.

    Args:
        ids: One of `nested_ids`, ``(problems, n)``.
        x: Which inputs are equal, ids below n, ``(n,)``.
        y: The labels as ids below n, ``(n,)``; None if there are none.

    Returns:
        Both informations; the second is NaN without labels.
    """
    counts = sample_counts(ids.flatten()).reshape(ids.shape)
    of_x = sample_counts(x)
    distinct = bool((of_x == 1).all())  # pairs with what never repeats never repeat either
    about_x = information(of_x, counts, of_x if distinct else pair_counts(ids, x))
    if y is None:
        return about_x, torch.full_like(about_x, torch.nan)
    return about_x, information(counts, sample_counts(y), pair_counts(ids, y))


def pair_counts(ids: Tensor, labels: Tensor) -> Tensor:
    """How many samples of a problem share each one's id and label, int64 ``(problems, n)``.

    Args:
        ids: Ids below ``problems * n`` that no two problems share, ``(problems, n)``.
        labels: Ids below n, ``(n,)``.
    """
    classes = int(labels.max()) + 1
    pairs = (ids * classes + labels).flatten()
    if (int(ids.max()) + 1) * classes > _PAIRS * ids.numel():
        return sample_counts(dense_ids(pairs)).reshape(ids.shape)
    return torch.bincount(pairs)[pairs].reshape(ids.shape)


def _representatives(ids: Tensor, rows: Tensor, problem: Tensor) -> tuple[Tensor, Tensor]:
    """One row for each id, and its problem."""
    flat = ids.flatten()
    of_id = flat.new_empty(int(flat.max()) + 1)
    of_id[flat] = torch.arange(len(flat), device=flat.device)
    return rows[of_id], problem[of_id]


def _halved(rows: Tensor, times: int) -> Tensor:
    """Bin numbers at a width ``2 ** times`` as large."""
    if rows.is_floating_point():  # numbers beyond integers of 32 bits
        return (rows / 2.0**times).floor_()
    return rows >> min(times, 8 * rows.element_size() - 1)


def _with_problem(rows: Tensor, problem: Tensor) -> Tensor:
    """Rows with their problem beside them, so that no two problems share one."""
    if not rows.is_floating_point() and int(problem.max()) > torch.iinfo(rows.dtype).max:
        rows = rows.to(torch.int32)
    return torch.cat([rows, problem.to(rows.dtype)[:, None]], 1)
