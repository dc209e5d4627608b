"""Another estimator on a drawn part of the samples, for those whose time grows with N²."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.estimators._one_pass import ByOnePass
from ibtrace.estimators._plane import informations
from ibtrace.estimators._prepared import once
from ibtrace.estimators.ksg import KSG
from ibtrace.runtime.arguments import require_instance, seed_number, whole
from ibtrace.types import (
    Estimate,
    Estimator,
    LayerContext,
    ProbeLike,
    Tags,
    Variable,
    bound_to,
    label,
    needs_trace,
    variable_of,
)

MOST_SAMPLES = 2000
"""Samples that a default estimator whose time grows with N² is given at most."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Subsampled(ByOnePass):
    """Another estimator, on a part of the samples that is drawn once by a seed.

    The part is the same for every layer, epoch and network. Where there are no more samples than
    ``samples``, this is the estimator itself. Diagnostics: the estimator's own, and ``samples``,
    how many were measured.

    Args:
        estimator: The estimator.
        samples: How many samples it gets at most.
        seed: Seeds the draw.

    Raises:
        ConfigError: If ``estimator`` is none, ``samples`` below 2, or the seed none.

    Example:
        >>> x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
        >>> int(Subsampled(KSG(), samples=500)(x[:, :1], x[:, 1:]).diagnostics["samples"])
        500
    """

    estimator: Estimator = field(default_factory=KSG)
    samples: int = MOST_SAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        form = "an estimator such as KSG(k=3)"
        require_instance("Subsampled: estimator", self.estimator, Estimator, form)
        whole("Subsampled: samples", self.samples, least=2)
        seed_number("Subsampled: seed", self.seed)

    @property
    def tags(self) -> Tags:
        """The estimator's, of that many samples."""
        tags = self.estimator.tags
        return dataclasses.replace(
            tags,
            estimand=f"{tags.estimand}, of at most {self.samples} samples",
            cost=f"{tags.cost}, at N = {self.samples} at most",
        )

    @property
    def label(self) -> str:
        """The estimator's label and the limit."""
        return f"{label(self.estimator)} on {self.samples} samples"

    @property
    def estimand(self) -> str:
        """The estimator's, and the limit."""
        return f"{self.estimator.estimand}, on at most {self.samples} drawn samples"

    def variable(self, width: int | None) -> Variable:
        """What stands for T: the estimator's.

        Args:
            width: The columns of T; None if T is ids.
        """
        return variable_of(self.estimator, width)

    @property
    def needs_trace(self) -> bool:
        """Whether the estimator does."""
        return needs_trace(self.estimator)

    def bind(self, context: LayerContext) -> Subsampled:
        """The estimator bound to the layer."""
        return dataclasses.replace(self, estimator=bound_to(self.estimator, context))

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) of the samples drawn; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids.
            seed: The estimator's seed.
        """
        n = _axis_length(x)
        rows = self._rows(n, x.device)
        return _counted(self.estimator(_cut(x, rows), _cut(y, rows), seed=seed), rows)

    def informations(
        self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
    ) -> list[Estimate]:
        """I(X;T) and I(T;Y) of the samples drawn, then I(T;Y) of others; see the class.

        Args:
            t: Activations ``(..., n, d)``.
            probe: The inputs and labels.
            others: The same samples with other labels.
            seed: The estimator's seed.
        """
        rows = self._rows(probe.n, t.device)
        whole = len(rows) == probe.n
        part, *more = (each if whole else self.prepare(each) for each in (probe, *others))
        measured = informations(self.estimator, _cut(t, rows), part, more, seed=seed)
        return [_counted(estimate, rows) for estimate in measured]

    def prepare(self, probe: ProbeLike) -> ProbeLike:
        """The part of a probe that is measured, kept with the probe."""
        return once(_part, probe, self.samples, self.seed)

    def _rows(self, n: int, device: torch.device) -> Tensor:
        return _drawn(n, self.samples, self.seed).to(device)


def _drawn(n: int, most: int, seed: int) -> Tensor:
    """Which of n samples are measured, in their order."""
    if n <= most:
        return torch.arange(n)
    draw = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=draw)[:most].sort().values


def _part(probe: ProbeLike, most: int, seed: int) -> ProbeLike:
    return _Part(probe, _drawn(probe.n, most, seed).to(probe.x_ids.device))


class _Part:
    """Some samples of a probe, as an estimator asks for them."""

    def __init__(self, probe: ProbeLike, rows: Tensor) -> None:
        self.n = len(rows)
        self.population = False  # a draw
        self._whole, self._rows = probe, rows
        self.x_ids = probe.x_ids[rows].unique(return_inverse=True)[1]
        self.labels = probe.labels[rows]
        self._cache: dict[Hashable, Any] = {}

    @cached_property
    def features(self) -> Tensor:
        """The inputs as floats."""
        return self._whole.features[self._rows]

    def cached(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once."""
        if key not in self._cache:
            self._cache[key] = compute()
        return cast("_Value", self._cache[key])


def _axis_length(values: Tensor) -> int:
    return values.shape[_samples_axis(values)]


def _samples_axis(values: Tensor) -> int:
    """Floats are ``(..., n, d)``, ids ``(..., n)``."""
    return -2 if values.is_floating_point() and values.dim() > 1 else -1


def _cut(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(_samples_axis(values), rows)


def _counted(estimate: Estimate, rows: Tensor) -> Estimate:
    diagnostics = {**estimate.diagnostics, "samples": torch.tensor(float(len(rows)))}
    return dataclasses.replace(estimate, diagnostics=diagnostics)
