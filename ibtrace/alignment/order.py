"""Which of two events comes first."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ibtrace.alignment.events import Events
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import shown

Named = str | tuple[str, ...]
"""An event by its name, or ``(name, layer)``, or ``(name, layer, instrument)``."""

_KEYS = ("event", "layer", "instrument")


@dataclass(frozen=True)
class Order:
    """Which of two events came first, seed by seed.

    Args:
        first: The one.
        second: The other.
        before: In how many seeds the first came before the second.
        after: In how many it came after.
        together: In how many that is not known, as both lie between the same looks, or neither
            came.
        p_value: Of the exact two-sided sign test of "neither tends to come first", over the seeds
            in which one did.
    """

    first: str
    second: str
    before: int
    after: int
    together: int
    p_value: float

    def __str__(self) -> str:
        seeds = self.before + self.after + self.together
        return (
            f"{self.first} before {self.second} in {self.before} of {seeds} seeds, after it in "
            f"{self.after}, between the same looks or neither in {self.together} "
            f"(exact sign test: p = {self.p_value:.3g})"
        )


def order(events: Events, first: Named, second: Named) -> Order:
    """Which of two events comes first, with an exact sign test over seeds.

    An event that did not happen in a seed is later there than one that did. What lies between two
    looks is not known: an event comes first if the latest that it can have been is no later than
    the earliest of the other (`Events.frame`), and where the two intervals overlap, which may be
    of other looks, neither does.

    Args:
        events: See `events`.
        first: The one.
        second: The other.

    Raises:
        InvalidInput: If there is no such event, or more than one; lists those there are.
    """
    from scipy.stats import binomtest  # here, as scipy.stats takes half a second to import

    (first_name, a), (second_name, b) = (named_event(events, name) for name in (first, second))
    shared = a.index.intersection(b.index)
    a, b = a.loc[shared], b.loc[shared]
    # of two points at one look, the first, both hold; so they do of two that never came
    a_first, b_first = a["latest"] <= b["earliest"], b["latest"] <= a["earliest"]
    before, after = int((a_first & ~b_first).sum()), int((b_first & ~a_first).sum())
    decided = before + after
    p_value = float(binomtest(before, decided).pvalue) if decided else 1.0
    return Order(first_name, second_name, before, after, len(shared) - decided, p_value)


def named_event(events: Events, named: Named) -> tuple[str, pd.DataFrame]:
    """What a named event is called, and when it happened: the events' columns by seed.

    Args:
        events: See `events`.
        named: The event.

    Raises:
        InvalidInput: If there is no such event, or more than one; lists those there are.
        ConfigError: If it is neither a name nor names.
    """
    wanted = (named,) if isinstance(named, str) else named
    texts = isinstance(wanted, tuple) and all(isinstance(part, str) for part in wanted)
    if not texts or not 1 <= len(wanted) <= len(_KEYS):
        raise ConfigError(
            "order: an event must be its name, or a tuple (name, layer) or (name, layer, "
            f"instrument), got {shown(named)}"
        )
    frame = events.frame
    known = frame[[*_KEYS]].drop_duplicates()
    matching = known
    for key, value in zip(_KEYS, wanted, strict=False):
        matching = matching[matching[key] == value]
    if len(matching) != 1:
        there = known if matching.empty else matching
        listed = "; ".join(repr(tuple(row)) for row in there.itertuples(index=False))
        number = "no event" if matching.empty else f"{len(matching)} events"
        raise InvalidInput(
            f"order: {number} {wanted}; there are, as (name, layer, instrument): {listed}"
        )
    row = matching.iloc[0]
    part = frame[(frame[[*_KEYS]] == row).all(axis=1)]
    label = " of ".join(filter(None, [row["event"], row["layer"]]))
    return label, part.set_index("seed")
