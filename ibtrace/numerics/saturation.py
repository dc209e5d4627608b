"""Units at the ends of their range, and units that say nothing."""

from __future__ import annotations

from torch import Tensor


def near_ends(values: Tensor, low: float, high: float, share: float) -> Tensor:
    """Share of each sample's units further from the middle than a share of half the range.

    Args:
        values: ``(..., n, d)``.
        low: The range's lower end.
        high: Its upper end.
        share: Between 0 and 1.

    Returns:
        ``(..., n)``.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    near: Tensor = ((values - middle).abs() > share * half).double().mean(-1)
    return near


def dead_share(values: Tensor) -> Tensor:
    """Share of the units that give one value for all samples, ``(...)`` of ``(..., n, d)``."""
    dead: Tensor = (values == values[..., :1, :]).all(-2).double().mean(-1)
    return dead
