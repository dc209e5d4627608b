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
_REMEMBERED = 1024
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
    last = np.uint64(size - 1)
    table = np.empty(size, np.int32)  # half as large, it stays in a nearer cache
    # unsigned: an index that may be negative takes longer
    hashes, first = np.empty(n, np.uint64), np.empty(n, np.uint64)
    of_id = np.empty(n, np.int64)
    for p in range(problems):
        rows = words[p]
        _hash(rows, keys, hashes)
        table[:] = _EMPTY
        number = np.int32(0)
        for i in range(n):
            own = hashes[np.uint64(i)]
            at = own >> shift
            while True:
                one = table[at]
                if one == _EMPTY:
                    table[at] = one = number
                    first[np.uint64(one)] = np.uint64(i)
                    of_id[np.uint64(one)] = 0
                    number += np.int32(1)
                    break
                other = first[np.uint64(one)]
                if hashes[other] == own:
                    j = 0
                    while j < w and rows[other, np.uint64(j)] == rows[np.uint64(i), np.uint64(j)]:
                        j += 1
                    if j == w:
                        break
                at = (at + np.uint64(1)) & last
            ids[p, i] = one
            of_id[np.uint64(one)] += 1
        for i in range(n):
            counts[p, i] = of_id[np.uint64(ids[p, i])]


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


@kernel("void(int64[:,::1], int64[::1], boolean[::1])")
def same_as(ids: NDArray[np.int64], other: NDArray[np.int64], same: NDArray[np.bool_]) -> None:
    """Whether each sample of a problem has the id of another sample.

    Args:
        ids: ``(problems, n)``.
        other: The place of the other one, ``(n,)``.
        same: Filled, ``(problems,)``.
    """
    problems, n = ids.shape
    for p in range(problems):
        i = 0
        while i < n and ids[p, i] == ids[p, other[i]]:
            i += 1
        same[p] = i == n


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


@kernel("void(int64[:,::1], int64[:,::1], int64[:,::1], float64[::1], float64[::1])")
def information(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    xy: NDArray[np.int64],
    bits: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> None:
    """The mean of log₂ n n_xy / (n_x n_y) over the samples, and its standard deviation.

    Few triples of counts are many samples': of the last ones the logarithms are remembered.

    Args:
        x: Each sample's n_x, ``(problems, n)``, or ``(1, n)`` for all problems; n above 1.
        y: Likewise n_y.
        xy: Likewise n_xy.
        bits: Filled with the means, ``(problems,)``.
        spread: Filled with the deviations, over n - 1.
    """
    n = x.shape[1]
    known, logs = np.zeros((_REMEMBERED, 3), np.int64), np.empty(_REMEMBERED, np.float64)
    local = np.empty(n, np.float64)
    for p in range(len(bits)):
        of_x, of_y = x[p if len(x) > 1 else 0], y[p if len(y) > 1 else 0]
        of_xy = xy[p if len(xy) > 1 else 0]
        total = 0.0
        for i in range(n):
            a, b, c = of_x[i], of_y[i], of_xy[i]
            at = (a * 37 + b * 11 + c) % _REMEMBERED
            if known[at, 0] != a or known[at, 1] != b or known[at, 2] != c:
                known[at, 0], known[at, 1], known[at, 2] = a, b, c
                logs[at] = np.log2(np.float64(n) * c / (np.float64(a) * b))
            local[i] = logs[at]
            total += local[i]
        bits[p] = total / n
        squares = 0.0
        for i in range(n):
            squares += (local[i] - bits[p]) ** 2
        spread[p] = np.sqrt(squares / (n - 1))


@kernel("int64(int64[::1], int64[::1], int64[::1], float64[::1])")
def _table(
    counts: NDArray[np.int64],
    samples: NDArray[np.int64],
    seen: NDArray[np.int64],
    values: NDArray[np.float64],
) -> int:
    """The different counts of a sample, rising, and how many values have each.

    Args:
        counts: Of each sample's value, ``(n,)``.
        samples: Zeros, and left so, ``(n + 1,)``.
        seen: Filled with the counts.
        values: Filled with the numbers of values.

    Returns:
        How many different counts there are.
    """
    most = np.int64(0)
    for i in range(len(counts)):
        samples[counts[i]] += 1
        most = max(most, counts[i])
    number = 0
    for c in range(1, most + 1):
        if samples[c]:
            seen[number], values[number] = c, samples[c] / c
            number += 1
            samples[c] = 0
    return number


@kernel("void(int64[:,::1], int64[:,::1], float64[::1], float64[::1])")
def null_information(
    x: NDArray[np.int64], y: NDArray[np.int64], logs: NDArray[np.float64], bits: NDArray[np.float64]
) -> None:
    """The plug-in information of random labels, in bits: its mean over all permutations.

    Args:
        x: Each sample's n_x, ``(problems, n)``, or ``(1, n)`` for all problems.
        y: Likewise n_y.
        logs: Log k! for k from 0 to n.
        bits: Filled, ``(problems,)``.
    """
    n = x.shape[1]
    samples, expected = np.zeros(n + 1, np.int64), np.empty(n + 1, np.float64)
    seen_x, seen_y = np.empty(n, np.int64), np.empty(n, np.int64)
    of_x, of_y = np.empty(n, np.float64), np.empty(n, np.float64)
    for p in range(len(bits)):
        a = _table(x[p if len(x) > 1 else 0], samples, seen_x, of_x)
        b = _table(y[p if len(y) > 1 else 0], samples, seen_y, of_y)
        if seen_x[0] == n or seen_y[0] == n:
            bits[p] = 0.0
            continue
        most = min(seen_x[a - 1], seen_y[b - 1])
        expected[: most + 1] = 0
        expected_pairs(seen_x[:a], of_x[:a], seen_y[:b], of_y[:b], logs, expected)
        total = 0.0
        for i in range(a):
            total += of_x[i] * seen_x[i] * np.log2(n / seen_x[i])
        for j in range(b):
            total += of_y[j] * seen_y[j] * np.log2(n / seen_y[j])
        for k in range(1, most + 1):
            if expected[k]:
                total -= expected[k] * k * np.log2(n / k)
        bits[p] = total / n
