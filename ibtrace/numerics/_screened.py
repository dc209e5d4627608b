"""Compiled loops that count neighbours from coarse distances. Loaded by `compiled.kernels` alone.

A coarse distance is a whole number of 16 bits or a float of 32, of which one instruction compares
sixteen or eight, and it is known how far from the distance it may be (`ibtrace.numerics.screens`).
What it does not decide is decided by the distance itself, so that the counts are those of
`_neighbours.joint_counts`, exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel
from ibtrace.numerics._neighbours import put

_PART = 128  # of a row, looked at together
_TILE = 2048  # numbers of a row that stay in the nearest cache while dimensions are added

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Coarse = NDArray[np.uint16] | NDArray[np.float32]

_SCALE, _UNIT, _BELOW, _ABOVE, _UP, _ROOT = range(6)  # of `Screen.known`
_TYPES = "uint16", "float32"

_u16 = np.uint16  # without it numba makes 64 bits of every sum, and fewer go into an instruction


@kernel("void(uint16[:,::1], uint16[:,::1], uint16[:,::1])")
def chebyshev(a: NDArray[np.uint16], b: NDArray[np.uint16], out: NDArray[np.uint16]) -> None:
    """Max-norm of the rows of ``a (m, d)`` less the columns of ``b (d, n)``, ``(m, n)``."""
    (m, n), d = out.shape, a.shape[1]
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for i in range(m):
            row = out[i, start:stop]
            for c in range(0, d - 3, 4):
                a0, a1, a2, a3 = a[i, c], a[i, c + 1], a[i, c + 2], a[i, c + 3]
                b0, b1 = b[c, start:stop], b[c + 1, start:stop]
                b2, b3 = b[c + 2, start:stop], b[c + 3, start:stop]
                for j in range(stop - start):
                    p, q, r, s = b0[j], b1[j], b2[j], b3[j]
                    t = _u16((a0 if a0 > p else p) - (p if a0 > p else a0))
                    u = _u16((a1 if a1 > q else q) - (q if a1 > q else a1))
                    v = _u16((a2 if a2 > r else r) - (r if a2 > r else a2))
                    w = _u16((a3 if a3 > s else s) - (s if a3 > s else a3))
                    t = t if t > u else u
                    v = v if v > w else w
                    t = t if t > v else v
                    u = row[j] if c else _u16(0)
                    row[j] = t if t > u else u
            for c in range(d - d % 4, d):
                a0, b0 = a[i, c], b[c, start:stop]
                for j in range(stop - start):
                    p = b0[j]
                    t = _u16((a0 if a0 > p else p) - (p if a0 > p else a0))
                    u = row[j] if c else _u16(0)
                    row[j] = t if t > u else u


@kernel("float64(float64[::1], float64[::1], boolean)")
def _distance(a: Floats, b: Floats, squared: bool) -> float:
    """As `_neighbours` tells it, to the last digit."""
    total = 0.0
    if squared:
        for c in range(len(a)):
            total += (a[c] - b[c]) * (a[c] - b[c])
        return total
    other = 0.0  # two at a time, neither waiting for the other
    for c in range(0, len(a) - 1, 2):
        u, v = abs(a[c] - b[c]), abs(a[c + 1] - b[c + 1])
        total = u if u > total else total
        other = v if v > other else other
    if len(a) % 2:
        u = abs(a[-1] - b[-1])
        total = u if u > total else total
    return total if total > other else other


@kernel(*(f"{t}({t}[::1], float64, float64[::1], int64)" for t in _TYPES))
def _limit(row: Coarse, radius: float, known: Floats, offset: int) -> float:
    """Where the coarse distances of a row meet a radius: below it all are in, or none beyond."""
    if known[_ROOT]:
        limit = max(math.sqrt(radius) * known[_SCALE] + known[offset], 0.0)
        limit *= limit
    else:
        limit = radius * known[_SCALE] + known[offset]
    least, most = (0.0, 65535.0) if row.itemsize == 2 else (-3e38, 3e38)
    limit = limit if limit > least else least
    limit = limit if limit < most else most
    return row.dtype.type(limit)  # type: ignore[return-value]


@kernel("float64(float64, float64[::1])")
def _at_most(coarse: float, known: Floats) -> float:
    """The largest distance that is told by a coarse one."""
    if not known[_ROOT]:
        return float((coarse + known[_UP]) * known[_UNIT])
    root = float((math.sqrt(coarse) + known[_UP]) * known[_UNIT])
    return root * root


@kernel(
    *(
        f"int64({t}[::1], {t}[::1], float64[:,::1], float64[:,::1], int64, boolean, float64[::1],"
        " float64[::1], float64[::1], int64[::1], int64[::1])"
        for t in _TYPES
    )
)
def _nearest(
    of_x: Coarse,
    of_y: Coarse,
    x: Floats,
    y: Floats,
    own: int,
    squared: bool,
    known_x: Floats,
    known_y: Floats,
    values: Floats,
    columns: Integers,
    may: Integers,
) -> int:
    """The smallest distances of a sample in the joint space, ascending, and how many were told.

    What the coarse ones say is that each of so many is at most so large, and which may be smaller
    than all of these: the distances of those few are told.
    """
    k, found = len(values), 0
    for j in range(k):
        values[j] = np.inf
    last_x = _limit(of_x, np.inf, known_x, _ABOVE)
    last_y = _limit(of_y, np.inf, known_y, _ABOVE)
    for start in range(0, len(of_x), _PART):
        part_x, part_y = of_x[start : start + _PART], of_y[start : start + _PART]
        nearer = _u16(0)
        for j in range(len(part_x)):
            nearer = _u16(nearer + _u16((part_x[j] < last_x) & (part_y[j] < last_y)))
        if not nearer:
            continue
        for j in range(len(part_x)):
            if not (part_x[j] < last_x and part_y[j] < last_y):
                continue
            may[found] = start + j
            found += 1
            value = max(_at_most(part_x[j], known_x), _at_most(part_y[j], known_y))
            if value < values[k - 1]:
                put(values, columns, value, start + j)
                last_x = _limit(of_x, values[k - 1], known_x, _ABOVE)
                last_y = _limit(of_y, values[k - 1], known_y, _ABOVE)
    for j in range(k):
        values[j], columns[j] = np.inf, j
    told = 0
    for at in range(found):
        j = may[at]
        if of_x[j] < last_x and of_y[j] < last_y:
            told += 1
            value = max(_distance(x[own], x[j], squared), _distance(y[own], y[j], squared))
            if value < values[k - 1]:
                put(values, columns, value, j)
    return told


@kernel(
    *(
        f"int64({t}[::1], float64[:,::1], int64, boolean, boolean, float64[::1], float64[::1],"
        " int64[::1])"
        for t in _TYPES
    )
)
def _within(
    row: Coarse,
    points: Floats,
    own: int,
    squared: bool,
    closed: bool,
    known: Floats,
    radii: Floats,
    counts: Integers,
) -> int:
    """How many of a row lie within two radii, and how many distances were told for it."""
    in0, in1 = _limit(row, radii[0], known, _BELOW), _limit(row, radii[1], known, _BELOW)
    may0, may1 = _limit(row, radii[0], known, _ABOVE), _limit(row, radii[1], known, _ABOVE)
    counts[0] = counts[1] = told = 0
    for start in range(0, len(row), _PART):
        part = row[start : start + _PART]
        sure0 = sure1 = some0 = some1 = _u16(0)
        for j in range(len(part)):
            value = part[j]
            sure0 = _u16(sure0 + _u16(value < in0))
            some0 = _u16(some0 + _u16(value < may0))
            sure1 = _u16(sure1 + _u16(value < in1))
            some1 = _u16(some1 + _u16(value < may1))
        counts[0] += sure0
        counts[1] += sure1
        if some0 == sure0 and some1 == sure1:
            continue
        for j in range(len(part)):
            value = part[j]
            open0, open1 = in0 <= value < may0, in1 <= value < may1
            if open0 or open1:
                told += 1
                distance = _distance(points[own], points[start + j], squared)
                if open0 and (distance < radii[0] or (closed and distance == radii[0])):
                    counts[0] += 1
                if open1 and (distance < radii[1] or (closed and distance == radii[1])):
                    counts[1] += 1
    return told


@kernel(
    *(
        f"int64({t}[:,::1], {t}[:,::1], float64[:,::1], float64[:,::1], int64, int64, boolean,"
        " boolean, float64[::1], float64[::1], float64[:,::1], int64[:,::1], int64[:,::1])"
        for t in _TYPES
    )
)
def joint_counts(
    coarse_x: Coarse,
    coarse_y: Coarse,
    x: Floats,
    y: Floats,
    start: int,
    k: int,
    closed: bool,
    squared: bool,
    known_x: Floats,
    known_y: Floats,
    nearest: Floats,
    columns: Integers,
    counts: Integers,
) -> int:
    """`_neighbours.joint_counts` from coarse distances and points; how many distances were told.

    Args:
        coarse_x: Of the samples from ``start`` on in the first space, ``(m, n)``; its own place in
            each row is overwritten.
        coarse_y: In the second.
        x: The points in the first space, ``(n, dx)``.
        y: In the second.
        start: The first sample.
        k: As there, with all that is not named here.
        closed: Likewise.
        squared: Whether distances are Euclidean, and squared; else in the max-norm.
        known_x: `Screen.known` of the first space.
        known_y: Of the second.
        nearest: Filled, ``(m, k)`` or ``(m, k + 1)``.
        columns: Filled.
        counts: Filled, ``(m, 4)``.
    """
    more, told = nearest.shape[1] - k, 0
    may = np.empty(len(x), np.int64)
    radii_x, radii_y = np.empty(2), np.empty(2)
    inside = np.empty(2, np.int64)
    for i in range(len(coarse_x)):
        of_x, of_y, own = coarse_x[i], coarse_y[i], start + i
        of_x[own] = _limit(of_x, np.inf, known_x, _ABOVE)  # that is never below a limit
        of_y[own] = _limit(of_y, np.inf, known_y, _ABOVE)
        told += _nearest(
            of_x, of_y, x, y, own, squared, known_x, known_y, nearest[i], columns[i], may
        )
        for away in range(2):
            last = k + away * more
            radii_x[away] = radii_y[away] = nearest[i, last - 1]
            if closed:
                radii_x[away] = radii_y[away] = 0.0
                for j in range(last):
                    at = columns[i, j]
                    radii_x[away] = max(radii_x[away], _distance(x[own], x[at], squared))
                    radii_y[away] = max(radii_y[away], _distance(y[own], y[at], squared))
        told += _within(of_x, x, own, squared, closed, known_x, radii_x, inside)
        counts[i, 0], counts[i, 2] = inside[0], inside[1] - more
        told += _within(of_y, y, own, squared, closed, known_y, radii_y, inside)
        counts[i, 1], counts[i, 3] = inside[0], inside[1] - more
    return told
