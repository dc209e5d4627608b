"""Finite laws: a table of joint probabilities, and the binary symmetric channel."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import Array, Problem, ids, plogp, require
from ibtrace.types import Kind


class Finite(Problem):
    """X and Y with finitely many values; the table of p(x, y) says everything."""

    formula = "Σ p(x, y) log₂ (p(x, y) / p(x) p(y))"
    source = "Shannon 1948, A Mathematical Theory of Communication"

    def table(self) -> Array:
        """p(x, y), one row for each value of X."""
        raise NotImplementedError

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return "discrete", "discrete"

    @property
    def bits(self) -> float:
        joint = self.table()
        return plogp(joint) - plogp(joint.sum(0)) - plogp(joint.sum(1))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        joint = self.table()
        cells = rng.choice(joint.size, size=n, p=joint.ravel())
        x, y = np.unravel_index(cells, joint.shape)
        return ids(x), ids(y)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        joint = torch.from_numpy(self.table()).to(x.device)
        ratio = joint / (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True))
        return ratio.log2()[x, y]


@dataclass(frozen=True)
class Table(Finite):
    """Any finite joint law.

    Args:
        probabilities: p(x, y), one row for each value of X.
        title: The name in tables.

    >>> round(Table(((0.5, 0.0), (0.0, 0.5)), title="copy").bits, 6)
    1.0
    """

    probabilities: tuple[tuple[float, ...], ...] = (
        (0.20, 0.05, 0.05),
        (0.02, 0.25, 0.03),
        (0.03, 0.02, 0.35),
    )
    title: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = {len(row) for row in self.probabilities}
        require(len(widths) == 1, self, "probabilities must be rows of equal length")
        joint = np.array(self.probabilities)
        require(bool((joint >= 0).all()), self, "probabilities must not be negative")
        total = float(joint.sum())
        require(abs(total - 1) < 1e-9, self, f"probabilities must sum to 1, got {total}")

    @property
    def name(self) -> str:
        rows = "_".join(",".join(f"{p:g}" for p in row) for row in self.probabilities)
        return f"table-{self.title or rows}"

    def table(self) -> Array:
        joint = np.array(self.probabilities)
        return np.asarray(joint / joint.sum(), dtype=np.float64)


@dataclass(frozen=True)
class BinarySymmetric(Finite):
    """A fair bit sent through a channel that flips it with a given probability.

    >>> round(BinarySymmetric(flip=0.11).bits, 6)
    0.500084
    """

    flip: float = 0.11

    formula: ClassVar[str] = "1 − h(p), h the binary entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.flip <= 1, self, "flip must lie in [0, 1]")

    @property
    def name(self) -> str:
        return f"binary-symmetric-{self.flip}"

    @property
    def bits(self) -> float:
        return 1 + plogp(np.array([self.flip, 1 - self.flip]))

    def table(self) -> Array:
        same, flipped = (1 - self.flip) / 2, self.flip / 2
        return np.array([[same, flipped], [flipped, same]])
