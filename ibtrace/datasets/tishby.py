"""The 12-bit task of Shwartz-Ziv & Tishby (2017), regenerated from the geometry behind it.

The published label file needs no download: the 12 bits mark the 12 vertices of a regular
icosahedron, and the label is a threshold on a function of the marked points that no rotation
changes. The labels equal those of the published ``var_u.mat`` bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ibtrace.datasets.types import Dataset
from ibtrace.errors import InvalidInput

_PHI = (1 + math.sqrt(5)) / 2

THRESHOLD = 7.632
"""θ: between 7.5628, the largest f of class 0, and 7.7013, the smallest f of class 1."""


@dataclass(frozen=True)
class LabelNoise:
    """Stochastic labels: ``p(y=1 | x) = sigmoid(gamma (f(x) - THRESHOLD))``.

    Args:
        gamma: Steepness, above 0; I(X;Y) is 0.99 bits at 54.5 and falls with gamma.
        seed: Seeds the draw of the labels.

    Raises:
        InvalidInput: If gamma is not above 0.
    """

    gamma: float = 54.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise InvalidInput(f"LabelNoise: gamma must be above 0, got {self.gamma}")


def vertices() -> Tensor:
    """The unit vectors of the icosahedron's vertices in the order of the bits, float64 (12, 3)."""
    in_order = [
        *[(0, 1, _PHI), (1, _PHI, 0), (0, 1, -_PHI), (-1, _PHI, 0)],
        *[(_PHI, 0, -1), (0, -1, _PHI), (1, -_PHI, 0), (-1, -_PHI, 0)],
        *[(-_PHI, 0, -1), (0, -1, -_PHI), (-_PHI, 0, 1), (_PHI, 0, 1)],
    ]
    return torch.tensor(in_order, dtype=torch.float64) / math.sqrt(1 + _PHI**2)


def reflections() -> list[tuple[int, ...]]:
    """The 15 reflections of the icosahedron as permutations of the bits.

    They generate its 120 symmetries, under which the labels do not change. Of a pattern x,
    ``x[..., permutation]`` is its mirror image.

    Example:
        >>> x = patterns()
        >>> all(torch.allclose(invariant(x[:, p]), invariant(x)) for p in reflections())
        True
    """
    v = vertices()
    gram = v @ v.T
    permutations = set()
    for i, j in (gram.triu(1) > 0.4).nonzero().tolist():  # neighbours: cosine 1/√5
        across = v[i] - v[j]  # the mirror lies between them
        mirrored = v - 2 * (v @ across)[:, None] * across / across.square().sum()
        permutations.add(tuple(torch.cdist(mirrored, v).argmin(1).tolist()))
    return sorted(permutations)


def patterns() -> Tensor:
    """All patterns of 12 bits; row r is the binary form of r, bit 0 first, float64 (4096, 12)."""
    rows = torch.arange(2**12)
    return ((rows[:, None] >> torch.arange(11, -1, -1)) & 1).to(torch.float64)


def invariant(x: Tensor) -> Tensor:
    r"""The rotation-invariant function whose threshold is the label.

    .. math:: f(x) = \sum_i x_i + \Big\lVert \sum_i x_i v_i \Big\rVert

    The two terms are the norms of the degree-0 and degree-1 spherical-harmonic parts of the
    points marked on the sphere.

    Args:
        x: Patterns of 12 bits, ``(..., 12)``.

    Returns:
        f in float64, ``(...)``.
    """
    x = x.to(torch.float64)
    norm: Tensor = torch.linalg.vector_norm(x @ vertices().to(x.device), dim=-1)
    return x.sum(-1) + norm


def label_probability(gamma: float) -> Tensor:
    """p(y=1 | x) of each pattern under label noise, float64 (4096,).

    Args:
        gamma: Steepness of the sigmoid.
    """
    return torch.sigmoid(gamma * (invariant(patterns()) - THRESHOLD))


def label_information(label_noise: LabelNoise | None = None) -> float:
    """The exact I(X;Y) in bits, X uniform on the 4096 patterns: H(E p) - E H(p).

    Args:
        label_noise: The law of the labels; None for the deterministic ones, where it is H(Y).

    Example:
        >>> round(label_information(), 5)
        0.99916
        >>> round(label_information(LabelNoise(gamma=54.5)), 3)
        0.99
    """
    if label_noise is None:
        p = (invariant(patterns()) > THRESHOLD).to(torch.float64)
    else:
        p = label_probability(label_noise.gamma)
    return float(_binary_entropy(p.mean()) - _binary_entropy(p).mean())


def tishby(label_noise: LabelNoise | None = None, signs: bool = False) -> Dataset:
    """All 4096 patterns of 12 bits with the labels of Shwartz-Ziv & Tishby (2017).

    Args:
        label_noise: Draw each label from its sigmoid law; None gives the published labels.
        signs: Write the bits 0 and 1 as -1 and 1, from which networks train faster.

    Returns:
        x float32 of 0 and 1 (or -1 and 1) ``(4096, 12)``, row r the binary form of r, bit 0 first:
        all of X (``population``); y ``(4096,)``.

    Example:
        >>> data = tishby()
        >>> data.x.shape, int(data.y.sum())
        (torch.Size([4096, 12]), 2118)
    """
    x = patterns()
    seen = (2 * x - 1 if signs else x).float()
    if label_noise is None:
        y = (invariant(x) > THRESHOLD).long()
        return Dataset("tishby", seen, y, classes=2, population=True)
    generator = torch.Generator().manual_seed(label_noise.seed)
    draws = torch.rand(len(x), generator=generator, dtype=torch.float64)
    y = (draws < label_probability(label_noise.gamma)).long()
    name = f"tishby(gamma={label_noise.gamma:g}, seed={label_noise.seed})"
    return Dataset(name, seen, y, classes=2, population=True)


def _binary_entropy(p: Tensor) -> Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)
