"""Hard laws made from simple ones: a one-to-one map of each variable leaves I as it was."""

# ruff: noqa: D102 (what a law defines is documented once, in Problem)

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ibtrace.problems._problem import Problem, require
from ibtrace.problems.normal import BivariateNormal, SparseNormal
from ibtrace.types import Kind

_SOURCE = "Czyż et al. 2023, Beyond Normal, NeurIPS; invariance: Kraskov et al. 2004"


@dataclass(frozen=True)
class Transformed(Problem):
    """(f(X), g(Y)) for one-to-one f and g: I(f(X); g(Y)) = I(X; Y).

    A subclass defines the two maps and their inverses, on tensors ``(n, d)``.
    """

    base: Problem = field(default_factory=BivariateNormal)

    prefix: ClassVar[str]
    formula: ClassVar[str] = "I(f(X); g(Y)) = I(X; Y) for one-to-one f and g"
    source: ClassVar[str] = _SOURCE

    def __post_init__(self) -> None:
        super().__post_init__()
        continuous = self.base.kinds == ("continuous", "continuous")
        require(continuous, self, f"base must have continuous X and Y, {self.base.name} has not")

    @abstractmethod
    def f(self, x: Tensor) -> Tensor:
        """The map of X."""

    @abstractmethod
    def g(self, y: Tensor) -> Tensor:
        """The map of Y."""

    @abstractmethod
    def f_inverse(self, x: Tensor) -> Tensor:
        """What ``f`` maps to ``x``."""

    @abstractmethod
    def g_inverse(self, y: Tensor) -> Tensor:
        """What ``g`` maps to ``y``."""

    @property
    def name(self) -> str:
        return f"{self.prefix}-{self.base.name}"

    @property
    def mixed(self) -> bool:
        return self.base.mixed

    @property
    def dims(self) -> tuple[int, int]:
        return self.base.dims

    @property
    def bits(self) -> float:
        return self.base.bits

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x, y = self.base.draw(n, rng)
        return self.f(x), self.g(y)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return self.base.log_ratio(self.f_inverse(x), self.g_inverse(y))


class _SameMap(Transformed):
    """The same map for X and Y."""

    def g(self, y: Tensor) -> Tensor:
        return self.f(y)

    def g_inverse(self, y: Tensor) -> Tensor:
        return self.f_inverse(y)


@dataclass(frozen=True)
class NormalCDF(_SameMap):
    """Every coordinate through the normal distribution function: normals become uniform."""

    prefix: ClassVar[str] = "normal_cdf"

    def f(self, x: Tensor) -> Tensor:
        return ndtr(x)

    def f_inverse(self, x: Tensor) -> Tensor:
        return ndtri(x)


@dataclass(frozen=True)
class Asinh(_SameMap):
    """Every coordinate through asinh: heavy tails become light."""

    prefix: ClassVar[str] = "asinh"

    def f(self, x: Tensor) -> Tensor:
        return x.asinh()

    def f_inverse(self, x: Tensor) -> Tensor:
        return x.sinh()


@dataclass(frozen=True)
class HalfCube(_SameMap):
    """Every coordinate through sign(x) |x|^(3/2): light tails become heavy."""

    prefix: ClassVar[str] = "half_cube"

    def f(self, x: Tensor) -> Tensor:
        return x * x.abs().sqrt()

    def f_inverse(self, x: Tensor) -> Tensor:
        return x.sign() * x.abs().pow(2 / 3)


@dataclass(frozen=True)
class Rescaled(Transformed):
    """Every column of X and of Y times a factor of its own; ids stay as they are.

    Args:
        base: The law before.
        x_factors: A factor above 0 for each column of X; empty for none.
        y_factors: The same for Y.
    """

    x_factors: tuple[float, ...] = ()
    y_factors: tuple[float, ...] = ()

    prefix: ClassVar[str] = "rescaled"

    def __post_init__(self) -> None:
        Problem.__post_init__(self)  # a base may have ids
        for role, factors, d in zip(
            "XY", (self.x_factors, self.y_factors), self.base.dims, strict=True
        ):
            fits = not factors or (len(factors) == d and min(factors) > 0)
            require(fits, self, f"{role} needs a factor above 0 for each of its {d} columns")

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return self.base.kinds

    def f(self, x: Tensor) -> Tensor:
        return _times(x, self.x_factors)

    def g(self, y: Tensor) -> Tensor:
        return _times(y, self.y_factors)

    def f_inverse(self, x: Tensor) -> Tensor:
        return _times(x, tuple(1 / factor for factor in self.x_factors))

    def g_inverse(self, y: Tensor) -> Tensor:
        return _times(y, tuple(1 / factor for factor in self.y_factors))


@dataclass(frozen=True)
class Wiggly(Transformed):
    """Every coordinate through an increasing map of uneven slope."""

    prefix: ClassVar[str] = "wiggly"

    def f(self, x: Tensor) -> Tensor:
        waves = 0.4 * x.sin() + 0.2 * (1.7 * x + 1).sin() + 0.03 * (3.3 * x - 2.5).sin()
        return x + waves

    def g(self, y: Tensor) -> Tensor:
        waves = 0.17 * (1.3 * y + 3.5).sin() + 0.02 * (4.3 * y - 2.5).sin()
        return y - 0.4 * (0.4 * y).sin() + waves

    def f_inverse(self, x: Tensor) -> Tensor:
        return solve_increasing(self.f, x, x - 1, x + 1)

    def g_inverse(self, y: Tensor) -> Tensor:
        return solve_increasing(self.g, y, y - 1, y + 1)


@dataclass(frozen=True)
class Bimodal(Transformed):
    """A correlated pair of normals given marginals with two modes each."""

    prefix: ClassVar[str] = "bimodal"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.base, BivariateNormal), self, "base must be a BivariateNormal")

    @property
    def name(self) -> str:
        return self.base.name.replace("normal", "bimodal")

    def f(self, x: Tensor) -> Tensor:
        target = ndtr(x)
        return solve_increasing(_modes_x, target, x - 10, x + 10)

    def g(self, y: Tensor) -> Tensor:
        target = ndtr(y)
        return solve_increasing(_modes_y, target, y - 10, y + 10)

    def f_inverse(self, x: Tensor) -> Tensor:
        return ndtri(_modes_x(x))

    def g_inverse(self, y: Tensor) -> Tensor:
        return ndtri(_modes_y(y))


@dataclass(frozen=True)
class Spiral(Transformed):
    """Each variable turned by an angle that grows with its squared norm.

    X turns in its plane (0, 1), Y in its plane (1, 2), by ``speed / d`` times ‖·‖².

    Args:
        base: A law with at least 2 dimensions of X and 3 of Y.
        speed: Radians per squared unit, times the dimension.
    """

    base: Problem = field(default_factory=SparseNormal)
    speed: float = 1.0

    prefix: ClassVar[str] = "spiral"

    def __post_init__(self) -> None:
        super().__post_init__()
        dim_x, dim_y = self.base.dims
        fits = dim_x >= 2 and dim_y >= 3
        require(fits, self, f"base must have dim_x >= 2 and dim_y >= 3, got {dim_x} and {dim_y}")

    @property
    def name(self) -> str:
        speed = "" if self.speed == 1 else f"_{self.speed}"
        return f"{self.prefix}{speed}-{self.base.name}"

    def f(self, x: Tensor) -> Tensor:
        return turn(x, 0, self.speed / self.dims[0])

    def g(self, y: Tensor) -> Tensor:
        return turn(y, 1, self.speed / self.dims[1])

    def f_inverse(self, x: Tensor) -> Tensor:
        return turn(x, 0, -self.speed / self.dims[0])

    def g_inverse(self, y: Tensor) -> Tensor:
        return turn(y, 1, -self.speed / self.dims[1])


@dataclass(frozen=True)
class SwissRoll(Transformed):
    """A one-dimensional X on the unit interval rolled up in the plane; Y as it is."""

    base: Problem = field(default_factory=NormalCDF)

    prefix: ClassVar[str] = "swissroll_x"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.base.dims[0] == 1, self, "base must have a one-dimensional X")

    @property
    def dims(self) -> tuple[int, int]:
        return 2, self.base.dims[1]

    def f(self, x: Tensor) -> Tensor:
        angle = 1.5 * math.pi * (1 + 2 * x)
        return torch.cat([angle * angle.cos(), angle * angle.sin()], -1) / 21

    def g(self, y: Tensor) -> Tensor:
        return y

    def f_inverse(self, x: Tensor) -> Tensor:
        angle: Tensor = 21 * x.norm(dim=-1, keepdim=True)
        return (angle / (1.5 * math.pi) - 1) / 2

    def g_inverse(self, y: Tensor) -> Tensor:
        return y


def _times(values: Tensor, factors: tuple[float, ...]) -> Tensor:
    return values * torch.tensor(factors, dtype=values.dtype) if factors else values


def turn(values: Tensor, axis: int, speed: float) -> Tensor:
    """Rows of ``(n, d)`` turned in the plane (axis, axis + 1) by ``speed`` times ‖row‖²."""
    angle = speed * values.square().sum(-1)
    first, second = values[:, axis], values[:, axis + 1]
    turned = values.clone()
    turned[:, axis] = angle.cos() * first - angle.sin() * second
    turned[:, axis + 1] = angle.sin() * first + angle.cos() * second
    return turned


def solve_increasing(
    function: Callable[[Tensor], Tensor], target: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """Where an increasing function reaches ``target``, by bisection to rounding."""
    for _ in range(60):
        middle = (lower + upper) / 2
        below = function(middle) < target
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
    return (lower + upper) / 2


def ndtr(value: Tensor) -> Tensor:
    """The standard normal distribution function."""
    result: Tensor = torch.special.ndtr(value)
    return result


def ndtri(value: Tensor) -> Tensor:
    """The standard normal quantile function."""
    result: Tensor = torch.special.ndtri(value)
    return result


def _modes_x(value: Tensor) -> Tensor:
    return 0.3 * ndtr(value) + 0.7 * ndtr(value - 5)


def _modes_y(value: Tensor) -> Tensor:
    return 0.5 * ndtr(value + 1) + 0.5 * ndtr(value - 3)
