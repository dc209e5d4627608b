"""Ridge regression on class indicators: the linear classifier with a closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.numerics.representations import centred


def ridge_classes(points: Tensor, labels: Tensor, others: Tensor, *, ridge: float) -> Tensor:
    r"""The classes that a ridge classifier gives to other points, ``(..., m)``.

    .. math:: W = \arg\min \|XW - Y\|^2 / n + λ \|W\|^2, \quad λ = \text{ridge} \cdot
              \mathrm{tr}\, \mathrm{Cov}(X) / d

    with X centred points and Y centred one-hot labels; the class of the largest output is given.
    Where no column varies this is the most frequent class.

    Args:
        points: To fit, ``(..., n, d)``.
        labels: Their classes, ids ``(..., n)``.
        others: To classify, ``(..., m, d)``.
        ridge: λ in units of the mean variance of a column, above 0.
    """
    x = centred(points)
    y = torch.nn.functional.one_hot(labels).to(torch.float64)
    base = y.mean(-2, keepdim=True)
    n, d = x.shape[-2:]
    penalty = ridge * x.square().sum((-2, -1), keepdim=True) / d
    penalty = torch.where(penalty > 0, penalty, torch.ones_like(penalty))
    if d <= n:
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        weights = torch.linalg.solve(x.mT @ x + penalty * eye, x.mT @ (y - base))
    else:  # the same by the smaller system
        eye = torch.eye(n, dtype=x.dtype, device=x.device)
        weights = x.mT @ torch.linalg.solve(x @ x.mT + penalty * eye, y - base)
    mean = points.to(torch.float64).mean(-2, keepdim=True)
    outputs: Tensor = (others.to(torch.float64) - mean) @ weights + base
    return outputs.argmax(-1)
