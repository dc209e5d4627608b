"""Compiled loops that count neighbours from coarse distances. Loaded by `compiled.kernels` alone.

A coarse distance is a whole number of 16 bits or a float of 32, of which one instruction compares
sixteen or eight, and it is known how far from the distance it may be (`ibtrace.numerics.screens`).
What it does not decide is decided by the distance itself, so that the counts are those of
`_neighbours.joint_counts`, exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel

_GROUPS = 128  # of a row, whose nearest ones are told apart
_PART, _FINER = 1024, 64  # of a row, counted together; and where one of them is not decided
_LARGEST_SQUARE = 4.1  # of all points within 1 of the mean
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


@kernel("void(float32[:,::1], float32[:,::1], float32[:,::1])")
def square_euclidean(
    a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Sums of squared differences of the rows of ``a (m, d)`` to the columns of ``b (d, n)``."""
    (m, n), d = out.shape, a.shape[1]
    for start in range(0, n, _TILE // 2):
        stop = min(start + _TILE // 2, n)
        for i in range(m):
            row = out[i, start:stop]
            for c in range(0, d - 3, 4):
                a0, a1, a2, a3 = a[i, c], a[i, c + 1], a[i, c + 2], a[i, c + 3]
                b0, b1 = b[c, start:stop], b[c + 1, start:stop]
                b2, b3 = b[c + 2, start:stop], b[c + 3, start:stop]
                for j in range(stop - start):
                    p, q, r, s = a0 - b0[j], a1 - b1[j], a2 - b2[j], a3 - b3[j]
                    before = row[j] if c else np.float32(0)
                    row[j] = before + ((p * p + q * q) + (r * r + s * s))
            for c in range(d - d % 4, d):
                a0, b0 = a[i, c], b[c, start:stop]
                for j in range(stop - start):
                    p = a0 - b0[j]
                    before = row[j] if c else np.float32(0)
                    row[j] = before + p * p


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


@kernel("void(float64[::1], int64[::1], float64, int64)")
def _put(values: Floats, columns: Integers, value: float, column: int) -> None:
    """Put a value where it belongs, of equal ones the first column first; the last one goes."""
    at = len(values) - 1
    if value > values[at] or (value == values[at] and column > columns[at]):
        return
    while at > 0 and (
        values[at - 1] > value or (values[at - 1] == value and columns[at - 1] > column)
    ):
        values[at], columns[at] = values[at - 1], columns[at - 1]
        at -= 1
    values[at], columns[at] = value, column


@kernel(*(f"void({t}[::1], {t}[::1], {t}, {t}, {t}[::1])" for t in _TYPES))
def _least(of_x: Coarse, of_y: Coarse, weight_x: float, weight_y: float, least: Coarse) -> None:
    """The least of the larger of two distances, each times its weight, in every group of a row.

    A sample is in the group of its place modulo their number: near ones often follow one another.
    Weights of levels are parts of 2¹⁶.
    """
    groups = len(least)
    for start in range(0, len(of_x), groups):
        a, b = of_x[start : start + groups], of_y[start : start + groups]
        if of_x.itemsize == 2:
            for j in range(len(a)):
                p = _u16((np.uint32(a[j]) * np.uint32(weight_x)) >> np.uint32(16))
                q = _u16((np.uint32(b[j]) * np.uint32(weight_y)) >> np.uint32(16))
                p = p if p > q else q
                least[j] = p if p < least[j] else least[j]
        else:
            for j in range(len(a)):
                u, v = a[j] * weight_x, b[j] * weight_y
                u = u if u > v else v
                least[j] = u if u < least[j] else least[j]


@kernel(*(f"float64({t}[::1], float64, {t}, float64[::1])" for t in _TYPES))
def _reach(row: Coarse, bound: float, weight: float, known: Floats) -> float:
    """The largest distance that there may be where the weighted coarse one is at most a bound."""
    if row.itemsize == 2:
        coarse = min((bound + 1) * 65536 / max(weight, 1e-9), 65535.0)
    else:
        coarse = min(max(bound, 0.0) / max(weight, 1e-30) * (1 + 1e-6), _LARGEST_SQUARE)
    return _at_most(coarse, known)


@kernel(
    *(
        f"int64({t}[::1], {t}[::1], float64[:,::1], float64[:,::1], int64, boolean, float64[::1],"
        f" float64[::1], {t}, {t}, {t}[::1], float64[::1], int64[::1])"
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
    weight_x: float,
    weight_y: float,
    least: Coarse,
    values: Floats,
    columns: Integers,
) -> int:
    """The smallest distances of a sample in the joint space, ascending, and how many were told.

    The least coarse distances of k groups are of k samples, so that the k-th of all is no larger
    than what the k-th of these may stand for. What may be below it is told.
    """
    k, n, groups = len(values), len(of_x), len(least)
    least[:] = _limit(of_x, np.inf, known_x, _ABOVE)
    _least(of_x, of_y, weight_x, weight_y, least)
    for j in range(k):
        values[j], columns[j] = np.inf, n
    if groups >= k:
        for g in range(groups):
            if least[g] < values[k - 1]:
                _put(values, columns, least[g], g)
        bound = values[k - 1]
        most = max(_reach(of_x, bound, weight_x, known_x), _reach(of_y, bound, weight_y, known_y))
    else:
        most = np.inf
    for j in range(k):
        values[j], columns[j] = most, n
    last_x, last_y = _limit(of_x, most, known_x, _ABOVE), _limit(of_y, most, known_y, _ABOVE)
    if of_x.itemsize == 2:
        limit = max(last_x * weight_x / 65536, last_y * weight_y / 65536)
    else:
        limit = max(last_x * weight_x, last_y * weight_y) * (1 + 1e-6)
    told = 0
    for g in range(groups):
        if least[g] > limit:
            continue
        for j in range(g, n, groups):
            if not (of_x[j] < last_x and of_y[j] < last_y):
                continue
            told += 1
            value = max(_distance(x[own], x[j], squared), _distance(y[own], y[j], squared))
            _put(values, columns, value, j)
            last_x = _limit(of_x, values[k - 1], known_x, _ABOVE)
            last_y = _limit(of_y, values[k - 1], known_y, _ABOVE)
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
        for first in range(0, len(part), _FINER):
            finer = part[first : first + _FINER]
            some = _u16(0)
            for j in range(len(finer)):
                value = finer[j]
                open0, open1 = in0 <= value < may0, in1 <= value < may1
                some = _u16(some + _u16(open0 | open1))
            if not some:
                continue
            for j in range(len(finer)):
                value = finer[j]
                open0, open1 = in0 <= value < may0, in1 <= value < may1
                if open0 or open1:
                    told += 1
                    distance = _distance(points[own], points[start + first + j], squared)
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
    least = np.empty(min(_GROUPS, len(x)), coarse_x.dtype)
    unit_x, unit_y = known_x[_UNIT], known_y[_UNIT]
    if known_x[_ROOT]:
        unit_x *= unit_x
    if known_y[_ROOT]:
        unit_y *= unit_y
    whole = 65535.0 if coarse_x.itemsize == 2 else 1.0
    weight_x: Any = coarse_x.dtype.type(whole * (unit_x / max(unit_x, unit_y)))
    weight_y: Any = coarse_y.dtype.type(whole * (unit_y / max(unit_x, unit_y)))
    radii_x, radii_y = np.empty(2), np.empty(2)
    inside = np.empty(2, np.int64)
    for i in range(len(coarse_x)):
        of_x, of_y, own = coarse_x[i], coarse_y[i], start + i
        of_x[own] = _limit(of_x, np.inf, known_x, _ABOVE)  # that is never below a limit
        of_y[own] = _limit(of_y, np.inf, known_y, _ABOVE)
        told += _nearest(
            of_x,
            of_y,
            x,
            y,
            own,
            squared,
            known_x,
            known_y,
            weight_x,
            weight_y,
            least,
            nearest[i],
            columns[i],
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
