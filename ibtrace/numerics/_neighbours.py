"""Compiled loops over rows of distances. Loaded by `compiled.kernels` alone.

Distances are not negative and may be infinite, never NaN. Whole rows are compared at once, several
numbers by one instruction, and only the few parts of a row that hold something near are looked at
one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel

_PART = 64  # of a row, looked at together
_TILE = 512  # numbers of a row that stay in the nearest cache while dimensions are added

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@kernel("void(float64[:,::1], float64[:,::1], float64[:,::1])")
def chebyshev(a: Floats, b: Floats, out: Floats) -> None:
    """Max-norm of the rows of ``a (m, d)`` less the columns of ``b (d, n)``, ``(m, n)``."""
    (m, n), d = out.shape, a.shape[1]
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for i in range(m):
            row = out[i, start:stop]
            own, column = a[i, 0], b[0, start:stop]
            for j in range(stop - start):
                row[j] = abs(own - column[j])
            for c in range(1, d - 3, 4):
                a0, a1, a2, a3 = a[i, c], a[i, c + 1], a[i, c + 2], a[i, c + 3]
                b0, b1 = b[c, start:stop], b[c + 1, start:stop]
                b2, b3 = b[c + 2, start:stop], b[c + 3, start:stop]
                for j in range(stop - start):
                    u, v = abs(a0 - b0[j]), abs(a1 - b1[j])
                    w, x = abs(a2 - b2[j]), abs(a3 - b3[j])
                    u = u if u > v else v
                    w = w if w > x else x
                    u = u if u > w else w
                    row[j] = u if u > row[j] else row[j]
            for c in range(d - (d - 1) % 4, d):
                own, column = a[i, c], b[c, start:stop]
                for j in range(stop - start):
                    u = abs(own - column[j])
                    row[j] = u if u > row[j] else row[j]


@kernel("void(float64[:,::1], float64[:,::1], float64[:,::1])")
def square_euclidean(a: Floats, b: Floats, out: Floats) -> None:
    """Sums of squared differences of the rows of ``a (m, d)`` to the columns of ``b (d, n)``."""
    (m, n), d = out.shape, a.shape[1]
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for i in range(m):
            row = out[i, start:stop]
            own, column = a[i, 0], b[0, start:stop]
            for j in range(stop - start):
                row[j] = (own - column[j]) * (own - column[j])
            for c in range(1, d):
                own, column = a[i, c], b[c, start:stop]
                for j in range(stop - start):
                    row[j] += (own - column[j]) * (own - column[j])


@kernel("void(float64[::1], int64[::1], float64, int64)")
def put(values: Floats, columns: Integers, value: float, column: int) -> None:
    """Put a value below the last of the ascending values, which goes, behind its equals."""
    at = len(values) - 1
    while at > 0 and values[at - 1] > value:
        values[at], columns[at] = values[at - 1], columns[at - 1]
        at -= 1
    values[at], columns[at] = value, column


@kernel("void(float64[::1], float64[::1], boolean, float64[::1], float64[::1], int64[::1])")
def _nearest(
    x: Floats, y: Floats, both: bool, work: Floats, values: Floats, columns: Integers
) -> None:
    """The smallest of a row, of two rows the larger of each pair, in ascending order."""
    n, k = len(x), len(values)
    for j in range(k):
        values[j], columns[j] = np.inf, j
    for start in range(0, n, _PART):
        size = min(_PART, n - start)
        part, of_x = work[:size], x[start : start + size]
        if both:
            of_y = y[start : start + size]
            for j in range(size):
                part[j] = of_x[j] if of_x[j] > of_y[j] else of_y[j]
        else:
            part = of_x
        last, nearer = values[k - 1], 0
        for j in range(size):
            nearer += part[j] < last
        if not nearer:
            continue
        for j in range(size):
            if part[j] < values[k - 1]:
                put(values, columns, part[j], start + j)


@kernel("void(float64[:,::1], float64[:,::1], int64[:,::1])")
def k_smallest(distances: Floats, values: Floats, columns: Integers) -> None:
    """The k smallest of each row ``(m, n)`` and their columns, ascending, ``(m, k)`` each.

    Of equal ones the first in the row comes first; an infinite one has any column.
    """
    work = np.empty(_PART)
    for i in range(len(distances)):
        _nearest(distances[i], distances[i], False, work, values[i], columns[i])


@kernel("int64(float64[::1], float64, boolean)")
def _within(row: Floats, radius: float, closed: bool) -> int:
    inside = 0
    if closed:
        for j in range(len(row)):
            inside += row[j] <= radius
    else:
        for j in range(len(row)):
            inside += row[j] < radius
    return inside


@kernel("void(float64[:,::1], float64[::1], boolean, int64[::1])")
def count_within(distances: Floats, radius: Floats, closed: bool, counts: Integers) -> None:
    """How many of each row ``(m, n)`` lie within its radius ``(m,)``: ``counts``, ``(m,)``."""
    for i in range(len(distances)):
        counts[i] = _within(distances[i], radius[i], closed)


@kernel("int64(float64[::1], float64, float64, boolean, int64, int64)")
def _first_outside(
    ordered: Floats, own: float, radius: float, closed: bool, inside: int, outside: int
) -> int:
    """The place next to which a radius ends, between one that is within it and one that is not."""
    while abs(outside - inside) > 1:
        half = (inside + outside) // 2
        distance = abs(ordered[half] - own)
        if distance < radius or (closed and distance == radius):
            inside = half
        else:
            outside = half
    return outside


@kernel("void(float64[::1], int64[::1], float64[::1], boolean, int64[::1])")
def count_on_a_line(
    ordered: Floats, places: Integers, radius: Floats, closed: bool, counts: Integers
) -> None:
    """How many numbers of an ascending line lie within the radii of some of them, each included.

    Args:
        ordered: ``(n,)``.
        places: Which of them, ``(m,)``.
        radius: ``(m,)``; one of 0 holds the number alone unless it is closed.
        closed: Whether what is as far as the radius is within it.
        counts: Filled, ``(m,)``.
    """
    n = len(ordered)
    for i in range(len(places)):
        at = places[i]
        own, r = ordered[at], radius[i]
        if r <= 0 and not closed:
            counts[i] = 1
            continue
        above = _first_outside(ordered, own, r, closed, at, n)
        counts[i] = above - _first_outside(ordered, own, r, closed, at, -1) - 1


@kernel("void(float64[::1], float64[:,::1])")
def nearest_on_a_line(ordered: Floats, values: Floats) -> None:
    """The distances of each number of an ascending line to its k nearest, ``(n, k)``, ascending."""
    n, k = values.shape
    for i in range(n):
        below, above = i - 1, i + 1
        for j in range(k):
            down = ordered[i] - ordered[below] if below >= 0 else np.inf
            up = ordered[above] - ordered[i] if above < n else np.inf
            if down < up:
                values[i, j] = down
                below -= 1
            else:
                values[i, j] = up
                above += 1


@kernel(
    "void(float64[:,::1], float64[:,::1], int64, boolean,"
    " float64[:,::1], int64[:,::1], int64[:,::1])"
)
def joint_counts(
    x: Floats, y: Floats, k: int, closed: bool, nearest: Floats, columns: Integers, counts: Integers
) -> None:
    """Kraskov's marginal counts of some samples, from their distances ``(m, n)`` in both spaces.

    Args:
        x: In the first.
        y: In the second.
        k: Which neighbour in the joint space sets the radius.
        closed: As in `knn.joint_neighbours`.
        nearest: Filled with the nearest in the joint space, ``(m, k)`` or ``(m, k + 1)``.
        columns: Filled with which they are.
        counts: Filled, ``(m, 4)``: of x and y, and the same if one of the k nearest were away.
    """
    work = np.empty(_PART)
    more = nearest.shape[1] - k
    for i in range(len(x)):
        _nearest(x[i], y[i], True, work, nearest[i], columns[i])
        for away in range(2):
            last = k + away * more
            of_x = of_y = nearest[i, last - 1]
            if closed:
                of_x = of_y = 0.0
                for j in range(last):
                    of_x = max(of_x, x[i, columns[i, j]])
                    of_y = max(of_y, y[i, columns[i, j]])
            counts[i, 2 * away] = _within(x[i], of_x, closed) - away * more
            counts[i, 2 * away + 1] = _within(y[i], of_y, closed) - away * more
