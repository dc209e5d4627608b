"""How far apart two events are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ibtrace.alignment.events import Events, Floats, median_interval
from ibtrace.alignment.order import Named, named_event


@dataclass(frozen=True)
class Apart:
    """How many times later than the second event the first one was, seed by seed.

    Args:
        first: The one.
        second: The other.
        median: Over seeds, of (1 + when the first was) / (1 + when the second was); infinite if
            the first did not happen, 0 if the second did not; of an even number of seeds the
            lower of the two in the middle.
        lower: The lower end of its interval.
        upper: The upper end.
        coverage: Of the interval; see `Events.table`.
        seeds: In how many either happened; the others say nothing.
        both: In how many both did.
    """

    first: str
    second: str
    median: float
    lower: float
    upper: float
    coverage: float
    seeds: int
    both: int

    def __str__(self) -> str:
        return (
            f"{self.first} at {self.median:.2g} times the epoch of {self.second} (median of "
            f"{self.seeds} seeds [{self.lower:.2g}, {self.upper:.2g}], covers {self.coverage:.0%}; "
            f"both in {self.both})"
        )


def apart(events: Events, first: Named, second: Named) -> Apart:
    """By which factor of time two events differ, with an interval over seeds.

    The interval is that of order statistics, which takes "never" for what it is: later than all.
    It is widened by what lies between looks: its lower end is of the earliest that the first and
    the latest that the second can have been, its upper end the other way round.

    Args:
        events: See `events`.
        first: The one.
        second: The other.

    Raises:
        InvalidInput: If there is no such event, or more than one; lists those there are.
    """
    (first_name, a), (second_name, b) = (named_event(events, name) for name in (first, second))
    shared = a.index.intersection(b.index)
    a, b = (part.loc[shared, ["at", "earliest", "latest"]] for part in (a, b))
    either = np.isfinite(a["at"]) | np.isfinite(b["at"])
    a, b = (1 + part[either] for part in (a, b))
    if not len(a):
        return Apart(first_name, second_name, np.nan, np.nan, np.nan, 0.0, 0, 0)
    ratios, low, high = (
        np.sort(_ratio(a[of_first].to_numpy(), b[of_second].to_numpy()))
        for of_first, of_second in (("at", "at"), ("earliest", "latest"), ("latest", "earliest"))
    )
    lower, _, coverage = median_interval(low)
    _, upper, _ = median_interval(high)
    both = int((np.isfinite(a["at"]) & np.isfinite(b["at"])).sum())
    middle = float(ratios[(len(ratios) - 1) // 2])
    return Apart(first_name, second_name, middle, lower, upper, coverage, len(a), both)


def _ratio(a: Floats, b: Floats) -> Floats:
    """Of times of which one at least is finite."""
    ratio: Floats = a / b
    return ratio
