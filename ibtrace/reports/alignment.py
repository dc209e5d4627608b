"""What happened when in a run, what came before what, and what changed together, as text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ibtrace.alignment import (
    EVENTS,
    PEAK,
    Event,
    Events,
    coincidence,
    events,
    module_of,
    order,
    outputs,
)
from ibtrace.errors import InvalidInput
from ibtrace.runtime.text import wrap
from ibtrace.types import DISTINCT_ROWS, EXACT_BITS, I_XT, TraceLike, information_of

_TITLE = "Events and their order"
_STRONGEST = 5


def alignment(trace: TraceLike, looked_for: Iterable[Event] = EVENTS) -> str:
    """When each event happened, whether I(X;T) peaked before it, and what changed with I(X;T).

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
    return "\n".join([*parts, *lines, *changes(trace)])


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
        reference = tuple(first[["event", "layer", "instrument"]].iloc[0])
        own = table[(table["event"] == peak) & (table["instrument"] == reference[2])].tail(1)
        reference = tuple(own[["event", "layer", "instrument"]].iloc[0])
        for name, row in last.iterrows():
            if name != peak:
                yield str(order(happened, reference, (str(name), row["layer"], row["instrument"])))


def changes(trace: TraceLike) -> list[str]:
    """What changes from look to look as I(X;T) of one hidden layer does, strongest first.

    The layer is the last in which it peaks in most seeds, else the last, by the first estimator; it
    is held against what was read of this layer, of its module and of the network. See
    `ibtrace.alignment.coincidence`.

    Args:
        trace: The run.

    Returns:
        Lines: those pairs whose interval, corrected for the number of pairs, leaves 0 out, at most
        five; or one that says there is none.
    """
    readings = trace.readings()
    measured = readings[readings["quantity"] == I_XT]
    measured_too = (*information_of(trace.meta), DISTINCT_ROWS, EXACT_BITS)
    others = readings[~readings["quantity"].isin(measured_too)]
    if measured.empty or others.empty:
        return []
    estimator = str(measured["instrument"].iloc[0])
    layer = _compressing(trace, estimator)
    places = [layer, *filter(None, [module_of(trace, layer)])]
    try:
        pairs = coincidence(
            trace,
            [I_XT],
            list(others["quantity"].unique()),
            layers=places,
            instrument=estimator,
        )
    except InvalidInput as error:
        return [wrap(str(error), rest="  ")]
    head = (
        f"Changes from look to look of I(X;T) of {layer} ({estimator}) and of {len(pairs)} other "
        "quantities: rank correlation in log-epoch, with intervals that hold for all of them "
        "together (95 %, Bonferroni)"
    )
    beyond = pairs[(pairs["lower"] > 0) | (pairs["upper"] < 0)]
    if beyond.empty:
        return [wrap(f"{head}: all hold 0.", rest="  ")]
    here = f", here the strongest {_STRONGEST}" if len(beyond) > _STRONGEST else ""
    summary = f"{head}; 0 is outside for {len(beyond)}{here}:"
    return [wrap(summary, rest="  "), *_pairs(beyond.head(_STRONGEST))]


def _compressing(trace: TraceLike, estimator: str) -> str:
    """The last hidden layer in which I(X;T) peaks in most seeds, else the last one."""
    table = events(trace, [PEAK]).table()
    peaked = table[np.isfinite(table["median"].astype(float)) & (table["instrument"] == estimator)]
    hidden = [layer for layer in trace.layers if layer not in outputs(trace)] or trace.layers
    return ([layer for layer in hidden if layer in set(peaked["layer"])] or hidden)[-1]


def _pairs(pairs: pd.DataFrame) -> list[str]:
    """A line for each pair: its correlation, its interval, and with what it is."""
    return [
        f"  {row['correlation']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]  "
        f"{row['other']}" + (f" of {row['other_layer']}" if row["other_layer"] else "")
        for row in pairs.to_dict("records")
    ]
