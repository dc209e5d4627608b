"""Estimators whose statistics add up over batches of samples, so that no T has to be held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ibtrace.types.estimators import Estimator, LayerContext, ProbeLike, bound_to
from ibtrace.types.readings import Estimate

Own = TypeVar("Own")


@dataclass(frozen=True)
class Grouping:
    """Which samples are of one class: a target as an accumulator sees it.

    Args:
        ids: The class of each sample, int64 ``(n,)``.
        places: The same of the classes that several samples of all have, numbered from 0, and -1
            for a sample that is alone in its class: nothing has to be held of that.
        nulls: ``places`` in seeded random orders, of which the null of the estimate is made.
    """

    ids: Tensor
    places: Tensor
    nulls: Sequence[Tensor] = ()

    def at(self, rows: slice | Tensor) -> Grouping:
        """That of some samples."""
        return Grouping(self.ids[rows], self.places[rows], [null[rows] for null in self.nulls])


@dataclass(frozen=True)
class Targets:
    """What is asked about T: groupings of all samples of a probe, or of a batch of them.

    Args:
        groups: By the name of the target (``"x"``, ``"y"``).
        samples: How many samples the whole probe has.
        population: Whether these are all that there is.
        about_x: The names of targets that T may be a function of: where it is, no null is asked.
    """

    groups: Mapping[str, Grouping]
    samples: int
    population: bool = False
    about_x: frozenset[str] = field(default=frozenset({"x"}))

    def at(self, rows: slice | Tensor) -> Targets:
        """Those of a batch of samples."""
        groups = {name: group.at(rows) for name, group in self.groups.items()}
        return Targets(groups, self.samples, self.population, self.about_x)


class Accumulator(Protocol):
    """The statistics of one layer, which add up over batches and over processes.

    Feed each sample once in each pass: `update` with every batch, then `merge` with what other
    processes took up, then `begin_next`, until that says that no further pass is needed.
    """

    def update(self, t: Tensor, targets: Targets) -> None:
        """Take up a batch.

        Args:
            t: Floats ``(n, d)``.
            targets: The targets of the same samples, `Targets.at` of those of all.
        """
        ...

    def merge(self: Own, other: Own) -> None:
        """Take up what another one has seen in this pass: other samples of the same layer."""
        ...

    def begin_next(self) -> bool:
        """End a pass; whether another one over all samples is needed."""
        ...

    def result(self) -> dict[str, Estimate]:
        """The estimates by the name of the target, as of all samples at once.

        Raises:
            InvalidInput: If not every sample was taken up, or one twice.
        """
        ...


@runtime_checkable
class AddsUp(Estimator, Protocol):
    """An estimator with an accumulator; `Tags.adds_up` says whether this configuration has one."""

    def targets(self, probe: ProbeLike) -> Targets:
        """What a probe's inputs and labels are to it; labels that are no classes are left out."""
        ...

    def accumulated_bytes(self, targets: Targets) -> int:
        """The memory that an accumulator of these targets comes to, about."""
        ...

    def accumulator(self, width: int, *, seed: int = 0) -> Accumulator:
        """An empty accumulator of one layer.

        Args:
            width: The columns of T.
            seed: As of a call.

        Raises:
            Unsupported: If this configuration needs all samples at once.
        """
        ...


def adds_up(estimator: Estimator) -> bool:
    """Whether an estimator's statistics add up over batches under this configuration."""
    return isinstance(estimator, AddsUp) and estimator.tags.adds_up


def on_bounded(estimator: Estimator) -> Estimator:
    """An estimator as it is on a layer whose values are bounded, where most can add up."""
    return bound_to(estimator, LayerContext("", activation_range=(-1.0, 1.0)))
