"""Distances told coarsely, with how wrong they may be: most comparisons need no more.

In the max-norm every column is cut into 65,533 levels: the difference of two levels is that of the
numbers but for less than one. Euclidean distances, squared, come in float32. Both leave open a few
comparisons of thousands, which the distances themselves decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.scale import Norm

_LEVELS = 65_533.0  # the largest difference leaves 65,535 for the point itself
_PRODUCT_FROM = 12  # dimensions from which on a product tells squares faster than a loop
_ROUNDED = 1.01  # levels between a difference and that of two rounded down
_CACHED = 2**18  # bytes of a block
_TOLD = 1e-150, 1e150  # numbers whose squares are numbers

Coarse = NDArray[Any]


@dataclass(frozen=True)
class Screen:
    """The coarse distances among n points.

    Args:
        own: The points as they are compared, ``(n, d)``, or ``(n, d + 2)`` for a product.
        columns: The others, column after column.
        product: Whether the distances are the product of the two.
        known: ``(scale, 1 / scale, below, above, up, root)``: a distance is below a radius r if
            the coarse one is below ``r scale + below``, not if it is not below ``r scale + above``,
            and it is at most ``(coarse + up) / scale``. With ``root`` this is said of their roots.
    """

    own: Coarse
    columns: Coarse
    product: bool
    known: NDArray[np.float64]

    @classmethod
    def of(cls, points: NDArray[np.float64], norm: Norm) -> Screen | None:
        """The screen of points ``(n, d)``; None of those that its numbers cannot tell apart."""
        return _levels(points) if norm == "max" else _squares(points)

    @property
    def bytes(self) -> int:
        """Of all distances."""
        return self.own.itemsize * len(self.own) ** 2

    @property
    def step(self) -> int:
        """How many rows make a block that stays in a cache."""
        cached = (4 if self.product else 1) * _CACHED  # a product of few rows is slow
        return max(8, cached // (len(self.own) * self.own.itemsize))

    def room(self, rows: int) -> Coarse:
        """A block ``(rows, n)`` to fill."""
        return np.empty((rows, len(self.own)), self.own.dtype)

    def fill(self, start: int, block: Coarse) -> None:
        """Coarse distances of the points from ``start`` on to all, ``block (m, n)``."""
        own = self.own[start : start + len(block)]
        if self.product:
            np.matmul(own, self.columns, out=block)  # float32 whatever torch was told of precision
        elif self.own.dtype == np.uint16:
            kernels("_screened").chebyshev(own, self.columns, block)
        else:
            kernels("_screened").square_euclidean(own, self.columns, block)


def _levels(points: NDArray[np.float64]) -> Screen | None:
    lowest = points.min(0)
    extent = float((points.max(0) - lowest).max())
    if not _TOLD[0] < extent < _TOLD[1]:
        return None
    scale = _LEVELS / extent
    own = ((points - lowest) * scale).astype(np.uint16)
    below, above = 1 - _ROUNDED, 1 + _ROUNDED  # below a whole number and one: not above it
    known = np.array([scale, 1 / scale, below, above, _ROUNDED, False])
    return Screen(own, np.ascontiguousarray(own.T), False, known)


def _squares(points: NDArray[np.float64]) -> Screen | None:
    """Squares as parts of R², the largest about the mean.

    A number is rounded by 2⁻²⁴ of itself, and so is a difference: the root of the sum is off by
    2⁻²² at most, and by (d + 2) 2⁻²⁵ of itself, which is at most 2. The square by a product is off
    by d + 5 roundings of terms that are 4 together. What is added is for the rounded limits.
    """
    centred = points - points.mean(0)
    largest = float(np.abs(centred).max())
    if not _TOLD[0] < largest < _TOLD[1]:
        return None
    centred /= largest
    squares = np.square(centred).sum(1, keepdims=True)
    of_all, d = float(squares.max()), points.shape[1]
    own = centred / of_all**0.5
    columns, product, scale = own, d >= _PRODUCT_FROM, 1 / (largest * of_all**0.5)
    off = (d + 10) * 2.0**-24
    if product:
        squares, ones = squares / of_all, np.ones_like(squares)
        own, columns = np.hstack([-2 * own, squares, ones]), np.hstack([own, ones, squares])
        off, scale = 4 * off, scale**2
    known = np.array([scale, 1 / scale, -off, off, off, not product])
    columns = np.ascontiguousarray(columns.T, np.float32)
    return Screen(own.astype(np.float32), columns, product, known)
