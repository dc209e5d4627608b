"""What lenses read in a run, as text: from the first look to the last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ibtrace import lenses
from ibtrace.plane import clock, interval, on_clock
from ibtrace.runtime.text import wrap
from ibtrace.types import TraceLike, information_of, split_flags

_TITLE = "Other quantities"


def lens_readings(trace: TraceLike) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Quantity, instrument and rows of all that lenses read, in the order of the trace."""
    frame = trace.readings()
    measured = information_of(trace.meta)
    read = frame[(frame["instrument"] != "") & ~frame["quantity"].isin(measured)]
    for (instrument, quantity), rows in read.groupby(["instrument", "quantity"], sort=False):
        yield str(quantity), str(instrument), rows


def quantities(trace: TraceLike) -> str:
    """Each quantity of a lens at the first look and the last, as means over seeds.

    With the unit, and with Student's 95 % interval for the mean where there are two seeds or more.
    A number that is NaN of one seed is NaN of the mean.

    Args:
        trace: The run.

    Returns:
        A section for each quantity; empty if there was no lens.
    """
    parts = [_section(*read) for read in lens_readings(trace)]
    for lens, reason in trace.meta.get("lenses_failed", {}).items():
        parts.append(wrap(f"{lens} failed: {reason}"))
    if not parts:
        return ""
    return "\n".join([_TITLE, "=" * len(_TITLE), *parts])


def _section(quantity: str, instrument: str, rows: pd.DataFrame) -> str:
    counted, rows = clock(rows), on_clock(rows)
    unit = rows["unit"].iloc[0]
    named = quantity if unit == "1" else f"{quantity} in {unit}"
    first, last = rows["epoch"].min(), rows["epoch"].max()
    seeds = rows["seed"].nunique()
    over = f"mean over {seeds} seeds [95 % interval]" if seeds > 1 else "1 seed, no interval"
    head = f"{named} by {instrument}, {counted} {first:,} → {last:,}; {over}"
    ends = [rows[rows["epoch"] == at] for at in (first, last)]
    layers = list(dict.fromkeys(rows["layer"]))
    width = max(len(_name(layer)) for layer in layers)
    lines = [
        f"  {_name(layer):{width}}  {' → '.join(_mean(rows, layer, seeds) for rows in ends)}"
        for layer in layers
    ]
    statement = [wrap(text)] if (text := lenses.statements().get(quantity)) else []
    return "\n".join([wrap(head), *lines, *statement])


def _name(layer: str) -> str:
    return layer or "network"


def _mean(rows: pd.DataFrame, layer: str, seeds: int) -> str:
    """The mean over seeds at one look with its interval, and the flags that any seed raised."""
    rows = rows[rows["layer"] == layer]
    if rows.empty:
        return "not read"
    mean, lower, upper = interval(rows["value"].to_numpy(dtype=np.float64))
    ends = "" if np.isnan(lower) else f" [{lower:.4g}, {upper:.4g}]"
    notes = [f"{len(rows)} of {seeds} seeds"] if len(rows) < seeds else []
    notes += sorted({flag for flags in rows["flags"] for flag in split_flags(flags)})
    return f"{mean:.4g}{ends}" + (f" ({', '.join(notes)})" if notes else "")
