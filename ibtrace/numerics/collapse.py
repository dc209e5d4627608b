"""The geometry of classes: spread within and between them, and the simplex they may form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Classes(NamedTuple):
    """The means of the classes of samples.

    Args:
        means: ``(..., c, d)``.
        counts: How many samples each has, ``(..., c)``.
        within: The mean squared distance to the own class's mean, ``(...)``: tr S_w.
        between: That of the own class's mean to the mean of all samples, ``(...)``: tr S_b.
    """

    means: Tensor
    counts: Tensor
    within: Tensor
    between: Tensor


def classes(points: Tensor, labels: Tensor, count: int) -> Classes:
    """The classes of points ``(..., n, d)`` with ids ``(..., n)`` below ``count``."""
    points = points.to(torch.float64)
    first = points[..., :1, :]  # equal points then have a spread of exactly 0
    moved = points - first
    member = torch.nn.functional.one_hot(labels, count).to(torch.float64)  # (..., n, c)
    counts = member.sum(-2)
    means = (member.mT @ moved) / counts[..., None]
    own = torch.take_along_dim(means, labels[..., None], -2)
    within = (moved - own).square().sum(-1).mean(-1)
    between = (own - moved.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
    return Classes(means + first, counts, within, between)


def unequal_norms(vectors: Tensor) -> Tensor:
    """The spread of the norms of vectors ``(..., c, d)`` by their mean; 0 of equal ones."""
    norms = vectors.norm(dim=-1)
    spread: Tensor = norms.std(-1, correction=0) / norms.mean(-1)
    return spread


def simplex_angles(vectors: Tensor) -> Tensor:
    """The mean of |cos + 1/(c-1)| over pairs of c vectors ``(..., c, d)``; 0 in a simplex."""
    c = vectors.shape[-2]
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    cosines = unit @ unit.mT + 1 / (c - 1)
    pairs = ~torch.eye(c, dtype=torch.bool, device=vectors.device)
    off: Tensor = cosines[..., pairs].abs().mean(-1)
    return off


def dual_distance(weights: Tensor, means: Tensor) -> Tensor:
    """‖W/‖W‖ - M/‖M‖‖² of weights and class means, both ``(..., c, d)``; 0 to 4."""
    unit = [v / v.norm(dim=(-2, -1), keepdim=True) for v in (weights, means)]
    distance: Tensor = (unit[0] - unit[1]).square().sum((-2, -1))
    return distance


def nearest_mean(points: Tensor, means: Tensor) -> Tensor:
    """Which of the means ``(..., c, d)`` is nearest to each of the points ``(..., n, d)``."""
    return torch.cdist(points.to(torch.float64), means).argmin(-1)
