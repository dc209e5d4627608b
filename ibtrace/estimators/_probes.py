"""A probe of the same samples with other values, for estimators that give both informations."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.numerics.scale import squarable
from ibtrace.types import Kind, ProbeLike

_Cached = TypeVar("_Cached")


@dataclass(frozen=True)
class Replaced:
    """A probe with other features and labels.

    It shares what the probe keeps: of one probe, an estimator is always given the same values.

    Args:
        probe: The probe.
        points: The inputs as floats, ``(n, dx)``; None: those of the probe, if these are held.
        labels: Class ids ``(n,)`` or continuous targets ``(n, dy)``.
    """

    probe: ProbeLike
    points: Tensor | None
    labels: Tensor

    @property
    def features(self) -> Tensor:
        """The inputs as floats.

        Raises:
            Unsupported: If nobody holds them.
        """
        return self.probe.features if self.points is None else self.points

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.probe.n

    @property
    def x_ids(self) -> Tensor:
        """Which inputs are equal."""
        return self.probe.x_ids

    @property
    def population(self) -> bool:
        """Whether the samples are all there is."""
        return self.probe.population

    def cached(self, key: Hashable, compute: Callable[[], _Cached]) -> _Cached:
        """What the probe keeps."""
        return self.probe.cached(key, compute)


def held_features(probe: ProbeLike) -> Tensor | None:
    """The inputs as floats; None if nobody holds them, and they are known as symbols alone."""
    try:
        return probe.features
    except Unsupported:
        return None


def with_any_labels(probe: ProbeLike, takes: frozenset[Kind]) -> Replaced:
    """A probe without labels, with labels that say nothing: I(X;T) alone is asked for.

    Args:
        probe: The probe.
        takes: The kinds of labels that the estimator takes: ids if it can.
    """
    numbers = torch.arange(probe.n, device=probe.labels.device)
    labels = numbers % 2 if "discrete" in takes else numbers[:, None].double()
    return Replaced(probe, None, labels)


class _Still:
    """The samples of a probe with one input for all, of which no estimator has much to compute.

    Args:
        probe: The probe, whose labels they have.
    """

    def __init__(self, probe: ProbeLike) -> None:
        labels = probe.labels
        self.n, self.labels, self.population = probe.n, labels, probe.population
        self.features = torch.zeros(probe.n, 1, device=labels.device)
        self.x_ids = torch.zeros(probe.n, dtype=torch.int64, device=labels.device)
        self._cache: dict[Hashable, Any] = {}

    def cached(self, key: Hashable, compute: Callable[[], _Cached]) -> _Cached:
        """``compute()``, done once."""
        if key not in self._cache:
            self._cache[key] = compute()
        return cast("_Cached", self._cache[key])


def with_constant_inputs(probe: ProbeLike) -> ProbeLike:
    """A probe's labels with inputs that are all the same, where I(T;Y) alone is asked."""
    return probe.cached("constant inputs", lambda: _Still(probe))


def with_squarable(probe: ProbeLike) -> Replaced:
    """A probe whose inputs and continuous labels can be squared (`squarable`)."""
    points = held_features(probe)
    return Replaced(
        probe, None if points is None else squarable(points)[0], squarable(probe.labels)[0]
    )
