"""The numbers of a trace as services take them: an epoch (or step), a seed, a name, a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ibtrace.trace import Trace
from ibtrace.types import DISTINCT_ROWS, EXACT_BITS, I_TY, I_XT, Row

_QUANTITIES = {I_XT: "I_XT", I_TY: "I_TY"}
SCALARS, PLANES = "scalars", "information_plane"
GROUPS = (*_QUANTITIES.values(), SCALARS, PLANES)
"""The first parts of the names."""


class Point(NamedTuple):
    """A number of a trace and what it is, without the seed in its name.

    Args:
        at: Its place on the trace's clock: epochs, or steps.
        seed: The seed of the network.
        name: What it is.
        value: The number.
    """

    at: int
    seed: int
    name: str
    value: float


def _name(quantity: str, layer: str, instrument: str) -> str:
    return "/".join(filter(None, (_QUANTITIES.get(quantity, quantity), layer, instrument)))


def _scalar_name(name: str, layer: str = "") -> str:
    return "/".join(part for part in (SCALARS, layer, name) if part)


def place(row: Row, clock: str) -> int:
    """Where the row is on a trace's clock."""
    return row.epoch if clock == "epoch" or row.step is None else row.step


def of_rows(rows: Iterable[Row], clock: str) -> Iterator[Point]:
    """The estimates, and what lenses read."""
    for row in rows:
        name = _name(row.quantity, row.layer, row.instrument)
        yield Point(place(row, clock), row.seed, name, row.value)


def of_scalars(rows: Sequence[Row], scalars: Mapping[str, Any], clock: str) -> Iterator[Point]:
    """Scalars of the rows' epoch: one number for each of their seeds, or one for all."""
    seeds = list(dict.fromkeys(row.seed for row in rows))
    for name, value in scalars.items():
        each = torch.as_tensor(value, dtype=torch.float64).expand(len(seeds)).tolist()
        for seed, number in zip(seeds, each, strict=True):
            yield Point(place(rows[0], clock), seed, _scalar_name(name), number)


def of_trace(trace: Trace) -> Iterator[Point]:
    """All that the trace holds, but for what every look counts of its layers."""
    table = trace.readings()
    table = table[~table["quantity"].isin([DISTINCT_ROWS, EXACT_BITS])]
    columns = (trace.clock, "seed", "quantity", "layer", "instrument", "value")
    for at, seed, quantity, layer, instrument, value in zip(
        *(table[column].tolist() for column in columns), strict=True
    ):
        logged = not instrument
        name = _scalar_name(quantity, layer) if logged else _name(quantity, layer, instrument)
        yield Point(at, seed, name, value)
