"""A law with its two variables exchanged, for estimators that tell x from y."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from ibtrace.problems._problem import Problem
from ibtrace.types import Kind


@dataclass(frozen=True)
class Swapped(Problem):
    """X and Y exchanged: I(Y; X) = I(X; Y)."""

    base: Problem

    formula: ClassVar[str] = "I(Y; X) = I(X; Y)"
    source: ClassVar[str] = "Shannon 1948, A Mathematical Theory of Communication"

    @property
    def name(self) -> str:
        return f"swapped-{self.base.name}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return self.base.y_kind, self.base.x_kind

    @property
    def mixed(self) -> bool:
        return self.base.mixed

    @property
    def dims(self) -> tuple[int, int]:
        return self.base.dims[1], self.base.dims[0]

    @property
    def bits(self) -> float:
        return self.base.bits

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x, y = self.base.draw(n, rng)
        return y, x

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return self.base.log_ratio(y, x)
