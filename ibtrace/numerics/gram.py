"""Gram matrices of a Gaussian or a delta kernel, and the Rényi entropies of their spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibtrace.numerics.distances import Distances, row_blocks

_NARROWEST, _WIDEST, _WIDTHS = 0.1, 10.0, 32


@dataclass(frozen=True)
class GaussianGram:
    """The matrix exp(-|xᵢ - xⱼ|² / 2σ²) of n points, with 1 on its diagonal.

    Args:
        distances: Squared distances among the points.
        width: σ, above 0.
    """

    distances: Distances
    width: float

    def rows(self, rows: slice) -> Tensor:
        """Some of its rows, ``(rows, n)``."""
        return _kernel(self.distances.rows(rows), self.width, rows.start)

    def among(self, rows: Tensor) -> Tensor:
        """The matrix among some of the points, ``(m, m)``."""
        points = Distances(self.distances.points[rows], "euclidean")
        return GaussianGram(points, self.width).rows(slice(0, len(rows)))


def _kernel(squares: Tensor, width: float, start: int) -> Tensor:
    block = (squares / (-2 * width**2)).exp_()
    # A point's distance to itself is held as infinite, so that it is never its own neighbour.
    block.diagonal(start).fill_(1)
    return block


@dataclass(frozen=True)
class DeltaGram:
    """The matrix that is 1 where two ids are the same, else 0.

    Args:
        ids: ``(n,)`` ids from 0.
    """

    ids: Tensor

    def rows(self, rows: slice) -> Tensor:
        """Some of its rows, ``(rows, n)``."""
        return (self.ids[rows].unsqueeze(1) == self.ids).to(torch.float64)


Gram = GaussianGram | DeltaGram


def matrix_entropy(spectrum: Tensor, alpha: float) -> Tensor:
    """Rényi's entropy log₂(Σ λ^α) / (1 - α) of eigenvalues that sum to 1, in bits.

    Its limit -Σ λ log₂ λ at α = 1 (Sánchez Giraldo, Rao & Principe 2015).

    Args:
        spectrum: Eigenvalues ``(..., n)``; those that rounding cannot tell from 0 count as 0.
        alpha: α, above 0.

    Example:
        >>> matrix_entropy(torch.full((8,), 1 / 8), 3.0).item()
        3.0
    """
    rounding = spectrum.shape[-1] * torch.finfo(torch.float64).eps
    values = torch.where(spectrum > rounding, spectrum, 0)
    if alpha == 1:
        return -torch.xlogy(values, values).sum(-1) / math.log(2)
    return values.pow(alpha).sum(-1).log2() / (1 - alpha)


def spectrum(grams: Sequence[Gram]) -> Tensor:
    """Eigenvalues of the elementwise product of some Gram matrices over n, ``(n,)`` or fewer.

    Delta kernels cut the product into blocks, whose eigenvalues are found one by one; those of
    delta kernels alone are the frequencies of the ids, without a matrix.
    """
    deltas = [gram.ids for gram in grams if isinstance(gram, DeltaGram)]
    smooth = [gram for gram in grams if isinstance(gram, GaussianGram)]
    if not deltas:
        n = len(smooth[0].distances.points)
        product = _product([gram.rows(slice(0, n)) for gram in smooth])
        values: Tensor = torch.linalg.eigvalsh(product) / n
        return values
    ids = torch.unique(torch.stack(deltas), dim=1, return_inverse=True)[1]
    sizes, n = torch.bincount(ids), len(ids)
    if not smooth:
        return sizes.to(torch.float64) / n
    # Points of different ids do not meet in the product: it has a block for each id, and blocks of
    # one point are the number 1.
    parts = [torch.ones(int((sizes == 1).sum()), dtype=torch.float64, device=ids.device)]
    for block in (sizes > 1).nonzero().flatten():
        rows = (ids == block).nonzero().flatten()
        parts.append(torch.linalg.eigvalsh(_product([gram.among(rows) for gram in smooth])))
    return torch.cat(parts) / n


def _product(matrices: Sequence[Tensor]) -> Tensor:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total * matrix
    return total


def diffusion_entropy(kernel: Tensor, steps: float) -> float:
    """-Σ p log₂ p in bits, p in proportion to |λ|^s, λ the eigenvalues of a random walk.

    From i the walk goes to j in proportion to the kernel: its matrix has the eigenvalues of the
    symmetric one whose entries are divided by the roots of both row sums.

    Args:
        kernel: Symmetric, 1 on its diagonal, ``(n, n)``.
        steps: s, at least 1.

    Example:
        >>> diffusion_entropy(torch.eye(8, dtype=torch.float64), 1.0)
        3.0
    """
    scale = kernel.sum(1).rsqrt()
    values = torch.linalg.eigvalsh(kernel * scale * scale.unsqueeze(1)).abs()
    rounding = len(kernel) * torch.finfo(torch.float64).eps  # the largest is 1
    powers = torch.where(values > rounding, values, 0).pow(steps)
    p = powers / powers.sum()
    return abs(float(-torch.xlogy(p, p).sum() / math.log(2)))


def mean_squares(x: Gram, y: Gram, n: int, device: torch.device) -> Tensor:
    """Row means of the squared entries of two Gram matrices and of their product, ``(3, n)``.

    Their means are the squared Frobenius norms of the matrices over n.
    """
    sums = torch.empty(3, n, dtype=torch.float64, device=device)
    for rows in row_blocks(n, device):
        a, b = x.rows(rows).square_(), y.rows(rows).square_()
        sums[0, rows], sums[1, rows] = a.mean(1), b.mean(1)
        sums[2, rows] = (a * b).mean(1)
    return sums


def silverman_width(points: Tensor, gamma: float) -> float:
    """γ √d n^(-1/(4+d)) for columns of variance 1, times their mean deviation in root mean square.

    Silverman's rule with the √d of Tapia & Estévez (2020), which keeps a kernel from telling all
    points apart in many dimensions.
    """
    n, d = points.shape
    spread = (points - points.mean(0)).square().sum(1).mean().sqrt()
    width: float = gamma * float(spread) * n ** (-1 / (4 + d))
    return width


def median_width(distances: Distances) -> float:
    """The median distance between distinct points."""
    n, device = len(distances.points), distances.points.device
    blocks = [distances.rows(rows) for rows in row_blocks(n, device)]
    squares = torch.cat([block[(block > 0) & block.isfinite()] for block in blocks])
    return math.sqrt(float(squares.median()))


def aligned_width(distances: Distances, ids: Tensor) -> float:
    """The width whose kernel is most like that of the ids (Wickstrøm et al. 2019).

    Of 32 widths, evenly spaced in the logarithm from 0.1 to 10 times the mean distance, the one
    with the largest alignment <K, L> / |K| |L| (Cristianini et al. 2001), L the delta kernel.

    Args:
        distances: Squared distances among the points.
        ids: Class of each point, ``(n,)``.
    """
    n, device = len(ids), ids.device
    total = 0.0
    for rows in row_blocks(n, device):
        block = distances.rows(rows)
        total += float(block.masked_fill(block.isinf(), 0).sqrt_().sum())
    ratios: list[float] = np.geomspace(_NARROWEST, _WIDEST, _WIDTHS).tolist()
    widths = [ratio * total / (n * (n - 1)) for ratio in ratios]
    agreement = torch.zeros(2, len(widths), dtype=torch.float64)
    for rows in row_blocks(n, device):
        same, squares = ids[rows].unsqueeze(1) == ids, distances.rows(rows)
        for index, width in enumerate(widths):
            block = _kernel(squares, width, rows.start)
            agreement[0, index] += float(block[same].sum())
            agreement[1, index] += float(block.square_().sum())
    return widths[int((agreement[0] / agreement[1].sqrt()).argmax())]
