"""What happened when in a run, and what came before what, as text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ibtrace.alignment import EVENTS, Event, Events, events, order, outputs
from ibtrace.runtime.text import wrap
from ibtrace.types import I_XT, TraceLike

_TITLE = "Events and their order"


def alignment(trace: TraceLike, looked_for: Iterable[Event] = EVENTS) -> str:
    """When each event happened, and whether the peak of I(X;T) came before or after the others.

    Args:
        trace: The run.
        looked_for: The events.

    Returns:
        Two sections; empty if only information was measured, whose peaks the verdict tells.
    """
    looked_for = tuple(looked_for)
    happened = events(trace, looked_for)
    if {event.quantity for event in looked_for if event.name in set(happened.frame["event"])} <= {
        I_XT
    }:
        return ""
    parts = [_TITLE, "=" * len(_TITLE), str(happened)]
    lines = [wrap(line, rest="  ") for line in _orders(happened, looked_for, trace)]
    return "\n".join([*parts, *lines])


def _orders(happened: Events, looked_for: tuple[Event, ...], trace: TraceLike) -> Iterable[str]:
    """The peak of I(X;T) against each other event, one sentence each.

    Of the layers before the output, in which it did happen in most seeds, the last; likewise of
    the other event.
    """
    table = happened.table()
    table = table[np.isfinite(table["median"]) & ~table["layer"].isin(outputs(trace))]
    last = table.groupby("event", sort=False).tail(1).set_index("event")
    peaks = [event.name for event in looked_for if event.quantity == I_XT]
    for peak in peaks:
        first = table[table["event"] == peak].head(1)
        if first.empty:
            continue
        one = tuple(first[["event", "layer", "instrument"]].iloc[0])
        own = table[(table["event"] == peak) & (table["instrument"] == one[2])].tail(1)
        one = tuple(own[["event", "layer", "instrument"]].iloc[0])
        for name, row in last.iterrows():
            if name != peak:
                yield str(order(happened, one, (str(name), row["layer"], row["instrument"])))
