"""Events: where a curve peaks or crosses a line, of each seed, with an interval over seeds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import require_instance, several, shown
from ibtrace.runtime.fields import require_types
from ibtrace.runtime.text import wrap
from ibtrace.types import I_XT, TraceLike

Rule = Literal["peak", "lowest", "above", "below", "fastest"]
Floats = NDArray[np.float64]

_LASTING = 2
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Event:
    """Something that happens once to a curve, or never.

    Args:
        name: What it is called.
        quantity: Of which quantity; see `Trace.readings`.
        rule: ``peak``: its highest value, if it then falls by ``margin`` or more; ``lowest``: its
            lowest, if it then rises as much; ``above``, ``below``: the first of two looks in a row
            (or of the last alone) on that side of the ``line``; ``fastest``: of a curve of
            1 - cos(this look, the one before), the peak of the angle by the log(1 + epoch) that
            lies between both looks: 1 - cos alone is largest where looks are furthest apart.
        margin: By how much the curve must leave a peak, in its unit; of ``fastest`` in radians by
            log-epoch.
        line: The line that is crossed.
        also: Another name of the quantity, where a trace does not hold it by the first.

    Raises:
        ConfigError: If a field is of a wrong type, there is no such rule, a margin is below 0, or
            ``above`` or ``below`` is given no line.
    """

    name: str
    quantity: str
    rule: Rule
    margin: float = 0.0
    line: float | None = None
    also: str = ""

    def __post_init__(self) -> None:
        require_types(self)
        if self.rule not in get_args(Rule):
            raise ConfigError(
                f"Event: rule must be one of {get_args(Rule)}, got {shown(self.rule)}"
            )
        if self.line is None and not self.extreme:
            raise ConfigError(f"Event: {self.rule!r} is of a line that is crossed; give line=")
        if self.margin < 0:
            raise ConfigError(f"Event: margin must be 0 or more, got {self.margin}")

    def of(self, quantities: Container[str]) -> Event:
        """The same of the name by which the quantity is held: the first that is there."""
        if self.quantity in quantities or self.also not in quantities:
            return self
        return replace(self, quantity=self.also, also="")

    @property
    def extreme(self) -> bool:
        """Whether it lies between the looks on both sides; a crossing lies before its look."""
        return self.rule in ("peak", "lowest", "fastest")

    def place(self, values: Floats) -> int | None:
        """The look at which it happens on one curve; None if it does not.

        Args:
            values: The quantity at each look, without NaN; of ``fastest`` its speed.

        Example:
            >>> Event("peak", "I(X;T)", "peak", margin=0.5).place(np.array([1.0, 3.0, 2.0]))
            1
            >>> Event("late", "loss", "below", line=1.0).place(np.array([0.9, 2.0, 0.5, 0.4]))
            2
        """
        if self.extreme:
            signed = -values if self.rule == "lowest" else values
            top = int(signed.argmax())
            leaves = signed[top] - signed[top:].min()
            return top if leaves > 0 and leaves >= self.margin else None
        assert self.line is not None  # as __post_init__ has seen
        beyond = values > self.line if self.rule == "above" else values < self.line
        for at in range(len(values)):
            if beyond[at : at + _LASTING].all():
                return at
        return None


PEAK = Event("peak of I(X;T)", I_XT, "peak", margin=0.1)
DIFFUSION = Event("gradient SNR below 1", "gradient SNR", "below", line=1.0)
SATURATION = Event("onset of saturation", "saturated share", "above", line=0.1)

EVENTS: tuple[Event, ...] = (
    PEAK,
    DIFFUSION,
    Event("sharpness at its threshold", "sharpness over threshold", "above", line=1.0),
    Event("kernel velocity peak", "NTK velocity", "fastest", margin=0.1),
    SATURATION,
    Event("collapse", "NC1 within over between classes", "below", line=1.0),
    Event("lowest test loss", "test_loss", "lowest", also="test loss"),  # a run's, a lens's
)
"""What is looked for where nothing else is said."""


@dataclass(frozen=True, eq=False)
class Events:
    """When each event happened.

    Args:
        frame: One row for each event, layer, instrument and seed: ``event, layer, instrument,
            seed, at, earliest, latest, value``; ``at`` is infinite where the event did not happen.
            What lies between looks is not known: a crossing was after the look before, a peak is
            between the looks on both sides, ``earliest`` and ``latest``.
        clock: What ``at`` counts: ``epoch`` or ``step``.
    """

    frame: pd.DataFrame
    clock: str

    def table(self) -> pd.DataFrame:
        """One row for each event, layer and instrument, with an interval over seeds.

        Columns: ``event, layer, instrument, happened`` (in how many seeds), ``seeds, median,
        lower, upper, coverage``. The interval is that of order statistics for the median, at
        least 95 % where so many seeds allow it, else from the first to the last of them with the
        coverage that it has: 1 - 2^(1 - seeds). A seed in which it did not happen counts as later
        than all. Of an even number of seeds the median is the lower of the two in the middle, an
        epoch at which it did happen.
        """
        rows = []
        for key, part in self.frame.groupby(["event", "layer", "instrument"], sort=False):
            at = np.sort(part["at"].to_numpy())
            lower, upper, coverage = median_interval(at)
            happened = int(np.isfinite(at).sum())
            middle = float(at[(len(at) - 1) // 2])  # never between an epoch and "not at all"
            rows.append((*key, happened, len(at), middle, lower, upper, coverage))
        columns = ["event", "layer", "instrument", "happened", "seeds", "median"]
        return pd.DataFrame(rows, columns=[*columns, "lower", "upper", "coverage"])

    def __str__(self) -> str:
        table = self.table()
        if table.empty:
            return "Events: none was looked for that the trace has a curve of."
        seeds = int(table["seeds"].max())
        lines = [f"Events, by {self.clock}: median over {seeds} seeds and its interval"]
        for key, part in table.groupby(["event", "instrument"], sort=False):
            event, instrument = map(str, key)
            lines.append(f"  {event}" + (f" ({instrument})" if instrument else ""))
            lines += _told(part)
        coverage = table["coverage"].min()
        if coverage < _CONFIDENCE:
            share = f"{100 * coverage:.0f} %"
            lines.append(wrap(f"The intervals of so few seeds cover {share}, not 95 %."))
        return "\n".join(lines)


def _told(table: pd.DataFrame) -> list[str]:
    """A line for each layer in which an event happened, and one for the others."""
    happened = table[table["happened"] > 0].sort_values("median", kind="stable")
    width = max([len(layer) for layer in happened["layer"]], default=0)
    lines = []
    for row in happened.itertuples(index=False, name=None):
        _, layer, _, count, seeds, *when = row[:8]
        middle, lower, upper = map(_epoch, when)
        missed = "" if count == seeds else f"  in {count} of {seeds} seeds"
        lines.append(f"    {layer:{width}}  {middle:>7} [{lower}, {upper}]{missed}".rstrip())
    if others := [layer for layer in table["layer"] if layer not in set(happened["layer"])]:
        of = f" in {', '.join(filter(None, others))}" if any(others) else ""
        lines.append(f"    did not happen{of}")
    return lines


def events(trace: TraceLike, looked_for: Event | Iterable[Event] = EVENTS) -> Events:
    """When each event happened in each seed of a trace.

    Args:
        trace: The trace.
        looked_for: Which, one or several; those of quantities that the trace does not hold are left
            out.

    Raises:
        ConfigError: If one is no `Event`.
    """
    looked_for = several(looked_for)
    for event in looked_for:
        require_instance("events: each", event, Event, "an Event(name, quantity, rule)")
    readings = trace.readings()
    clock = trace.clock
    rows: list[tuple[str, str, str, int, float, float, float, float]] = []
    held = set(readings["quantity"])
    for event in (event.of(held) for event in looked_for):
        curves = readings[(readings["quantity"] == event.quantity) & readings["value"].notna()]
        for key, part in curves.groupby(["layer", "instrument"], sort=False):
            layer, instrument = map(str, key)
            for seed in trace.seeds:
                curve = part[part["seed"] == seed].sort_values(clock)
                if curve.empty:
                    continue
                looks = curve[clock].to_numpy(dtype=np.float64)
                values = curve["value"].to_numpy(dtype=np.float64)
                if event.rule == "fastest":
                    by = (readings["instrument"] == instrument) & (readings["seed"] == seed)
                    speed = _speed(values, looks, readings.loc[by, clock].to_numpy(np.float64))
                else:
                    speed = values
                when = _when(event, speed, looks)
                value = np.nan if when[0] is None else float(values[when[0]])
                rows.append((event.name, layer, instrument, seed, *when[1:], value))
    columns = ["event", "layer", "instrument", "seed", "at", "earliest", "latest", "value"]
    return Events(pd.DataFrame(rows, columns=columns), clock)


def _when(event: Event, values: Floats, looks: Floats) -> tuple[int | None, float, float, float]:
    """The place of the event, its look, and the looks that it lies between."""
    place = event.place(values)
    if place is None:
        return None, np.inf, np.inf, np.inf
    last = place + 1 if event.extreme else place
    ends = looks[max(place - 1, 0)], looks[min(last, len(looks) - 1)]
    return place, float(looks[place]), float(ends[0]), float(ends[1])


def _speed(values: Floats, looks: Floats, all_looks: Floats) -> Floats:
    """The angle from one look of an instrument to the next, in radians by log-epoch.

    Args:
        values: 1 - cos(a look, the one before).
        looks: When.
        all_looks: Those of the instrument, which has one more: the first has none before it.
    """
    known = np.unique(all_looks)
    before = known[np.maximum(np.searchsorted(known, looks) - 1, 0)]
    elapsed = np.log1p(looks) - np.log1p(before)
    angle: Floats = np.arccos(np.clip(1 - values, -1, 1))
    speed: Floats = np.divide(angle, elapsed, out=np.zeros_like(angle), where=elapsed > 0)
    return speed


def median_interval(ordered: Sequence[float] | Floats) -> tuple[float, float, float]:
    """Order statistics that hold the median, and the confidence with which they do.

    The narrowest pair, equally far from both ends, of at least 95 %: the coverage of the k-th and
    the (n + 1 - k)-th is 1 - 2 P(Binomial(n, 1/2) < k). Where none has it: the ends.

    Args:
        ordered: Independent draws in ascending order; ties make the coverage larger.

    Example:
        >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
        (1.0, 5.0, 0.9375)
    """
    n = len(ordered)
    inner = 1
    while inner < (n + 1) // 2 and 1 - 2 * bdtr(inner, n, 0.5) >= _CONFIDENCE:
        inner += 1
    coverage = max(0.0, 1 - 2 * float(bdtr(inner - 1, n, 0.5)))
    return float(ordered[inner - 1]), float(ordered[n - inner]), coverage


def _epoch(at: float) -> str:
    return f"{at:g}" if np.isfinite(at) else "never"
