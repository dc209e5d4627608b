"""Every quantity on one log-epoch axis: panels under each other, a column for each run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
    legend_width,
    styled,
)
from ibtrace.types import I_XT, INFORMATION, TraceLike

_PANELS = 8
_LOG = 30.0  # from this ratio on, positive numbers are drawn on a logarithmic axis
_ROUNDING = 1e-12  # a quantity of this size, or that changes by this share, is a rounded constant
_APART = 0.035  # of two numbers side by side, as a share of an axis
_Series = tuple[str, str]  # quantity and instrument


@styled
def aligned(
    traces: TraceLike | Mapping[str, TraceLike],
    quantities: Sequence[str] | None = None,
    looked_for: Iterable[Event] = EVENTS,
) -> Figure:
    """Quantities under each other on one axis of epochs, with a rule at each event.

    Each curve is the mean over seeds, its band holds 80 % of them; colours are layers, from the
    first (dark) to the last. A rule is the median over seeds of an event, of the curves that are
    drawn; its number is told below the figure, with the layer where an event is one of a layer: the
    last one before the output in which it happened in most seeds.

    Args:
        traces: A trace, or several by name: a column for each.
        quantities: What to draw, from the top; None: I(X;T), then what the events are of, then of
            each other lens the first of its quantities that is finite and changes; at most eight.
        looked_for: The events; see `ibtrace.alignment`.

    Raises:
        InvalidInput: If no trace has any of the quantities.
    """
    titled = as_mapping(traces)
    frames = {name: _finite(trace.readings()) for name, trace in titled.items()}
    held = {name for rows in frames.values() for name in rows["quantity"]}
    looked_for = tuple(event.of(held) for event in looked_for)
    order = [name for trace in titled.values() for name in trace.meta.get("quantities", [])]
    drawn = _drawn_series(pd.concat(frames.values()), quantities, looked_for, order)
    if not drawn:
        raise InvalidInput(f"no trace has a number of {', '.join(quantities or ['anything'])}")
    size = 0.5 + 3.1 * len(titled), 0.5 + 1.15 * len(drawn)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(len(drawn), len(titled), squeeze=False, sharex="col", sharey="row")
    numbers = {event.name: at for at, event in enumerate(looked_for, 1)}
    told: dict[str, dict[str, str]] = {}
    levels = 0
    for at, series in enumerate(drawn):
        # one scale for all columns: what is 0 or less anywhere in the row would be cut off
        values = pd.concat([_of(rows, series)["value"] for rows in frames.values()])
        if _logarithmic(values):
            _log_axis(panels[at, 0], values)
    for column, (name, trace) in enumerate(titled.items()):
        rows = frames[name]
        for at, series in enumerate(drawn):
            _panel(panels[at, column], rows, series, trace, first=column == 0)
        happened = _rules(trace, looked_for, drawn)
        for event, layer, when in happened:
            for axes in panels[:, column]:
                axes.axvline(when, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)), zorder=0.5)
            told.setdefault(event, {})[name] = layer
        above = _number(panels[0, column], {numbers[event]: at for event, _, at in happened})
        levels = max(levels, above)
        for axes in panels[:-1, column]:
            axes.set_xlabel("")
    for axes, name in zip(panels[0], titled, strict=True):
        axes.set_title(name, loc="left", pad=4 + 7 * levels)
    figure.align_ylabels()
    styles = _drawn_styles(titled.values(), frames.values(), drawn)
    _legend(figure, styles, _rules_told(numbers, told), [*titled.values()])
    return figure


def _finite(readings: pd.DataFrame) -> pd.DataFrame:
    finite: pd.DataFrame = readings[np.isfinite(readings["value"])]
    return finite


def _drawn_series(
    rows: pd.DataFrame,
    quantities: Sequence[str] | None,
    looked_for: Sequence[Event],
    order: Sequence[str],
) -> list[_Series]:
    """What is drawn, from the top, each by the first instrument that read it."""
    known = rows.drop_duplicates("quantity").set_index("quantity")["instrument"].to_dict()
    if quantities is not None:
        return [(name, known[name]) for name in quantities if name in known]
    wanted = [I_XT, *(event.quantity for event in looked_for)]
    lenses = {known[name] for name in wanted if name in known}
    varying = _varying(rows)
    for name in dict.fromkeys([*order, *known]):
        # a lens that is seen already leaves the room to another
        if name in varying and name not in INFORMATION and known[name] not in {*lenses, ""}:
            wanted.append(name)
            lenses.add(known[name])
    return [(name, known[name]) for name in dict.fromkeys(wanted) if name in known][:_PANELS]


def _varying(rows: pd.DataFrame) -> set[str]:
    """The quantities that change by more than the rounding of their numbers."""
    ends = rows.groupby("quantity")["value"].agg(["min", "max"])
    largest = ends.abs().max(axis=1)
    changes = (ends["max"] - ends["min"] > _ROUNDING * largest) & (largest > _ROUNDING)
    return set(ends.index[changes])


def _of(rows: pd.DataFrame, series: _Series) -> pd.DataFrame:
    quantity, instrument = series
    own: pd.DataFrame = rows[(rows["quantity"] == quantity) & (rows["instrument"] == instrument)]
    return own


def _logarithmic(values: pd.Series[float]) -> bool:
    return bool(values.min() > 0 and values.max() > _LOG * values.min())


def _log_axis(axes: Axes, values: pd.Series[float]) -> None:
    """A logarithmic axis with a few plain numbers: of every tick none could be read."""
    axes.set_yscale("log")
    decades = float(np.log10(values.max() / values.min()))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 2.5 else (1,), numticks=6))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if values.min() >= 1e-3 and values.max() < 1e4:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _panel(
    axes: Axes, rows: pd.DataFrame, series: _Series, trace: TraceLike, *, first: bool
) -> None:
    own = _of(rows, series)
    if own.empty:
        axes.text(0.5, 0.5, "not read", transform=axes.transAxes, ha="center", color=GREY)
    else:
        counted, on_its_clock = clock(own), on_clock(own)
        draw_curves(axes, on_its_clock, reading_styles(trace), "value")
        epoch_axis(axes, int(on_its_clock["epoch"].max()), counted)
    if first:
        unit = own["unit"].iloc[0] if not own.empty else ""
        axes.set_ylabel(_named(*series, unit), fontsize=6.5)


def _named(quantity: str, instrument: str, unit: str) -> str:
    """An axis's label, in two lines if it is long; of information with its estimator."""
    name = f"{quantity} by {instrument}" if quantity in INFORMATION else quantity.replace("_", " ")
    words = "\n".join(textwrap.wrap(name, max(18, 1 + (len(name) + 1) // 2)))
    return words if unit in ("", "1") else f"{words}\n({unit})"


def _rules(
    trace: TraceLike, looked_for: Sequence[Event], drawn: Sequence[_Series]
) -> list[tuple[str, str, float]]:
    """Event, layer and median of those that happened in most seeds, one for each event.

    Of a quantity that is drawn, by the instrument that it is drawn by.
    """
    by = dict(drawn)
    table = events(trace, looked_for).table()
    table = table[np.isfinite(table["median"].astype(float))]  # of no event, objects
    quantity = table["event"].map({event.name: event.quantity for event in looked_for})
    table = table[table["instrument"] == quantity.map(by).fillna(table["instrument"])]
    hidden = ~table["layer"].isin(outputs(trace))
    table = pd.concat([table[~hidden], table[hidden]])  # the output where there is nothing else
    last = table.groupby("event", sort=False).tail(1)
    return list(last[["event", "layer", "median"]].itertuples(index=False, name=None))


def _number(axes: Axes, at: Mapping[int, float]) -> int:
    """Write the numbers of the rules above an axis, one over the other where they would touch.

    Returns:
        How many levels they take.
    """
    ends: list[float] = []  # of the numbers so far on each level, as a share of the axis
    scale = axes.transData + axes.transAxes.inverted()
    for number, when in sorted(at.items(), key=lambda item: item[1]):
        place = float(scale.transform((when, 1.0))[0])
        free = [level for level, end in enumerate(ends) if place - end >= _APART]
        level = free[0] if free else len(ends)
        ends[level : level + 1] = [place]
        axes.annotate(
            str(number),
            (when, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 1 + 7 * level),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6,
            color="0.25",
        )
    return len(ends)


def _drawn_styles(
    traces: Iterable[TraceLike], frames: Iterable[pd.DataFrame], drawn: Sequence[_Series]
) -> dict[tuple[str, Any], list[str]]:
    """The names of the curves that are drawn, by their style: a layer shares its module's."""
    styles: dict[tuple[str, Any], list[str]] = {}
    for trace, rows in zip(traces, frames, strict=True):
        present = {layer for series in drawn for layer in _of(rows, series)["layer"].unique()}
        for name, style in reading_styles(trace).items():
            if name in present and (label := name or "network") not in styles.get(style, []):
                styles.setdefault(style, []).append(label)
    return styles


def _rules_told(numbers: Mapping[str, int], told: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What each number stands for, and of which layer, by column where they differ."""
    lines = []
    for event, layers in sorted(told.items(), key=lambda item: numbers[item[0]]):
        differ = len(set(layers.values())) > 1
        each = [f"{layer} ({name})" if differ else layer for name, layer in layers.items() if layer]
        of = f" of {', '.join(dict.fromkeys(each))}" if each else ""
        lines.append(f"{numbers[event]}: {event}{of}")
    return lines


def _legend(
    figure: Figure,
    styles: Mapping[tuple[str, Any], Sequence[str]],
    rules: Sequence[str],
    traces: Sequence[TraceLike],
) -> None:
    """Curves on the left and rules on the right, or all in one where there is no room for both."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, marker=marker, markersize=3, linewidth=1.1)
        for marker, colour in styles
    ]
    labels = [", ".join(names) for names in styles.values()]
    if any(len(trace.seeds) > 1 for trace in traces):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0))
        labels.append("80 % of seeds")
    lines = [Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (4, 2))) for _ in rules]
    left, right = legend_width(labels), legend_width(rules)
    columns = min(3, int((figure.get_figwidth() - right) / left))
    if not rules or columns < 1:
        legend_below(figure, [*handles, *lines], [*labels, *rules])
        return
    rows = max(len(rules), -(-len(labels) // columns))
    figure.set_figheight(figure.get_figheight() + 0.14 * (rows - 1))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)
    figure.legend(lines, rules, loc="outside lower right")
