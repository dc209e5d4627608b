"""Compiled loops over columns: their extremes, and bounds on their spreads.

Loaded by `compiled.kernels` alone. They read a matrix row by row, as it lies in memory.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel

_Float = TypeVar("_Float", np.float32, np.float64)

_CELLS, _FEWER, _NARROW = 256, 64, 32  # of each column; of more than 32, that all stay in a cache
_BLOCK = 2**16 - 1  # rows that 16 bits count
_WIDE = 128
_FEW = 32  # values that are sorted at once
_SLACK = 1e-3  # of a cell: what the rounding of a place in it may move
_NARROWEST, _WIDEST = 1e-30, 1e37  # ranges that float32 divides by, and holds
_TYPES = ("float32", "float64")


@kernel(*(f"boolean({t}[:,:,::1], {t}[:,::1], {t}[:,::1])" for t in _TYPES))
def extremes(values: NDArray[_Float], low: NDArray[_Float], high: NDArray[_Float]) -> bool:
    """The least and the largest value of each column, NaN aside.

    Args:
        values: ``(problems, n, d)``.
        low: Filled, ``(problems, d)``.
        high: Filled, ``(problems, d)``.

    Returns:
        Whether all values are finite.
    """
    problems, n, d = values.shape
    together = max(1, _WIDE // d) if d else 1  # short rows are compared several at once
    width = together * d
    least, most = np.empty(width, values.dtype), np.empty(width, values.dtype)
    nothing = np.zeros(width, values.dtype)  # stays so, of finite values
    for p in range(problems):
        least[:] = np.inf
        most[:] = -np.inf
        flat = values[p].reshape(n * d)
        for start in range(0, n * d, width):
            row = flat[start : start + width]
            for j in range(len(row)):
                least[j] = row[j] if row[j] < least[j] else least[j]
                most[j] = row[j] if row[j] > most[j] else most[j]
                nothing[j] += row[j] - row[j]
        low[p] = least[:d]
        high[p] = most[:d]
        for j in range(d, width):
            c = j % d
            low[p, c] = least[j] if least[j] < low[p, c] else low[p, c]
            high[p, c] = most[j] if most[j] > high[p, c] else high[p, c]
    return not np.isnan(nothing).any()


@kernel("UniTuple(int64, 2)(int64[::1], int64, int64, int64)")
def _within(counts: NDArray[np.int64], n: int, at_low: int, at_high: int) -> tuple[int, int]:
    """Within how many cells the spread surely is not, and surely is.

    Args:
        counts: How many values each cell holds.
        n: How many there are.
        at_low: How many are the least value, if that is more than half; else anything.
        at_high: Likewise of the largest.
    """
    first, below = 0, np.int64(counts[0])
    while below <= (n - 1) // 2:
        first += 1
        below += counts[first]
    last = first
    while below <= n // 2:
        last += 1
        below += counts[last]
    fewest, zeros = np.int64(0), np.int64(0)  # that are the median itself: at least, at most
    for cell in range(first, last + 1):
        zeros += counts[cell]
    inside = zeros
    if 2 * at_low > n or 2 * at_high > n:
        fewest = zeros = np.int64(max(at_low, at_high))
    sure = fewest + (n - 1 - fewest) // 2
    possible = min(int(zeros + (n - 1 - zeros) // 2), n - 1)
    inner, reach = 0, 0
    while inside <= possible:
        if inside <= sure:
            inner = reach
        reach += 1
        if first - reach >= 0:
            inside += counts[first - reach]
        if last + reach < len(counts):
            inside += counts[last + reach]
    return inner, last - first + 1 + reach


@kernel(*(f"int64({t}[:,::1], int64, {t})" for t in _TYPES))
def _equal(values: NDArray[_Float], column: int, value: _Float) -> int:
    number = 0
    for i in range(len(values)):
        number += values[i, column] == value
    return number


@kernel(
    *(f"void({t}[:,:,::1], {t}[:,::1], {t}[:,::1], float64[:,::1], float64[:,::1])" for t in _TYPES)
)
def spread_bounds(
    values: NDArray[_Float],
    low: NDArray[_Float],
    high: NDArray[_Float],
    least: NDArray[np.float64],
    most: NDArray[np.float64],
) -> None:
    """Bounds on the median of the distances from a column's median that are not 0.

    From how many values lie in each of 256 (64) cells of a column's range: the median is in a cell,
    and what lies within r cells of that is no farther than r + 1 cells from it. Where one end of
    the range holds more than half of the values (the zeros of a ReLU) it is the median. Both bounds
    leave room for the rounding of the numbers that they enclose. A column that never varies has
    the bounds 0 and 0.

    Args:
        values: Finite, ``(problems, n, d)``.
        low: The least value of each column, ``(problems, d)``.
        high: The largest one.
        least: Filled, ``(problems, d)``.
        most: Filled, ``(problems, d)``.
    """
    problems, n, d = values.shape
    together = max(1, _WIDE // d) if d else 1  # short rows are placed several at once
    width = together * d
    number = np.int32(_CELLS if d <= _NARROW else _FEWER)
    counts, seen = np.zeros((d, number), np.int64), np.empty(d * number, np.uint16)
    # unsigned: an index that may be negative is three times as slow
    place, base = np.empty(width, np.uint32), np.empty(width, np.uint32)
    start, cells = np.empty(width, values.dtype), np.empty(width, values.dtype)
    step = np.finfo(values.dtype).eps
    for p in range(problems):
        counts[:] = 0
        for j in range(width):
            c = j % d
            start[j], base[j] = low[p, c], c * number
            span = np.float64(high[p, c]) - np.float64(low[p, c])
            cells[j] = number / span if _NARROWEST < span < _WIDEST else 0.0
        flat = values[p].reshape(n * d)
        for block in range(0, n * d, _BLOCK * d):
            seen[:] = 0
            end = min(block + _BLOCK * d, n * d)
            for first in range(block, end, width):
                row = flat[first : min(first + width, end)]
                for j in range(len(row)):
                    cell = np.int32((row[j] - start[j]) * cells[j])
                    inside = min(max(cell, np.int32(0)), np.int32(number - 1))
                    place[j] = np.uint32(inside) + base[j]
                for j in range(len(row)):
                    seen[np.uint64(place[j])] += np.uint16(1)
            for j in range(d):
                for c in range(number):
                    counts[j, c] += seen[j * number + c]
        for j in range(d):
            size = (np.float64(high[p, j]) - np.float64(low[p, j])) / number
            if cells[j] == 0:  # nothing was counted
                least[p, j], most[p, j] = 0.0, np.inf if high[p, j] > low[p, j] else 0.0
                continue
            at_low = _equal(values[p], j, low[p, j]) if 2 * counts[j, 0] > n else 0
            at_high = _equal(values[p], j, high[p, j]) if 2 * counts[j, -1] > n else 0
            inner, outer = _within(counts[j], n, at_low, at_high)
            largest = max(abs(np.float64(low[p, j])), abs(np.float64(high[p, j])))
            error = 2 * step * largest + _SLACK * size
            least[p, j] = max(inner * size - error, 0.0)
            most[p, j] = outer * size + error


@kernel(*(f"UniTuple({t}, 2)({t}[::1], int64, {t}, {t})" for t in _TYPES))
def _ranked(values: NDArray[_Float], k: int, low: _Float, high: _Float) -> tuple[_Float, _Float]:
    """The value with k below it in order, ``k`` from 0, and the next (NaN where it is not known).

    As a place among equal cells grows with the value, the cell that the rank falls into is known
    from how many values each holds, and only its own are looked at further.

    Args:
        values: Finite; they are moved about.
        k: The rank.
        low: No value is below it.
        high: Nor above it.
    """
    left, counts = len(values), np.empty(_CELLS, np.int32)
    places = np.empty(left, np.uint32)
    while left > _FEW and low < high:
        span = np.float64(high) - np.float64(low)
        if not _NARROWEST < span < _WIDEST:
            break
        cells = values.dtype.type(_CELLS / span)
        for i in range(left):
            place = np.int32((values[i] - low) * cells)
            places[i] = np.uint32(min(max(place, np.int32(0)), np.int32(_CELLS - 1)))
        counts[:] = 0
        for i in range(left):
            counts[np.uint64(places[np.uint64(i)])] += np.int32(1)
        cell = np.uint32(0)
        while counts[cell] <= k:
            k -= counts[cell]
            cell += np.uint32(1)
        if counts[cell] == left:
            break
        kept = np.uint64(0)
        for i in range(left):
            values[kept] = values[np.uint64(i)]
            kept += np.uint64(places[np.uint64(i)] == cell)
        left = int(kept)
        low = high = values[0]
        for i in range(1, left):
            low = min(low, values[i])
            high = max(high, values[i])
    if not low < high:
        return low, low if k + 1 < left else values.dtype.type(np.nan)
    ordered = np.sort(values[:left])
    return ordered[k], ordered[k + 1] if k + 1 < left else values.dtype.type(np.nan)


@kernel(
    *(
        f"void({t}[:,::1], {t}[::1], {t}[::1], float64[::1], float64[::1], boolean[::1])"
        for t in _TYPES
    )
)
def spreads(
    columns: NDArray[_Float],
    lowest: NDArray[_Float],
    highest: NDArray[_Float],
    middle: NDArray[np.float64],
    typical: NDArray[np.float64],
    varies: NDArray[np.bool_],
) -> None:
    """The median of each column, and that of the distances from it that are not 0.

    Args:
        columns: Finite, one after the other, ``(columns, n)``.
        lowest: The least value of each, ``(columns,)``.
        highest: The largest.
        middle: Filled with the medians, ``(columns,)``.
        typical: Filled with the medians of the distances; 1 where all are 0.
        varies: Filled: whether one is not.
    """
    number, n = columns.shape
    work, distances = np.empty(n, columns.dtype), np.empty(n)
    for c in range(number):
        column, high = columns[c], highest[c]
        work[:] = column
        value, following = _ranked(work, (n - 1) // 2, lowest[c], high)
        if n % 2 == 0 and np.isnan(following):
            following = high
            for i in range(n):
                if value < column[i] < following:
                    following = column[i]
        centre = np.float64(value)
        if n % 2 == 0:  # halfway to the next
            centre = (centre + np.float64(following)) / 2
        zeros = 0
        for i in range(n):
            distances[i] = abs(np.float64(column[i]) - centre)
            zeros += distances[i] == 0
        middle[c], varies[c], typical[c] = centre, zeros < n, 1.0
        if zeros < n:
            farthest = max(centre - np.float64(lowest[c]), np.float64(high) - centre)
            typical[c] = _ranked(
                distances, zeros + (n - 1 - zeros) // 2, np.float64(0), np.float64(farthest)
            )[0]


@kernel(
    "void(float64[:,::1], float64[:,::1], float64[:,::1], float64, boolean[::1], boolean[:,::1])"
)
def judge_apart(
    least: NDArray[np.float64],
    most: NDArray[np.float64],
    faint: NDArray[np.float64],
    factor: float,
    apart: NDArray[np.bool_],
    asked: NDArray[np.bool_],
) -> None:
    """Whether two columns' spreads surely differ by more than a factor; if unsure, what to ask.

    Args:
        least: Below each spread, ``(problems, d)``; equal to ``most`` where it is known.
        most: Above it; 0 of a column that does not count.
        faint: A spread up to here may not count, ``(problems, d)``.
        factor: The factor.
        apart: Filled, ``(problems,)``.
        asked: Filled: the columns whose spreads have to be known to tell, ``(problems, d)``.
    """
    problems, d = least.shape
    for p in range(problems):
        lowest, sure_low, sure_high, highest = np.inf, np.inf, 0.0, 0.0
        for j in range(d):
            if most[p, j] > 0:
                lowest, highest = min(lowest, least[p, j]), max(highest, most[p, j])
                if least[p, j] > faint[p, j]:
                    sure_low, sure_high = min(sure_low, most[p, j]), max(sure_high, least[p, j])
        apart[p] = sure_high > factor * sure_low
        asked[p] = False
        if apart[p] or not highest > factor * lowest:
            continue
        open_narrow = False
        for j in range(d):
            unknown = least[p, j] < most[p, j]
            asked[p, j] = unknown and least[p, j] * factor < highest
            open_narrow |= asked[p, j]
        if not open_narrow:
            for j in range(d):
                asked[p, j] = least[p, j] < most[p, j] and most[p, j] > factor * lowest


@kernel(
    *(
        f"void({t}[:,::1], {t}[::1], {t}[::1], int64, {i}[:,::1])"
        for t in _TYPES
        for i in ("int8", "int16", "int32")
    )
)
def equal_bins(
    values: NDArray[_Float],
    low: NDArray[_Float],
    width: NDArray[_Float],
    most: int,
    out: NDArray[Any],
) -> None:
    """Bin numbers ``floor((value - low) / width)`` of each problem.

    Args:
        values: ``(problems, m)``.
        low: Of each problem.
        width: Of each problem, above 0.
        most: The largest number there is, what is beyond it or below 0 being put at that end;
            below 0 for as many as come.
        out: Filled, ``(problems, m)``, of a type that holds all numbers.
    """
    for p in range(len(values)):
        row, start, size, numbers = values[p], low[p], width[p], out[p]
        if most < 0:
            for k in range(len(row)):
                numbers[k] = np.int32(np.floor((row[k] - start) / size))
        else:
            for k in range(len(row)):
                number = np.int32(np.floor((row[k] - start) / size))
                numbers[k] = min(max(number, np.int32(0)), np.int32(most))
