"""Instruments and when each of them measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ibtrace import estimators, lenses
from ibtrace.errors import ConfigError
from ibtrace.runtime.schedule import Schedule, Steps, schedule
from ibtrace.tracer._lenses import Scheduled
from ibtrace.types import Estimator, Lens

_Instrument = TypeVar("_Instrument", Estimator, Lens)


@dataclass(frozen=True)
class At:
    """An estimator or a lens with a schedule of its own, for one too slow for every snapshot.

    Args:
        instrument: A registry name or an instance.
        every: Its schedule, in place of the tracer's: an int, epochs, or a callable; `Steps` if
            the tracer's is.
    """

    instrument: str | Estimator | Lens
    every: int | Iterable[int] | Schedule


def scheduled_estimators(items: Any, every: Schedule) -> list[tuple[Estimator, Schedule]]:
    """Estimators, by name or as they are, and when each measures.

    Args:
        items: One or several.
        every: The tracer's schedule: of those that have none of their own.

    Raises:
        UnknownName: If a name is not registered.
        ConfigError: If something is no estimator, or counts by another clock than the tracer.
    """

    def checked(item: Any) -> Estimator:
        if isinstance(item, type) or not isinstance(item, Estimator):
            raise ConfigError(
                f"estimators: {item!r} is neither a name nor an estimator; give "
                '"binning", Binning(bins=30) or several of these'
            )
        return item

    return [_scheduled(item, every, estimators.make, checked) for item in several(items)]


def scheduled_lenses(items: Any, every: Schedule) -> list[Scheduled]:
    """Lenses, likewise.

    Args:
        items: One or several.
        every: The tracer's schedule; of it, a dear lens takes every n-th look (`LensTags.looks`).

    Raises:
        UnknownName: If a name is not registered.
        ConfigError: If something is no lens, or counts by another clock than the tracer.
    """

    def checked(item: Any) -> Lens:
        if isinstance(item, type) or not isinstance(item, Lens):
            raise ConfigError(
                f"lenses: {item!r} is neither a name nor a lens; give "
                '"saturation", Saturation(share=0.95) or several of these'
            )
        return item

    scheduled = []
    for item in several(items):
        lens, due = _scheduled(item, every, lenses.make, checked)
        scheduled.append(Scheduled(lens, due, 1 if isinstance(item, At) else lens.tags.looks))
    return scheduled


def _scheduled(
    item: Any,
    every: Schedule,
    make: Callable[[str], _Instrument],
    checked: Callable[[Any], _Instrument],
) -> tuple[_Instrument, Schedule]:
    if isinstance(item, At):
        own = schedule(item.every)
        if isinstance(own, Steps) != isinstance(every, Steps):
            clock = "step" if isinstance(every, Steps) else "epoch"
            raise ConfigError(f"{item}: the trace counts {clock}s, so must its every=")
        return _scheduled(item.instrument, own, make, checked)
    return (make(item) if isinstance(item, str) else checked(item)), every


def several(items: Any) -> list[Any]:
    """Several things, or one alone, as a list; a text is one thing.

    Args:
        items: One or several.
    """
    return list(items) if isinstance(items, Iterable) and not isinstance(items, str) else [items]
