"""Copula-normal scores, and information between jointly normal variables."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_NO_VARIANCE = 1e-12
"""Below this share of the largest variance a direction has none: float32's rounding is there."""

_DETERMINED = 1e-9
"""Where less than this share of a variance is left unexplained, the joint law is singular."""


def copula_normal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normal scores Φ⁻¹(rank / (n + 1)) of each column; equal values share their mean rank.

    Args:
        x: ``(n, d)`` floats.

    Returns:
        Scores float64 ``(n, d)`` of mean 0, and how many samples share each value ``(n, d)``.
    """
    n = len(x)
    columns = x.detach().to(torch.float64).T.contiguous()
    ordered = columns.sort(-1).values
    below = torch.searchsorted(ordered, columns)
    through = torch.searchsorted(ordered, columns, right=True)
    # Equal values hold the ranks below + 1 to through, of which this is the mean.
    ranks = (below + through + 1).to(torch.float64) / 2
    scores = torch.special.ndtri(ranks / (n + 1)).T
    return scores - scores.mean(0), (through - below).T


def is_degenerate(points: Tensor) -> bool:
    """Whether points ``(n, d)`` lie in a subspace: constant or collinear columns, or n ≤ d."""
    n, d = points.shape
    centred = points - points.mean(0)
    deviation = centred.square().mean(0).sqrt()
    if n <= d or bool((deviation <= _NO_VARIANCE * points.abs().amax(0)).any()):
        return True
    columns = centred / deviation
    smallest = torch.linalg.eigvalsh(columns.T @ columns / n)[0]
    return bool(smallest <= _NO_VARIANCE * d)


class Whitened(NamedTuple):
    """Coordinates of unit covariance.

    Args:
        points: ``(n, r)``, uncorrelated, of variance 1 (divisor n - 1).
        reduced: Whether r is less than the number of columns given.
    """

    points: Tensor
    reduced: bool


def whiten(columns: Tensor) -> Whitened:
    """Columns ``(n, d)`` of mean 0, none constant, in the directions that have variance."""
    n, d = columns.shape
    scaled = columns / columns.square().mean(0).sqrt()
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / (n - 1))
    varying = values > _NO_VARIANCE * d * values[-1]
    points = scaled @ (vectors[:, varying] / values[varying].sqrt())
    return Whitened(points, bool((~varying).any()))


class NormalInformation(NamedTuple):
    """Information between two jointly normal variables, in nats.

    Args:
        nats: -½ Σ log(1 - ρ²), ρ the canonical correlations; infinite where one is 1.
        local: Each sample's share log p(x,y) / p(x)p(y), ``(n,)``.
    """

    nats: Tensor
    local: Tensor


def information_of_whitened(x: Tensor, y: Tensor) -> NormalInformation | None:
    """Information between whitened variables; None if one determines a direction of the other.

    Args:
        x: ``(n, rx)`` from `whiten`.
        y: ``(n, ry)`` from `whiten`.
    """
    n = len(x)
    # So few samples always have a direction of x that is a combination of y's, whatever their law.
    if n <= x.shape[1] + y.shape[1] + 1:
        return None
    left, rho, right = torch.linalg.svd(x.T @ y / (n - 1), full_matrices=False)
    unexplained = 1 - rho.square()
    if bool((unexplained < _DETERMINED).any()):
        return None
    return _information(x @ left, y @ right.T, rho)


def _information(u: Tensor, v: Tensor, rho: Tensor) -> NormalInformation:
    """From canonical variates of unit variance and their correlations."""
    rest = 1 - rho.square()
    nats = -0.5 * rest.log().sum()
    # What the joint normal law weighs each sample by, less what the two marginal laws do.
    quadratic = (u.square() + v.square() - 2 * rho * u * v) / rest - u.square() - v.square()
    return NormalInformation(nats, nats - 0.5 * quadratic.sum(1))


def shrunk_information(x: Tensor, y: Tensor) -> tuple[NormalInformation, float]:
    """Information under a correlation matrix shrunk towards the identity, and the shrinkage.

    The shrinkage λ is Schäfer & Strimmer's (2005), Σ Var(r_ij) / Σ r_ij² over i ≠ j, and at
    least 1/n, so that the matrix is regular.

    Args:
        x: Columns of mean 0, none constant, ``(n, dx)``.
        y: Columns of mean 0, none constant, ``(n, dy)``.
    """
    n, split = len(x), x.shape[1]
    z = torch.cat([x, y], 1)
    z = z / z.square().mean(0).sqrt()
    correlation = z.T @ z / n
    products = z.square().T @ z.square() / n - correlation.square()
    off = ~torch.eye(len(correlation), dtype=torch.bool, device=z.device)
    strength = float(_shrinkage(products[off], correlation[off], n))
    shrunk = torch.where(off, (1 - strength) * correlation, 1.0)
    inverse_x, inverse_y = (
        _inverse_root(m) for m in (shrunk[:split, :split], _tail(shrunk, split))
    )
    left, rho, right = torch.linalg.svd(
        inverse_x @ shrunk[:split, split:] @ inverse_y, full_matrices=False
    )
    variates = z[:, :split] @ inverse_x @ left, z[:, split:] @ inverse_y @ right.T
    return _information(*variates, rho), strength


def _shrinkage(variance: Tensor, distance: Tensor, n: int) -> Tensor:
    """Σ Var / Σ distance² between 1/n and 1, from the variance of one sample's contribution."""
    total = distance.square().sum()
    ratio = variance.sum() / (n - 1) / torch.where(total > 0, total, 1)
    return ratio.clamp(min=1 / n, max=1)


def _tail(matrix: Tensor, start: int) -> Tensor:
    return matrix[start:, start:]


def _inverse_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors / values.sqrt() @ vectors.T
    return root


class NormalClass(NamedTuple):
    """A normal law fitted to the samples of a class, in coordinates whitened over all classes.

    Args:
        log_determinant: Of its covariance.
        local: Each sample's log-density ratio to the standard normal law, nats, ``(n,)``.
        shrunk: Whether its covariance was singular and therefore shrunk.
    """

    log_determinant: Tensor
    local: Tensor
    shrunk: bool


def normal_class(points: Tensor) -> NormalClass:
    """Fit a normal law to points ``(n, r)`` of one class.

    A singular covariance is shrunk towards the identity, which is that of all classes together,
    by Σ Var(s_ij) / Σ (s_ij - δ_ij)², at least 1/n; that of a single point becomes the identity.
    """
    n, r = points.shape
    centred = points - points.mean(0)
    identity = torch.eye(r, dtype=points.dtype, device=points.device)
    covariance = centred.T @ centred / max(n - 1, 1)
    values, vectors = torch.linalg.eigh(covariance)
    singular = n <= r or bool(values[0] <= _DETERMINED)
    if singular:
        products = centred.square().T @ centred.square() / n - (centred.T @ centred / n).square()
        strength = _shrinkage(products, covariance - identity, n) if n > 1 else 1.0
        # The identity has the same eigenvectors as any matrix, so only the eigenvalues move.
        values = (1 - strength) * values.clamp(min=0) + strength
    scores = centred @ vectors / values.sqrt()
    log_determinant = values.log().sum()
    local = 0.5 * (points.square().sum(1) - scores.square().sum(1) - log_determinant)
    return NormalClass(log_determinant, local, singular)


def entropy_bias(n: int, d: int) -> float:
    """Bias in nats of the entropy of a normal law in d dimensions fitted to n > d samples.

    ``½ Σ_i ψ((n - i) / 2) + d/2 (log 2 - log(n - 1))``, i = 1, …, d (Misra et al. 2005; Ince et
    al. 2017): negative, to be subtracted.
    """
    ranks = torch.arange(1, d + 1, dtype=torch.float64)
    psi = float(torch.digamma((n - ranks) / 2).sum()) / 2
    return psi + d / 2 * (math.log(2) - math.log(n - 1))
