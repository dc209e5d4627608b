"""Runs side by side: a column for each, a row for each quantity by an estimator, on shared axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ibtrace.errors import InvalidInput
from ibtrace.plane import ceilings, clock, on_clock
from ibtrace.plots._curves import draw_ceiling, draw_curves
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
    as_mapping,
    choose,
    epoch_axis,
    estimands,
    layer_styles,
    legend_below,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT, TraceLike, control_of


@dataclass(frozen=True)
class Measure:
    """A row of panels: one quantity by one instrument.

    Args:
        quantity: I(X;T), I(T;Y), or what a lens reads.
        instrument: The label of the estimator or the lens.
        label: Of the vertical axis; the quantity and its unit, where it is empty.
        log: Whether the vertical axis is logarithmic.
    """

    quantity: str
    instrument: str
    label: str = ""
    log: bool = False


@styled
def beside(traces: Mapping[str, TraceLike], measures: Sequence[Measure], title: str = "") -> Figure:
    """Curves of several runs side by side: mean over seeds, and the band of 80 % of the seeds.

    Args:
        traces: The runs by their titles.
        measures: What is drawn, from above; what a run has not measured leaves its panel empty.
        title: Above all of it.

    Raises:
        InvalidInput: If there is no trace, or no run has a finite number of one of the measures.
    """
    named = as_mapping(traces)
    styles = layer_styles(list(dict.fromkeys(n for each in named.values() for n in each.layers)))
    size = 0.8 + 2.1 * len(named), 0.7 + 2.0 * len(measures)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(len(measures), len(named), sharex=True, sharey="row", squeeze=False)
    several = False
    for row, measure in zip(panels, measures, strict=True):
        numbers = [_numbers(trace, measure) for trace in named.values()]
        if all(rows.empty for rows in numbers):
            raise InvalidInput(f"{measure.instrument} gave no finite {measure.quantity} to draw")
        for axes, trace, rows in zip(row, named.values(), numbers, strict=True):
            several = several or rows["seed"].nunique() > 1
            draw_curves(axes, rows, styles, "value")
            frame = trace.frame()
            limits = ceilings(trace, frame[frame["estimator"] == measure.instrument])
            if measure.quantity in limits:
                draw_ceiling(axes, *limits[measure.quantity])
            epoch_axis(axes, int(on_clock(frame)["epoch"].max()), clock(frame))
            axes.label_outer()
        if measure.log:
            row[0].set_yscale("log")
        unit = next(rows["unit"].iloc[0] for rows in numbers if len(rows))
        of = f" ({unit})" if unit not in ("", "1") else ""
        row[0].set_ylabel(measure.label or f"{measure.quantity}{of}")
    for axes, name in zip(panels[0], named, strict=True):
        axes.set_title(name, loc="left")
    if title:
        figure.suptitle(wrap(title, rest="", width=110), fontsize=8, x=0.01, ha="left")
    _legend(figure, several)
    return figure


def _numbers(trace: TraceLike, measure: Measure) -> pd.DataFrame:
    """The finite numbers of a measure, their looks counted by the trace's clock."""
    rows = on_clock(trace.frame(), trace.readings())
    rows = rows[rows["instrument"] == measure.instrument]
    own = rows[rows["quantity"] == measure.quantity]
    finite: pd.DataFrame = own[np.isfinite(own["value"])]
    return finite


def _legend(figure: Figure, several: bool) -> None:
    known = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if several:
        known["80 % of seeds"] = Patch(color=GREY, alpha=0.25, linewidth=0)
    legend_below(figure, [*known.values()], [*known])


def beside_controls(traces: Mapping[str, TraceLike], estimator: str | None = None) -> Figure:
    """The curves of a subject and of its controls side by side, on shared axes.

    Args:
        traces: The subject and its controls by name; a control is titled by what it is.
        estimator: The estimator's label; the first of the first trace by default.

    Returns:
        The figure: a row for each quantity that was measured.

    Raises:
        InvalidInput: If there is no trace, or none has a finite number by this estimator.
        UnknownName: If a trace lacks the estimator.
    """
    named = as_mapping(traces)
    first = next(iter(named.values()))
    estimator = choose(first, estimator)
    frame = first.frame()
    frame = frame[(frame["estimator"] == estimator) & np.isfinite(frame["bits"])]
    measures = [
        Measure(quantity, estimator)
        for quantity in (I_XT, I_TY)
        if (frame["quantity"] == quantity).any()
    ]
    if not measures:
        raise InvalidInput(f"{estimator} gave no finite number to draw")
    titled = {
        control.words if (control := control_of(trace.meta)) else name: trace
        for name, trace in named.items()
    }
    return beside(titled, measures, f"{estimator}: {estimands(frame)}")
