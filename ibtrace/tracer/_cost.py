"""What a trace will cost, told after its first look."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ibtrace.errors import ConfigError, CostWarning
from ibtrace.runtime.schedule import Epochs, Every, Schedule, Steps
from ibtrace.types import Row

SLOW_LOOK = 10.0
"""Seconds of a first look's numbers from which the tracer warns of what the trace will cost."""
SLOW_TRACE = 600.0
"""Likewise, of all the looks that are foreseen."""
_HORIZON = {"epoch": 100, "step": 1000}
_ASKED = 100_000  # places that a function, or a log axis, is asked about


def _counted(schedule: Schedule, horizon: int) -> int:
    """How many looks there are up to the horizon, or to where the user's own schedule ends."""
    every = schedule.every if isinstance(schedule, Steps) else schedule
    if isinstance(every, Epochs):
        return sum(1 <= at <= horizon for at in every.epochs)
    if isinstance(every, Every):
        return horizon // every.n
    looks = 0
    with suppress(ConfigError):
        for at in range(1, min(horizon, _ASKED) + 1):
            looks += schedule(at)
    return looks


def foresee(
    rows: Sequence[Row], schedule: Schedule, own: Mapping[str, tuple[Schedule, int]], clock: str
) -> None:
    """Warn, if a trace will take long: how long, what of it, and what would be faster.

    Args:
        rows: Those of the first look.
        schedule: When the tracer looks.
        own: When each instrument does, by its label, and that it takes every so many-th of these.
        clock: What the looks are counted by.
    """
    every = schedule.every if isinstance(schedule, Steps) else schedule
    horizon = max(every.epochs) if isinstance(every, Epochs) else _HORIZON[clock]
    looks = _counted(schedule, horizon)
    each: defaultdict[str, float] = defaultdict(float)
    for row in rows:  # a row's seconds are those of the estimate, of which both rows came
        each[row.instrument] += row.seconds / len({r.quantity for r in rows})
    seconds = sum(each.values())
    times = {name: -(-_counted(when, horizon) // turn) for name, (when, turn) in own.items()}
    whole = sum(spent * times.get(name, looks) for name, spent in each.items())
    if seconds < SLOW_LOOK and whole < SLOW_TRACE:
        return
    slowest, most = max(each.items(), key=lambda item: item[1])
    seldom = times.get(slowest, looks)
    only = f" (at {seldom} looks)" if seldom != looks else ""
    warnings.warn(
        f"a look takes {seconds:.1f} s, {most:.1f} of them {slowest}{only}; the {looks} looks up "
        f"to {clock} {horizon} are {whole / 60:.0f} min: measure fewer samples "
        "(Probe.of(data, n=2000), or Subsampled(estimator) for one), look less often "
        "(every=), or choose other estimators",
        CostWarning,
        stacklevel=4,
    )
