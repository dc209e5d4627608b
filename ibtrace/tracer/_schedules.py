"""Instruments and when each of them measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from ibtrace import estimators, lenses
from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import require_instance, several, shown
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

    Raises:
        ConfigError: If it is neither a name nor an instrument, or ``every`` is no schedule.
    """

    instrument: str | Estimator | Lens
    every: int | Iterable[int] | Schedule

    def __post_init__(self) -> None:
        form = "a registry name, an estimator or a lens"
        require_instance("At: instrument", self.instrument, (str, Estimator, Lens), form)
        object.__setattr__(self, "every", schedule(self.every))


def scheduled_estimators(items: Any, every: Schedule) -> list[tuple[Estimator, Schedule]]:
    """Estimators, by name or as they are, and when each measures.

    Args:
        items: One or several.
        every: The tracer's schedule: of those that have none of their own.

    Raises:
        UnknownName: If a name is not registered.
        ConfigError: If something is no estimator, or counts by another clock than the tracer.
    """
    means = _Means("estimators", "an estimator", '"binning", Binning(bins=30)', Estimator)
    return [_scheduled(item, every, estimators.make, means) for item in several(items)]


def scheduled_lenses(items: Any, every: Schedule) -> list[Scheduled]:
    """Lenses, likewise.

    Args:
        items: One or several; ``"all"`` is every one of the package.
        every: The tracer's schedule; of it, a dear lens takes every n-th look (`LensTags.looks`).

    Raises:
        UnknownName: If a name is not registered.
        ConfigError: If something is no lens, or counts by another clock than the tracer.
    """
    means = _Means("lenses", "a lens", '"saturation", Saturation(share=0.95)', Lens)
    scheduled = []
    for item in _each(items):
        lens, due = _scheduled(item, every, lenses.make, means)
        scheduled.append(Scheduled(lens, due, 1 if isinstance(item, At) else lens.tags.looks))
    return scheduled


def _each(items: Any) -> Iterator[Any]:
    """The lenses one by one, also of all that share a schedule of their own."""
    for item in lenses.expanded(items):
        if isinstance(item, At) and lenses.is_all(item.instrument):
            yield from (At(name, item.every) for name in lenses.names())
        else:
            yield item


class _Means(NamedTuple):
    """What an argument takes, in words and as a protocol."""

    argument: str
    what: str
    examples: str
    kind: Any


def _scheduled(
    item: Any, every: Schedule, make: Callable[[str], _Instrument], means: _Means
) -> tuple[_Instrument, Schedule]:
    if isinstance(item, At):
        own = schedule(item.every)
        if isinstance(own, Steps) != isinstance(every, Steps):
            clock = "step" if isinstance(every, Steps) else "epoch"
            raise ConfigError(f"{item}: the trace counts {clock}s, so must its every=")
        return _scheduled(item.instrument, own, make, means)
    if isinstance(item, str):
        return make(item), every
    if isinstance(item, type) or not isinstance(item, means.kind):
        raise ConfigError(
            f"{means.argument}: {shown(item)} is neither a name nor {means.what}; give "
            f"{means.examples} or several of these"
        )
    return cast("_Instrument", item), every
