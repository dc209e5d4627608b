"""Seeds whose network is another's: equal to the last digit in all that moves in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ibtrace.plane.drops import Array


def copies(curves: Iterable[Array], seeds: Sequence[int]) -> dict[int, int]:
    """Seeds whose curves are another's to the last digit at every look: ``{seed: the first}``.

    A seed whose curves all stand still tells nothing: those of different networks may be equal. Of
    two that are equal, what is missing is missing in both.

    Args:
        curves: Each ``(seeds, looks)``, one for every layer and estimator, or scale; what is not
            finite is missing.
        seeds: The seeds, in the order of the rows.

    Example:
        >>> still, moving = np.array([[1.0, 1], [1, 1], [1, 1]]), np.array([[1, 2], [3, 3], [1, 2]])
        >>> copies([still, moving], [4, 5, 6]), copies([still], [4, 5, 6])
        ({6: 4}, {})
        >>> copies([np.array([[1.0, 1], [1, 2], [1, 1]])], [4, 5, 6])  # 4 and 6 stand still
        {}
    """
    known = [np.where(np.isfinite(curve), curve, np.nan) for curve in curves]
    if not known:
        return {}
    moving = np.logical_or.reduce([np.zeros(len(seeds), dtype=bool), *map(_moves, known)])
    firsts: dict[bytes, int] = {}
    return {
        seed: first
        for seed, curve, moves in zip(seeds, np.concatenate(known, axis=1), moving, strict=True)
        if moves
        if (first := firsts.setdefault(curve.tobytes(), seed)) != seed
    }


def _moves(curve: Array) -> NDArray[np.bool_]:
    """Whether the numbers of each seed are not the same at all looks, ``(seeds,)``."""
    spread = np.fmax.reduce(curve, axis=1, initial=-np.inf)
    spread = spread - np.fmin.reduce(curve, axis=1, initial=np.inf)
    moved: NDArray[np.bool_] = spread > 0
    return moved
