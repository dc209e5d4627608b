"""Seeds whose network is another's: equal to the last digit in all that moves in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ibtrace.plane.drops import Array


def copies(curves: Iterable[Array], seeds: Sequence[int]) -> dict[int, int]:
    """Seeds whose curves are another's to the last digit at every look: ``{seed: the first}``.

    Curves that stand still all along tell nothing: those of different networks may be equal. Of
    two that are equal, what is missing is missing in both.

    Args:
        curves: Each ``(seeds, looks)``, one for every layer and estimator, or scale; what is not
            finite is missing.
        seeds: The seeds, in the order of the rows.

    Example:
        >>> still, moving = np.array([[1.0, 1], [1, 1], [1, 1]]), np.array([[1, 2], [3, 2], [1, 2]])
        >>> copies([still, moving], [4, 5, 6]), copies([still], [4, 5, 6])
        ({6: 4}, {})
    """
    known = [np.where(np.isfinite(curve), curve, np.nan) for curve in curves]
    moving = [curve for curve in known if _moves(curve)]
    if not moving:
        return {}
    firsts: dict[bytes, int] = {}
    return {
        seed: first
        for seed, curve in zip(seeds, np.concatenate(moving, axis=1), strict=True)
        if np.isfinite(curve).any()
        if (first := firsts.setdefault(curve.tobytes(), seed)) != seed
    }


def _moves(curve: Array) -> bool:
    """Whether the numbers of some seed are not the same at all looks."""
    if not curve.shape[1]:
        return False
    spread = np.fmax.reduce(curve, axis=1) - np.fmin.reduce(curve, axis=1)
    return bool((spread > 0).any())
