"""Compiled loops that count: equal rows, pairs of symbols. Loaded by `compiled.kernels` alone.

Every kernel takes a batch of problems, one after the other. Whole numbers only: nothing is rounded,
so that the counts are those of any other way to count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel

_EMPTY = -1
_DENSE = 8  # a table of so many cells for each sample is filled faster than it is hashed
_MIX = 0x9E3779B97F4A7C15  # 2⁶⁴ over the golden ratio: spreads what differs to the top bits


@kernel("void(uint32[:,::1], uint32[:,::1], uint64[::1])")
def _hash(words: NDArray[np.uint32], keys: NDArray[np.uint32], out: NDArray[np.uint64]) -> None:
    """Of each row of ``words (n, w)``, Σ (a_j + k_j)(b_j + l_j) over its two halves a and b.

    The sums are of 32 bits and the products of 64: two rows that differ share a hash with
    probability 2⁻³² (Black et al. 1999, UMAC), and a processor takes several products at once.
    """
    n, w = words.shape
    half = w // 2
    for i in range(n):
        total = np.uint64(0)
        for j in range(half):
            a = np.uint32(words[i, j] + keys[0, j])
            b = np.uint32(words[i, half + j] + keys[1, j])
            total += np.uint64(a) * np.uint64(b)
        if w % 2:
            last = np.uint32(words[i, w - 1] + keys[0, half])
            total += np.uint64(last) * np.uint64(keys[1, half] | np.uint32(1))
        total ^= total >> np.uint64(29)
        out[i] = total * np.uint64(_MIX)


@kernel("void(uint32[:,:,::1], uint32[:,::1], int64[:,::1], int64[:,::1])")
def row_ids(
    words: NDArray[np.uint32],
    keys: NDArray[np.uint32],
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Ids by first appearance of the rows of ``words (problems, n, w)``, and how many share each.

    An open hash table. Where hashes are equal the rows are compared word by word and, if these
    differ, the next place is tried: a collision costs time and nothing else.

    Args:
        words: The rows.
        keys: Of the hash, ``(2, (w + 1) // 2)`` at least.
        ids: Filled, ``(problems, n)``.
        counts: Filled, ``(problems, n)``.
    """
    problems, n, w = words.shape
    bits = 1
    while (np.int64(1) << bits) < 2 * n:
        bits += 1
    size, shift = np.int64(1) << bits, np.uint64(64 - bits)
    table = np.empty(size, np.int32)  # half as large, it stays in a nearer cache
    hashes, first, of_id = np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.int64)
    for p in range(problems):
        rows = words[p]
        _hash(rows, keys, hashes)
        table[:] = _EMPTY
        number = 0
        for i in range(n):
            at = np.int64(hashes[i] >> shift)
            while True:
                one = np.int64(table[at])
                if one == _EMPTY:
                    table[at] = number
                    one = np.int64(number)
                    first[one] = i
                    of_id[one] = 0
                    number += 1
                    break
                if hashes[first[one]] == hashes[i]:
                    j = 0
                    while j < w and rows[first[one], j] == rows[i, j]:
                        j += 1
                    if j == w:
                        break
                at = (at + 1) & (size - 1)
            ids[p, i] = one
            of_id[one] += 1
        for i in range(n):
            counts[p, i] = of_id[ids[p, i]]


@kernel("int64(int64[:,::1], int64[:,::1])")
def sample_counts(ids: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """How many of a problem share each id; the number of ids that are not within 0..n-1.

    Args:
        ids: ``(problems, n)``.
        counts: Filled, ``(problems, n)``; not where an id is out of range.
    """
    problems, n = ids.shape
    of_id = np.empty(n, np.int64)
    outside = 0
    for p in range(problems):
        of_id[:] = 0
        for i in range(n):
            if 0 <= ids[p, i] < n:
                of_id[ids[p, i]] += 1
            else:
                outside += 1
        if outside:
            return outside
        for i in range(n):
            counts[p, i] = of_id[ids[p, i]]
    return outside


@kernel("int64(int64[:,::1], int64[:,::1], int64[:,::1])")
def pair_counts(a: NDArray[np.int64], b: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """How many of a problem share each pair of ids; the number of ids that are below 0.

    Args:
        a: ``(problems, n)``, or ``(1, n)`` for all problems.
        b: Likewise.
        counts: Filled, ``(problems, n)``; not where an id is below 0.
    """
    problems, n = counts.shape
    bits = 1
    while (np.int64(1) << bits) < 2 * n:
        bits += 1
    size, shift = np.int64(1) << bits, np.uint64(64 - bits)
    table = np.empty(max(size, _DENSE * n), np.int64)
    place, keys = np.empty(n, np.int64), np.empty(size, np.int64)
    outside = 0
    for p in range(problems):
        left, right = a[p if len(a) > 1 else 0], b[p if len(b) > 1 else 0]
        most_left, most_right = np.int64(0), np.int64(0)
        for i in range(n):
            most_left, most_right = max(most_left, left[i]), max(most_right, right[i])
            outside += (left[i] < 0) + (right[i] < 0)
        if outside:
            return outside
        if (most_left + 1) * (most_right + 1) <= _DENSE * n:
            table[: (most_left + 1) * (most_right + 1)] = 0
            for i in range(n):
                place[i] = left[i] * (most_right + 1) + right[i]
                table[place[i]] += 1
        else:
            table[:size] = 0
            for i in range(n):
                key = left[i] * (most_right + 1) + right[i]
                at = np.int64((np.uint64(key) * np.uint64(_MIX)) >> shift)
                while table[at] and keys[at] != key:
                    at = (at + 1) & (size - 1)
                keys[at] = key
                place[i] = at
                table[at] += 1
        for i in range(n):
            counts[p, i] = table[place[i]]
    return outside


@kernel("void(int64[:,::1], int64[::1], int64, int64[:,::1])")
def dense_ids(
    values: NDArray[np.int64], lowest: NDArray[np.int64], span: int, ids: NDArray[np.int64]
) -> None:
    """Ids in ascending order of whole numbers that lie within ``lowest .. lowest + span - 1``.

    Args:
        values: ``(problems, n)``.
        lowest: Of each problem.
        span: Of all of them.
        ids: Filled, ``(problems, n)``.
    """
    problems, n = values.shape
    of_value = np.empty(span, np.int64)
    for p in range(problems):
        of_value[:] = 0
        for i in range(n):
            of_value[values[p, i] - lowest[p]] = 1
        number = 0
        for v in range(span):
            seen = of_value[v]
            of_value[v] = number
            number += seen
        for i in range(n):
            ids[p, i] = of_value[values[p, i] - lowest[p]]


@kernel("void(int64[::1], float64[::1], int64[::1], float64[::1], float64[::1], float64[::1])")
def expected_pairs(
    a: NDArray[np.int64],
    of_a: NDArray[np.float64],
    b: NDArray[np.int64],
    of_b: NDArray[np.float64],
    logs: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> None:
    """How many pairs of symbols are seen k times on average, of samples in a random order.

    A symbol that a samples have and one that b have meet k times by the hypergeometric law.

    Args:
        a: The distinct counts of one variable.
        of_a: How many symbols have each.
        b: Those of the other variable.
        of_b: How many symbols have each.
        logs: Log k! for k from 0 to n.
        expected: Added to, ``(n + 1,)``.
    """
    n = len(logs) - 1
    for i in range(len(a)):
        for j in range(len(b)):
            x, y = a[i], b[j]
            mean = x * y / n
            reach = 8 * np.sqrt(mean) + 40  # beyond it nothing that float64 could add
            first = max(np.int64(mean - reach), 1, x + y - n)
            last = min(x, y, np.int64(mean + reach))
            ways = logs[x] + logs[y] + logs[n - x] + logs[n - y] - logs[n]
            for k in range(first, last + 1):
                less = logs[k] + logs[x - k] + logs[y - k] + logs[n - x - y + k]
                expected[k] += of_a[i] * of_b[j] * np.exp(ways - less)
