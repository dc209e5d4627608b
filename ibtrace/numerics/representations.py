"""The shape of a cloud of points: how many directions it fills, and how alike two clouds are.

Everything takes leading dimensions as independent problems and works on them together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centred(points: Tensor) -> Tensor:
    """Points ``(..., n, d)`` about their mean, in float64; a constant column is exactly 0."""
    points = points.detach().to(torch.float64)
    moved = points - points[..., :1, :]  # a mean has rounding of its own, a first row has none
    return moved - moved.mean(-2, keepdim=True)


def spectrum(points: Tensor) -> Tensor:
    """The eigenvalues of the covariance (with 1/n) of points ``(..., n, d)``.

    Args:
        points: The points.

    Returns:
        ``(..., min(n, d))``, ascending; the others are 0.
    """
    moved = centred(points)
    n, d = moved.shape[-2:]
    small = moved.mT @ moved if d <= n else moved @ moved.mT
    values: Tensor = torch.linalg.eigvalsh(small / n)
    return values


def participation_ratio(eigenvalues: Tensor) -> Tensor:
    """(Σλ)² / Σλ²: how many directions share the variance, NaN where there is none, ``(...)``.

    Args:
        eigenvalues: Of a covariance or a kernel, ``(..., k)``.

    Example:
        >>> participation_ratio(torch.tensor([1.0, 1.0, 1.0, 0.0])).item()
        3.0
    """
    return eigenvalues.sum(-1).square() / eigenvalues.square().sum(-1)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp(-Σ p ln p) with p = λ / Σλ, NaN where all are 0, ``(...)``.

    Eigenvalues that rounding put below 0 count as 0. Never below the `participation_ratio`:
    the two are the exponentials of the Shannon and the Rényi entropy of order 2 of p.

    Args:
        eigenvalues: Of a covariance or a kernel, ``(..., k)``.
    """
    positive = eigenvalues.clamp(min=0)
    p = positive / positive.sum(-1, keepdim=True)
    return torch.exp(-torch.xlogy(p, p).sum(-1))


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖), ``(...)``; NaN of a constant.

    1 for clouds that differ by a rotation, a shift and a scale (Kornblith et al. 2019).

    Args:
        x: Points ``(..., n, d)``.
        y: The same samples as other points, ``(..., n, e)``.
    """
    a, b = centred(x), centred(y)
    n, d, e = a.shape[-2], a.shape[-1], b.shape[-1]
    if max(d, e) <= n:
        shared = (a.mT @ b).square().sum((-2, -1))
        own = [(v.mT @ v).square().sum((-2, -1)) for v in (a, b)]
    else:  # the Gram matrices are the smaller ones
        k, m = a @ a.mT, b @ b.mT
        shared, own = (k * m).sum((-2, -1)), [v.square().sum((-2, -1)) for v in (k, m)]
    return shared / (own[0] * own[1]).sqrt()
