"""Independent X and Y: nothing to find, and the place where clipping shows."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import Problem, floats, ids, require
from ibtrace.types import Kind

Marginal = Literal["continuous", "discrete", "mixed"]


@dataclass(frozen=True)
class Independent(Problem):
    """Independent variables of chosen kinds.

    Args:
        x: ``"continuous"`` (standard normals), ``"discrete"`` (uniform ids) or ``"mixed"``
            (normals, half of them replaced by 0).
        y: The same for Y.
        dim: The dimension of a variable that is not discrete.
        levels: The number of values of a discrete variable.
    """

    x: Marginal = "continuous"
    y: Marginal = "continuous"
    dim: int = 1
    levels: int = 4

    formula: ClassVar[str] = "0"
    source: ClassVar[str] = "the definition of independence"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("continuous", "discrete", "mixed")
        require({self.x, self.y} <= set(known), self, f"x and y must be among {', '.join(known)}")
        require(self.dim >= 1, self, "dim must be at least 1")
        require(self.levels >= 1, self, "levels must be at least 1")

    @property
    def name(self) -> str:
        sizes = "-".join(
            str(self.levels if kind == "discrete" else self.dim) for kind in (self.x, self.y)
        )
        return f"independent-{self.x}-{self.y}-{sizes}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return _kind(self.x), _kind(self.y)

    @property
    def mixed(self) -> bool:
        return "mixed" in (self.x, self.y)

    @property
    def dims(self) -> tuple[int, int]:
        return 1 if self.x == "discrete" else self.dim, 1 if self.y == "discrete" else self.dim

    @property
    def bits(self) -> float:
        return 0.0

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return self._marginal(self.x, n, rng), self._marginal(self.y, n, rng)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def _marginal(self, kind: Marginal, n: int, rng: np.random.Generator) -> Tensor:
        if kind == "discrete":
            return ids(rng.integers(self.levels, size=n))
        values = rng.standard_normal((n, self.dim))
        if kind == "mixed":
            values = values * (rng.random((n, 1)) < 0.5)
        return floats(values)


def _kind(marginal: Marginal) -> Kind:
    return "discrete" if marginal == "discrete" else "continuous"
