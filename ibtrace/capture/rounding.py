"""Means that are the same for every sample but for rounding.

The mean over positions of what was normalised over them (a softmax's weights, an instance
norm's output) is a constant whatever the sample; what is left of its spread is the arithmetic's.
Taken for information it would be several bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rounding:
    """How far the means of some values may differ by rounding alone.

    Args:
        bound: Of each column of T, ``(d,)`` float64.
        varies: Whether the values that are averaged into a column differ from one another, so
            that its mean is no copy of one value.
    """

    bound: Tensor
    varies: Tensor

    @classmethod
    def of(cls, tokens: Tensor, mask: Tensor | None) -> Rounding:
        """The rounding of means over k positions.

        What all positions share, such as the mean that a norm took away, was computed in float32
        at least: its error is in proportion to how far the values reach, and to how far they lay
        from 0 before the norm, which is not known; it is bounded by a thousand roundings, and by a
        tenth of what one position alone could change in the mean. The positions' own roundings
        average out, which counts in half precision: at most a tenth of what independent positions
        would differ by. The mean itself is rounded in proportion to its size.

        Args:
            tokens: What is averaged, ``(n, k, d)``: of one batch, which stands for all.
            mask: Which positions are real, bool ``(n, k)``; None: all.
        """
        values = tokens if mask is None else tokens[mask][None]
        low, high = values.amin((0, 1)).double(), values.amax((0, 1)).double()
        k, own = tokens.shape[1], torch.finfo(tokens.dtype).eps
        inner = min(own, torch.finfo(torch.float32).eps)
        share = min(1000 * inner, 0.1 / k)
        if own > inner:
            share += min(100 * own, 0.1) / k**0.5
        size = torch.maximum(low.abs(), high.abs()) * inner
        return cls(share * (high - low) + 2 * size, high > low)

    def projected(self, frame: Tensor) -> Rounding:
        """The same of T's projections by a frame ``(d, k)``."""
        bound = self.bound @ frame.abs()
        return Rounding(bound, self.varies.any().expand(len(bound)))

    def settle(self, values: Tensor) -> bool:
        """Make columns constant that are so but for rounding; whether all columns then are.

        Args:
            values: T of all samples, ``(n, d)``, written to.
        """
        columns = self.constant(values)
        if not bool(columns.any()):
            return False
        values[:, columns] = values[:1, columns]
        return bool((values == values[:1]).all())

    def constant(self, values: Tensor) -> Tensor:
        """The columns ``(d,)`` of T ``(n, d)`` in which samples differ by no more than rounding."""
        spread = values.amax(0).double() - values.amin(0).double()
        return (spread > 0) & (spread <= self.bound) & self.varies
