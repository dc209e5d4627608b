"""Jointly normal X and Y: the closed form that every estimator is first held to."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import LN2, Array, Problem, floats, require


class JointlyNormal(Problem):
    """Normal X and Y with zero means: I = ½ log₂ (det Σx det Σy / det Σ)."""

    formula = "½ log₂ (det Σx det Σy / det Σ)"
    source = "Cover & Thomas 2006, Elements of Information Theory, ch. 8"

    @abstractmethod
    def covariance(self) -> Array:
        """The covariance of (X, Y), ``(dx + dy, dx + dy)``."""

    @property
    def bits(self) -> float:
        return normal_bits(self.covariance(), self.dims[0])

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        root = np.linalg.cholesky(self.covariance())
        values = rng.standard_normal((n, len(root))) @ root.T
        return floats(values[:, : self.dims[0]]), floats(values[:, self.dims[0] :])

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        sigma, m = self.covariance(), self.dims[0]
        joint = squared_distance(torch.cat([x, y], -1), sigma)
        apart = squared_distance(x, sigma[:m, :m]) + squared_distance(y, sigma[m:, m:])
        return normal_bits(sigma, m) + (apart - joint) / (2 * LN2)


def normal_bits(sigma: Array, dim_x: int) -> float:
    """The mutual information in bits of jointly normal X and Y with covariance ``sigma``."""
    blocks = (sigma[:dim_x, :dim_x], sigma[dim_x:, dim_x:], sigma)
    of_x, of_y, joint = (float(np.linalg.slogdet(block)[1]) for block in blocks)
    return 0.5 * (of_x + of_y - joint) / LN2


def squared_distance(values: Tensor, sigma: Array) -> Tensor:
    """The squared Mahalanobis norm vᵀ Σ⁻¹ v of every row of ``(n, d)``, ``(n,)``."""
    root = torch.linalg.cholesky(torch.from_numpy(sigma).to(values))
    white = torch.linalg.solve_triangular(root, values.mT, upper=False)
    norms: Tensor = white.square().sum(0)
    return norms


def equicorrelated(dim: int, off_diagonal: float) -> Array:
    """Unit variances and the same correlation everywhere, ``(dim, dim)``."""
    return np.eye(dim) * (1 - off_diagonal) + off_diagonal


@dataclass(frozen=True)
class BivariateNormal(JointlyNormal):
    """Two standard normals with a given correlation: I = −½ log₂ (1 − ρ²).

    >>> round(BivariateNormal(correlation=0.75).bits, 6)
    0.596323
    """

    correlation: float = 0.75

    formula: ClassVar[str] = "−½ log₂ (1 − ρ²)"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(-1 < self.correlation < 1, self, "correlation must lie in (-1, 1)")

    @property
    def name(self) -> str:
        return f"1v1-normal-{self.correlation}"

    @property
    def bits(self) -> float:
        return -0.5 * math.log1p(-(self.correlation**2)) / LN2

    def covariance(self) -> Array:
        return equicorrelated(2, self.correlation)


@dataclass(frozen=True)
class DenseNormal(JointlyNormal):
    """Normals where every two coordinates of (X, Y) have the same correlation."""

    dim_x: int = 2
    dim_y: int = 2
    off_diagonal: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(min(self.dims) >= 1, self, "dim_x and dim_y must be at least 1")
        lowest = -1 / (sum(self.dims) - 1)
        require(lowest < self.off_diagonal < 1, self, f"off_diagonal must lie in ({lowest:.3g}, 1)")

    @property
    def name(self) -> str:
        return f"multinormal-dense-{self.dim_x}-{self.dim_y}-{self.off_diagonal}"

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim_x, self.dim_y

    def covariance(self) -> Array:
        return equicorrelated(self.dim_x + self.dim_y, self.off_diagonal)


@dataclass(frozen=True)
class SparseNormal(JointlyNormal):
    """Normals where the first few coordinates of X and Y are correlated in pairs.

    Each pair shares a latent of weight ``strength`` beside noise of weight 1 and is scaled to
    unit variance, so that its correlation is s²/(1 + s²); all other coordinates are
    independent. Two pairs are the "2-pair" tasks of Czyż et al. 2023.

    >>> round(SparseNormal(dim_x=25, dim_y=25).bits, 6)
    1.473931
    """

    dim_x: int = 3
    dim_y: int = 3
    pairs: int = 2
    strength: float = 2.0

    formula: ClassVar[str] = "−½ pairs log₂ (1 − ρ²), ρ = s²/(1 + s²)"
    source: ClassVar[str] = "Czyż et al. 2023, Beyond Normal, NeurIPS"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = min(self.dims)
        require(1 <= self.pairs <= most, self, f"pairs must lie between 1 and {most}")

    @property
    def name(self) -> str:
        return f"multinormal-sparse-{self.dim_x}-{self.dim_y}-{self.pairs}-{self.strength}"

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim_x, self.dim_y

    def covariance(self) -> Array:
        sigma = np.eye(self.dim_x + self.dim_y)
        first = np.arange(self.pairs)
        correlation = self.strength**2 / (1 + self.strength**2)
        sigma[first, self.dim_x + first] = sigma[self.dim_x + first, first] = correlation
        return sigma


@dataclass(frozen=True)
class LinearGaussian(JointlyNormal):
    """Y = W X + σε with standard normal X and ε: a noisy linear layer.

    Args:
        weights: The rows of W, ``(dy, dx)``.
        noise_sd: σ.
    """

    weights: tuple[tuple[float, ...], ...] = ((1.0, -0.5, 0.25), (0.5, 1.0, 0.0))
    noise_sd: float = 1.0

    formula: ClassVar[str] = "½ log₂ det(I + W Wᵀ / σ²)"

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = {len(row) for row in self.weights}
        require(len(widths) == 1, self, "weights must be rows of equal length")
        require(self.noise_sd > 0, self, "noise_sd must be positive")

    @property
    def name(self) -> str:
        shown = "_".join(",".join(f"{value:g}" for value in row) for row in self.weights)
        return f"linear-{shown}-{self.noise_sd}"

    @property
    def dims(self) -> tuple[int, int]:
        return len(self.weights[0]), len(self.weights)

    @property
    def bits(self) -> float:
        w = np.array(self.weights)
        gram = np.eye(len(w)) + w @ w.T / self.noise_sd**2
        return 0.5 * float(np.linalg.slogdet(gram)[1]) / LN2

    def covariance(self) -> Array:
        w = np.array(self.weights)
        of_y = w @ w.T + self.noise_sd**2 * np.eye(len(w))
        return np.block([[np.eye(w.shape[1]), w.T], [w, of_y]])
