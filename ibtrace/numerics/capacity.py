"""How many clouds of points a linear classifier can tell apart, by the cone that each spans."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Cone(NamedTuple):
    """The statistical dimension of a cone, by draws.

    Args:
        dimension: 1/α, the mean squared length of the projections.
        stderr: Its standard error over the draws.
        everything: Whether every draw lay in the cone: it seems to be the whole space.
    """

    dimension: float
    stderr: float
    everything: bool


def cone(points: Tensor, directions: Tensor) -> Cone:
    r"""The mean squared length of the projections of Gaussian directions on a cone of points.

    .. math:: 1/α = E\,\| \mathrm{proj}_{\mathrm{cone}}(t) \|^2, \quad t \sim N(0, I)

    By Moreau this is :math:`E \min_{v \cdot s \ge 0} \|t - v\|^2` of Chung, Lee & Sompolinsky,
    the v being the weights that have all points s on their positive side. The projection is a
    non-negative least-squares problem. α is 2 of one point, and 1/d if the cone is all of space.

    Args:
        points: ``(n, d)``; their lengths do not matter.
        directions: Standard normal draws ``(m, d)``.

    Example:
        >>> draws = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        >>> abs(cone(torch.tensor([[0.0, 3.0, 0.0]]), draws).dimension - 0.5) < 0.1
        True
    """
    from scipy.optimize import nnls  # here, as it takes a third of a second to import

    rays = points.detach().to("cpu", torch.float64).numpy()
    lengths = np.linalg.norm(rays, axis=1)
    columns: Floats = (rays[lengths > 0] / lengths[lengths > 0, None]).T.copy()
    targets: Floats = directions.to("cpu", torch.float64).numpy()
    squares = np.zeros(len(targets))
    if columns.size:
        missed = [nnls(columns, target, maxiter=20 * len(rays) + 100)[1] for target in targets]
        # the projection is at right angles to what it misses
        squares = (targets**2).sum(1) - np.square(missed)
    whole = np.isclose(squares, (targets**2).sum(1), rtol=1e-12, atol=0).all()
    return Cone(
        float(squares.mean()),
        float(squares.std(ddof=1) / len(squares) ** 0.5),
        bool(whole),
    )
