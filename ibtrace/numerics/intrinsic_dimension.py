"""The dimension of the surface on which points lie, from the distances of their neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ibtrace.numerics.distances import Distances, row_blocks
from ibtrace.numerics.knn import k_smallest


class TwoNearest(NamedTuple):
    """An intrinsic dimension and what it rests on.

    Args:
        dimension: Infinite if all second neighbours are as near as the first; NaN if no point has
            two neighbours that are apart from it.
        stderr: Standard error as if the ratios were independent, d/√N.
        points: N, the points that no other repeats.
    """

    dimension: float
    stderr: float
    points: int


def two_nearest(points: Tensor) -> TwoNearest:
    r"""The maximum-likelihood intrinsic dimension of points ``(n, d)``.

    .. math:: \hat d = N \Big/ \sum_i \ln (r_{2,i} / r_{1,i})

    with r₁ and r₂ a point's distances to its two nearest neighbours: their ratio follows a Pareto
    law of exponent d wherever the density is even (Facco et al. 2017). A point that another
    repeats (r₁ = 0) has no ratio and is left out of the sum and of N; it stays a neighbour.

    Args:
        points: Finite floats.

    Example:
        >>> round(two_nearest(torch.arange(10.0)[:, None]).dimension, 6)  # 10 / (2 ln 2)
        7.213475
    """
    points = points.detach().to(torch.float64)
    if len(points) < 3:
        return TwoNearest(float("nan"), float("nan"), 0)
    distances, total, n = Distances(points, "euclidean"), 0.0, 0
    for rows in row_blocks(len(points), points.device):
        nearest = k_smallest(distances.rows(rows), 2)[0]  # squared
        apart = nearest[nearest[:, 0] > 0]
        total += float((apart[:, 1] / apart[:, 0]).log().sum()) / 2
        n += len(apart)
    if n == 0:
        return TwoNearest(float("nan"), float("nan"), 0)
    dimension = n / total if total > 0 else float("inf")
    return TwoNearest(dimension, dimension / n**0.5, n)
