"""At which epochs, or steps, a network is looked at: ``every=`` of a Tracer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import MOST, require_function, shown, whole

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


@dataclass(frozen=True)
class Asked:
    """A schedule that is the user's function.

    Args:
        function: ``f(epoch) -> bool``.
    """

    function: Schedule

    def __call__(self, epoch: int) -> bool:
        """What the function says of the epoch.

        Raises:
            ConfigError: If it fails, or says neither True nor False.
        """
        name = getattr(self.function, "__name__", type(self.function).__name__)
        try:
            due: object = self.function(epoch)
        except Exception as error:
            message = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
            raise ConfigError(f"every: {name} failed at {epoch} ({message}); mend it") from error
        if not isinstance(due, (bool, np.bool_)):
            raise ConfigError(
                f"every: {name} must return True or False, got {shown(due)} at {epoch}"
            )
        return bool(due)


def log_spaced(total: int | None = None, count: int | None = None) -> Schedule:
    """Epochs evenly spaced on a log axis, epoch 0 included.

    Args:
        total: The last epoch. Without it the schedule has no end.
        count: With ``total``, points before whole epochs that coincide are merged (IDNNs: 400
            points over 8000 epochs are 274 snapshots); without, points per decade.

    Raises:
        ConfigError: If total or count is below 1, or too large to be meant.

    Example:
        >>> [epoch for epoch in range(101) if log_spaced(100, 8)(epoch)]
        [0, 1, 3, 7, 13, 26, 51, 100]
        >>> sum(map(log_spaced(8000, 400), range(8001)))  # 274 and the initial network
        275
    """
    for name, value, most in (("total", total, 2**53), ("count", count, MOST)):
        if value is not None:
            whole(f"log_spaced: {name}", value, least=1, most=most)
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
        ConfigError: If it is none of these, a period below 1, no epoch or a negative one; or if
            the callable, asked once for 1, says neither True nor False.
    """
    if isinstance(every, (Asked, Epochs, Every, LogSpaced, Steps)):
        return every
    if callable(every):
        require_function("every", every, "an int, epochs or a function f(epoch), no class")
        asked = Asked(every)
        asked(1)
        return asked
    if isinstance(every, (str, bytes, Mapping)):
        raise ConfigError(f"every must be an int, epochs or a callable, got {every!r}")
    numbers: Any = every
    try:
        given = [whole("every: an epoch", epoch) for epoch in numbers]
    except TypeError:  # not iterable: a period
        whole("every (an int, epochs or a callable)", every)
        return Every(whole("every", every, least=1))
    if min(given, default=-1) < 0:
        raise ConfigError(f"every must be an int, epochs (0 or more) or a callable, got {every!r}")
    return Epochs(frozenset({0, *given}))
