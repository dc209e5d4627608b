"""A deterministic quantized network on all 2ⁿ inputs: I(X; T) is H(T), by enumeration."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import Problem, ids, plogp, require
from ibtrace.types import Kind

Function = Literal["popcount", "parity", "kept"]


@dataclass(frozen=True)
class QuantizedNetwork(Problem):
    """X uniform on all patterns of ``inputs`` bits, T a deterministic function of them.

    ``"popcount"`` counts the ones, ``"parity"`` adds them modulo 2, ``"kept"`` keeps the first
    ``kept`` of them. T determines nothing but itself, so I(X; T) = H(T).

    Args:
        inputs: Number of input bits; X is the pattern read as a number.
        function: What the network computes.
        kept: How many bits ``"kept"`` lets through.

    >>> round(QuantizedNetwork(12, "parity").bits, 6)
    1.0
    """

    inputs: int = 12
    function: Function = "popcount"
    kept: int = 3

    formula: ClassVar[str] = "H(T), by enumeration"
    source: ClassVar[str] = "Lorenzen, Igel & Nielsen 2022, ICLR"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.inputs <= 20, self, "inputs must lie between 1 and 20")
        known = ("popcount", "parity", "kept")
        require(self.function in known, self, f"function must be one of {', '.join(known)}")
        require(0 <= self.kept <= self.inputs, self, f"kept must lie in 0..{self.inputs}")

    @property
    def name(self) -> str:
        suffix = f"-{self.kept}" if self.function == "kept" else ""
        return f"quantized-{self.function}-{self.inputs}{suffix}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return "discrete", "discrete"

    @property
    def bits(self) -> float:
        counts = torch.bincount(self.enumerate()[1]).numpy()
        return -plogp(counts / 2**self.inputs)

    def enumerate(self) -> tuple[Tensor, Tensor]:
        """Every input once and its output, both int64 ``(2**inputs,)``."""
        x = torch.arange(2**self.inputs)
        return x, self._network(x)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = ids(rng.integers(2**self.inputs, size=n))
        return x, self._network(x)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        outputs = self.enumerate()[1]
        rarity = -(torch.bincount(outputs).double() / len(outputs)).log2().to(x.device)
        return torch.where(self._network(x) == y, rarity[y], -torch.inf)

    def _network(self, x: Tensor) -> Tensor:
        if self.function == "kept":
            return x >> (self.inputs - self.kept)
        ones = (x[:, None] >> torch.arange(self.inputs, device=x.device) & 1).sum(1)
        return ones % 2 if self.function == "parity" else ones
