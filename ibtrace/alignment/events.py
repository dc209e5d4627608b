"""Events: where a curve peaks or crosses a line, of each seed, with an interval over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from ibtrace.runtime.text import wrap
from ibtrace.types import I_XT, TraceLike

Rule = Literal["peak", "lowest", "above", "below"]
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
            (or of the last alone) on that side of the ``line``.
        margin: By how much the curve must leave a peak, in its unit.
        line: The line that is crossed.
    """

    name: str
    quantity: str
    rule: Rule
    margin: float = 0.0
    line: float = float("nan")

    def place(self, values: Floats) -> int | None:
        """The look at which it happens on one curve; None if it does not.

        Args:
            values: The quantity at each look, without NaN.

        Example:
            >>> Event("peak", "I(X;T)", "peak", margin=0.5).place(np.array([1.0, 3.0, 2.0]))
            1
            >>> Event("late", "loss", "below", line=1.0).place(np.array([0.9, 2.0, 0.5, 0.4]))
            2
        """
        if self.rule in ("peak", "lowest"):
            signed = values if self.rule == "peak" else -values
            top = int(signed.argmax())
            leaves = signed[top] - signed[top:].min()
            return top if leaves > 0 and leaves >= self.margin else None
        beyond = values > self.line if self.rule == "above" else values < self.line
        for at in range(len(values)):
            if beyond[at : at + _LASTING].all():
                return at
        return None


EVENTS: tuple[Event, ...] = (
    Event("peak of I(X;T)", I_XT, "peak", margin=0.1),
    Event("gradient SNR below 1", "gradient SNR", "below", line=1.0),
    Event("sharpness at its threshold", "sharpness over threshold", "above", line=1.0),
    Event("onset of saturation", "saturated share", "above", line=0.1),
    Event("collapse", "NC1 within over between classes", "below", line=1.0),
    Event("lowest test loss", "test_loss", "lowest"),
)
"""What is looked for where nothing else is said."""


@dataclass(frozen=True, eq=False)
class Events:
    """When each event happened.

    Args:
        frame: One row for each event, layer, instrument and seed: ``event, layer, instrument,
            seed, at, value``; ``at`` is infinite where the event did not happen.
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
        than all.
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
            lines.append(wrap(f"The intervals of so few seeds cover {coverage:.0%}, not 95 %."))
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


def events(trace: TraceLike, looked_for: Iterable[Event] = EVENTS) -> Events:
    """When each event happened in each seed of a trace.

    Args:
        trace: The trace.
        looked_for: Which; those of quantities that the trace does not hold are left out.
    """
    readings = trace.readings()
    clock = trace.clock
    rows: list[tuple[str, str, str, int, float, float]] = []
    for event in looked_for:
        curves = readings[(readings["quantity"] == event.quantity) & readings["value"].notna()]
        for key, part in curves.groupby(["layer", "instrument"], sort=False):
            layer, instrument = map(str, key)
            for seed in trace.seeds:
                curve = part[part["seed"] == seed].sort_values(clock)
                if curve.empty:
                    continue
                place = event.place(curve["value"].to_numpy())
                at = np.inf if place is None else float(curve[clock].iloc[place])
                value = np.nan if place is None else float(curve["value"].iloc[place])
                rows.append((event.name, layer, instrument, seed, at, value))
    columns = ["event", "layer", "instrument", "seed", "at", "value"]
    return Events(pd.DataFrame(rows, columns=columns), clock)


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
    while inner < (n + 1) // 2 and 1 - 2 * binom.cdf(inner, n, 0.5) >= _CONFIDENCE:
        inner += 1
    coverage = max(0.0, 1 - 2 * float(binom.cdf(inner - 1, n, 0.5)))
    return float(ordered[inner - 1]), float(ordered[n - inner]), coverage


def _epoch(at: float) -> str:
    return f"{at:g}" if np.isfinite(at) else "never"
