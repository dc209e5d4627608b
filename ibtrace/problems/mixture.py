"""Mixtures of bivariate normals: shapes with no closed form, integrated numerically."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ibtrace.problems._problem import LN2, Array, Problem, floats, require
from ibtrace.problems._quadrature import differential_entropy

_REACH = 9.0

Pair = tuple[float, float]


@dataclass(frozen=True)
class NormalMixture(Problem):
    """(X, Y), one dimension each, a mixture of bivariate normals; integrated to 1e-9.

    Args:
        weights: The probability of each component.
        means: The mean (x, y) of each component.
        variances: The variances (x, y) of each component.
        correlations: The correlation of x and y in each component.
        title: The name in tables.
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    means: tuple[Pair, ...] = ((0.0, 0.0), (0.0, 0.0))
    variances: tuple[Pair, ...] = ((1.0, 1.0), (1.0, 1.0))
    correlations: tuple[float, ...] = (-0.9, 0.9)
    title: str = ""

    formula: ClassVar[str] = "h(X) + h(Y) − h(X, Y), by the trapezoid rule to 1e-9"
    source: ClassVar[str] = "Czyż et al. 2024, On the Properties of Pointwise Mutual Information"

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = (self.weights, self.means, self.variances, self.correlations)
        require(len({len(part) for part in parts}) == 1, self, "fields differ in length")
        total = sum(self.weights)
        require(abs(total - 1) < 1e-9, self, f"weights must sum to 1, got {total}")
        require(min(self.weights) > 0, self, "weights must be positive")
        require(min(map(min, self.variances)) > 0, self, "variances must be positive")
        widest = max(map(abs, self.correlations))
        require(widest < 1, self, "correlations must lie in (-1, 1)")

    @classmethod
    def cross(cls, correlation: float = 0.9) -> NormalMixture:
        """The shape X: correlated one way or the other, uncorrelated as a whole."""
        correlations = (-correlation, correlation)
        return cls(correlations=correlations, title=f"1v1-X-{correlation}")

    @classmethod
    def letters(cls) -> NormalMixture:
        """The letters A and I drawn with six normals."""
        return cls(
            weights=(1 / 6,) * 6,
            means=((1, 0), (1, 1), (1, -1), (-0.8, -0.2), (-1.2, 0), (-0.4, 0)),
            variances=(
                (0.01, 0.2),
                (0.05, 0.001),
                (0.05, 0.001),
                (0.03, 0.001),
                (0.04, 0.2),
                (0.04, 0.2),
            ),
            correlations=(0, 0, 0, 0, 0.95, -0.95),
            title="1v1-AI",
        )

    @classmethod
    def inliers(cls, correlation: float = 0.8, fraction: float = 0.2) -> NormalMixture:
        """A bivariate normal, and a fraction of samples whose x and y are independent."""
        return cls(
            weights=(1 - fraction, fraction),
            correlations=(correlation, 0.0),
            title=f"1v1-inliers-{correlation}-{fraction}",
        )

    @property
    def name(self) -> str:
        rows = zip(self.weights, self.means, self.variances, self.correlations, strict=True)
        shown = "_".join(
            f"{w:g},{mx:g},{my:g},{vx:g},{vy:g},{r:g}" for w, (mx, my), (vx, vy), r in rows
        )
        return self.title or f"1v1-mixture-{shown}"

    @cached_property
    def bits(self) -> float:
        joint = self._entropy(self._joint)
        return (self._entropy(self._x) + self._entropy(self._y) - joint) / LN2

    def _entropy(self, axis: Callable[[], tuple[Array, Array]]) -> float:
        means, covariances = axis()
        precisions = np.linalg.inv(covariances)
        deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        # Along an axis a component is as narrow as its conditional deviation.
        narrow = np.diagonal(precisions, axis1=1, axis2=2) ** -0.5
        return differential_entropy(
            lambda points: self._log_density(points, means, covariances),
            (means - _REACH * deviations).min(0),
            (means + _REACH * deviations).max(0),
            narrow.min(0),
        )

    def _joint(self) -> tuple[Array, Array]:
        """Means ``(k, 2)`` and covariances ``(k, 2, 2)`` of (X, Y)."""
        variances = np.array(self.variances, dtype=np.float64)
        shared = np.array(self.correlations) * np.sqrt(variances.prod(1))
        covariances = np.zeros((len(shared), 2, 2))
        covariances[:, 0, 0], covariances[:, 1, 1] = variances.T
        covariances[:, 0, 1] = covariances[:, 1, 0] = shared
        return np.array(self.means, dtype=np.float64), covariances

    def _x(self) -> tuple[Array, Array]:
        means, covariances = self._joint()
        return means[:, :1], covariances[:, :1, :1]

    def _y(self) -> tuple[Array, Array]:
        means, covariances = self._joint()
        return means[:, 1:], covariances[:, 1:, 1:]

    def _log_density(self, points: Array, means: Array, covariances: Array) -> Array:
        whiten = np.linalg.inv(np.linalg.cholesky(covariances)).transpose(0, 2, 1)
        shifted = (means[:, None, :] @ whiten).squeeze(1)
        squared = ((points @ whiten - shifted[:, None, :]) ** 2).sum(-1).T
        norms = np.log(self.weights) - 0.5 * np.linalg.slogdet(covariances)[1]
        norms = norms - means.shape[1] / 2 * math.log(2 * math.pi)
        return np.asarray(logsumexp(norms - squared / 2, axis=1), dtype=np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        means, covariances = self._joint()
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        roots = np.linalg.cholesky(covariances)[component]
        noise = np.einsum("nij,nj->ni", roots, rng.standard_normal((n, 2)))
        values = means[component] + noise
        return floats(values[:, 0]), floats(values[:, 1])

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat([x, y], -1).double().cpu().numpy()
        joint = self._log_density(both, *self._joint())
        product = self._log_density(both[:, :1], *self._x())
        product += self._log_density(both[:, 1:], *self._y())
        return torch.from_numpy((joint - product) / LN2).to(x)
