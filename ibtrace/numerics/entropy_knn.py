"""Differential entropy of continuous samples from the distances to their nearest neighbours."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples
from ibtrace.numerics.distances import Distances, row_blocks
from ibtrace.numerics.knn import k_smallest, taken_away, trees_win


class Nearest(NamedTuple):
    """The k nearest others of each of n points.

    Args:
        distances: Euclidean, ascending, ``(n, k)``.
        points: Which they are, ``(n, k)``.
    """

    distances: Tensor
    points: Tensor


def nearest(points: Tensor, k: int) -> Nearest:
    """The k nearest others of each point.

    Args:
        points: ``(n, d)`` float64.
        k: Number of neighbours, at most n - 1.
    """
    n, d = points.shape
    if points.device.type == "cpu" and trees_win(n, d):
        from sklearn.neighbors import KDTree  # here, as scikit-learn takes a second to import

        # Each point is its own nearest, at 0; where it repeats, the first may be a twin, also at 0.
        neighbours = KDTree(points.numpy()).query(points.numpy(), k + 1)
        return Nearest(
            *(torch.from_numpy(np.ascontiguousarray(part[:, 1:])) for part in neighbours)
        )
    distances = Distances(points, "euclidean")
    blocks = row_blocks(n, points.device)
    parts = zip(*(k_smallest(distances.rows(rows), k) for rows in blocks), strict=True)
    squares, columns = (torch.cat(part) for part in parts)
    return Nearest(squares.sqrt(), columns)


def nearest_distances(points: Tensor, k: int) -> Tensor:
    """The distances of `nearest`."""
    return nearest(points, k).distances


@lru_cache(maxsize=256)
def neighbour_weights(k: int, d: int) -> tuple[float, ...]:
    """Weights of the k nearest neighbours that cancel the leading biases (Berrett et al. 2019).

    Of all w on the neighbours ⌊k/d⌋, ⌊2k/d⌋, …, k with Σ_j w_j = 1 and
    Σ_j w_j Γ(j + 2l/d) / Γ(j) = 0 for l = 1, …, ⌊d/4⌋, the one of least Euclidean norm. Below
    four dimensions there is no such bias to cancel and all weight is on the k-th neighbour.

    Args:
        k: The farthest neighbour.
        d: Dimensions.

    Raises:
        ConfigError: If k neighbours are too few for the constraints, or these too ill-conditioned.

    Example:
        >>> weights = neighbour_weights(20, 8)
        >>> round(sum(weights), 9), sum(w != 0 for w in weights)
        (1.0, 8)
    """
    constraints = d // 4
    support = sorted({j * k // d for j in range(1, d + 1)} - {0})
    if constraints == 0:
        support = [k]
    if len(support) <= constraints:
        raise ConfigError(
            f"weights in {d} dimensions need more than {constraints} neighbours, got k={k}; "
            f"raise k to {constraints + 1} or more, or set weighted=False"
        )
    powers = [
        [math.exp(math.lgamma(j + 2 * power / d) - math.lgamma(j)) for j in support]
        for power in range(constraints + 1)
    ]
    rows = np.array(powers)
    # The constraints' sizes lie orders apart; unscaled, least squares would hear the largest alone.
    scale = np.abs(rows).max(1, keepdims=True)
    wanted = np.eye(constraints + 1)[0]
    solution = np.linalg.lstsq(rows / scale, wanted, rcond=None)[0]
    if np.abs(rows / scale @ solution - wanted).max() > 1e-6:
        raise ConfigError(
            f"weights in {d} dimensions are beyond float64 (k={k}); set weighted=False"
        )
    weights = np.zeros(k)
    weights[np.array(support) - 1] = solution
    return tuple(float(weight) for weight in weights)


def local_entropy(distances: Tensor, n: int, d: int, weights: tuple[float, ...] | None) -> Tensor:
    """Each point's share of the Kozachenko-Leonenko entropy, in bits, ``(n,)``.

    With ρ_j the distance to the j-th neighbour and V_d the volume of the unit ball, in nats
    Σ_j w_j (ψ(n) - ψ(j) + log V_d + d log ρ_j).

    Args:
        distances: To the k nearest neighbours, ``(n, k)``, all above 0.
        n: Number of points.
        d: Their dimension.
        weights: w; all on the last neighbour if None.
    """
    k = distances.shape[1]
    w = torch.tensor(weights or (0.0,) * (k - 1) + (1.0,), dtype=torch.float64)
    ranks = torch.arange(1, k + 1, dtype=torch.float64)
    volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    constant = float(torch.tensor(float(n), dtype=torch.float64).digamma()) + volume
    offset = constant - float((w * ranks.digamma()).sum())
    nats: Tensor = offset + d * (distances.log() @ w.to(distances.device))
    return nats / math.log(2)


def entropy_taken_away(
    neighbours: Nearest, k: int, d: int, weights: tuple[float, ...] | None
) -> Tensor:
    """What taking each point away adds to `local_entropy` of the others, in bits, ``(n,)``.

    A point whose m-th neighbour goes has its next ones in their place: the gain is
    d Σ_(j ≥ m) w_j log (ρ_(j+1) / ρ_j).

    Args:
        neighbours: The k + 1 nearest; with fewer, or distances of 0, nothing is known, and 0.
        k: As in `local_entropy`.
        d: The points' dimension.
        weights: w; all on the last neighbour if None.
    """
    logs = neighbours.distances.log()
    if neighbours.distances.shape[1] <= k or not bool(logs.isfinite().all()):
        return torch.zeros(len(logs), dtype=torch.float64, device=logs.device)
    w = torch.tensor(weights or (0.0,) * (k - 1) + (1.0,), dtype=torch.float64, device=logs.device)
    # Summed from the far end: when the m-th goes, each from the m-th on is replaced by its next.
    steps = d * w * logs.diff(dim=1)[:, :k] / math.log(2)
    gain = steps.flip(1).cumsum(1).flip(1)
    return taken_away(gain, neighbours.points[:, :k])


def differential_entropy(x: Tensor, k: int = 3, *, weighted: bool = False) -> Tensor:
    """Differential entropy of continuous samples in bits (Kozachenko & Leonenko 1987).

    ``ψ(n) - ψ(k) + log V_d + d <log ρ_k>`` nats, ρ_k the Euclidean distance to the k-th
    neighbour; with ``weighted`` the mean of those of all neighbours up to k under
    `neighbour_weights`.

    Args:
        x: ``(..., n, d)`` floats; leading dimensions are independent problems.
        k: Which neighbour.
        weighted: Whether to weight the neighbours.

    Returns:
        Bits, ``(...)``; it may be negative.

    Raises:
        TooFewSamples: If there are not more than k samples.
        InvalidInput: If a sample is repeated more than k times, where the entropy is -∞.
        ConfigError: If k neighbours are too few for the weights.

    Example:
        The uniform law on an interval of length 8: 3 bits.

        >>> x = 8 * torch.rand(2000, 1, generator=torch.Generator().manual_seed(0)).double()
        >>> abs(float(differential_entropy(x)) - 3) < 0.1
        True
    """
    n, d = x.shape[-2:]
    if n <= k:
        raise TooFewSamples(f"differential_entropy(k={k}) needs at least {k + 1} samples, got {n}")
    weights = neighbour_weights(k, d) if weighted else None
    entropies = []
    for points in x.detach().to(torch.float64).reshape(-1, n, d):
        distances = nearest_distances(points, k)
        used = distances if weighted else distances[:, -1:]
        if bool((used == 0).any()):
            raise InvalidInput("differential_entropy: samples repeat, so there is no density")
        entropies.append(local_entropy(distances, n, d, weights).mean())
    return torch.stack(entropies).reshape(x.shape[:-2])
