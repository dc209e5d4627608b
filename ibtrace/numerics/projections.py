"""Linear maps to fewer dimensions, random and principal, that keep equal rows equal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ibtrace.numerics.bins import ordered_row_ids, row_ids

_GAP = 1e-9


class PrincipalComponents(NamedTuple):
    """What `principal_components` finds, for each problem of the batch.

    Args:
        scores: Coordinates along the first k axes, ``(..., n, k)`` float64.
        share: Share of the variance they keep, ``(...)``; 1 where there is none.
        ambiguous: Whether variances tie at the cut, so that the subspace is arbitrary, ``(...)``.
    """

    scores: Tensor
    share: Tensor
    ambiguous: Tensor


def orthonormal(directions: int, d: int, k: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal frames, uniform on the Stiefel manifold, ``(directions, d, k)`` float64.

    The Q of a normal matrix, with the signs that make R's diagonal positive (Mezzadri 2007).

    Args:
        directions: How many.
        d: The dimension to project from.
        k: The dimension to project to, at most d.
        generator: A CPU generator, so that the frames are the same on every device.
    """
    normal = torch.randn(directions, d, k, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    frames: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return frames


def first_equal(rows: Tensor) -> Tensor:
    """Where the first row equal to each of ``rows (..., n, d)`` stands, ``(..., n)``."""
    ids = row_ids(rows)
    order = torch.arange(ids.shape[-1], device=ids.device).expand_as(ids)
    first = torch.full_like(ids, ids.shape[-1]).scatter_reduce_(-1, ids, order, "amin")
    return first.gather(-1, ids)


def tied_alike(values: Tensor, first: Tensor) -> Tensor:
    """``values (..., n, k)``, each row replaced by the one at ``first (..., n)``.

    A matrix product may round equal rows differently, which would hide ties from an estimator
    that has to break them: `first_equal` of the rows that went in keeps them.
    """
    return values.gather(-2, first.unsqueeze(-1).expand(values.shape))


def content_order(rows: Tensor) -> Tensor:
    """An order of ``rows (n, d)`` that depends on their values only, ``(n,)``.

    What is drawn at random for samples in this order does not depend on how they came.
    """
    return ordered_row_ids(rows).argsort(stable=True)


def principal_components(x: Tensor, k: int) -> PrincipalComponents:
    """The first k principal components of each problem, signs fixed, without whitening.

    The sign of an axis makes its first largest loading positive. A component without variance
    is exactly 0, not rounding noise.

    Args:
        x: Floats ``(..., n, d)``, more than k samples and features.
        k: How many components.
    """
    points = x.detach().to(torch.float64)
    points = points - points.mean(-2, keepdim=True)
    n, d = points.shape[-2:]
    if d <= n:
        values, vectors = torch.linalg.eigh(points.mT @ points)
        axes = vectors[..., -k:].flip(-1)
    else:
        values, vectors = torch.linalg.eigh(points @ points.mT)
        axes = torch.nn.functional.normalize(points.mT @ vectors[..., -k:].flip(-1), dim=-2)
    values = values.flip(-1).clamp(min=0)  # rounding may leave a square below 0
    largest, total = values[..., :1], values.sum(-1)
    floor = largest * max(n, d) * torch.finfo(torch.float64).eps
    significant = values[..., :k] > floor
    scores = tied_alike(points @ _positive(axes), first_equal(x)) * significant.unsqueeze(-2)
    last, beyond = values[..., k - 1], values[..., k]
    return PrincipalComponents(
        scores=scores,
        share=torch.where(total > 0, values[..., :k].sum(-1) / total, 1.0),
        ambiguous=(last - beyond <= _GAP * largest[..., 0]) & (beyond > floor[..., 0]),
    )


def _positive(axes: Tensor) -> Tensor:
    """Axes ``(..., d, k)`` with the first of their largest loadings positive."""
    size, d = axes.abs(), axes.shape[-2]
    rank = torch.arange(d, device=axes.device).unsqueeze(-1)
    nearly_largest = size >= size.amax(-2, keepdim=True) * (1 - 1e-6)
    first = torch.where(nearly_largest, rank, d - 1).amin(-2, keepdim=True)
    sign = axes.gather(-2, first).sign()
    return axes * torch.where(sign == 0, 1.0, sign)
