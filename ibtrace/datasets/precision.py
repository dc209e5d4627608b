"""Whether numbers stay apart in another type: a cast that merges inputs changes X or Y."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.entropy import entropy, sample_counts

_ROWS, _COLUMN = 0.01, 0.1
"""Bits that rows, and a column, may lose. Of a continuous number some of 100,000 samples are merged
by chance (.001 bit of a normal or uniform one); a column of a time in seconds loses some 6 bits."""

_AT_ONCE = 2**22


def require_kept(
    columns: Sequence[NDArray[Any]] | NDArray[Any], cast: Tensor, who: str, way_out: str
) -> None:
    """Raise if a cast merges samples that differ: their rows, or most values of one column.

    Args:
        columns: Numbers before the cast, ``(n, ...)``; or columns ``(n,)``, each of a type.
        cast: The same after it, ``(n, ...)``.
        who: Who casts what, for the error.
        way_out: What to do.

    Raises:
        InvalidInput: If rows lose more than .01 bit of entropy, or a column more than .1.
    """
    n = len(cast)
    if n < 2 or not cast.numel():
        return
    after = cast.reshape(n, -1)
    if isinstance(columns, np.ndarray):
        before = columns.reshape(n, -1)
        if _exact(before, after):
            return
        ids = row_ids(_tensor(before))
        blocks = [before]
    else:
        ids = row_ids(torch.stack([row_ids(_tensor(column)[:, None]) for column in columns], 1))
        blocks = [column[:, None] for column in columns]
    kept = row_ids(after)
    if _lost(ids, kept) > _ROWS:
        was, now = (int(each.unique().numel()) for each in (ids, kept))
        raise InvalidInput(f"{who}: {now} of its {was} distinct rows stay distinct; {way_out}")
    at = 0
    for block in blocks:
        width = max(1, _AT_ONCE // n)
        for first in range(0, block.shape[1], width):
            part = block[:, first : first + width]
            worst = _worst_column(part, after[:, at : at + part.shape[1]])
            if worst is not None:
                column, was, now = worst
                got = f"{who}: {now} of {was} values of column {at + column} stay distinct"
                raise InvalidInput(f"{got}; {way_out}")
            at += part.shape[1]


def _tensor(array: NDArray[Any]) -> Tensor:
    """Numbers as torch takes them, none of them changed; of a wider type their bytes as ids."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    shape = array.shape
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].reshape(shape))


def _exact(before: NDArray[Any], after: Tensor) -> bool:
    """Whether the cast changes no number, so that nothing has to be sorted."""
    if before.dtype.kind not in "biuf":
        return False
    return bool(np.array_equal(after.numpy().astype(before.dtype), before, equal_nan=True))


def _lost(before: Tensor, after: Tensor) -> float:
    """Entropy of ids before less that after, in bits."""
    return float(entropy(sample_counts(before)) - entropy(sample_counts(after)))


def _worst_column(before: NDArray[Any], after: Tensor) -> tuple[int, int, int] | None:
    """The first column that loses too much: which, and its distinct values before and after.

    A cast is monotone, so that equal values stand side by side in the order of either.
    """
    ordered, cast = np.sort(before, axis=0), np.sort(after.numpy(), axis=0)
    was, now = (each[1:] != each[:-1] for each in (ordered, cast))
    for column in np.flatnonzero(was.sum(0) != now.sum(0)):
        ids = [torch.from_numpy(np.r_[0, np.cumsum(each[:, column])]) for each in (was, now)]
        if _lost(ids[0], ids[1]) > _COLUMN:
            return int(column), int(ids[0][-1]) + 1, int(ids[1][-1]) + 1
    return None
