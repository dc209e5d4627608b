"""What a problem is: a joint law that can be sampled and whose mutual information is known."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import seed_number, whole
from ibtrace.runtime.fields import require_types
from ibtrace.runtime.text import shorten
from ibtrace.types import Kind

LN2 = math.log(2.0)

Array = NDArray[np.float64]


class Problem(ABC):
    """A joint law of X and Y together with its mutual information.

    Implementations are frozen dataclasses: their fields define the law, and everything else
    (the truth, the samples, the density ratio) is computed from the fields. A new law defines
    ``name``, ``bits``, ``draw`` and ``log_ratio``, and ``kinds`` where a variable is discrete.
    """

    formula: ClassVar[str]
    source: ClassVar[str]

    def __post_init__(self) -> None:
        require_types(self)

    @property
    @abstractmethod
    def name(self) -> str:
        """The short name in tables; laws that differ have names that differ."""

    @property
    @abstractmethod
    def bits(self) -> float:
        """The mutual information in bits: a closed form, or quadrature to 1e-9."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """``n`` samples taken from a generator; ``sample`` is the public way in."""

    @abstractmethod
    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """The pointwise information log₂ p(x, y) / p(x) p(y) in bits, ``(n,)``.

        Its mean under the law is ``bits``; the density is one with respect to the product of
        the marginals, so that it exists for continuous, discrete and mixed laws alike.

        Args:
            x: Values of X in the form ``sample`` gives them.
            y: Values of Y in the form ``sample`` gives them.
        """

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """The kinds of X and Y."""
        return "continuous", "continuous"

    @property
    def x_kind(self) -> Kind:
        """Whether X comes as floats ``(n, d)`` or as integer ids ``(n,)``."""
        return self.kinds[0]

    @property
    def y_kind(self) -> Kind:
        """Whether Y comes as floats ``(n, d)`` or as integer ids ``(n,)``."""
        return self.kinds[1]

    @property
    def mixed(self) -> bool:
        """Whether a variable given as floats has atoms, so that values repeat."""
        return False

    @property
    def dims(self) -> tuple[int, int]:
        """The dimensions of X and Y; 1 for ids."""
        return 1, 1

    def sample(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """``n`` independent pairs; the same seed gives the same pairs.

        Args:
            n: Number of samples.
            seed: Seeds a generator of its own; the global generators are left alone.

        Returns:
            x and y: float64 ``(n, d)`` where continuous, int64 ``(n,)`` where discrete.

        Raises:
            InvalidInput: If n is not positive, or the samples do not fit into memory or floats.
            ConfigError: If n or the seed is no whole number.
        """
        who = shorten(self.name, 60)
        n, seed = whole(f"{who}: n", n), seed_number(f"{who}: seed", seed)
        if n < 1:
            raise InvalidInput(f"{who}: n must be at least 1, got {n}")
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                pair = self.draw(n, np.random.default_rng(seed))
        except (ArithmeticError, MemoryError, ValueError) as error:  # NumPy's, of huge fields
            message = f"{n} samples cannot be drawn ({error}); lower n or the law's fields"
            raise InvalidInput(f"{who}: {message}") from error
        return pair


def floats(values: NDArray[Any]) -> Tensor:
    """Samples of a continuous variable, ``(n,)`` or ``(n, d)``, as a float64 ``(n, d)`` tensor."""
    columns = values[:, None] if values.ndim == 1 else values
    return torch.from_numpy(np.ascontiguousarray(columns, dtype=np.float64))


def ids(values: NDArray[np.int64]) -> Tensor:
    """Samples of a discrete variable as an int64 ``(n,)`` tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def require(condition: bool, problem: object, advice: str) -> None:
    """Raise unless a field of a law has a possible value.

    Args:
        condition: What has to hold.
        problem: The law, named in the message.
        advice: What to change.

    Raises:
        ConfigError: If the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{type(problem).__name__}: {advice}")


def plogp(p: Array) -> float:
    """Σ p log₂ p over an array of probabilities, 0 log 0 = 0."""
    positive = p[p > 0]
    return float((positive * np.log2(positive)).sum())
