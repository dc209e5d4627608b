"""Every quantity on one log-epoch axis: panels under each other, a column for each run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ibtrace.alignment import EVENTS, Event, events, outputs
from ibtrace.errors import InvalidInput
from ibtrace.plane import clock, on_clock
from ibtrace.plots._curves import draw_curves, reading_styles
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
    as_mapping,
    epoch_axis,
    legend_below,
    styled,
)
from ibtrace.types import I_XT, INFORMATION, TraceLike

_PANELS = 8
_LOG = 30.0  # from this ratio on, positive numbers are drawn on a logarithmic axis
_Series = tuple[str, str]  # quantity and instrument


@styled
def aligned(
    traces: TraceLike | Mapping[str, TraceLike],
    quantities: Sequence[str] | None = None,
    looked_for: Iterable[Event] = EVENTS,
) -> Figure:
    """Quantities under each other on one axis of epochs, with a rule at each event.

    Each curve is the mean over seeds, its band holds 80 % of them; colours are layers, from the
    first (dark) to the last. A rule is the median over seeds of an event; its number is told below
    the figure, with the layer where an event is one of a layer: the last one before the output in
    which it happened in most seeds.

    Args:
        traces: A trace, or several by name: a column for each.
        quantities: What to draw, from the top; None: I(X;T), then what the events are of, then the
            first of each lens, at most eight.
        looked_for: The events; see `ibtrace.alignment`.

    Raises:
        InvalidInput: If no trace has any of the quantities.
    """
    titled = as_mapping(traces)
    looked_for = tuple(looked_for)
    frames = {name: _finite(trace.readings()) for name, trace in titled.items()}
    drawn = _chosen(pd.concat(frames.values()), quantities, looked_for)
    if not drawn:
        raise InvalidInput(f"no trace has a number of {', '.join(quantities or ['anything'])}")
    size = 0.5 + 3.1 * len(titled), 0.5 + 1.15 * len(drawn)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(len(drawn), len(titled), squeeze=False, sharex="col", sharey="row")
    numbers = {event.name: at for at, event in enumerate(looked_for, 1)}
    told: dict[str, str] = {}
    for at, series in enumerate(drawn):
        # one scale for all columns: what is 0 or less anywhere in the row would be cut off
        if _logarithmic(pd.concat([_of(rows, series)["value"] for rows in frames.values()])):
            panels[at, 0].set_yscale("log")
    for column, (name, trace) in enumerate(titled.items()):
        rows = frames[name]
        for at, series in enumerate(drawn):
            _panel(panels[at, column], rows, series, trace, first=column == 0)
        happened = _rules(trace, looked_for)
        for event, layer, when in happened:
            for axes in panels[:, column]:
                axes.axvline(when, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)), zorder=0.5)
            panels[0, column].annotate(
                str(numbers[event]),
                (when, 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=6,
                color="0.25",
            )
            told.setdefault(event, layer)
        panels[0, column].set_title(name, loc="left", pad=11)
        for axes in panels[:-1, column]:
            axes.set_xlabel("")
    figure.align_ylabels()
    _legend(figure, list(titled.values()), numbers, told)
    return figure


def _finite(readings: pd.DataFrame) -> pd.DataFrame:
    finite: pd.DataFrame = readings[np.isfinite(readings["value"])]
    return finite


def _chosen(
    rows: pd.DataFrame, quantities: Sequence[str] | None, looked_for: Sequence[Event]
) -> list[_Series]:
    """What is drawn, from the top, each by the first instrument that read it."""
    known = rows.drop_duplicates("quantity").set_index("quantity")["instrument"].to_dict()
    if quantities is not None:
        return [(name, known[name]) for name in quantities if name in known]
    lenses = rows[(rows["instrument"] != "") & ~rows["quantity"].isin(INFORMATION)]
    wanted = [I_XT, *(event.quantity for event in looked_for)]
    wanted += lenses.drop_duplicates("instrument")["quantity"].tolist()
    return [(name, known[name]) for name in dict.fromkeys(wanted) if name in known][:_PANELS]


def _of(rows: pd.DataFrame, series: _Series) -> pd.DataFrame:
    quantity, instrument = series
    mine: pd.DataFrame = rows[(rows["quantity"] == quantity) & (rows["instrument"] == instrument)]
    return mine


def _logarithmic(values: pd.Series[float]) -> bool:
    return bool(values.min() > 0 and values.max() > _LOG * values.min())


def _panel(
    axes: Axes, rows: pd.DataFrame, series: _Series, trace: TraceLike, *, first: bool
) -> None:
    quantity, _ = series
    mine = _of(rows, series)
    if mine.empty:
        axes.text(0.5, 0.5, "not read", transform=axes.transAxes, ha="center", color=GREY)
    else:
        counted, on_its_clock = clock(mine), on_clock(mine)
        draw_curves(axes, on_its_clock, reading_styles(trace), "value")
        epoch_axis(axes, int(on_its_clock["epoch"].max()), counted)
    if first:
        unit = rows.loc[rows["quantity"] == quantity, "unit"].iloc[0] if not mine.empty else ""
        axes.set_ylabel(_named(quantity, unit), fontsize=6.5)


def _named(quantity: str, unit: str) -> str:
    """An axis's label, in two lines if it is long."""
    words = "\n".join(textwrap.wrap(quantity, max(18, 1 + (len(quantity) + 1) // 2)))
    return words if unit in ("", "1") else f"{words}\n({unit})"


def _rules(trace: TraceLike, looked_for: Sequence[Event]) -> list[tuple[str, str, float]]:
    """Event, layer and median of those that happened in most seeds, one for each event."""
    table = events(trace, looked_for).table()
    table = table[np.isfinite(table["median"].astype(float))]  # of no event, objects
    hidden = ~table["layer"].isin(outputs(trace))
    table = pd.concat([table[~hidden], table[hidden]])  # the output where there is nothing else
    last = table.groupby("event", sort=False).tail(1)
    return list(last[["event", "layer", "median"]].itertuples(index=False, name=None))


def _legend(
    figure: Figure,
    traces: Sequence[TraceLike],
    numbers: Mapping[str, int],
    told: Mapping[str, str],
) -> None:
    styles = {name: style for trace in traces for name, style in reading_styles(trace).items()}
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, marker=marker, markersize=3, linewidth=1.1)
        for marker, colour in styles.values()
    ]
    labels = [name or "network" for name in styles]
    if any(len(trace.seeds) > 1 for trace in traces):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0))
        labels.append("80 % of seeds")
    for event, layer in sorted(told.items(), key=lambda item: numbers[item[0]]):
        handles.append(Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (4, 2))))
        labels.append(f"{numbers[event]}: {event}" + (f" of {layer}" if layer else ""))
    legend_below(figure, handles, labels)
