"""A probe without labels, for estimators that give I(X;T) and I(T;Y) at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ibtrace.types import Kind, ProbeLike

_Cached = TypeVar("_Cached")


@dataclass(frozen=True)
class Unlabelled:
    """The probe with labels that say nothing, of a kind that the estimator takes.

    Args:
        probe: The probe.
        takes: The kinds of labels that the estimator takes.
    """

    probe: ProbeLike
    takes: frozenset[Kind]

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.probe.n

    @property
    def features(self) -> Tensor:
        """The inputs as floats."""
        return self.probe.features

    @property
    def x_ids(self) -> Tensor:
        """Which inputs are equal."""
        return self.probe.x_ids

    @property
    def labels(self) -> Tensor:
        """Every other sample, or the samples' numbers."""
        numbers = torch.arange(self.n, device=self.probe.labels.device)
        return numbers % 2 if "discrete" in self.takes else numbers[:, None].double()

    def cached(self, key: str, compute: Callable[[], _Cached]) -> _Cached:
        """What the probe keeps."""
        return self.probe.cached(key, compute)
