"""The bottleneck of jointly normal variables, in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ibtrace.bounds._curve import BottleneckCurve
from ibtrace.bounds._law import Floats, as_array
from ibtrace.errors import InvalidInput, NonFinite
from ibtrace.runtime.arguments import whole

_STEP = 0.05  # of ln(β - 1): the curve is smooth in it
_REST = 1e-9  # bits of I(X;Y) that the last point leaves
_SYMMETRIC = 1e-6
_SINGULAR = 1e-12


def gaussian_bottleneck(covariance: Any, dx: int) -> BottleneckCurve:
    """The information-bottleneck curve of jointly normal X and Y (Chechik et al. 2005).

    The best T is a noisy linear map onto the canonical variates whose correlation ρ_i passes
    1/√β: with those,

        I(X;T) = ½ Σ log₂ (β - 1) ρ_i² / (1 - ρ_i²),   I(T;Y) = I(X;T) - ½ Σ log₂ β ρ_i².

    Args:
        covariance: Of X and Y together, ``(dx + dy, dx + dy)``, those of X first: a tensor, an
            array or lists.
        dx: How many dimensions X has.

    Returns:
        The curve; H(X) and H(Y) are infinite, and I(X;T) has no end.

    Raises:
        InvalidInput: If the matrix is no covariance, or X or Y decides a direction of the other.
        NonFinite: If it holds NaN or infinite values.
        ConfigError: If ``dx`` is no whole number, or leaves no dimension of X or Y.

    References:
        Chechik, Globerson, Tishby & Weiss 2005, Information bottleneck for Gaussian variables.

    Example:
        Correlation 0.8: half a bit of X tells at most 0.278 bits of Y.

        >>> curve = gaussian_bottleneck([[1.0, 0.8], [0.8, 1.0]], 1)
        >>> round(curve.i_xy, 4), round(curve.at(0.5), 4)
        (0.737, 0.2782)
    """
    squares = _squared_correlations(_covariance(covariance), dx)
    informative = squares[squares > _SINGULAR]
    i_xy = float(-0.5 * np.log2(1 - informative).sum()) + 0.0
    if not len(informative):
        none = np.zeros(2)
        return BottleneckCurve(np.array([1.0, np.inf]), none, none, np.inf, np.inf, 0.0)
    critical = 1 / informative
    last = len(informative) / (2 * math.log(2) * _REST)
    logs = np.arange(math.log(critical.min() - 1), math.log(critical.max() + last), _STEP)
    betas = np.unique(np.r_[critical, 1 + np.exp(logs)])
    betas = betas[betas >= critical.min()]
    x, y = _informations(betas, informative)
    return BottleneckCurve(betas, x, y, math.inf, math.inf, i_xy)


def _informations(betas: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """I(X;T) and I(T;Y) in bits at each β, of squared canonical correlations."""
    beta = betas[:, None]
    through = beta * squares > 1
    x = np.where(through, np.log2((beta - 1) * squares / (1 - squares)), 0).sum(1) / 2
    return x, x - np.where(through, np.log2(beta * squares), 0).sum(1) / 2


def _squared_correlations(covariance: Floats, dx: int) -> Floats:
    """ρ_i², falling: the singular values of the whitened cross-covariance, squared."""
    whole("gaussian_bottleneck: dx", dx, least=1, most=len(covariance) - 1)
    of_x, of_y = covariance[:dx, :dx], covariance[dx:, dx:]
    for name, block in (("X", of_x), ("Y", of_y)):
        deviations = np.sqrt(np.diag(block))
        if (deviations == 0).any() or _smallest(
            block / np.outer(deviations, deviations)
        ) < _SINGULAR:
            raise InvalidInput(
                f"gaussian_bottleneck: the covariance of {name} is singular or has negative "
                "variances; leave out dimensions that others decide"
            )
    roots = [np.linalg.inv(np.linalg.cholesky(block)) for block in (of_x, of_y)]
    rho = np.linalg.svd(roots[0] @ covariance[:dx, dx:] @ roots[1].T, compute_uv=False)
    if rho.max() ** 2 > 1 - _SINGULAR:
        raise InvalidInput(
            f"gaussian_bottleneck: X and Y have the canonical correlation {rho.max():.6g}, and one "
            "decides a direction of the other; I(X;Y) is infinite: add noise to one of them"
        )
    return np.asarray(rho**2, dtype=np.float64)


def _smallest(block: Floats) -> float:
    return float(np.linalg.eigvalsh(block)[0])


def _covariance(value: Any) -> Floats:
    matrix = as_array("gaussian_bottleneck", "covariance", value)
    if matrix.dtype.kind not in "iuf" or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidInput(
            f"gaussian_bottleneck: covariance must be a square matrix of X and Y together, got "
            f"shape {matrix.shape} of {matrix.dtype}"
        )
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        raise NonFinite("gaussian_bottleneck: covariance has NaN or infinite values; mend them")
    if (np.diag(matrix) < 0).any() or np.abs(matrix - matrix.T).max() > _SYMMETRIC * np.abs(
        matrix
    ).max():
        raise InvalidInput(
            "gaussian_bottleneck: covariance must be symmetric, of variances at least 0"
        )
    return np.asarray((matrix + matrix.T) / 2, dtype=np.float64)
