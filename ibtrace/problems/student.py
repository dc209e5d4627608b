"""Jointly Student-t X and Y: heavy tails, and dependence without correlation."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.special import digamma, gammaln
from torch import Tensor

from ibtrace.problems._problem import LN2, Array, Problem, floats, require
from ibtrace.problems.normal import equicorrelated, normal_bits, squared_distance


@dataclass(frozen=True)
class StudentT(Problem):
    """(X, Y) multivariate Student-t; ``off_diagonal = 0`` is the identity dispersion.

    Even with identity dispersion X and Y are dependent: they share their scale.

    Args:
        dim_x: Dimension of X.
        dim_y: Dimension of Y.
        dof: Degrees of freedom ν.
        off_diagonal: Every two coordinates' entry of the dispersion matrix.
    """

    dim_x: int = 2
    dim_y: int = 2
    dof: float = 2
    off_diagonal: float = 0.0

    formula: ClassVar[str] = (
        "normal information of the dispersion + f(ν) + f(ν+m+n) − f(ν+m) − f(ν+n), "
        "f(u) = log₂ Γ(u/2) − (u/2) ψ(u/2) / ln 2"
    )
    source: ClassVar[str] = (
        "Arellano-Valle, Contreras-Reyes & Genton 2013, Scand. J. Statist.; sign as in Czyż 2023"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(min(self.dims) >= 1, self, "dim_x and dim_y must be at least 1")
        require(self.dof > 0, self, "dof must be positive")
        require(0 <= self.off_diagonal < 1, self, "off_diagonal must lie in [0, 1)")

    @property
    def name(self) -> str:
        if self.off_diagonal == 0:
            return f"student-identity-{self.dim_x}-{self.dim_y}-{self.dof}"
        return f"student-dense-{self.dim_x}-{self.dim_y}-{self.dof}-{self.off_diagonal}"

    @property
    def dims(self) -> tuple[int, int]:
        return self.dim_x, self.dim_y

    @property
    def bits(self) -> float:
        m, n, dof = self.dim_x, self.dim_y, self.dof
        heavy = _f(dof) + _f(dof + m + n) - _f(dof + m) - _f(dof + n)
        return normal_bits(self._dispersion(), m) + heavy / LN2

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        root = np.linalg.cholesky(self._dispersion())
        scale = np.sqrt(self.dof / rng.chisquare(self.dof, size=(n, 1)))
        values = scale * (rng.standard_normal((n, len(root))) @ root.T)
        return floats(values[:, : self.dim_x]), floats(values[:, self.dim_x :])

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        sigma, m = self._dispersion(), self.dim_x
        joint = self._log_density(torch.cat([x, y], -1), sigma)
        of_x = self._log_density(x, sigma[:m, :m])
        of_y = self._log_density(y, sigma[m:, m:])
        return (joint - of_x - of_y) / LN2

    def _dispersion(self) -> Array:
        return equicorrelated(self.dim_x + self.dim_y, self.off_diagonal)

    def _log_density(self, values: Tensor, sigma: Array) -> Tensor:
        p, dof = len(sigma), self.dof
        norm = float(gammaln((dof + p) / 2) - gammaln(dof / 2) - p / 2 * np.log(dof * np.pi))
        norm -= 0.5 * float(np.linalg.slogdet(sigma)[1])
        return norm - (dof + p) / 2 * torch.log1p(squared_distance(values, sigma) / dof)


def _f(u: float) -> float:
    return float(gammaln(u / 2) - u / 2 * digamma(u / 2))
