"""At which epochs, or steps, a network is looked at: ``every=`` of a Tracer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ibtrace.errors import ConfigError

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


@dataclass(frozen=True)
class Steps:
    """A schedule that counts optimiser steps: several looks in an epoch, or where there is none.

    Args:
        every: The steps that are due, as `schedule` takes epochs: a period, steps, or a callable;
            None spaces them evenly on a log axis, as language models are looked at.

    Raises:
        ConfigError: If it is none of these.

    Example:
        >>> [step for step in range(30) if Steps(10)(step)], Steps([1, 5])(5), Steps()(3)
        ([0, 10, 20], True, True)
    """

    every: int | Iterable[int] | Schedule | None = None

    def __post_init__(self) -> None:
        due = log_spaced() if self.every is None else schedule(self.every)
        object.__setattr__(self, "every", due)

    def __call__(self, step: int) -> bool:
        """Whether the step is due."""
        return bool(schedule(self.every or log_spaced())(step))


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
        if value is not None and whole(f"log_spaced: {name}", value) < 1:
            raise ConfigError(f"log_spaced: {name} must be at least 1, got {value}")
    if total is None:
        return LogSpaced(count or 20)
    points = np.geomspace(1, total, count or 100)
    # whole epochs, against 99.99999 for 100
    return Epochs(frozenset({0, total, *np.floor(points + 1e-9).astype(int).tolist()}))


def whole(name: str, value: Any) -> int:
    """A number that counts something, as an int: of Python, NumPy or torch, or a whole float.

    Args:
        name: What it is, for the error.
        value: The number.

    Raises:
        ConfigError: If it is not one whole number; nothing is rounded.

    Example:
        >>> whole("epoch", 3.0)
        3
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # torch's own, of several numbers
        number = float("nan")
    if isinstance(value, (bool, str)) or not number.is_integer():
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def schedule(every: int | Iterable[int] | Schedule) -> Schedule:
    """A schedule from what a user may give: a period, a list of epochs, or a callable.

    Args:
        every: An int (every n-th epoch), epochs, or ``f(epoch) -> bool``.

    Raises:
        ConfigError: If it is none of these, a period below 1, no epoch or a negative one.
    """
    if callable(every):
        return every
    if isinstance(every, (str, bytes, Mapping)):
        raise ConfigError(f"every must be an int, epochs or a callable, got {every!r}")
    numbers: Any = every
    try:
        given = [whole("every: an epoch", epoch) for epoch in numbers]
    except TypeError:  # not iterable: a period
        period = whole("every (an int, epochs or a callable)", every)
        if period < 1:
            raise ConfigError(f"every must be at least 1, got {every}") from None
        return Every(period)
    if min(given, default=-1) < 0:
        raise ConfigError(f"every must be an int, epochs (0 or more) or a callable, got {every!r}")
    return Epochs(frozenset({0, *given}))
