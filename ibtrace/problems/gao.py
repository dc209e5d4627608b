"""Laws that are neither discrete nor continuous, after Gao et al. 2017."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import LN2, Array, Problem, floats, ids, plogp, require
from ibtrace.problems.normal import BivariateNormal
from ibtrace.types import Kind

_SOURCE = "Gao, Kannan, Oh & Viswanath 2017, NeurIPS"


@dataclass(frozen=True)
class UniformLabel(Problem):
    """X uniform on m labels, Y = X + U(0, 2), in ``dims`` independent coordinates.

    Args:
        labels: m.
        copies: How many independent coordinates X and Y have.
        as_ids: X as one id (coordinates read as digits); otherwise as floats with atoms.

    >>> round(UniformLabel(labels=5).bits, 6)
    1.521928
    """

    labels: int = 5
    copies: int = 1
    as_ids: bool = True

    formula: ClassVar[str] = "d (log₂ m − (m − 1)/m)"
    source: ClassVar[str] = _SOURCE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.labels >= 1, self, "labels must be at least 1")
        require(self.copies >= 1, self, "copies must be at least 1")

    @property
    def name(self) -> str:
        kind = "" if self.as_ids else "-floats"
        return f"uniform-label-{self.labels}-{self.copies}{kind}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return "discrete" if self.as_ids else "continuous", "continuous"

    @property
    def mixed(self) -> bool:
        return not self.as_ids

    @property
    def dims(self) -> tuple[int, int]:
        return 1 if self.as_ids else self.copies, self.copies

    @property
    def bits(self) -> float:
        return self.copies * (math.log2(self.labels) - (self.labels - 1) / self.labels)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        digits = rng.integers(self.labels, size=(n, self.copies))
        y = floats(digits + rng.uniform(0, 2, size=digits.shape))
        places = self.labels ** np.arange(self.copies)
        return (ids(digits @ places) if self.as_ids else floats(digits)), y

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        places = self.labels ** torch.arange(self.copies, device=x.device)
        digits = x[:, None] // places % self.labels if self.as_ids else x
        # At y the labels floor(y) and floor(y) − 1 are possible, where they exist.
        highest = y.floor().clamp(max=self.labels - 1)
        lowest = (y.floor() - 1).clamp(min=0)
        possible = (digits >= lowest) & (digits <= highest)
        bits = math.log2(self.labels) - (highest - lowest + 1).log2()
        return torch.where(possible, bits, -torch.inf).sum(-1)


@dataclass(frozen=True)
class ZeroInflatedPoisson(Problem):
    """X ~ Exp(1); Y is 0 with probability p, else Poisson with mean X.

    Gao et al. give (1 − p) 0.3012 nats, which holds for p = 0 only: it counts the label
    "inflated or not" as known, while a zero may be of either sort. The truth here is
    H(Y) − H(Y|X) with no such step.

    Args:
        inflation: p.
        as_ids: Y as ids; otherwise as floats with atoms.

    >>> round(ZeroInflatedPoisson(inflation=0.0).bits * math.log(2), 4)
    0.3012
    """

    inflation: float = 0.15
    as_ids: bool = True

    formula: ClassVar[str] = (
        "[(1−p)(¼ − γ − S + 3/2 ln 2) + (p²/4 − ¼ − p²/2 ln p)/(1−p) − q ln q] / ln 2, "
        "q = (1+p)/2, S = Σ 2⁻ᵏ ln k"
    )
    source: ClassVar[str] = f"the law of {_SOURCE}; formula derived for ibtrace"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.inflation < 1, self, "inflation must lie in [0, 1)")

    @property
    def name(self) -> str:
        kind = "" if self.as_ids else "-floats"
        return f"zero-inflated-poisson-{self.inflation}{kind}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return "continuous", "discrete" if self.as_ids else "continuous"

    @property
    def mixed(self) -> bool:
        return not self.as_ids

    @property
    def bits(self) -> float:
        p, rest = self.inflation, 1 - self.inflation
        k = np.arange(1, 200)
        counts = rest * (0.25 - np.euler_gamma - float((np.log(k) * 0.5**k).sum()))
        p_log_p = p * p * math.log(p) if p > 0 else 0.0
        zeros = (p * p / 4 - 0.25 - p_log_p / 2) / rest
        q = (1 + p) / 2
        return (counts + zeros + 1.5 * rest * LN2 - q * math.log(q)) / LN2

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = rng.exponential(size=n)
        y = np.where(rng.random(n) < self.inflation, 0, rng.poisson(x))
        return floats(x), (ids(y) if self.as_ids else floats(y))

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        rate = x.squeeze(-1)
        count = (y if self.as_ids else y.squeeze(-1)).to(x)
        p = self.inflation
        zero = (p + (1 - p) * (-rate).exp()).log() - math.log((1 + p) / 2)
        more = count * rate.log() - rate - (count + 1).lgamma() + (count + 1) * LN2
        return torch.where(count == 0, zero, more) / LN2


@dataclass(frozen=True)
class NormalWithAtoms(Problem):
    """With some probability four atoms (±1, ±1), else two correlated normals.

    A value of ±1 is an atom almost surely, so each variable alone tells the two parts apart
    and I = h(w) + w I(atoms) + (1 − w) I(normals).

    Args:
        correlation: Correlation of the normal part.
        agreement: Probability that the signs of an atom agree.
        atoms: Probability w of an atom.
    """

    correlation: float = 0.9
    agreement: float = 0.8
    atoms: float = 0.5

    formula: ClassVar[str] = "h(w) + w (1 − h(a)) − (1 − w) ½ log₂ (1 − ρ²)"
    source: ClassVar[str] = _SOURCE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(-1 < self.correlation < 1, self, "correlation must lie in (-1, 1)")
        require(0 <= self.agreement <= 1, self, "agreement must lie in [0, 1]")
        require(0 < self.atoms < 1, self, "atoms must lie in (0, 1)")

    @property
    def name(self) -> str:
        return f"normal-with-atoms-{self.correlation}-{self.agreement}-{self.atoms}"

    @property
    def mixed(self) -> bool:
        return True

    @property
    def bits(self) -> float:
        w = self.atoms
        signs = 1 - _binary_entropy(self.agreement)
        return _binary_entropy(w) + w * signs + (1 - w) * self._normal.bits

    @property
    def _normal(self) -> BivariateNormal:
        return BivariateNormal(self.correlation)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x, y = self._normal.draw(n, rng)
        atom = floats(rng.random(n) < self.atoms).bool()
        sign = floats(rng.choice([-1.0, 1.0], size=n))
        agree = floats(rng.random(n) < self.agreement).bool()
        return torch.where(atom, sign, x), torch.where(atom, torch.where(agree, sign, -sign), y)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        atom_x, atom_y = (x.abs() == 1).squeeze(-1), (y.abs() == 1).squeeze(-1)
        agreement = torch.where(x == y, self.agreement, 1 - self.agreement).squeeze(-1)
        atoms = (2 * agreement).log2() - math.log2(self.atoms)
        normals = self._normal.log_ratio(x, y) - math.log2(1 - self.atoms)
        return torch.where(atom_x & atom_y, atoms, normals).where(atom_x == atom_y, -torch.inf)


def _binary_entropy(p: float) -> float:
    probabilities: Array = np.array([p, 1 - p])
    return -plogp(probabilities)
