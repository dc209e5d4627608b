"""Counts by compiled hash tables, on the CPU: of equal rows, of ids, of pairs of ids."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace.numerics.compiled import kernels

_SEED = 0x1B
_SPAN = 8  # values so many times as many as samples are still looked up in a table


class Counted(NamedTuple):
    """Samples by their values.

    Args:
        ids: Ids from 0, by first appearance, int64 ``(..., n)``.
        counts: How many samples share each one's id, int64 ``(..., n)``.
    """

    ids: Tensor
    counts: Tensor


def counted_rows(rows: Tensor, *, raw: bool = False) -> Counted:
    """The distinct rows of each problem on the CPU, by a hash table that compares what it matches.

    Args:
        rows: Integers or finite floats, ``(..., n, d)``. Narrow integers are fastest.
        raw: Compare floats by their bits, so that -0.0 differs from 0.0.

    Example:
        >>> counted_rows(torch.tensor([[1, 2], [0, 0], [1, 2]]))
        Counted(ids=tensor([0, 1, 0]), counts=tensor([2, 1, 2]))
    """
    *lead, n, _ = rows.shape
    ids, counts = (torch.empty(*lead, n, dtype=torch.int64) for _ in range(2))
    words = _words(rows.detach(), raw=raw).reshape(math.prod(lead), n, -1 if rows.numel() else 0)
    kernels("_counting").row_ids(words, _keys(words.shape[-1]), _flat(ids), _flat(counts))
    return Counted(ids, counts)


def common_shape(*values: Tensor) -> torch.Size:
    """The shape that tensors broadcast to; torch's own way is slow where it is plain."""
    shapes = {value.shape for value in values}
    longest = max(shapes, key=len)
    plain = all(shape in (longest, longest[-1:]) for shape in shapes)
    return longest if plain else torch.Size(torch.broadcast_shapes(*shapes))


def counted_ids(ids: Tensor) -> Tensor:
    """How many samples of a problem share each one's id, int64 ``(..., n)``.

    Args:
        ids: Ids below n, int64 on the CPU, ``(..., n)``.

    Raises:
        IndexError: If an id is out of range.
    """
    counts = torch.empty(ids.shape, dtype=torch.int64)
    outside = kernels("_counting").sample_counts(_flat(ids.contiguous()), _flat(counts))
    if outside:
        raise IndexError(f"ids must lie in 0..{ids.shape[-1] - 1}; {outside} do not")
    return counts


def counted_pairs(a: Tensor, b: Tensor) -> Tensor:
    """How many samples of a problem share each one's pair of ids, int64 ``(..., n)``.

    Args:
        a: Ids from 0, int64 on the CPU, ``(..., n)``; leading dimensions broadcast.
        b: Likewise.

    Raises:
        IndexError: If an id is below 0.
    """
    shape = common_shape(a, b)
    counts = torch.empty(shape, dtype=torch.int64)
    pair = [_flat((v if v.dim() == 1 else v.expand(shape)).contiguous()) for v in (a, b)]
    below = kernels("_counting").pair_counts(*pair, _flat(counts))
    if below:
        raise IndexError(f"ids must be 0 or more; {below} are not")
    return counts


def first_alike(ids: Tensor) -> Tensor:
    """The place of the first sample that has each sample's id, int64 ``(n,)``.

    Args:
        ids: Ids below n, int64 ``(n,)``.
    """
    places = torch.arange(len(ids), device=ids.device)
    return torch.full_like(ids, len(ids)).scatter_reduce_(0, ids, places, "amin")[ids]


def same_as(ids: Tensor, other: Tensor) -> Tensor:
    """Whether each sample of a problem has the id of another sample, bool ``(...)``.

    Args:
        ids: Int64, ``(..., n)``.
        other: The place of the other one, int64 ``(n,)``.
    """
    if ids.device.type != "cpu":
        return (ids.index_select(-1, other) == ids).all(-1)
    same = torch.empty(ids.shape[:-1], dtype=torch.bool)
    kernels("_counting").same_as(_flat(ids.contiguous()), other.numpy(), same.view(-1).numpy())
    return same


def numbered(values: Tensor) -> Tensor | None:
    """Ids in ascending order of integers on the CPU, ``(..., n)``; None if they span too much.

    Args:
        values: Integers of any type, ``(..., n)``.
    """
    n = values.shape[-1]
    if values.numel() == 0:
        return None
    flat = values.to(torch.int64).reshape(-1, n).contiguous()
    low, high = flat.aminmax(dim=-1)
    span = max(top - bottom for bottom, top in zip(low.tolist(), high.tolist(), strict=True)) + 1
    if span > max(_SPAN * n, 256):
        return None
    ids = torch.empty(values.shape, dtype=torch.int64)
    kernels("_counting").dense_ids(flat.numpy(), low.numpy(), span, _flat(ids))
    return ids


def _flat(ids: Tensor) -> NDArray[np.int64]:
    array: NDArray[np.int64] = ids.view(ids.shape[:-1].numel(), ids.shape[-1]).numpy()
    return array


@lru_cache(maxsize=64)
def _keys(words: int) -> NDArray[np.uint32]:
    """The hash's keys for rows of so many words, always the same ones."""
    return np.random.default_rng(_SEED).integers(
        2**32, size=(2, max(1, -(-words // 2))), dtype=np.uint32
    )


def _words(rows: Tensor, *, raw: bool) -> NDArray[np.uint32]:
    """The bytes of each row as 32-bit words, padded with zeros, one row after the other."""
    if rows.dtype == torch.bool:
        rows = rows.to(torch.int8)
    if rows.is_floating_point() and not raw:
        rows = rows + 0.0  # turns -0.0 into 0.0
    *lead, d = rows.shape
    odd = -d % max(1, 4 // rows.element_size())
    if odd:
        packed = rows.new_zeros(*lead, d + odd)
        packed[..., :d] = rows
        rows = packed
    words: NDArray[np.uint32] = rows.reshape(-1).view(torch.int32).numpy().view(np.uint32)
    return words
