"""A Gaussian channel with discrete input: what a noisy layer does to finitely many inputs."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ibtrace.problems._problem import LN2, Array, Problem, floats, ids, require
from ibtrace.problems._quadrature import differential_entropy
from ibtrace.types import Kind

_REACH = 9.0  # standard deviations beyond which a normal density is below 1e-17 of its peak


@dataclass(frozen=True)
class GaussianChannel(Problem):
    """X uniform on M points (given as ids), Y = t_X + N(0, σ² I).

    The entropy of Y is integrated in the space the points span, to 1e-9; at most three
    dimensions of it.

    Args:
        points: The M points t_i, each of the same dimension.
        noise_sd: σ.
        title: The name in tables.
    """

    points: tuple[tuple[float, ...], ...] = ((-3.0,), (-1.0,), (1.0,), (3.0,))
    noise_sd: float = 1.0
    title: str = ""

    formula: ClassVar[str] = "log₂ M − (1/M) Σᵢ E log₂ Σⱼ exp((‖σz‖² − ‖tᵢ − tⱼ + σz‖²) / 2σ²)"
    source: ClassVar[str] = "Ungerboeck 1982, IEEE Trans. Inf. Theory; Goldfeld et al. 2019, ICML"

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = {len(point) for point in self.points}
        require(len(widths) == 1 and 0 not in widths, self, "points must share a dimension above 0")
        require(self.noise_sd > 0, self, "noise_sd must be positive")
        spanned = self._spanned().shape[1]
        require(spanned <= 3, self, f"points must span at most 3 dimensions, got {spanned}")

    @property
    def name(self) -> str:
        shown = "_".join(",".join(f"{value:g}" for value in point) for point in self.points)
        return f"gaussian-channel-{self.title or shown}-{self.noise_sd}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return "discrete", "continuous"

    @property
    def dims(self) -> tuple[int, int]:
        return 1, len(self.points[0])

    @cached_property
    def bits(self) -> float:
        means = self._spanned()
        if means.shape[1] == 0:
            return 0.0
        margin, step = _REACH, 0.5
        entropy = differential_entropy(
            lambda points: _log_density(points, means),
            means.min(0) - margin,
            means.max(0) + margin,
            np.full(means.shape[1], step),
        )
        noise: float = means.shape[1] / 2 * (1 + math.log(2 * math.pi))
        return (entropy - noise) / LN2

    def _spanned(self) -> Array:
        """The points in units of σ, turned into the fewest coordinates that hold them."""
        points = np.array(self.points) / self.noise_sd
        centred = points - points.mean(0)
        scale = max(1.0, float(np.abs(centred).max()))
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        nonzero = singular > 1e-12 * scale
        return np.asarray(left[:, nonzero] * singular[nonzero], dtype=np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = rng.integers(len(self.points), size=n)
        noise = self.noise_sd * rng.standard_normal((n, self.dims[1]))
        return ids(x), floats(np.array(self.points)[x] + noise)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        points = torch.tensor(self.points).to(y)
        exponents = -torch.cdist(y, points).square() / (2 * self.noise_sd**2)
        own = exponents.gather(1, x[:, None]).squeeze(1)
        return (own - exponents.logsumexp(1) + math.log(len(points))) / LN2


def _log_density(points: Array, means: Array) -> Array:
    """Ln of the equal mixture of unit normals around ``means``, at ``(m, d)`` points."""
    squared = (points**2).sum(1)[:, None] - 2 * points @ means.T + (means**2).sum(1)
    norm = math.log(len(means)) + means.shape[1] / 2 * math.log(2 * math.pi)
    return np.asarray(logsumexp(-squared / 2, axis=1) - norm, dtype=np.float64)
