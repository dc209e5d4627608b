"""At which epochs a network is looked at: ``every=`` of a Tracer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ibtrace.types import ConfigError

Schedule = Callable[[int], bool]
"""Whether an epoch (0: before any step) is due."""


@dataclass(frozen=True)
class Epochs:
    """A schedule that is a set of epochs.

    Args:
        epochs: The epochs that are due.
    """

    epochs: frozenset[int]

    def __call__(self, epoch: int) -> bool:
        """Whether the epoch is due."""
        return epoch in self.epochs


@dataclass(frozen=True)
class Every:
    """Every n-th epoch.

    Args:
        n: The period, at least 1.
    """

    n: int

    def __call__(self, epoch: int) -> bool:
        """Whether the epoch is due."""
        return epoch % self.n == 0


@dataclass(frozen=True)
class LogSpaced:
    """Epochs evenly spaced on a log axis without an end: about ``per_decade`` in each decade.

    Args:
        per_decade: Snapshots for each factor of ten; fewer where epochs are whole numbers.
    """

    per_decade: int

    def __call__(self, epoch: int) -> bool:
        """Whether the epoch is the first past one of the evenly spaced points."""
        if epoch < 1:
            return epoch == 0
        return bool(self._index(epoch) > self._index(epoch - 1)) if epoch > 1 else True

    def _index(self, epoch: int) -> int:
        # the small offset keeps exact powers of ten on their own point
        return int(np.floor(self.per_decade * np.log10(epoch) + 1e-9))


def log_spaced(total: int | None = None, count: int | None = None) -> Schedule:
    """Epochs evenly spaced on a log axis, epoch 0 included.

    Args:
        total: The last epoch. Without it the schedule has no end.
        count: With ``total``, points before whole epochs that coincide are merged (IDNNs: 400
            points over 8000 epochs are 274 snapshots); without, points per decade.

    Raises:
        ConfigError: If total or count is below 1.

    Example:
        >>> [epoch for epoch in range(101) if log_spaced(100, 8)(epoch)]
        [0, 1, 3, 7, 13, 26, 51, 100]
        >>> sum(map(log_spaced(8000, 400), range(8001)))  # 274 and the initial network
        275
    """
    for name, value in (("total", total), ("count", count)):
        if value is not None and value < 1:
            raise ConfigError(f"log_spaced: {name} must be at least 1, got {value}")
    if total is None:
        return LogSpaced(count or 20)
    points = np.geomspace(1, total, count or 100)
    # whole epochs, against 99.99999 for 100
    return Epochs(frozenset({0, total, *np.floor(points + 1e-9).astype(int).tolist()}))


def schedule(every: int | Iterable[int] | Schedule) -> Schedule:
    """A schedule from what a user may give: a period, a list of epochs, or a callable.

    Args:
        every: An int (every n-th epoch), epochs, or ``f(epoch) -> bool``.

    Raises:
        ConfigError: If it is none of these, or a period below 1.
    """
    if callable(every):
        return every
    if isinstance(every, int):
        if every < 1:
            raise ConfigError(f"every must be at least 1 epoch, got {every}")
        return Every(every)
    try:
        return Epochs(frozenset({0, *(int(epoch) for epoch in every)}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"every must be an int, epochs or a callable, got {every!r}") from error
