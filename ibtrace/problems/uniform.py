"""A uniform X seen through additive uniform noise: densities with edges."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import LN2, Problem, floats, require


@dataclass(frozen=True)
class AdditiveUniform(Problem):
    """Y = X + N with X ~ U(0, 1) and N ~ U(−ε, ε).

    >>> round(AdditiveUniform(noise=0.5).bits, 6)
    0.721348
    """

    noise: float = 0.1

    formula: ClassVar[str] = "(ε − ln 2ε) / ln 2 for ε ≤ ½, else 1 / (4ε ln 2)"
    source: ClassVar[str] = "Czyż et al. 2023, Beyond Normal, NeurIPS"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise > 0, self, "noise must be positive")

    @property
    def name(self) -> str:
        return f"1v1-additive-{self.noise}"

    @property
    def bits(self) -> float:
        wide = self.noise > 0.5
        nats = 0.25 / self.noise if wide else self.noise - math.log(2 * self.noise)
        return nats / LN2

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = rng.uniform(0, 1, n)
        return floats(x), floats(x + rng.uniform(-self.noise, self.noise, n))

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        # p(y) is the length of [0, 1] ∩ [y − ε, y + ε] over 2ε, p(y|x) is 1/2ε.
        overlap = (y + self.noise).clamp(max=1) - (y - self.noise).clamp(min=0)
        inside = ((y - x).abs() <= self.noise) & (x >= 0) & (x <= 1)
        return torch.where(inside, -overlap.log2(), -torch.inf).squeeze(-1)
