"""A gamma rate and an exponential waiting time: skewed, positive, unbounded."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import digamma
from torch import Tensor

from ibtrace.problems._problem import LN2, Problem, floats, require


@dataclass(frozen=True)
class GammaExponential(Problem):
    """X ~ Γ(shape), and Y given X exponential with rate X.

    >>> round(GammaExponential(shape=1.0).bits, 6)
    0.609949
    """

    shape: float = 2.0

    formula: ClassVar[str] = "(ψ(a + 1) − ln a) / ln 2"
    source: ClassVar[str] = (
        "Darbellay & Vajda 2000, Entropy expressions for multivariate continuous distributions"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.shape > 0, self, "shape must be positive")

    @property
    def name(self) -> str:
        return f"gamma-exponential-{self.shape}"

    @property
    def bits(self) -> float:
        return (float(digamma(float(self.shape) + 1)) - math.log(self.shape)) / LN2

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = rng.gamma(self.shape, size=n)
        return floats(x), floats(rng.exponential(size=n) / x)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        # Y alone is Lomax: p(y) = a (1 + y)^−(a+1).
        nats = x.log() - x * y - math.log(self.shape) + (self.shape + 1) * y.log1p()
        return nats.squeeze(-1) / LN2
