"""Compiled sums of Gaussian kernels over blocks of pairs. Loaded by `compiled.kernels` alone.

A block is read once: exponents, their exponentials, the finer kernels and the sums over classes are
taken row by row, in the nearest cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics._jit import kernel

_PART = 64  # columns, of which none is taken if all are far
_MAGIC = 6755399441055744.0  # 1.5 2⁵²: what is added to it is rounded to a whole number
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@kernel("void(float64[::1], float64[::1], int64[::1], float64[::1], int64[::1])")
def exponentials(x: Floats, shifts: Floats, powers: Integers, out: Floats, bits: Integers) -> None:
    """``exp(x)`` for -700 ≤ x ≤ 0, to two units in the last place; of 0 exactly 1.

    By x = n ln 2 + r: a polynomial of r / 2, squared, and n added to the exponent. All of it is
    plain arithmetic, of which one instruction does several.

    Args:
        x: ``(m,)``.
        shifts: Work, ``(m,)``; ``powers`` are its bits.
        powers: See ``shifts``.
        out: Filled, ``(m,)``; ``bits`` are its bits.
        bits: See ``out``.
    """
    for j in range(len(x)):
        shifts[j] = x[j] * _LOG2_E + _MAGIC
    for j in range(len(x)):
        n = shifts[j] - _MAGIC
        h = 0.5 * ((x[j] - n * _LN2_HIGH) - n * _LN2_LOW)
        s = h * h
        q = s * s
        # 1 / k! of h^k, by pairs and pairs of pairs
        low = (1.0 + h) + s * (1 / 2 + h * (1 / 6))
        mid = (1 / 24 + h * (1 / 120)) + s * (1 / 720 + h * (1 / 5040))
        top = (1 / 40320 + h * (1 / 362880)) + s * (1 / 3628800 + h * (1 / 39916800))
        p = low + q * (mid + q * top)
        out[j] = p * p
    for j in range(len(x)):
        bits[j] += powers[j] << 52


@kernel("float64(float64[::1])", any_order=True)
def _sum(values: Floats) -> float:
    total = 0.0
    for j in range(len(values)):
        total += values[j]
    return total


@kernel("float64(float64[::1], int64[::1], int64)", any_order=True)
def _sum_of(values: Floats, classes: Integers, own: int) -> float:
    """The sum of the values that are of a class."""
    total = 0.0
    for j in range(len(values)):
        total += values[j] if classes[j] == own else 0.0
    return total


@kernel(
    "void(float64[:,::1], float64[::1], float64[::1], int64[:,::1], int64[:,::1], boolean,"
    " int64, int64, float64, float64, float64[:,:,::1])"
)
def add_block(
    products: Floats,
    of_rows: Floats,
    of_columns: Floats,
    row_classes: Integers,
    column_classes: Integers,
    own: bool,
    first_row: int,
    first_column: int,
    lowest: float,
    least: float,
    sums: Floats,
) -> None:
    """Add the kernels of a block of pairs, and of their mirror image, to the sums of their points.

    Of some columns that are all too far from a row none is taken.

    The exponent of a pair is its product less the squares of both. Each further level is the
    fourth power of the one before.

    Args:
        products: ``(m, c)``.
        of_rows: The squares of the rows, ``(m,)``.
        of_columns: Those of the columns, ``(c,)``.
        row_classes: Of the rows, under each grouping, ``(groupings, m)``.
        column_classes: Of the columns, ``(groupings, c)``.
        own: Whether rows and columns are the same points; a point's kernel with itself is 1.
        first_row: The place of the first row in the sums.
        first_column: That of the first column.
        lowest: The exponent up to which a kernel is lost in the rounding of a sum.
        least: What a kernel is at least before its fourth power is taken.
        sums: Added to: over all points, and over those of a point's class under each grouping,
            ``(levels, 1 + groupings, n)``.
    """
    (m, c), levels = products.shape, len(sums)
    room = min(c, _PART)
    x, shifts, kernel = np.empty(room), np.empty(room), np.empty(room)
    powers, bits = shifts.view(np.int64), kernel.view(np.int64)
    for i in range(m):
        square = of_rows[i]
        for start in range(0, c, _PART):
            stop = min(start + _PART, c)
            row, squares, size = products[i, start:stop], of_columns[start:stop], stop - start
            near = 0
            for j in range(size):
                value = (row[j] - squares[j]) - square
                near += value > lowest
                value = value if value > -700.0 else -700.0
                x[j] = value if value < 0.0 else 0.0
            if not near:
                continue
            exponentials(x[:size], shifts[:size], powers[:size], kernel[:size], bits[:size])
            if own and start <= i < stop:
                kernel[i - start] = 1.0
            first = first_column + start
            for level in range(levels):
                if level:
                    for j in range(size):
                        value = kernel[j] if kernel[j] > least else least
                        value *= value
                        kernel[j] = value * value
                here = sums[level, 0, first : first + size]
                for j in range(size):
                    here[j] += kernel[j]
                if not own:
                    sums[level, 0, first_row + i] += _sum(kernel[:size])
                for g in range(len(row_classes)):
                    ids, its = column_classes[g, start:stop], row_classes[g, i]
                    here = sums[level, 1 + g, first : first + size]
                    for j in range(size):
                        here[j] += kernel[j] if ids[j] == its else 0.0
                    if not own:
                        sums[level, 1 + g, first_row + i] += _sum_of(kernel[:size], ids, its)
